"""Score tables: kept without pickle, joined by video id alone, refused where they do not belong together."""

from __future__ import annotations

import math
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from flowprep.errors import MissingDataError, SettingsError, StoreError
from fusion_train import metrics
from fusion_train.late_fusion import fuse, softmax, sweep
from fusion_train.metrics import Share, cross_entropy, gain, measure, ranks_of
from fusion_train.scores import ScoreMismatchError, ScoreTable, joined

CLASSES = ("a", "b", "c", "d", "e", "f", "g")


def table(seed: int = 0, *, num: int = 40, name: str = "spatial", skill: float = 1.0) -> ScoreTable:
    """Random scores that favour the true class by `skill`."""
    rng = np.random.default_rng(seed)
    labels = np.arange(num) % len(CLASSES)
    scores = rng.normal(size=(num, len(CLASSES)))
    scores[np.arange(num), labels] += skill
    return ScoreTable(
        name=name,
        part="test 1",
        manifest_sha256="0" * 64,
        ids=[f"v{index:03d}" for index in range(num)],
        labels=labels.astype(np.int64),
        scores=scores.astype(np.float32),
        classes=CLASSES,
        origin={"checkpoint": "x", "settings": {"T": 5}},
    )


def shuffled(mine: ScoreTable, seed: int = 1) -> ScoreTable:
    order = np.random.default_rng(seed).permutation(len(mine.ids))
    return replace(mine, ids=[mine.ids[k] for k in order], labels=mine.labels[order], scores=mine.scores[order])


# -- tables ------------------------------------------------------------------------------------------------------------


def test_a_table_comes_back_as_it_was(tmp_path: Path) -> None:
    mine = replace(table(), ids=[f"vidéo/{index}" for index in range(40)])
    mine.save(tmp_path / "new" / "scores.npz")
    back = ScoreTable.load(tmp_path / "new" / "scores.npz")
    for name in ("name", "part", "manifest_sha256", "ids", "classes", "origin"):
        assert getattr(back, name) == getattr(mine, name)
    np.testing.assert_array_equal(back.scores, mine.scores)
    np.testing.assert_array_equal(back.labels, mine.labels)
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["scores.npz"]


@pytest.mark.parametrize("damage", ["empty", "cut", "text", "other"])
def test_what_is_no_table_is_refused_with_its_name(tmp_path: Path, damage: str) -> None:
    path = tmp_path / "scores.npz"
    table().save(path)
    data = path.read_bytes()
    if damage == "other":
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("x", "y")
    else:
        path.write_bytes({"empty": b"", "cut": data[: len(data) // 2], "text": b"v1 0.5"}[damage])
    with pytest.raises(StoreError, match=r"scores\.npz is damaged or no score table: .*; evaluate again"):
        ScoreTable.load(path)
    with pytest.raises(MissingDataError, match=r"there is no score table .*none\.npz; `fusion-train evaluate`"):
        ScoreTable.load(tmp_path / "none.npz")


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"ids": ["v000"] * 40}, "v000 has more than one row"),
        ({"ids": ["v000"]}, r"scores \(40, 7\) and labels \(40,\) do not fit 1 ids and 7 classes"),
        ({"labels": np.full(40, 7)}, "labels must be 0 to 6"),
        ({"scores": np.full((40, 7), np.nan, np.float32)}, "the scores of v000 are not finite"),
    ],
)
def test_fields_that_do_not_fit_together_are_refused(change: dict[str, Any], text: str) -> None:
    with pytest.raises(ScoreMismatchError, match=text):
        replace(table(), **change)


def test_tables_are_joined_by_id() -> None:
    first, other = table(), table(3, name="temporal")
    _, back = joined([first, shuffled(other)])
    assert back.ids == first.ids
    np.testing.assert_array_equal(back.scores, other.scores)


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"part": "test 2"}, "part 'test 1' and 'test 2'"),
        ({"manifest_sha256": "1" * 64}, "manifest sha256"),
        ({"classes": CLASSES[::-1]}, "classes of 7 names and of 7 names"),
        ({"ids": [f"v{index:03d}" for index in range(1, 41)]}, "1 videos are only in spatial: v000; 1 videos are only"),
        ({"labels": np.zeros(40, np.int64)}, "labels of v001, v002, v003 and 31 more"),
    ],
)
def test_tables_that_do_not_belong_together_are_refused(change: dict[str, Any], text: str) -> None:
    other = replace(table(3, name="temporal"), **change)
    with pytest.raises(ScoreMismatchError, match=f"spatial and temporal do not belong together: .*{text}"):
        fuse([table(), other])


# -- metrics -----------------------------------------------------------------------------------------------------------


def test_ranks_are_those_of_sorting() -> None:
    mine = table(skill=0.5)
    expected = [sorted(range(7), key=lambda c: (-mine.scores[row, c], c)).index(mine.labels[row]) for row in range(40)]
    assert ranks_of(mine).tolist() == expected
    tied = replace(mine, scores=np.zeros((40, 7), np.float32))
    np.testing.assert_array_equal(ranks_of(tied), mine.labels)
    assert measure(tied).top1.num_right == (mine.labels == 0).sum()


def test_metrics_by_hand() -> None:
    scores = np.array([[9, 1, 0], [9, 1, 0], [1, 9, 0], [9, 1, 0]], np.float32)
    mine = replace(
        table(num=4), ids=list("wxyz"), labels=np.array([0, 0, 1, 1]), scores=scores, classes=("a", "b", "c")
    )
    found = measure(mine)
    assert (found.top1.num_right, found.top1.value, found.top5.value) == (3, 0.75, 1.0)
    assert found.mean_class == 0.75
    assert found.confusion.tolist() == [[2, 0, 0], [1, 1, 0], [0, 0, 0]]
    assert [share.num_right for share in found.per_class] == [2, 1, 0]
    assert found.to_json()["per_class"] == {"a": 1.0, "b": 0.5, "c": None}
    assert found.confused == (("b", "a", 1),)
    assert found.confusion_csv() == "true class,a,b,c\na,2,0,0\nb,1,1,0\nc,0,0,0\n"
    unequal = replace(mine, labels=np.array([0, 0, 0, 1]), scores=scores[[0, 0, 0, 0]])
    assert (measure(unequal).top1.value, measure(unequal).mean_class) == (0.75, 0.5)


def test_cross_entropy_is_that_of_pytorch() -> None:
    mine = table(skill=1.0)
    scores, labels = torch.from_numpy(mine.scores), torch.from_numpy(mine.labels)
    for factor in (1, 1000):  # probabilities that are 0 in double
        expected = float(torch.nn.functional.cross_entropy(scores.double() * factor, labels))
        assert cross_entropy(replace(mine, scores=mine.scores * factor)) == pytest.approx(expected, rel=1e-5)


def test_the_interval_is_wilsons() -> None:
    """Its ends are the shares from which the observed one is 1.96 of their standard deviations away."""
    share = Share(num_right=8, num_videos=10)
    for end in share.interval:
        assert abs(share.value - end) == pytest.approx(1.959964 * (end * (1 - end) / 10) ** 0.5, rel=1e-6)
    assert Share(num_right=0, num_videos=20).interval[0] == 0
    assert Share(num_right=0, num_videos=0).interval == (0, 1)


def test_gain_counts_what_only_one_gets_right() -> None:
    before, after = table(0, skill=0.5), table(1, skill=3.0, name="fused")
    found = gain(before, shuffled(after))
    right_before, right_after = ranks_of(before) == 0, ranks_of(after) == 0
    assert found.num_only_after == (right_after & ~right_before).sum()
    assert found.num_only_before == (right_before & ~right_after).sum()
    assert found.top1 == pytest.approx(right_after.mean() - right_before.mean())
    assert found.per_class.keys() == set(CLASSES)
    assert found.p_value < 0.01
    assert gain(before, before).p_value == 1.0


@pytest.mark.parametrize(("num_first", "num_second"), [(0, 0), (0, 5), (3, 3), (12, 30), (31, 7), (400, 500)])
def test_the_sign_test_is_exact(num_first: int, num_second: int) -> None:
    num = num_first + num_second
    tail = sum(math.comb(num, k) for k in range(min(num_first, num_second) + 1))
    assert metrics._sign_test(num_first, num_second) == min(1.0, float(2 * tail / 2**num))


def test_the_sign_test_of_many_videos_is_the_normal_approximation() -> None:
    """With continuity correction."""
    z = (20_200 - 19_800 - 1) / math.sqrt(40_000)
    assert metrics._sign_test(19_800, 20_200) == pytest.approx(math.erfc(z / math.sqrt(2)), rel=1e-3)


# -- late fusion -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("on", ["scores", "softmax"])
def test_fusion_is_the_weighted_mean_by_id(on: str) -> None:
    first, second, third = table(0), table(1, name="temporal"), table(2, name="third")
    fused = fuse([first, shuffled(second), shuffled(third, 5)], [1, 3, 0], on=on)
    parts = [softmax(t.scores) if on == "softmax" else t.scores for t in (first, second)]
    np.testing.assert_allclose(fused.scores, 0.25 * parts[0] + 0.75 * parts[1], rtol=1e-6)
    assert fused.ids == first.ids
    assert fused.origin["weights"] == [0.25, 0.75, 0.0]
    again = fuse([shuffled(first, 7), second, third], [1, 3, 0], on=on).aligned(first.ids)
    np.testing.assert_array_equal(again.scores, fused.scores)


def test_softmax_survives_large_scores() -> None:
    found = softmax(np.array([[1000.0, 0.0], [-1000.0, -1000.0]], np.float32))
    np.testing.assert_allclose(found, [[1, 0], [0.5, 0.5]])


@pytest.mark.parametrize(
    ("weights", "text"),
    [
        ([1], "takes 2 weights, got 1"),
        ([0, 0], "got 0:0"),
        ([1, -1], "numbers from 0, not all 0, got 1:-1"),
        ([1, float("nan")], "got 1:nan"),
    ],
)
def test_weights_that_are_none_are_refused(weights: list[float], text: str) -> None:
    with pytest.raises(SettingsError, match=text):
        fuse([table(), table(1)], weights)


def test_a_sweep_finds_which_stream_is_worth_more() -> None:
    good, noise = table(0, num=700, skill=3.0), table(1, num=700, skill=0.0, name="temporal")
    found = sweep(good, noise)
    assert [point.weight for point in found.points] == [k / 20 for k in range(21)]
    assert found.points[0].top1 == measure(good).top1.value
    assert found.points[-1].top1 == measure(noise).top1.value
    assert found.weights[1] < 0.35
    assert sum(found.weights) == 1
    both = sweep(table(0, num=700, skill=1.5), table(1, num=700, skill=1.5, name="temporal"))
    assert 0.3 <= both.weights[1] <= 0.7

"""The proof in small: its machinery from videos to the table, its leak tests, and what it takes for a miss."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest
from helpers.training import RUNTIME

from flowprep.config import ExtractSettings, ResizeSettings, RunSettings, SynthSettings
from flowprep.datasets.synthetic import make_synthetic
from flowprep.errors import MissingDataError, SettingsError
from flowprep.run import extract
from flowprep.stores import Store, open_store
from fusion_train.data.dataset import ClipDataset
from fusion_train.metrics import Share
from fusion_train.proof.bars import draw
from fusion_train.proof.bits import shares
from fusion_train.proof.leaks import Leak, ask_all, find_leaks
from fusion_train.proof.looks import Look
from fusion_train.proof.networks import run_seeds
from fusion_train.proof.rows import CONFIGURATIONS, DEMO_ROWS, ROWS, Row, needed
from fusion_train.proof.settings import ProofSettings, configuration_settings, pretext_settings
from fusion_train.proof.table import Proof
from fusion_train.scores import ScoreTable
from fusion_train.train import num_parameters

TINY = ProofSettings(seeds=(0,), size_px=48, num_epochs=2, batch_size=8, videos_at_once=8, num_pretext_epochs=1)


def make_store(folder: Path, task: str, num_train: int, num_test: int) -> Store:
    """Videos of 48 pixels with their TV-L1 flow, by what `flowprep synth` and `extract` call."""
    phases = {"phase_steps": 8} if task == "fusion" else {"phase_steps": 1}
    made = SynthSettings(
        task=task, num_train=num_train, num_test=num_test, width=48, height=48, num_groups=5, **phases
    )  # fmt: skip
    make_synthetic(folder, made)
    extract(
        "ucf101",
        videos=folder / "videos",
        splits=folder / "splits",
        out=folder / "flow",
        settings=ExtractSettings(resize=ResizeSettings(short_side=None)),
        run=RunSettings(jobs=1, durability="fast"),
    )
    return open_store(folder / "flow")


@pytest.fixture(scope="module")
def fusion(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return make_store(tmp_path_factory.mktemp("proof") / "fusion", "fusion", 64, 64)


@pytest.fixture(scope="module")
def pretext(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return make_store(tmp_path_factory.mktemp("proof") / "pretext", "pretext", 32, 8)


# From videos to the table


def test_all_rows_come_out_and_are_kept(fusion: Store, pretext: Store, tmp_path: Path) -> None:
    said: list[str] = []
    run = {"rows": ROWS, "runtime": RUNTIME, "say": said.append}
    (found,) = run_seeds(pretext, fusion, tmp_path, TINY, **run)
    assert list(found) == [row.title for row in ROWS]
    assert {share.num_videos for measures in found.values() for share in measures.values()} == {64}
    streams = [f"{stream} stream on the pretext task" for stream in ("spatial", "temporal")]
    assert said == [f"seed 0: {what}" for what in (*streams, *CONFIGURATIONS)]
    times = {path: path.stat().st_mtime_ns for path in (tmp_path / "test").rglob("network.pt")}
    assert len(times) == len(CONFIGURATIONS)
    assert run_seeds(pretext, fusion, tmp_path, TINY, **run) == [found]
    assert {path: path.stat().st_mtime_ns for path in times} == times
    # Neither stream alone tells the classes apart, so siblings of one draw cannot all be right.
    table = ScoreTable.load(tmp_path / "test" / "0" / "spatial.npz")
    assert table.part == "test 1"
    assert shares(table) == found["spatial stream"]


def test_rows_of_other_streams_or_videos_are_not_taken_over(fusion: Store, pretext: Store, tmp_path: Path) -> None:
    """Settings are equal: they have paths alone, and nothing of the store."""
    run = {"rows": ROWS[:1], "runtime": RUNTIME, "say": lambda _: None}
    first = run_seeds(pretext, fusion, tmp_path, TINY, **run)
    with pytest.raises(SettingsError, match=r"test/0/spatial/last.pt was begun on another state of the store"):
        run_seeds(pretext, pretext, tmp_path, TINY, **run)
    shutil.rmtree(tmp_path / "pretext_0")
    assert run_seeds(pretext, fusion, tmp_path, TINY, **run) == first  # the same streams come out again
    shutil.rmtree(tmp_path / "pretext_0")
    longer = dataclasses.replace(TINY, num_pretext_epochs=2)
    with pytest.raises(SettingsError, match=r"begun with other settings \(model.spatial_weights: \S+ \(SHA-256 \w+"):
        run_seeds(pretext, fusion, tmp_path, longer, **run)


def test_all_networks_have_the_same_budget_and_the_convolutions_of_the_pretext_task(tmp_path: Path) -> None:
    trains, weights, clips = set(), set(), set()
    for configuration in CONFIGURATIONS.values():
        settings = configuration_settings(TINY, configuration, 0, tmp_path)
        trains.add(settings.train)
        weights.add((settings.model.spatial_weights, settings.model.temporal_weights, settings.model.backprop_to))
        clips.add(dataclasses.replace(settings.data, blank="none"))
    assert len(trains) == len(weights) == len(clips) == 1
    (data,), (train,) = clips, trains
    assert (data.num_chunks, data.stack_length, data.taus, data.test_tau) == (5, 10, (10, 10), 10)
    assert train.val == "none"
    (own,) = weights
    assert own == (str(tmp_path / "spatial/network.pt"), str(tmp_path / "temporal/network.pt"), "at")
    held_out = configuration_settings(dataclasses.replace(TINY, held_out=True), CONFIGURATIONS["spatial"], 0, tmp_path)
    assert held_out.train.val == "groups"
    assert TINY.folder(held_out) == "test"
    tried = dataclasses.replace(TINY, held_out=True, own_pretext=True)
    assert tried.folder(held_out) == "held_out_own_pretext_6x2e-2,2x2e-3_2"
    assert (TINY.pretext_seed(2), tried.pretext_seed(2)) == (0, 2)


def test_all_networks_can_be_built_of_vggm(tmp_path: Path) -> None:
    proof = ProofSettings(backbone="vggm", size_px=224)
    assert not proof.uses_maps
    for configuration in CONFIGURATIONS.values():
        settings = configuration_settings(proof, configuration, 0, tmp_path)
        assert settings.data.crop_size == 224
        assert num_parameters(settings, 4) > 80e6
    for stream in ("spatial", "temporal"):
        assert num_parameters(pretext_settings(proof, stream, 0), 8) > 80e6


def test_every_clip_has_both_phases_in_the_same_place_of_a_stack(fusion: Store) -> None:
    """So a set of five stacks is the same whichever phase comes first, but for the bit itself."""
    settings = configuration_settings(TINY, CONFIGURATIONS["3D + 3D"], 0, Path("unused"))
    labels = (fusion.path.parent / "labels.jsonl").read_text().splitlines()
    (phases,) = {json.dumps([[p["first_flow"], p["num_flows"]] for p in json.loads(line)["phases"]]) for line in labels}
    (first, length), (second, _) = json.loads(phases)
    assert (second - first) % settings.data.taus[0] == 0
    dataset = ClipDataset(fusion, fusion.ids, settings.data)
    starts = {int(dataset.plan_training(0, seed=0, epoch=k).times[0, 0]) for k in range(50)}
    assert len(starts) == 3
    for start in starts:
        stacks = [range(start + 10 * k - 5, start + 10 * k + 5) for k in range(5)]
        holding = [k for k, stack in enumerate(stacks) if set(range(first, first + length)) <= set(stack)]
        others = [k for k, stack in enumerate(stacks) if set(range(second, second + length)) <= set(stack)]
        assert (holding, others) == ([1], [3])


# Leaks


def test_a_small_set_has_no_leak_and_controls_see(fusion: Store) -> None:
    leaks = find_leaks(fusion, fusion.path.parent / "labels.jsonl")
    assert [leak for leak in leaks if not leak.is_control and not leak.passes] == []
    assert {leak.asked for leak in leaks} >= {"binding", "order"}
    assert min(leak.share.num_videos for leak in leaks) == 64
    seen = {leak.asked: leak.share.value for leak in leaks if leak.is_control}
    assert seen["bright texture left"] > 0.7
    assert seen["windows go up and down"] > 0.7


def test_a_store_without_labels_is_refused(fusion: Store, tmp_path: Path) -> None:
    with pytest.raises(MissingDataError, match=r"there is no .*labels\.jsonl; `flowprep synth` writes it"):
        find_leaks(fusion, tmp_path / "labels.jsonl")


def looks(num: int, leak: str = "", seed: int = 0) -> list[Look]:
    """Random numbers in the place of videos, one bit of which is told by one of them."""
    rng = np.random.default_rng(seed)
    found = []
    for _ in range(num):
        binding, order, left = (int(bit) for bit in rng.integers(2, size=3))
        numbers = {"places": rng.normal(size=6), "frames": rng.normal(size=(5, 12)),
                   "stacks": rng.normal(size=(2, 12)), "windows": rng.normal(size=(2, 2, 12))}  # fmt: skip
        if leak in ("places", "stacks"):
            numbers[leak][..., 3] += binding
        if leak == "frames":
            numbers["frames"][3, 7] += 2 * order  # one time of five alone
        if leak == "windows":  # flow in the bright window is stronger
            up = 0 if left == binding else 1
            numbers["windows"][:, up if binding else 1 - up, 5] += 3
        found.append(Look(binding=binding, order=order, is_bright_left=left, **numbers))
    return found


@pytest.mark.parametrize(
    ("leak", "told"),
    [
        ("", set()),
        ("places", {("places", "binding")}),
        ("frames", {("single frames", "order")}),
        ("stacks", {("single stacks", "binding")}),
        ("windows", {("flow of the window that goes up", "binding")}),
    ],
)
def test_leaks_are_found(leak: str, told: set[tuple[str, str]]) -> None:
    found = ask_all({"train": looks(1500, leak, seed=1), "test": looks(1500, leak, seed=2)})
    missed = {(one.looks_at, one.asked) for one in found if not one.is_control and not one.passes}
    assert {asked for _, asked in missed} == {asked for _, asked in told}
    assert all(any(what.startswith(start) for start, _ in told) for what, _ in missed)


@pytest.mark.parametrize(
    ("num_right", "num", "is_control", "passes"),
    [(530, 1000, False, True), (541, 1000, False, False), (459, 1000, False, False), (56, 100, False, True),
     (71, 100, False, False), (690, 1000, True, False), (710, 1000, True, True)],
)  # fmt: skip
def test_what_counts_as_chance(num_right: int, num: int, is_control: bool, passes: bool) -> None:
    share = Share(num_right=num_right, num_videos=num)
    assert Leak(looks_at="a", asked="b", share=share, is_control=is_control).passes is passes


# Rows, bits, table


def table_of(labels: list[int], answers: list[int]) -> ScoreTable:
    return ScoreTable(
        name="network", part="test 1", manifest_sha256="0", ids=[f"v{k}" for k in range(len(labels))],
        labels=np.array(labels), scores=np.eye(4, dtype=np.float32)[answers], classes="abcd", origin={},
    )  # fmt: skip


def test_bits_are_told_apart() -> None:
    labels = [0, 1, 2, 3] * 5
    values = {name: share.value for name, share in shares(table_of(labels, [2 * (k // 2) for k in labels])).items()}
    assert values == {"classes": 0.5, "binding": 1.0, "order": 0.5}
    values = {name: share.value for name, share in shares(table_of(labels, [k % 2 for k in labels])).items()}
    assert values == {"classes": 0.5, "binding": 0.5, "order": 1.0}


def test_rows_expect_what_theory_says() -> None:
    expected = {row.title: tuple(round(100 * row.expected[name]) for name in row.expected) for row in ROWS}
    assert list(expected.values()) == [
        (25, 50, 50), (25, 50, 50), (25, 50, 50), (25, 50, 50), (50, 50, 100), (50, 50, 100),
        (50, 100, 50), (50, 100, 50), (100, 100, 100),
    ]  # fmt: skip
    assert needed(ROWS) == tuple(CONFIGURATIONS)
    assert needed(DEMO_ROWS) == ("spatial", "temporal", "2D + 3D", "3D + 3D")


def proof_of(values: dict[str, tuple[float, float, float]], *, num: int = 1000, leaks: tuple[Leak, ...] = ()) -> Proof:
    """A table whose two seeds have these percentages; rows that are not named have what is expected."""
    measured = {}
    for row in ROWS:
        percents = values.get(row.title, tuple(100 * row.expected[name] for name in row.expected))
        measured[row.title] = {
            name: Share(num_right=round(num * percent / 100), num_videos=num)
            for name, percent in zip(("classes", "binding", "order"), percents, strict=True)
        }
    return Proof(rows=ROWS, seeds=(0, 1), shares=[measured, measured], leaks=leaks, facts={"commit": "abc"})


@pytest.mark.parametrize(
    ("title", "values", "misses"),
    [
        ("3D conv + 3D pool (full T)", (94.9, 97.0, 97.0), ["4 classes"]),
        ("3D conv + 3D pool (full T)", (95.0, 97.0, 97.0), []),
        ("2D conv + 3D pool", (48.0, 89.9, 50.0), ["binding"]),
        ("2D conv + 2D pool", (48.0, 95.0, 56.1), ["order"]),
        ("late fusion of both streams", (32.1, 55.0, 45.0), ["4 classes"]),
        ("spatial stream", (25.0, 43.9, 50.0), ["binding"]),
        ("3D conv + 3D pool, RGB replaced by its mean", (45.0, 50.0, 80.0), ["order"]),
    ],
)
def test_what_misses_a_bar_is_named_for_each_seed(
    title: str, values: tuple[float, float, float], misses: list[str]
) -> None:
    found = proof_of({title: values}).misses()
    assert len(found) == 2 * len(misses)
    for name in misses:
        assert f"{title}: {name} of seed 1 is" in found[-1]


def test_the_table_has_expected_and_measured_beside_each_other(tmp_path: Path) -> None:
    leak = Leak(looks_at="single frames", asked="order", share=Share(num_right=600, num_videos=1000))
    proof = proof_of({}, leaks=(leak,))
    text = proof.markdown()
    assert "| 3D conv + 3D pool (full T) | 100 | 100.0 ± 0.0 | 100 | 100.0 ± 0.0 | 100 | 100.0 ± 0.0 |" in text
    assert "| single frames | order | 60.0 | 1000 | 50 ± 4 |" in text
    assert proof.misses() == ["single frames: order is told in 60.0 % of 1000, and must be in 50 ± 4.0 %"]
    content = json.loads(json.dumps(proof.to_json()))
    assert content["rows"]["spatial stream"]["binding"] == {
        "expected": 0.5, "measured": [0.5, 0.5], "num_videos": 1000, "bar": [0.44, 0.56],
    }  # fmt: skip
    assert content["misses"] == proof.misses()
    draw(proof, tmp_path / "bars.png")
    picture = cv2.imread(str(tmp_path / "bars.png"))
    assert picture is not None
    assert picture.shape[1] > 800
    one = Row(title="one", of=("spatial",))
    assert one.bars() == {"binding": (0.44, 0.56), "order": (0.44, 0.56)}

"""An ablation in work: what is shared is trained once, what is finished is skipped, what fails costs no other row."""

from __future__ import annotations

import dataclasses
import json
import shutil
import weakref
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.training import RUNTIME, SMALL, StoppedError, write_store

from flowprep.errors import RunStoppedError, SettingsError
from flowprep.stores import Store, open_store
from fusion_train import ablate as ablations
from fusion_train import step
from fusion_train.ablate import ablate
from fusion_train.ablation_forecast import forecast_ablation
from fusion_train.ablation_plan import AblationPlan, plan_ablation
from fusion_train.ablation_table import Ablation, AblationRow, read_ablation
from fusion_train.late_fusion import fuse
from fusion_train.metrics import measure
from fusion_train.scores import ScoreTable

ROWS = ("1-sum-softmax", "1-max", "1-sum", "4-conv2d-pool2d")
FAST = (*SMALL, "train.num_epochs=1", "data.num_test_clips=1", "data.test_flip=false", "fused.data.num_chunks=2")


class Said:
    """What an ablation says; stops it where one text begins."""

    def __init__(self, stop: str = "-") -> None:
        self.texts: list[str] = []
        self.stop = stop

    def __call__(self, what: str, row: Mapping[str, Any] | None) -> None:
        if row is None:
            self.texts.append(what)
            if what.startswith(self.stop):
                raise StoppedError

    def trained(self) -> list[str]:
        return [text.removeprefix("train ") for text in self.texts if text.startswith("train ")]


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return open_store(write_store(tmp_path_factory.mktemp("ablations") / "flow", num_splits=2, num_clips=1))


def planned(store: Store, *only: str, seeds: int = 1, sets: tuple[str, ...] = ()) -> AblationPlan:
    return plan_ablation(store, tables=[], only=only or ROWS, num_seeds=seeds, preset="debug", sets=[*FAST, *sets])


def do(store: Store, out: Path, *only: str, said: Said | None = None, **settings: Any) -> Ablation:
    return ablate(store, planned(store, *only, **settings), out, runtime=RUNTIME, say=said or Said())


def row_of(found: Ablation, name: str) -> AblationRow:
    return next(row for row in found.rows if row.name == name)


def states(found: Ablation) -> dict[str, str]:
    return {row.name: row.state for row in found.rows if row.state not in ("cited", "left out", "open")}


def damage(out: Path, network: str) -> Path:
    """What makes a network fail: a mark that cannot be read."""
    mark = out / "networks" / network / "split_1" / "seed_0" / "done.json"
    mark.parent.mkdir(parents=True)
    mark.write_text("{")
    return mark


@pytest.fixture(scope="module")
def finished(store: Store, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Ablation, Said]:
    """Four rows and two seeds."""
    out, said = tmp_path_factory.mktemp("finished"), Said()
    return out, do(store, out, seeds=2, said=said), said


def test_what_rows_share_is_trained_once_a_seed(finished: tuple[Path, Ablation, Said]) -> None:
    names = ("debug-spatial", "debug-temporal", "debug-max-relu5", "debug-sum-relu5", "debug-conv-relu5-two-towers")
    assert finished[2].trained() == [f"{name}, split 1, seed {seed}" for seed in (0, 1) for name in names]


def test_every_row_has_both_seeds(finished: tuple[Path, Ablation, Said]) -> None:
    out, found, _ = finished
    assert states(found) == dict.fromkeys(ROWS, "done")
    for name in ROWS:
        row = row_of(found, name)
        assert [(run.split, run.seed, run.num_videos) for run in row.runs] == [("1", 0, 4), ("1", 1, 4)]
        assert row.mean == pytest.approx(sum(run.top1 for run in row.runs) / 2)
        assert (row.num_parameters or 0) > 0
    assert row_of(found, "1-conv").state == "open"
    assert row_of(found, "1-sum-cited").state == "cited"
    assert read_ablation(out / "ablation.json") == found


def test_seeds_are_other_networks(finished: tuple[Path, Ablation, Said]) -> None:
    folder = finished[0] / "networks" / "debug-max-relu5" / "split_1"
    marks = [json.loads((folder / f"seed_{seed}" / "done.json").read_text()) for seed in (0, 1)]
    assert [mark["settings"]["train"]["seed"] for mark in marks] == [0, 1]
    assert marks[0]["network_sha256"] != marks[1]["network_sha256"]


@pytest.mark.parametrize(
    ("name", "averaged"),
    [
        ("1-sum-softmax", ("debug-spatial/split_1/seed_1/test_spatial", "debug-temporal/split_1/seed_1/test_temporal")),
        ("1-max", ("debug-max-relu5/split_1/seed_1/test_spatiotemporal",)),
        (
            "4-conv2d-pool2d",
            (
                "debug-conv-relu5-two-towers/split_1/seed_1/test_spatiotemporal",
                "debug-conv-relu5-two-towers/split_1/seed_1/test_temporal",
            ),
        ),
    ],
)
def test_a_row_is_the_plain_mean_of_its_networks_or_towers(
    finished: tuple[Path, Ablation, Said], name: str, averaged: tuple[str, ...]
) -> None:
    out, found, _ = finished
    tables = [ScoreTable.load(out / "networks" / f"{path}.npz") for path in averaged]
    expected = tables[0] if len(tables) == 1 else fuse(tables, [1, 1])
    assert (ScoreTable.load(out / "rows" / name / "split_1_seed_1.npz").scores == expected.scores).all()
    run = row_of(found, name).runs[1]
    assert (run.top1, run.mean_class) == (measure(expected).top1.value, measure(expected).mean_class)


def test_what_is_finished_is_not_done_again(store: Store, finished: tuple[Path, Ablation, Said]) -> None:
    out, found, _ = finished
    times = {path: path.stat().st_mtime_ns for folder in ("networks", "rows") for path in (out / folder).rglob("*.*")}
    said = Said()
    assert do(store, out, seeds=2, said=said) == found
    assert said.texts == []
    assert {path: path.stat().st_mtime_ns for path in times} == times


def test_fewer_seeds_are_fewer_runs_and_logging_is_free(store: Store, finished: tuple[Path, Ablation, Said]) -> None:
    out, found, _ = finished
    said = Said()
    again = do(store, out, seeds=1, said=said, sets=("train.log_every=3",))
    assert said.texts == []
    assert row_of(again, "1-max").runs == row_of(found, "1-max").runs[:1]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"sets": ("train.num_epochs=2",)}, r"sets.train.num_epochs: 1 there, 2 asked for"),
        ({"preset": None}, r"preset: debug there, None asked for"),
    ],
)
def test_another_ablation_into_the_same_folder_is_refused(
    store: Store, finished: tuple[Path, Ablation, Said], change: dict[str, Any], message: str
) -> None:
    plan = planned(store, "1-max")
    changed = dataclasses.replace(plan, **{**change, "sets": (*plan.sets, *change.get("sets", ()))})
    with pytest.raises(SettingsError, match=rf"is of another ablation \({message}\); give another --out"):
        ablate(store, changed, finished[0], runtime=RUNTIME, say=Said())


def test_rows_of_lists_that_were_mended_do_not_count(store: Store, tmp_path: Path) -> None:
    shutil.copytree(store.path, tmp_path / "flow")
    path, out = tmp_path / "flow" / "splits.json", tmp_path / "out"
    with open_store(tmp_path / "flow") as copy:
        assert states(do(copy, out, "1-max")) == {"1-max": "done"}
    lists = json.loads(path.read_text())
    lists["splits"]["1"]["test"].pop()
    path.write_text(json.dumps(lists))
    (result,) = (out / "rows" / "1-max").glob("*.json")
    with open_store(tmp_path / "flow") as copy:
        found = do(copy, out, "1-max")
        assert states(found) == {"1-max": "failed"}
        assert "json was made otherwise (lists_sha256: " in row_of(found, "1-max").why
        content = json.loads(result.read_text())
        del content["record"]["lists_sha256"]
        result.write_text(json.dumps(content))  # as older versions have left it
        assert states(do(copy, out, "1-max")) == {"1-max": "done"}
        result.unlink()
        (run,) = row_of(do(copy, out, "1-max"), "1-max").runs
        assert run.num_videos == 3


def test_what_was_stopped_goes_on_and_is_the_same(
    store: Store, finished: tuple[Path, Ablation, Said], tmp_path: Path
) -> None:
    with pytest.raises(StoppedError):
        do(store, tmp_path, *ROWS[:3], said=Said(stop="evaluate debug-sum"))
    there = read_ablation(tmp_path / "ablation.json")
    assert states(there) == {"1-sum-softmax": "done", "1-max": "done"}
    said = Said()
    found = do(store, tmp_path, *ROWS[:3], said=said)
    assert said.texts == ["row 1-sum, split 1, seed 0", "evaluate debug-sum-relu5, split 1, seed 0"]
    for name in ROWS[:3]:
        assert row_of(found, name).runs == row_of(finished[1], name).runs[:1]


def test_a_row_that_fails_costs_no_other_row(store: Store, tmp_path: Path) -> None:
    mark = damage(tmp_path, "debug-max-relu5")
    found = do(store, tmp_path, "1-max", "1-sum")
    assert states(found) == {"1-max": "failed", "1-sum": "done"}
    assert row_of(found, "1-max").why == f"{mark} is damaged; delete its folder to train that stage anew"
    assert read_ablation(tmp_path / "ablation.json") == found
    other = do(store, tmp_path, "1-sum-softmax")
    assert (row_of(other, "1-max").state, row_of(other, "1-max").why) == ("failed", row_of(found, "1-max").why)
    mark.unlink()
    said = Said()
    again = do(store, tmp_path, "1-max", "1-sum", said=said)
    assert states(again) == {"1-sum-softmax": "done", "1-max": "done", "1-sum": "done"}
    assert row_of(again, "1-max").why == ""
    assert said.trained() == ["debug-max-relu5, split 1, seed 0"]


def test_rows_of_a_stream_that_fails_all_fail_and_it_is_tried_once(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    damage(tmp_path, "debug-spatial")
    tried: list[str] = []

    def record(*arguments: Any, **names: Any) -> Path:
        tried.append(names["name"])
        return original(*arguments, **names)

    original = ablations.train_once
    monkeypatch.setattr(ablations, "train_once", record)
    said = Said()
    found = do(store, tmp_path, *ROWS[:3], said=said)
    assert states(found) == dict.fromkeys(ROWS[:3], "failed")
    assert tried == ["debug-spatial, split 1, seed 0"]
    assert "  1-max failed, for a reason said above" in said.texts


def test_a_row_without_memory_is_named_and_leaves_it_to_the_others(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun: list[str] = []
    left: list[weakref.ref[torch.Tensor]] = []

    def begin(*arguments: Any, **names: Any) -> Path:
        begun.append(names["name"])
        return train_once(*arguments, **names)

    def losses(logits: Mapping[str, torch.Tensor], labels: torch.Tensor) -> dict[str, torch.Tensor]:
        if begun[-1].startswith("debug-max"):
            left.append(weakref.ref(logits["spatiotemporal"]))
            torch.empty(2**50)  # no machine has that
        assert all(reference() is None for reference in left) or begun[-1].startswith("debug-max")
        return tower_losses(logits, labels)

    train_once, tower_losses = ablations.train_once, step.tower_losses
    monkeypatch.setattr(ablations, "train_once", begin)
    monkeypatch.setattr(step, "tower_losses", losses)
    found = do(store, tmp_path, "1-max", "1-sum")
    assert states(found) == {"1-max": "failed", "1-sum": "done"}
    assert row_of(found, "1-max").why.startswith("out of memory: lower `train.videos_at_once`, or take a device")
    assert len(left) == 1


def test_missing_weights_are_said_first_and_fail_their_rows(store: Store, tmp_path: Path) -> None:
    said = Said()
    found = do(store, tmp_path, "1-max", said=said, sets=("model.temporal_weights=nowhere.mat",))
    assert said.texts[0].startswith("debug-temporal cannot be trained: there is no file nowhere.mat with the initial")
    assert said.trained() == ["debug-spatial, split 1, seed 0"]
    assert "nowhere.mat" in row_of(found, "1-max").why


def test_a_full_disk_ends_all(store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any, **__: Any) -> Path:
        raise RunStoppedError("the disk is full")

    monkeypatch.setattr(ablations, "train_once", full)
    with pytest.raises(RunStoppedError, match="the disk is full"):
        do(store, tmp_path, "1-max", "1-sum")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"record": {}}, r"was made otherwise \(evaluated: "),
        ({"format": 2}, r"is damaged \(it is of kind fusion-train-ablation-run and format 2\)"),
        ({"run": {"top1": 1.0}}, r"is damaged \("),
    ],
)
def test_a_result_that_does_not_count_fails_its_row(
    store: Store, tmp_path: Path, change: dict[str, Any], message: str
) -> None:
    path = tmp_path / "rows" / "1-max" / "split_1_seed_0.json"
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps({"kind": "fusion-train-ablation-run", "format": 1, "record": {}, "run": {}} | change))
    if "record" in change:
        good = {"split": "1", "seed": 0, "num_videos": 1, "top1": 1.0, "top5": 1.0, "mean_class": 1.0}
        path.write_text(json.dumps(json.loads(path.read_text()) | {"run": good}))
    said = Said()
    row = row_of(do(store, tmp_path, "1-max", said=said), "1-max")
    assert row.state == "failed"
    assert message.replace("\\", "") in row.why
    assert row.runs == ()
    assert said.trained() == []


def test_the_last_table_has_all_splits_and_its_own_evaluation(store: Store, tmp_path: Path) -> None:
    do(store, tmp_path, "3-vggm-spatial", "3-vggm-temporal")
    said = Said()
    row = row_of(do(store, tmp_path, "5-late-fusion", said=said), "5-late-fusion")
    assert said.trained() == ["debug-spatial, split 2, seed 0", "debug-temporal, split 2, seed 0"]
    assert row.splits == ("1", "2")
    assert row.seed_top1 == pytest.approx([(row.runs[0].top1 + row.runs[1].top1) / 2])
    folder = tmp_path / "networks" / "debug-spatial" / "split_1" / "seed_0"
    assert {path.name for path in folder.glob("*.npz")} == {"test_spatial.npz", "test_final_spatial.npz"}
    assert states(read_ablation(tmp_path / "ablation.json")) == dict.fromkeys(
        ("3-vggm-spatial", "3-vggm-temporal", "5-late-fusion"), "done"
    )


def test_a_forecast_knows_what_is_left_and_shared(
    store: Store, finished: tuple[Path, Ablation, Said], tmp_path: Path
) -> None:
    found = forecast_ablation(store, planned(store, "1-max", "1-conv", seeds=3), finished[0], RUNTIME)
    assert found.runs_left == {"1-max": 1, "1-conv": 3}
    left = {one.name: (one.rows, one.num_done, one.num_left) for one in found.networks}
    assert left == {
        "debug-spatial": (("1-max", "1-conv"), 2, 1),
        "debug-temporal": (("1-max", "1-conv"), 2, 1),
        "debug-max-relu5": (("1-max",), 2, 1),
        "debug-conv-relu5": (("1-conv",), 0, 3),
    }
    assert found.seconds == pytest.approx(sum(one.of_one.seconds * one.num_left for one in found.networks))
    assert found.seconds > 0
    nothing = forecast_ablation(store, planned(store, "1-max", seeds=2), finished[0], RUNTIME)
    assert (nothing.runs_left, nothing.seconds) == ({"1-max": 0}, 0)
    assert not list(tmp_path.iterdir())

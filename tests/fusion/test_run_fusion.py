"""A whole run: stages in order, finished ones skipped, a table that is right, and what is missing is said first."""

from __future__ import annotations

import dataclasses
import json
import shutil
import statistics
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers.clip_store import shards, ucf_specs, ucf_splits, write_clip_store
from helpers.training import RUNTIME, SMALL, StoppedError, small, weights, write_store

from flowprep.errors import MissingDataError, SettingsError, StoreError
from flowprep.stores import Store, open_store
from fusion_train import forecast as forecasts
from fusion_train import stages
from fusion_train.data.dataset import ClipDataset
from fusion_train.data.splits import read_parts
from fusion_train.forecast import forecast
from fusion_train.late_fusion import fuse
from fusion_train.metrics import Metrics, Share, measure
from fusion_train.models.build import build_network
from fusion_train.run import RunResult, chosen_splits, default_preset, find_store, plan, run
from fusion_train.runrecord import RunRecord
from fusion_train.runtime import Runtime
from fusion_train.scores import ScoreTable

TRAINED = ["train spatial", "train temporal", "train fused"]
EVALUATED = ["evaluate spatial", "evaluate temporal", "evaluate fused"]


class Said:
    """What a run says: the stages that it begins."""

    def __init__(self) -> None:
        self.stages: list[str] = []

    def __call__(self, stage: str, row: Mapping[str, Any] | None) -> None:
        if row is None:
            self.stages.append(stage)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return open_store(write_store(tmp_path_factory.mktemp("runs") / "ucf101" / "flow", num_splits=2))


def do(store: Store, out: Path, *sets: str, splits: tuple[str, ...] = ("1",), said: Said | None = None) -> RunResult:
    return run(store, preset="debug", splits=splits, out=out, sets=[*SMALL, *sets], runtime=RUNTIME, say=said or Said())


@pytest.fixture(scope="module")
def finished(store: Store, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, RunResult, list[str]]:
    out, said = tmp_path_factory.mktemp("finished"), Said()
    return out, do(store, out, said=said), said.stages


def test_the_test_list_is_read_when_all_is_trained(finished: tuple[Path, RunResult, list[str]]) -> None:
    assert finished[2] == TRAINED + EVALUATED


def test_a_run_that_is_finished_does_nothing_again(store: Store, finished: tuple[Path, RunResult, list[str]]) -> None:
    out, first, _ = finished
    times = {path: path.stat().st_mtime_ns for path in out.rglob("network.pt")}
    said = Said()
    again = do(store, out, said=said)
    assert said.stages == []
    assert again.to_json() == first.to_json()
    assert {path: path.stat().st_mtime_ns for path in out.rglob("network.pt")} == times


def test_the_table_is_made_of_the_scores(finished: tuple[Path, RunResult, list[str]]) -> None:
    out, result, _ = finished
    folder = out / "split_1"
    spatial, temporal = (ScoreTable.load(folder / name / f"test_{name}.npz") for name in ("spatial", "temporal"))
    towers = [ScoreTable.load(folder / "fused" / f"test_{tower}.npz") for tower in ("spatiotemporal", "temporal")]
    expected = {
        "spatial": measure(spatial),
        "temporal": measure(temporal),
        "late fusion": measure(fuse([spatial, temporal])),
        "fused spatiotemporal": measure(towers[0]),
        "fused temporal": measure(towers[1]),
        "fused": measure(fuse(towers)),
    }
    assert result.rows == tuple(expected)
    assert {row: metrics.to_json() for row, metrics in result.metrics["1"].items()} == {
        row: metrics.to_json() for row, metrics in expected.items()
    }
    assert [line[0] for line in result.table()] == ["", *expected]
    assert result.table()[3][1] == f"{100 * expected['late fusion'].top1.value:.2f}"
    assert json.loads((out / "table.json").read_text()) == json.loads(json.dumps(result.to_json()))
    mean = (towers[0].scores.astype(np.float64) + towers[1].scores) / 2
    np.testing.assert_allclose(ScoreTable.load(folder / "fused.npz").scores, mean, rtol=1e-6)


def test_the_fused_network_starts_from_both_streams(store: Store, tmp_path: Path) -> None:
    out = tmp_path / "run"
    do(store, out, "fused.train.rates=1e-30")
    folder = out / "split_1"
    fused = weights(folder / "fused" / "network.pt")
    for stream in ("spatial", "temporal"):
        for name, tensor in weights(folder / stream / "network.pt").items():
            assert torch.allclose(fused[name], tensor, rtol=0, atol=1e-20), name


def test_a_stage_that_was_stopped_goes_on(
    store: Store, finished: tuple[Path, RunResult, list[str]], tmp_path: Path
) -> None:
    def stop(stage: str, row: Mapping[str, Any] | None) -> None:
        if stage == "train temporal" and row is not None and row["step"] == 3:
            raise StoppedError

    with pytest.raises(StoppedError):
        run(store, preset="debug", splits=["1"], out=tmp_path, sets=SMALL, runtime=RUNTIME, say=stop)
    said = Said()
    result = do(store, tmp_path, said=said)
    assert said.stages == [*TRAINED[1:], *EVALUATED]
    assert result.to_json() == finished[1].to_json()
    assert not list(tmp_path.rglob("last.pt"))


def test_a_fused_network_that_was_begun_goes_on_from_the_same_streams_alone(store: Store, tmp_path: Path) -> None:
    """Streams are paths in the settings, and those stay the same when a stream is trained anew."""

    def stop(stage: str, row: Mapping[str, Any] | None) -> None:
        if stage == "train fused" and row is not None and row["step"] == 3:
            raise StoppedError

    with pytest.raises(StoppedError):
        run(store, preset="debug", splits=["1"], out=tmp_path, sets=SMALL, runtime=RUNTIME, say=stop)
    shutil.rmtree(tmp_path / "split_1" / "spatial")
    changed = "spatial.train.rates=1e-3"
    with pytest.raises(
        SettingsError,
        match=r"fused/last.pt was begun with other settings \(model.spatial_weights: \S+ \(SHA-256 \w{8}..\) there, ",
    ):
        do(store, tmp_path, changed)
    assert not (tmp_path / "split_1" / "fused" / "done.json").exists()
    shutil.rmtree(tmp_path / "split_1" / "fused")
    said = Said()
    do(store, tmp_path, changed, said=said)
    assert said.stages == ["train fused", *EVALUATED]


def test_another_run_into_the_same_folder_is_refused(store: Store, finished: tuple[Path, RunResult, list[str]]) -> None:
    with pytest.raises(SettingsError, match=r"spatial was trained otherwise \(settings.train.num_epochs: 2 there, 3"):
        do(store, finished[0], "train.num_epochs=3")


def test_lists_that_were_mended_are_noticed(store: Store, tmp_path: Path) -> None:
    """The manifest has every video and none of the lists."""
    path, out = tmp_path / "flow", tmp_path / "out"
    shutil.copytree(store.path, path)
    with open_store(path) as copy:
        first = do(copy, out)
    lists = json.loads((path / "splits.json").read_text())
    split = lists["splits"]["1"]
    dropped, split["test"] = split["test"][0], split["test"][1:]
    (path / "splits.json").write_text(json.dumps(lists))
    with open_store(path) as copy:
        said = Said()
        second = do(copy, out, said=said)
        assert said.stages == EVALUATED  # the same networks, on another test list
        assert [result.metrics["1"]["fused"].top1.num_videos for result in (first, second)] == [8, 7]
        do(copy, out, said=said)
        assert said.stages == EVALUATED
    split["train"].append(dropped)
    (path / "splits.json").write_text(json.dumps(lists))
    with open_store(path) as copy:
        with pytest.raises(
            SettingsError, match=r"spatial was trained otherwise \(training_list_sha256: \w+ there, \w+ asked"
        ):
            do(copy, out)
        for done in out.rglob("done.json"):  # as older versions have left it
            mark = json.loads(done.read_text())
            del mark["training_list_sha256"]
            done.write_text(json.dumps(mark))
        do(copy, out, said=said)
        assert said.stages == EVALUATED


def test_a_mark_that_is_damaged_is_said(store: Store, tmp_path: Path) -> None:
    (tmp_path / "split_1" / "spatial").mkdir(parents=True)
    (tmp_path / "split_1" / "spatial" / "done.json").write_text("{")
    with pytest.raises(StoreError, match=r"done.json is damaged; delete its folder"):
        do(store, tmp_path)


def test_the_folder_says_what_it_is_a_run_of(store: Store, finished: tuple[Path, RunResult, list[str]]) -> None:
    out = finished[0]
    assert RunRecord.read(out) == RunRecord(preset="debug", splits=("1",), data=store.path.resolve())
    done = json.loads((out / "split_1" / "fused" / "done.json").read_text())
    assert done["versions"]["torch"] == torch.__version__
    assert done["versions"]["device"] == "cpu"


def test_splits_of_a_run_are_gathered_and_presets_are_not_mixed(tmp_path: Path) -> None:
    assert RunRecord.read(tmp_path) is None
    for split in ("2", "1", "2"):
        RunRecord(preset="debug", splits=(split,), data=Path("/data")).write(tmp_path)
    record = RunRecord.read(tmp_path)
    assert record is not None
    assert record.splits == ("2", "1")
    with pytest.raises(SettingsError, match=r"is a run of preset debug, not ucf101-vgg16; give another --out"):
        RunRecord(preset="ucf101-vgg16", splits=("1",), data=Path("/data")).write(tmp_path)
    (tmp_path / "run.json").write_text("{}")
    with pytest.raises(StoreError, match=r"run.json is damaged; delete it"):
        RunRecord.read(tmp_path)


def test_other_test_clips_evaluate_anew_and_train_nothing(store: Store, tmp_path: Path) -> None:
    do(store, tmp_path)
    said = Said()
    do(store, tmp_path, "data.num_test_clips=3", said=said)
    assert said.stages == EVALUATED


def test_missing_weights_are_said_before_anything_is_trained(store: Store, tmp_path: Path) -> None:
    said = Said()
    with pytest.raises(MissingDataError, match=r"no file nowhere.mat with the initial weights of the temporal stream"):
        do(store, tmp_path, "model.temporal_weights=nowhere.mat", said=said)
    assert said.stages == []
    assert not list(tmp_path.iterdir())


def test_that_nothing_can_be_held_out_is_said_before_anything_is_trained(store: Store, tmp_path: Path) -> None:
    said = Said()
    with pytest.raises(SettingsError, match=r"no whole group .* of split 1 of .* can be held out"):
        do(store, tmp_path, "fused.train.val=groups", said=said)
    assert said.stages == []
    assert not list(tmp_path.iterdir())
    (planned,) = plan("debug", ("1",), tmp_path, [*SMALL, "fused.train.val=groups"])
    with pytest.raises(SettingsError, match=r"no whole group .* of split 1 of .* can be held out"):
        forecast(store, planned, RUNTIME)  # `--dry-run`


@pytest.mark.parametrize("stage", ["spatial", "fused"])
def test_a_finished_network_that_was_deleted_is_said(
    store: Store, finished: tuple[Path, RunResult, list[str]], stage: str, tmp_path: Path
) -> None:
    shutil.copytree(finished[0], tmp_path / "run")
    network = tmp_path / "run" / "split_1" / stage / "network.pt"
    network.unlink()
    message = rf"^{network} is missing; restore it, or delete {network.parent} to train anew$"
    with pytest.raises(MissingDataError, match=message):
        do(store, tmp_path / "run")


def test_weights_of_the_towers_are_swept_on_held_out_groups(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    swept: list[tuple[ScoreTable, ScoreTable]] = []

    def record(first: ScoreTable, second: ScoreTable) -> Any:
        swept.append((first, second))
        return original(first, second)

    original = stages.sweep
    monkeypatch.setattr(stages, "sweep", record)
    said = Said()
    do(store, tmp_path, "train.val=groups", "train.val_share=0.4", "train.batch_size=2", "train.videos_at_once=2",
       said=said)  # fmt: skip
    assert said.stages == [*TRAINED, *EVALUATED, "evaluate fused"]
    assert {table.part for pair in swept for table in pair} == {"validation 1"}
    fused = ScoreTable.load(tmp_path / "split_1" / "fused.npz")
    assert fused.origin["weights"] == pytest.approx(original(*swept[0]).weights)


def test_one_tower_has_one_row(store: Store, tmp_path: Path) -> None:
    result = do(store, tmp_path, "model.keep_temporal=false", "train.num_epochs=1")
    assert result.rows == ("spatial", "temporal", "late fusion", "fused")


def metrics_of(top1: float) -> Metrics:
    share = Share(num_right=round(100 * top1), num_videos=100)
    return Metrics(top1=share, top5=share, mean_class=top1, confusion=np.zeros((1, 1), np.int64), classes=("a",))


def test_all_splits_have_a_mean_and_a_deviation_beside_the_papers_figures() -> None:
    values = {"1": 0.92, "2": 0.93, "3": 0.91}
    result = RunResult(
        preset="ucf101-vgg16",
        held_out="groups",
        metrics={name: {"spatial": metrics_of(0.8), "fused": metrics_of(value)} for name, value in values.items()},
    )
    assert result.mean_top1("fused") == pytest.approx((0.92, statistics.stdev(values.values())))
    head, spatial, fused = result.table()
    assert head == ["", "split 1", "split 2", "split 3", "mean", "deviation", "paper"]
    assert fused == ["fused", "92.00", "93.00", "91.00", "92.00", "1.00", "92.50 (mean of 3 splits, table 5)"]
    assert spatial[-1] == "82.61 (split 1, table 3)"


def test_every_split_is_run(store: Store, tmp_path: Path) -> None:
    splits = chosen_splits(store, "all")
    assert splits == ("1", "2")
    result = do(store, tmp_path, "train.num_epochs=1", splits=splits)
    assert list(result.metrics) == ["1", "2"]
    assert len(result.table()[1]) == len(result.table()[0]) == 6


def test_the_one_store_is_found(store: Store, tmp_path: Path) -> None:
    root = store.path.parents[1]
    assert find_store(root) == store.path
    assert find_store(store.path) == store.path
    with pytest.raises(MissingDataError, match=r"no store under .*; `flowprep extract` makes one"):
        find_store(tmp_path)
    for name in ("ucf101", "hmdb51"):
        (tmp_path / name / "flow").mkdir(parents=True)
        (tmp_path / name / "flow" / "manifest.jsonl").write_text("")
    with pytest.raises(SettingsError, match=r"2 stores under .*hmdb51/flow, .*ucf101/flow; name one with --data"):
        find_store(tmp_path)


def test_preset_and_split_are_those_of_the_store(store: Store) -> None:
    assert default_preset(store) == "ucf101-vgg16"
    with pytest.raises(SettingsError, match=r"no split '3'; it has 1, 2"):
        chosen_splits(store, "3")


def test_a_forecast_leaves_out_what_a_run_leaves_out(tmp_path: Path) -> None:
    """The first video of the test list is too short for a clip."""
    specs = ucf_specs(4, 1)
    first = next(k for k, spec in enumerate(specs) if spec.id == "v_Archery_g03_c01")
    specs[first] = dataclasses.replace(specs[first], num_frames=4)
    split = ucf_splits(specs, first_test_group=3)["1"]
    store = open_store(write_clip_store(tmp_path / "store", shards(), specs, {"1": split}))
    assert read_parts(store, "1").test[0] == specs[first].id
    (planned,) = plan("debug", ["1"], tmp_path, SMALL)
    assert all(one.test_seconds > 0 for one in forecast(store, planned, RUNTIME))


@pytest.mark.parametrize(("of_another", "num_measured"), [(0.5, 2), (5.0, 1)])
def test_processes_measure_again_only_together(
    store: Store, monkeypatch: pytest.MonkeyPatch, of_another: float, num_measured: int
) -> None:
    """Steps are collective, so the slowest process decides for all whether there is time for larger ones."""
    settings = small("spatial")
    dataset = ClipDataset(store, read_parts(store, "1").train, settings.data, streams=("rgb",))
    asked: list[float] = []

    def gathered(_: Runtime, rows: list[float]) -> list[float]:
        asked.extend(rows)
        return [*rows, of_another]

    monkeypatch.setattr(Runtime, "gathered", gathered)
    forecasts._measured(build_network(settings.model, num_classes=2), dataset, settings, RUNTIME)
    assert len(asked) == num_measured


def test_a_forecast_counts_and_measures_and_writes_nothing(store: Store, tmp_path: Path) -> None:
    (planned,) = plan("debug", ["1"], tmp_path, SMALL)
    found = forecast(store, planned, RUNTIME)
    assert [one.stage for one in found] == ["spatial", "temporal", "fused"]
    assert [one.num_steps for one in found] == [4, 4, 4]
    assert all(one.num_parameters == one.num_trained > 0 for one in found)
    assert all(one.memory_bytes > 0 and one.seconds > 0 and not one.is_done for one in found)
    assert all(one.test_seconds > 0 for one in found)
    assert not list(tmp_path.iterdir())
    assert dataclasses.is_dataclass(found[0])

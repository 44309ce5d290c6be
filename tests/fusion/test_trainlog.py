"""What a training says of itself: JSONL, CSV and TensorBoard side by side, also after it was stopped."""

from __future__ import annotations

import csv
import importlib.util
from pathlib import Path
from typing import Any

import pytest
from helpers.training import RUNTIME, StoppedError, small, stop_at, write_store

from flowprep.stores import Store, open_store
from fusion_train.train import train
from fusion_train.trainlog import COLUMNS, read_log

HELD_OUT = ("train.val=groups", "train.val_share=0.4", "train.batch_size=2", "train.videos_at_once=2")


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return open_store(write_store(tmp_path_factory.mktemp("logs") / "store"))


def columns(folder: Path) -> list[dict[str, str]]:
    with (folder / "log.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def test_csv_has_the_lines_of_jsonl(store: Store, tmp_path: Path) -> None:
    train(store, small("fused", *HELD_OUT), tmp_path, runtime=RUNTIME)
    rows = list(read_log(tmp_path))
    assert {"loss_spatiotemporal", "loss_temporal", "rate", "clips_per_second", "wait_share"} < set(rows[0])
    assert [row["val_on"] for row in rows if "val_top1" in row] == ["groups", "groups"]
    for row, cells in zip(rows, columns(tmp_path), strict=True):
        assert cells == {name: str(row.get(name, "")) for name in COLUMNS}


def scalars(folder: Path) -> dict[str, dict[int, float]]:
    """What a TensorBoard shows: by name, values by step."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    shown = EventAccumulator(str(folder / "tensorboard")).Reload()
    return {name: {e.step: e.value for e in shown.Scalars(name)} for name in shown.Tags()["scalars"]}


@pytest.mark.skipif(importlib.util.find_spec("tensorboard") is None, reason="the extra tensorboard is not installed")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of TensorBoard's own imports
def test_tensorboard_shows_what_was_logged_and_nothing_twice_after_a_stop(store: Store, tmp_path: Path) -> None:
    settings = small("spatial", *HELD_OUT, "train.tensorboard=true", "train.save_every=1")
    with pytest.raises(StoppedError):
        train(store, settings, tmp_path, runtime=RUNTIME, report=stop_at(3))
    train(store, settings, tmp_path, runtime=RUNTIME)
    expected: dict[str, dict[int, float]] = {}
    rows: list[dict[str, Any]] = list(read_log(tmp_path))
    for row in rows:
        for name, value in row.items():
            if name not in ("step", "seconds", "val_on"):
                expected.setdefault(name, {})[row["step"]] = pytest.approx(value, rel=1e-5)
    assert scalars(tmp_path) == expected
    assert {"loss", "loss_spatial", "rate", "val_top1", "clips_per_second"} < set(expected)

"""A disk that is full, memory that is short: a sentence that names the file or the setting, and nothing half done."""

from __future__ import annotations

import contextlib
import errno
import os
import resource
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.training import RUNTIME, small, write_store

from flowprep.errors import DeviceMemoryError, FlowprepError, MissingDataError, RunStoppedError
from flowprep.stores import Store, open_store
from fusion_train import evaluate as evaluation
from fusion_train import step
from fusion_train.checkpoint import Checkpoint
from fusion_train.evaluate import evaluate
from fusion_train.outage import device_memory, whole_file, writing
from fusion_train.scores import ScoreTable
from fusion_train.train import train
from fusion_train.trainlog import TrainLog

_PETABYTE = 2**50


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return open_store(write_store(tmp_path_factory.mktemp("outages") / "store", num_clips=1))


@contextlib.contextmanager
def small_files(num_bytes: int) -> Iterator[None]:
    """The kernel refuses to make files larger than this."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (num_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def too_large(*_: Any) -> Any:
    """What PyTorch's own allocator says of memory that no machine has."""
    return torch.empty(_PETABYTE)


def test_a_checkpoint_that_does_not_fit_ends_the_run_and_leaves_the_old_one(store: Store, tmp_path: Path) -> None:
    """PyTorch answers a failing write with a RuntimeError of its own."""
    path = train(store, small("spatial", "train.num_epochs=1"), tmp_path, runtime=RUNTIME)
    before = path.read_bytes()
    checkpoint = Checkpoint.load(path)
    with (
        small_files(len(before) // 2),
        pytest.raises(RunStoppedError, match=rf"{path} cannot be written: File too large; run again when the disk"),
    ):
        checkpoint.save(path)
    assert path.read_bytes() == before
    assert not list(tmp_path.glob(".*"))


def test_a_disk_that_is_full_is_said_of_a_file_that_appears_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with (
        pytest.raises(
            RunStoppedError, match=r"a\.json cannot be written, its disk is full: No space .*; free"
        ) as error,
        whole_file(tmp_path / "a.json") as file,
    ):
        file.write(b"{}")
    assert error.value.exit_code == 3
    assert not list(tmp_path.iterdir())


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no device that is always full")
@pytest.mark.parametrize("name", ["log.jsonl", "log.csv"])
def test_a_line_of_the_log_that_does_not_fit_ends_the_run(tmp_path: Path, name: str) -> None:
    with TrainLog(tmp_path, resumed_step=0) as log:
        (tmp_path / name).unlink()
        (tmp_path / name).symlink_to("/dev/full")
        with pytest.raises(RunStoppedError, match=rf"{name} cannot be written, its disk is full: No space left on"):
            log.add({"step": 1, "epoch": 1})


def test_scores_that_do_not_fit_end_the_run(store: Store, tmp_path: Path) -> None:
    path = train(store, small("spatial", "train.num_epochs=1"), tmp_path, runtime=RUNTIME)
    table: ScoreTable = evaluate(path, store, part="test", runtime=RUNTIME)["spatial"]
    with small_files(100), pytest.raises(RunStoppedError, match=r"s\.npz cannot be written: File too large"):
        table.save(tmp_path / "s.npz")
    assert not (tmp_path / "s.npz").exists()
    assert not list(tmp_path.glob(".*"))


def test_a_place_that_cannot_be_written_is_wrong_use(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(MissingDataError, match=r"a\.json cannot be written: "), whole_file(tmp_path / "file/a.json"):
        pass
    with pytest.raises(MissingDataError, match=r"file/sub cannot be written: Not a directory"):
        TrainLog(tmp_path / "file" / "sub", resumed_step=0)


def test_errors_of_other_things_stay_what_they_are(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="shape"), writing(tmp_path):
        raise RuntimeError("shape")
    with pytest.raises(RuntimeError, match="shape"), device_memory("-"):
        raise RuntimeError("shape")
    mine = MissingDataError("mine")  # an OSError too
    with pytest.raises(MissingDataError, match="mine"), writing(tmp_path):
        raise mine


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.\nmore"),
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
        MemoryError("Unable to allocate 1.00 PiB for an array"),
    ],
)
def test_what_devices_say_of_their_memory(error: Exception) -> None:
    first = str(error).partition("\n")[0].replace("(", r"\(").replace(")", r"\)")
    with pytest.raises(DeviceMemoryError, match=rf"^out of memory: lower it \({first}\)$"), device_memory("lower it"):
        raise error


def test_a_step_that_does_not_fit_names_its_setting(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(step, "tower_losses", too_large)
    with pytest.raises(DeviceMemoryError, match=r"lower `train.videos_at_once`, .*can't allocate memory") as error:
        train(store, small("spatial"), tmp_path, runtime=RUNTIME)
    assert isinstance(error.value, FlowprepError | MemoryError)
    assert error.value.exit_code == 2


def test_an_evaluation_that_does_not_fit_names_its_setting(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = train(store, small("spatial", "train.num_epochs=1"), tmp_path, runtime=RUNTIME)
    monkeypatch.setattr(evaluation, "network_inputs", too_large)
    with pytest.raises(DeviceMemoryError, match=r"lower `evaluate.clips_at_once`, .*can't allocate memory"):
        evaluate(path, store, part="test", runtime=RUNTIME)

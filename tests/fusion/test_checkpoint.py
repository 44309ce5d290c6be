"""Checkpoints: whole or not there, without code, and a resumed training is the uninterrupted one to the bit."""

from __future__ import annotations

import dataclasses
import hashlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.training import RUNTIME, StoppedError, equal, small, stop_at, weights, write_store

from flowprep.config import ExtractSettings
from flowprep.errors import BackendUnavailableError, MissingDataError, SettingsError, StoreError
from flowprep.stores import Store, open_store
from flowprep_cli.fusion_options import progress_line
from fusion_train.checkpoint import Checkpoint, file_sha256
from fusion_train.runtime import started
from fusion_train.train import LAST, train
from fusion_train.trainlog import read_log

DROPOUT = ("model.spatial_dropout=0.5", "model.temporal_dropout=0.5", "train.save_every=1", "train.reset_momentum=true")


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return open_store(write_store(tmp_path_factory.mktemp("checkpoints") / "store"))


@pytest.fixture(scope="module")
def uninterrupted(store: Store, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("uninterrupted")
    train(store, small("fused", *DROPOUT), folder, runtime=RUNTIME)
    return folder


def test_a_trained_network_knows_how_its_data_was_made(store: Store, uninterrupted: Path) -> None:
    for path in (uninterrupted / LAST, uninterrupted / "network.pt"):
        content = Checkpoint.load(path).content
        assert content is not None
        assert ExtractSettings.from_json(content) == store.settings


def example(**changes: Any) -> Checkpoint:
    content = {
        "settings": small("spatial"),
        "manifest_sha256": "0" * 64,
        "classes": ("Archery", "Biking"),
        "network": {"a": torch.arange(3.0)},
        "training": {"step": 3, "optimiser": {"state": {0: {"momentum_buffer": torch.ones(2)}}}},
    }
    return Checkpoint(**{**content, **changes})


def log_of(folder: Path) -> list[dict[str, Any]]:
    times = ("seconds", "clips_per_second", "wait_share")
    return [{name: value for name, value in row.items() if name not in times} for row in read_log(folder)]


@pytest.mark.parametrize("step", [1, 2, 3, 4])
def test_a_resumed_training_is_the_uninterrupted_one(
    store: Store, uninterrupted: Path, step: int, tmp_path: Path
) -> None:
    settings = small("fused", *DROPOUT)
    with pytest.raises(StoppedError):
        train(store, settings, tmp_path, runtime=RUNTIME, report=stop_at(step))
    path = train(store, settings, tmp_path, runtime=RUNTIME)
    assert equal(weights(path), weights(uninterrupted / "network.pt"))
    assert log_of(tmp_path) == log_of(uninterrupted)
    assert (tmp_path / "log.csv").read_text().count("\n") == 1 + len(log_of(uninterrupted))


def test_a_resumed_training_may_have_other_numbers_of_threads(
    store: Store, uninterrupted: Path, tmp_path: Path
) -> None:
    with pytest.raises(StoppedError):
        train(store, small("fused", *DROPOUT), tmp_path, runtime=RUNTIME, report=stop_at(3))
    path = train(store, small("fused", *DROPOUT, "train.num_threads=2"), tmp_path, runtime=RUNTIME)
    assert equal(weights(path), weights(uninterrupted / "network.pt"))


def test_deterministic_kernels_make_the_same_network(store: Store, uninterrupted: Path, tmp_path: Path) -> None:
    with started("cpu", deterministic=True) as runtime:
        assert torch.are_deterministic_algorithms_enabled()
        path = train(store, small("fused", *DROPOUT), tmp_path, runtime=runtime)
    assert not torch.are_deterministic_algorithms_enabled()
    assert equal(weights(path), weights(uninterrupted / "network.pt"))


def test_devices_that_are_not_there_are_refused() -> None:
    with pytest.raises(SettingsError, match=r"`device` must be auto, cpu, cuda or cuda:N, got 'gpu7'"), started("gpu7"):
        pass


def test_tensorboard_that_is_not_installed_is_said(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with pytest.raises(BackendUnavailableError, match=r"needs TensorBoard, .*: pip install 'flowprep\[tensorboard\]'"):
        train(store, small("spatial", "train.tensorboard=true"), tmp_path, runtime=RUNTIME)


def test_what_was_begun_goes_on_with_its_own_settings_and_data(
    store: Store, uninterrupted: Path, tmp_path: Path
) -> None:
    with pytest.raises(SettingsError, match=r"begun with other settings \(train.rates: 2e-2 there, 1e-2 asked for\)"):
        train(store, small("fused", *DROPOUT, "train.rates=1e-2"), uninterrupted, runtime=RUNTIME)
    other = open_store(write_store(tmp_path / "other", num_groups=5))
    with pytest.raises(SettingsError, match=r"begun on another state of the store; give another folder"):
        train(other, small("fused", *DROPOUT), uninterrupted, runtime=RUNTIME)


def test_rates_and_precision_may_change_on_the_way(store: Store, uninterrupted: Path, tmp_path: Path) -> None:
    """As the sentences say of a loss that is not finite."""
    with pytest.raises(StoppedError):
        train(store, small("fused", *DROPOUT), tmp_path, runtime=RUNTIME, report=stop_at(4))
    changed = small("fused", *DROPOUT, "train.rates=1e-2", "train.precision=bfloat16")
    with pytest.raises(StoppedError):
        train(store, changed, tmp_path, runtime=RUNTIME, report=stop_at(4))
    path = train(store, changed, tmp_path, runtime=RUNTIME)
    rows = log_of(tmp_path)
    said = [row for row in rows if "changed" in row]
    assert said == [
        {
            "step": 3,
            "epoch": 2,
            "changed": {"train.precision": ["float32", "bfloat16"], "train.rates": ["2e-2", "1e-2"]},
        }
    ]
    assert [row["rate"] for row in rows if "rate" in row] == [2e-2, 2e-2, 2e-2, 1e-2]
    before = log_of(uninterrupted)
    assert rows[: rows.index(said[0])] == before[: len(rows[: rows.index(said[0])])]
    assert Checkpoint.load(path).settings == changed
    assert not equal(weights(path), weights(uninterrupted / "network.pt"))
    assert progress_line(said[0]).endswith("; train.rates: 2e-2 so far, 1e-2 from here on")


def test_a_checkpoint_comes_back_as_it_was(tmp_path: Path) -> None:
    example().save(tmp_path / "a.pt")
    found = Checkpoint.load(tmp_path / "a.pt")
    assert (found.settings, found.manifest_sha256, found.classes) == (small("spatial"), "0" * 64, ("Archery", "Biking"))
    assert torch.equal(found.network["a"], torch.arange(3.0))
    assert found.training is not None
    assert found.training["step"] == 3
    assert [path.name for path in tmp_path.iterdir()] == ["a.pt"]


def test_a_process_that_is_killed_while_it_writes_leaves_the_old_one(store: Store, tmp_path: Path) -> None:
    path = tmp_path / LAST
    example().save(path)
    before = path.read_bytes()
    code = f"""
import os, signal, pathlib, torch
from fusion_train.checkpoint import Checkpoint, file_sha256
def half(content, file):
    file.write(b"half of it")
    file.flush()
    os.kill(os.getpid(), signal.SIGKILL)
torch.save = half
path = pathlib.Path({str(path)!r})
Checkpoint.load(path).save(path)
"""
    ended = subprocess.run([sys.executable, "-c", code], check=False, timeout=60)
    assert ended.returncode == -signal.SIGKILL
    assert path.read_bytes() == before
    assert Checkpoint.load(path).classes == ("Archery", "Biking")
    (left,) = tmp_path.glob(".*")
    others = [tmp_path / name for name in (".last.pt.mine", ".last.pt.0123456789", ".other.pt.01234567", "last.pt.01")]
    for other in others:
        other.touch()
    path.unlink()
    train(store, small("spatial", "train.num_epochs=1"), tmp_path, runtime=RUNTIME)
    assert not left.exists()
    assert all(other.exists() for other in others)


def test_a_write_that_fails_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(content: object, file: object) -> None:
        raise OSError("no space left on device")

    monkeypatch.setattr(torch, "save", full)
    with pytest.raises(OSError, match="no space left"):
        example().save(tmp_path / LAST)
    assert not list(tmp_path.iterdir())


def test_a_file_that_is_damaged_or_none_of_ours_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.pt"
    with pytest.raises(MissingDataError, match=r"no checkpoint .*a.pt; `fusion-train train` writes one"):
        Checkpoint.load(path)
    example().save(path)
    cut = path.read_bytes()[:-500]
    for content in (cut, b"", b"epoch,loss\n1,0.5\n"):
        path.write_bytes(content)
        reason = "it is no file that PyTorch has saved"
        with pytest.raises(StoreError) as refused:
            Checkpoint.load(path)
        cure = "give the network.pt of a training, or train again"
        assert str(refused.value) == f"{path} is damaged or no checkpoint ({reason}); {cure}"
    (tmp_path / LAST).write_bytes(cut)
    with pytest.raises(StoreError, match=r"last.pt is damaged or no checkpoint \(.+\); delete it to train again"):
        Checkpoint.load(tmp_path / LAST)
    torch.save({"weights": torch.zeros(2)}, path)
    with pytest.raises(StoreError, match=r"a.pt is damaged or no checkpoint \(it has no 'kind'\); give the network.pt"):
        Checkpoint.load(path)
    torch.save({"kind": "other", "format": 1}, path)
    with pytest.raises(StoreError, match=r"a.pt is not a checkpoint of format 1; train again"):
        Checkpoint.load(path)


def test_a_file_that_has_not_changed_is_not_read_again_for_its_sum(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, read = tmp_path / "manifest.jsonl", []

    def digest(file: Any, name: str) -> Any:
        read.append(file.name)
        return file_digest(file, name)

    def found(content: bytes, *, age: float) -> str:
        path.write_bytes(content)
        os.utime(path, (time.time() - age,) * 2)
        sums = {file_sha256(path), file_sha256(tmp_path / ".." / tmp_path.name / path.name)}
        assert sums == {hashlib.sha256(content).hexdigest()}
        return sums.pop()

    file_digest = hashlib.file_digest
    monkeypatch.setattr(hashlib, "file_digest", digest)
    first = found(b"one", age=100)
    assert len(read) == 1
    assert found(b"two", age=50) != first
    assert len(read) == 2
    found(b"six", age=0)  # it may change again with the same time
    assert len(read) == 4


def test_settings_of_a_checkpoint_are_checked(tmp_path: Path) -> None:
    torch.save({"kind": "fusion-train-checkpoint", "format": 1, "settings": {"model": {}}}, tmp_path / "a.pt")
    with pytest.raises(StoreError, match=r"setting `network` is missing"):
        Checkpoint.load(tmp_path / "a.pt")
    assert dataclasses.replace(example(), training=None).training is None

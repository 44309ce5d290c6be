"""Files of initial weights are compared by content where it is known, else by where their paths lead."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
from helpers.training import RUNTIME, StoppedError, small, stop_at, write_store

from flowprep.errors import SettingsError
from flowprep.settings import differences
from flowprep.stores import open_store
from fusion_train.checkpoint import Checkpoint, file_sha256
from fusion_train.config import FusionSettings
from fusion_train.initial_files import comparable, initial_sha256
from fusion_train.models.build import new_network
from fusion_train.train import LAST, train


def from_file(stage: str, path: Path | str, *sets: str) -> FusionSettings:
    settings = small(stage, *sets)
    model = dataclasses.replace(settings.model, **{f"{stage}_weights": str(path)})  # type: ignore[arg-type]
    return dataclasses.replace(settings, model=model)


def content(weights: str) -> dict[str, Any]:
    return {"model": {"network": "spatial", "spatial_weights": weights}, "train": {"seed": 0}}


def test_each_file_of_a_network_has_its_sum(tmp_path: Path) -> None:
    names = ("spatial", "temporal", "fusion")
    for name in names:
        (tmp_path / name).write_text(name)
    weights = {f"{name}_weights": str(tmp_path / name) for name in names}
    fused = dataclasses.replace(small("fused").model, **weights)  # type: ignore[arg-type]
    assert initial_sha256(fused) == {f"{name}_weights": file_sha256(tmp_path / name) for name in names}
    assert list(initial_sha256(dataclasses.replace(fused, network="temporal"))) == ["temporal_weights"]
    (tmp_path / "spatial").unlink()
    assert list(initial_sha256(fused)) == ["temporal_weights", "fusion_weights"]
    assert initial_sha256(small("fused").model) == {}


@pytest.mark.parametrize(
    ("paths", "sums", "is_same"),
    [
        (("a.pt", "a.pt"), ({"spatial_weights": "1"}, {"spatial_weights": "1"}), True),
        (("a.pt", "b.pt"), ({"spatial_weights": "1"}, {"spatial_weights": "1"}), True),
        (("a.pt", "a.pt"), ({"spatial_weights": "1"}, {"spatial_weights": "2"}), False),
        (("a.pt", "x/../a.pt"), (None, {"spatial_weights": "2"}), True),
        (("a.pt", "a.pt"), ({"spatial_weights": "1"}, {}), True),
        (("a.pt", "b.pt"), (None, {"spatial_weights": "2"}), False),
        (("torchvision", "torchvision"), ({}, {}), True),
        (("torchvision", "none"), ({}, {}), False),
        (("none", "a.pt"), ({}, {"spatial_weights": "2"}), False),
    ],
)
def test_what_is_known_decides(paths: tuple[str, str], sums: tuple[Any, Any], is_same: bool) -> None:
    found = differences(*comparable(content(paths[0]), content(paths[1]), *sums))
    assert (found == []) == is_same
    assert all(text.startswith("model.spatial_weights: ") for text in found)


def test_a_training_that_was_begun_goes_on_from_the_same_weights_alone(tmp_path: Path) -> None:
    store = open_store(write_store(tmp_path / "store"))

    def write(path: Path, seed: int) -> None:
        settings = small("spatial")
        RUNTIME.seed_step(seed, -1)
        weights = new_network(settings.model, num_classes=2).state_dict()
        Checkpoint(settings=settings, manifest_sha256="0", classes=("a", "b"), network=weights).save(path)

    given, out = tmp_path / "given.pt", tmp_path / "out"
    write(given, 1)
    sets = ("train.save_every=1",)
    with pytest.raises(StoppedError):
        train(store, from_file("spatial", given, *sets), out, runtime=RUNTIME, report=stop_at(3))
    last = Checkpoint.load(out / LAST)
    assert last.initial == {"spatial_weights": file_sha256(given)}
    write(given, 2)
    with pytest.raises(SettingsError, match=r"other settings \(model.spatial_weights: \S+given.pt \(SHA-256 \w+..\) "):
        train(store, from_file("spatial", given, *sets), out, runtime=RUNTIME)
    moved = tmp_path / "moved.pt"
    write(moved, 1)  # the same weights under another name
    path = train(store, from_file("spatial", moved, *sets), out, runtime=RUNTIME)
    assert Checkpoint.load(path).initial == last.initial
    moved.unlink()  # a training that was begun needs them no more
    train(store, from_file("spatial", moved, *sets), out, runtime=RUNTIME)


def test_a_checkpoint_of_an_older_version_goes_on(tmp_path: Path) -> None:
    """It has kept no sums, so paths are compared."""
    store = open_store(write_store(tmp_path / "store"))
    settings = from_file("spatial", tmp_path / "gone.pt", "train.save_every=1")
    with pytest.raises(StoppedError):
        train(store, small("spatial", "train.save_every=1"), tmp_path / "out", runtime=RUNTIME, report=stop_at(3))
    last = dataclasses.replace(Checkpoint.load(tmp_path / "out" / LAST), settings=settings, initial=None)
    last.save(tmp_path / "out" / LAST)
    assert Checkpoint.load(tmp_path / "out" / LAST).initial is None
    path = train(store, settings, tmp_path / "out", runtime=RUNTIME)
    assert Checkpoint.load(path).initial is None

"""Files of initial weights are compared by content where it is known, else by where their paths lead."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
from helpers.training import RUNTIME, SMALL, StoppedError, small, stop_at, write_store

from flowprep.errors import MissingDataError, SettingsError
from flowprep.settings import differences
from flowprep.stores import open_store
from fusion_train.ablate import ablate
from fusion_train.ablation_plan import plan_ablation
from fusion_train.checkpoint import Checkpoint, file_sha256
from fusion_train.config import FusionSettings
from fusion_train.initial_files import comparable, initial_sha256
from fusion_train.models.build import new_network
from fusion_train.run import run
from fusion_train.runrecord import RunRecord
from fusion_train.stages import train_once
from fusion_train.train import LAST, train


def from_file(stage: str, path: Path | str, *sets: str) -> FusionSettings:
    settings = small(stage, *sets)
    model = dataclasses.replace(settings.model, **{f"{stage}_weights": str(path)})  # type: ignore[arg-type]
    return dataclasses.replace(settings, model=model)


def write_network(path: Path, seed: int) -> None:
    """A spatial stream with random weights."""
    settings = small("spatial")
    RUNTIME.seed_step(seed, -1)
    weights = new_network(settings.model, num_classes=2).state_dict()
    Checkpoint(settings=settings, manifest_sha256="0", classes=("a", "b"), network=weights).save(path)


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

    given, out = tmp_path / "given.pt", tmp_path / "out"
    write_network(given, 1)
    sets = ("train.save_every=1",)
    with pytest.raises(StoppedError):
        train(store, from_file("spatial", given, *sets), out, runtime=RUNTIME, report=stop_at(3))
    last = Checkpoint.load(out / LAST)
    assert last.initial == {"spatial_weights": file_sha256(given)}
    write_network(given, 2)
    with pytest.raises(SettingsError, match=r"other settings \(model.spatial_weights: \S+given.pt \(SHA-256 \w+..\) "):
        train(store, from_file("spatial", given, *sets), out, runtime=RUNTIME)
    moved = tmp_path / "moved.pt"
    write_network(moved, 1)  # the same weights under another name
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


def test_a_finished_run_needs_the_file_no_more_that_it_has_started_from(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = open_store(write_store(tmp_path / "store", num_splits=2))
    given, out = tmp_path / "given.pt", tmp_path / "run"
    write_network(given, 1)
    said: list[str] = []

    def enter(path: Path, split: str = "1") -> list[str]:
        """The stages that are begun."""
        said.clear()
        run(store, preset="debug", splits=(split,), out=out, sets=SMALL, runtime=RUNTIME, init_from=(path,),
            say=lambda stage, row: said.append(stage) if row is None else None)  # fmt: skip
        return said

    monkeypatch.chdir(tmp_path)
    assert len(enter(Path("given.pt"))) == 6
    record = RunRecord.read(out)
    assert record is not None
    assert record.init_from == {given: "spatial"}
    assert enter(tmp_path / "store" / ".." / "given.pt") == []
    moved = given.rename(tmp_path / "moved.pt")
    assert enter(moved) == []  # the same weights
    assert enter(given) == []  # which were there once
    with pytest.raises(MissingDataError, match=r"there is no file \S+given.pt with the initial weights of the spatial"):
        enter(given, split="2")
    with pytest.raises(MissingDataError, match=r"there is no checkpoint .*other.pt"):
        enter(tmp_path / "other.pt")
    write_network(given, 2)
    with pytest.raises(SettingsError, match=r"was trained otherwise \(settings.model.spatial_weights: \S+ \(SHA-256"):
        enter(given)


def test_a_row_of_an_ablation_counts_for_the_weights_alone_that_it_has_started_from(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = open_store(write_store(tmp_path / "store", num_clips=1))
    given, out = tmp_path / "given.pt", tmp_path / "out"
    write_network(given, 1)
    monkeypatch.chdir(tmp_path)

    def enter(path: Path | str) -> tuple[str, str]:
        """State of the row, and why."""
        sets = [*SMALL, "train.num_epochs=1", f"spatial.model.spatial_weights={path}"]
        plan = plan_ablation(store, tables=[], only=["3-vggm-spatial"], preset="debug", sets=sets)
        rows = ablate(store, plan, out, runtime=RUNTIME, say=lambda *_: None).rows
        return next((row.state, row.why) for row in rows if row.name == "3-vggm-spatial")

    assert enter("given.pt") == ("done", "")
    (result,) = out.glob("rows/*/*.json")
    content = json.loads(result.read_text())
    assert content["record"]["initial_sha256"] == {"debug-spatial": {"spatial_weights": file_sha256(given)}}
    assert enter(given) == enter(tmp_path / "store" / ".." / "given.pt") == ("done", "")
    given.unlink()
    assert enter(given) == ("done", "")  # it has started and needs them no more
    write_network(given, 2)
    state, why = enter(given)
    assert state == "failed"
    assert f"{result} was made otherwise (networks.debug-spatial.model.spatial_weights: given.pt (SHA-256 " in why
    with pytest.raises(SettingsError, match=r"is of another ablation \(sets.spatial.model.spatial_weights: /"):
        enter("other.pt")
    del content["record"]["initial_sha256"]
    result.write_text(json.dumps(content))  # as older versions have left it
    assert enter(given) == ("done", "")


def test_a_mark_of_an_older_version_has_a_path_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Relative to where the command was entered, and no sum."""
    store = open_store(write_store(tmp_path / "store"))
    write_network(tmp_path / "given.pt", 1)
    monkeypatch.chdir(tmp_path)

    def once(path: str) -> None:
        train_once(store, from_file("spatial", path), tmp_path / "out", runtime=RUNTIME, say=lambda *_: None, name="x")

    once("given.pt")
    done = tmp_path / "out" / "done.json"
    mark = json.loads(done.read_text())
    assert mark.pop("initial_sha256") == {"spatial_weights": file_sha256(tmp_path / "given.pt")}
    done.write_text(json.dumps(mark))
    once(str(tmp_path / "given.pt"))
    with pytest.raises(SettingsError, match=r"settings.model.spatial_weights: given.pt there, other.pt asked for"):
        once("other.pt")

"""`--init-from`: which network starts from which checkpoint, and what becomes of its last layer."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.training import RUNTIME, small, write_store

from flowprep.errors import MissingDataError, SettingsError
from flowprep.stores import Store, open_store
from fusion_train.checkpoint import Checkpoint
from fusion_train.config import FusionSettings
from fusion_train.initial import alone_from, known_of, networks_in, started_from
from fusion_train.models.build import new_network
from fusion_train.models.weights import initialise
from fusion_train.stages import split_run
from fusion_train.train import train

OTHER = ("brush_hair", "cartwheel", "catch")
SAME = ("Archery", "Biking")


def checkpoint(path: Path, settings: FusionSettings, classes: tuple[str, ...]) -> Path:
    torch.manual_seed(7)
    network = new_network(settings.model, num_classes=len(classes))
    for name, tensor in network.state_dict().items():
        if name.startswith("fusions"):
            torch.nn.init.normal_(tensor)
    Checkpoint(settings=settings, manifest_sha256="0", classes=classes, network=network.state_dict()).save(path)
    return path


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return open_store(write_store(tmp_path_factory.mktemp("initial") / "store"))


def started(settings: FusionSettings, classes: tuple[str, ...] = SAME) -> tuple[dict[str, torch.Tensor], list[str]]:
    """Weights at the start, and what is said of them."""
    network = new_network(settings.model, num_classes=len(classes))
    reports = initialise(network, classes)
    return network.state_dict(), [report.sentence(name) for name, report in reports.items()]


@pytest.mark.parametrize(
    ("classes", "reason"),
    [
        (OTHER, "the file's is for 3 classes, not 2"),
        (("Fencing", "Rowing"), "the file's is for 2 other classes"),
        (SAME, ""),
    ],
)
def test_a_stream_of_other_classes_gives_all_but_its_last_layer(
    tmp_path: Path, classes: tuple[str, ...], reason: str
) -> None:
    path = checkpoint(tmp_path / "hmdb.pt", small("temporal"), classes)
    settings = alone_from(small("temporal"), "temporal", networks_in([path]))
    found, (sentence,) = started(settings)
    given = Checkpoint.load(path).network
    assert torch.equal(found["temporal.conv2.weight"], given["temporal.conv2.weight"])
    last = "temporal.fc5.weight"
    assert (found[last].shape == given[last].shape and torch.equal(found[last], given[last])) == (not reason)
    assert sentence.startswith(f"temporal: {4 if reason else 5} layers from {path}")
    assert sentence.endswith(f"; random: fc5 ({reason})" if reason else "stream")


def test_what_is_left_out_is_reported_before_the_first_step(store: Store, tmp_path: Path) -> None:
    path = checkpoint(tmp_path / "other.pt", small("spatial"), OTHER)
    rows: list[Mapping[str, Any]] = []
    settings = alone_from(small("spatial", "train.num_epochs=1"), "spatial", networks_in([path]))
    train(store, settings, tmp_path / "out", runtime=RUNTIME, report=rows.append)
    assert "random: fc5 (the file's is for 3 classes, not 2)" in rows[0]["initial"]
    assert "loss" in rows[1]


def test_a_fused_checkpoint_gives_both_streams_and_the_filter(tmp_path: Path) -> None:
    path = checkpoint(tmp_path / "fused.pt", small("fused"), OTHER)
    found, said = started(alone_from(small("fused"), "fused", networks_in([path])))
    given = Checkpoint.load(path).network
    for name, tensor in given.items():
        assert torch.equal(found[name], tensor) == ("fc5" not in name), name
    assert [sentence.partition(":")[0] for sentence in said] == ["spatial", "temporal", "fusion"]


@pytest.mark.parametrize(
    ("classes", "reason"),
    [
        (OTHER, "the file's is for 3 classes, not 2"),
        (("Fencing", "Rowing"), "the file's is for 2 other classes"),
        (SAME, ""),
    ],
)
def test_a_bilinear_classifier_for_other_classes_is_left_out(
    tmp_path: Path, classes: tuple[str, ...], reason: str
) -> None:
    settings = small("fused", "model.fusion=bilinear", "model.temporal_fusion=pool2d")
    path = checkpoint(tmp_path / "fused.pt", settings, classes)
    found, said = started(alone_from(settings, "fused", networks_in([path])))
    given = Checkpoint.load(path).network
    last = "bilinear_classifier.weight"
    assert (found[last].shape == given[last].shape and torch.equal(found[last], given[last])) == (not reason)
    assert said[-1] == (f"fusion: random weights ({reason})" if reason else f"fusion: 1 layer from {path}")


def test_each_network_of_a_run_starts_from_its_own(tmp_path: Path) -> None:
    paths = [checkpoint(tmp_path / f"{name}.pt", small(name), OTHER) for name in ("temporal", "spatial")]
    run = split_run("debug", "1", tmp_path / "run", [], networks_in(paths[:1]))
    assert run.settings["temporal"].model.temporal_weights == str(paths[0])
    assert run.settings["spatial"].model.spatial_weights == "none"
    assert run.settings["fused"].model.temporal_weights == str(tmp_path / "run" / "temporal" / "network.pt")
    fused = checkpoint(tmp_path / "fused.pt", small("fused"), OTHER)
    run = split_run("debug", "1", tmp_path / "run", [], networks_in([fused]))
    assert run.settings["spatial"].model.spatial_weights == run.settings["fused"].model.fusion_weights == str(fused)
    both = started_from(small("fused"), "fused", networks_in(paths)).model
    assert (both.spatial_weights, both.temporal_weights, both.fusion_weights) == (str(paths[1]), str(paths[0]), "none")


def test_a_network_knows_what_it_has_started_from(tmp_path: Path) -> None:
    a, b = tmp_path / "a.pt", tmp_path / "b.pt"
    pair = {"spatial": a, "temporal": b}
    for settings, stage, given, known in (
        (small("spatial"), "spatial", {"spatial": a}, {a: "spatial"}),
        (small("fused"), "fused", pair, {a: "spatial", b: "temporal"}),
        (small("fused"), "fused", {"fused": a}, {a: "fused"}),
        (small("fused", "model.fusion=sum", "model.temporal_fusion=pool3d"), "fused", {"fused": a}, {a: "fused"}),
        (small("fused"), "fused", {}, {}),
    ):
        assert known_of(alone_from(settings, stage, given)) == known
    assert networks_in([a, b], {a: "spatial", b: "temporal"}) == pair


def test_wrong_use_is_named(tmp_path: Path) -> None:
    spatial, fused = (checkpoint(tmp_path / f"{name}.pt", small(name), SAME) for name in ("spatial", "fused"))
    with pytest.raises(SettingsError, match=r"spatial.pt has a spatial network and .*fused.pt a fused one, which are"):
        networks_in([spatial, fused])
    with pytest.raises(MissingDataError, match=r"there is no checkpoint nowhere.pt"):
        networks_in([Path("nowhere.pt")])
    torch.save({"x": 1}, tmp_path / "x.pt")
    with pytest.raises(SettingsError, match=r"takes checkpoints of fusion-train, and .*x.pt is none; other files"):
        networks_in([tmp_path / "x.pt"])
    temporal = checkpoint(tmp_path / "temporal.pt", small("temporal"), SAME)
    with pytest.raises(SettingsError, match="the spatial stream starts from one checkpoint, got 2"):
        alone_from(small("spatial"), "spatial", networks_in([spatial, temporal]))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"fusion": "sum", "temporal_fusion": "pool3d"}, "is for `fusion` conv or bilinear, and sum has no filter"),
        (
            {"temporal_fusion": "pool2d"},
            r"must have fusions.0.conv.weight of shape \(32, 64, 1, 1\) .* it has \(32",
        ),
    ],
)
def test_a_filter_that_does_not_fit_is_named(tmp_path: Path, changes: dict[str, str], message: str) -> None:
    path = checkpoint(tmp_path / "fused.pt", small("fused"), SAME)
    model = dataclasses.replace(small("fused").model, fusion_weights=str(path), **changes)  # type: ignore[arg-type]
    with pytest.raises(SettingsError, match=message):
        initialise(new_network(model, num_classes=2))
    with pytest.raises(MissingDataError, match=r"there is no file nowhere.pt with fusion filters"):
        initialise(new_network(dataclasses.replace(small("fused").model, fusion_weights="nowhere.pt"), num_classes=2))

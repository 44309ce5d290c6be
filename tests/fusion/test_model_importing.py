"""`fusion-train import-weights`: what a .mat file holds, and the state dict that starts the same networks."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner
from helpers.mat_graphs import fused_net
from helpers.networks import NUM_CLASSES, debug_network, fused
from helpers.weight_files import random_filters, save_dag, save_simple
from torch import Tensor

from flowprep.errors import MissingDataError, SettingsError
from flowprep_cli.fusion_main import cli
from fusion_train.models.backbones import backbone_of
from fusion_train.models.build import new_network
from fusion_train.models.classorder import HMDB51_CLASSES
from fusion_train.models.importing import import_mat
from fusion_train.models.weights import initialise
from fusion_train.presets import preset_settings

DEBUG = backbone_of("debug", "spatial")
LAYERS = ("conv1", "conv2", "conv3", "fc4", "fc5")


@pytest.mark.parametrize(("stream", "channels"), [("spatial", 3), ("temporal", 20)])
@pytest.mark.parametrize("save", [save_simple, save_dag])
def test_a_state_dict_starts_the_network_that_the_file_does(
    tmp_path: Path, save: type[object], stream: str, channels: int
) -> None:
    save(tmp_path / "net.mat", random_filters(DEBUG, channels, NUM_CLASSES, "layer38"))
    net = import_mat(tmp_path / "net.mat", tmp_path / "net.pt")
    (found,) = net.streams
    assert (found.name, found.backbone, found.in_channels) == (stream, "debug", channels)
    assert (found.layers, found.num_classes, net.filters) == (LAYERS, NUM_CLASSES, ())
    networks = []
    for name in ("net.mat", "net.pt"):
        network = debug_network(network=stream, **{f"{stream}_weights": str(tmp_path / name)})
        assert initialise(network)[stream].random == ()
        networks.append(network.state_dict())
    assert networks[0].keys() == networks[1].keys()
    assert all(torch.equal(tensor, networks[1][name]) for name, tensor in networks[0].items())


@pytest.mark.parametrize("over_time", [True, False])
def test_a_fused_net_gives_streams_and_filter(tmp_path: Path, over_time: bool) -> None:
    fused_net(DEBUG, NUM_CLASSES, at="relu3", over_time=over_time).save(tmp_path / "fused.mat")
    net = import_mat(tmp_path / "fused.mat", tmp_path / "fused.pt")
    assert [stream.name for stream in net.streams] == ["spatial", "temporal"]
    assert [len(shape) for shape in net.filters] == [5 if over_time else 4]
    states = []
    for name in ("fused.mat", "fused.pt"):
        path = str(tmp_path / name)
        pooling = "conv3d+pool3d" if over_time else "pool2d"
        network = fused(spatial_weights=path, temporal_weights=path, fusion_weights=path, temporal_fusion=pooling)
        reports = initialise(network)
        assert {name: report.random for name, report in reports.items()} == dict.fromkeys(reports, ())
        states.append(network.state_dict())
    assert all(torch.equal(tensor, states[1][name]) for name, tensor in states[0].items())


@pytest.mark.parametrize("imported", [False, True])
def test_classes_of_hmdb51_are_put_in_the_order_of_the_store(tmp_path: Path, imported: bool) -> None:
    """The released code has kick_ball before kick and sword_exercise before sword, and its files do not say so."""
    save_dag(tmp_path / "net.mat", random_filters(DEBUG, 3, 51, "layer38"))
    path = tmp_path / "net.mat"
    by_number = classifier_from(path, None)
    if imported:
        import_mat(path, path := tmp_path / "net.pt")
    ours = sorted(HMDB51_CLASSES)
    expected = list(range(51))
    for first, second in (("kick", "kick_ball"), ("sword", "sword_exercise")):
        k = ours.index(first)
        assert ours[k + 1] == second
        expected[k : k + 2] = [k + 1, k]
    sentence = ""

    def said(text: str) -> None:
        nonlocal sentence
        sentence = text

    assert torch.equal(classifier_from(path, ours, said), by_number[expected])
    assert ("put in the order of the store" if imported else "in the released code's order of HMDB51") in sentence
    assert torch.equal(classifier_from(path, HMDB51_CLASSES, said), by_number)
    assert "order" not in sentence
    # Of others by number, where the file has no names.
    others = [f"class {k}" for k in range(51)]
    if not imported:
        assert torch.equal(classifier_from(path, others), by_number)


def classifier_from(
    path: Path, classes: Sequence[str] | None, said: Callable[[str], None] = lambda text: None
) -> Tensor:
    """Weights and bias, (51, C + 1), of a network that starts from a file."""
    settings = preset_settings("debug")
    network = new_network(replace(settings, network="spatial", spatial_weights=str(path)), num_classes=51)
    said(initialise(network, classes)["spatial"].sentence("spatial"))
    layer = network.streams["spatial"].classifier
    return torch.cat([layer.weight.flatten(1), layer.bias[:, None]], 1).detach()


def test_what_cannot_be_imported_is_said_and_nothing_is_written(tmp_path: Path) -> None:
    out = tmp_path / "net.pt"
    filters = random_filters(DEBUG, 3, NUM_CLASSES, "layer38")
    with pytest.raises(MissingDataError, match=r"there is no file .*net\.mat"):
        import_mat(tmp_path / "net.mat", out)
    save_simple(tmp_path / "net.mat", filters)
    with pytest.raises(SettingsError, match=r"net\.bin must end in \.pt"):
        import_mat(tmp_path / "net.mat", tmp_path / "net.bin")
    with pytest.raises(MissingDataError, match="there is no folder"):
        import_mat(tmp_path / "net.mat", tmp_path / "nowhere" / "net.pt")
    save_simple(tmp_path / "cut.mat", dict(list(filters.items())[:-1]))
    with pytest.raises(SettingsError, match=r"cut\.mat has no spatial stream .*; vgg16: has .*; debug: has the layers"):
        import_mat(tmp_path / "cut.mat", out)
    filters["conv2"][0][0, 0, 0, 0] = float("nan")
    save_simple(tmp_path / "nan.mat", filters)
    with pytest.raises(SettingsError, match=r"nan\.mat: spatial\.conv2\.weight has values that are not finite"):
        import_mat(tmp_path / "nan.mat", out)
    (tmp_path / "w.pth").touch()
    with pytest.raises(SettingsError, match=r"w\.pth is read as it is"):
        import_mat(tmp_path / "w.pth", out)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["cut.mat", "nan.mat", "net.mat", "w.pth"]
    out.touch()
    with pytest.raises(SettingsError, match=r"net\.pt exists; delete it"):
        import_mat(tmp_path / "net.mat", out)
    assert out.stat().st_size == 0


def test_the_command_says_what_the_file_is(tmp_path: Path) -> None:
    save_simple(tmp_path / "net.mat", random_filters(DEBUG, 20, 7, "layer38"))
    runner = CliRunner()
    said = runner.invoke(cli, ["import-weights", str(tmp_path / "net.mat")], catch_exceptions=False)
    assert said.output.startswith("temporal stream: debug, 20 input channels of mean 128.0 128.0 128.0 ..; conv1,")
    assert "7 classes" in said.output
    assert (tmp_path / "net.pt").is_file()
    asked = ["import-weights", str(tmp_path / "net.mat"), "-o", str(tmp_path / "b.pt"), "--json"]
    found = json.loads(runner.invoke(cli, asked, catch_exceptions=False).output)
    assert (found["out"], found["streams"][0]["num_classes"]) == (str(tmp_path / "b.pt"), 7)

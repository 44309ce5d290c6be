"""Weights from state dicts: torchvision's names, checkpoints of ours, cures for what is missing, nothing run."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from urllib.error import URLError

import numpy as np
import pytest
import torch
import torchvision
from helpers.networks import NUM_CLASSES, clips, debug_network, debug_settings, fused
from helpers.weight_files import ClassicVgg, classic_state, thin
from torch import Tensor

from flowprep.errors import MissingDataError, SettingsError
from fusion_train import build_network
from fusion_train.config import ModelSettings
from fusion_train.models.backbones import backbone_of
from fusion_train.models.stream import Stream
from fusion_train.models.two_stream import Network
from fusion_train.models.weightfiles import from_torchvision
from fusion_train.models.weights import LoadReport, find, initialise, load_stream

STD = (0.229, 0.224, 0.225)
MEAN = (0.485, 0.456, 0.406)


def thin_stream(in_channels: int = 3, num_classes: int = 5) -> Stream:
    return Stream(thin(), in_channels=in_channels, num_classes=num_classes, dropout=0.0)


def from_file(stream: Stream, path: Path, name: str = "spatial", **overrides: Any) -> LoadReport:
    return load_stream(stream, find(str(path), stream, name), ModelSettings(**overrides))


@torch.no_grad()
def test_torchvision_names_give_the_classic_networks_features(tmp_path: Path) -> None:
    """Up to the classifier, on images as torchvision's own preprocessing makes them."""
    path = tmp_path / "vgg16.pth"
    torch.save(classic_state(), path)
    stream = thin_stream()
    report = from_file(stream, path)
    assert report.random == ("fc8",)
    assert report.loaded[0] == "conv1_1"
    assert report.loaded[-1] == "fc7"
    images = torch.randint(0, 256, (2, 3, 224, 224), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))
    classic = ClassicVgg().eval()
    classic.load_state_dict(classic_state())
    seen = (images / 255 - torch.tensor(MEAN)[:, None, None]) / torch.tensor(STD)[:, None, None]
    found = stream.eval().run(images, 2, 0, len(stream.layers) - 1)[:, :, 0, 0]
    torch.testing.assert_close(found, classic(seen), atol=1e-5, rtol=1e-4)


@torch.no_grad()
def test_flow_filters_are_the_mean_over_rgb(tmp_path: Path) -> None:
    path = tmp_path / "vgg16.pth"
    torch.save(classic_state(), path)
    stream = thin_stream(in_channels=20)
    from_file(stream, path, "temporal")
    mean = classic_state()["features.0.weight"].mean(1)
    for channel in range(20):
        torch.testing.assert_close(stream.convolution("conv1_1").weight[:, channel], mean)
    flow = torch.full((1, 20, 2, 2), 200, dtype=torch.uint8)
    torch.testing.assert_close(stream.input(flow), torch.full((1, 20, 2, 2), (200 - 128) / 255 / (sum(STD) / 3)))


@pytest.mark.parametrize("classifier", ["nan", "none"])
def test_convolutions_of_caffes_scale_are_told_by_their_file(tmp_path: Path, classifier: str) -> None:
    path = tmp_path / "features.pth"
    torch.save(classic_state(classifier=classifier), path)
    with pytest.raises(SettingsError, match=r"features\.pth has no valid fc6 and fc7; set `random_fc`"):
        from_file(thin_stream(), path)
    stream = thin_stream()
    assert from_file(stream, path, random_fc=True).random == ("fc6", "fc7", "fc8")
    torch.testing.assert_close(stream.input.mean, torch.tensor([123.0, 117.0, 104.0]), atol=0.01, rtol=0)
    assert stream.input.scale.tolist() == [1, 1, 1]
    flow = thin_stream(in_channels=20)
    from_file(flow, path, "temporal", random_fc=True)
    assert flow.input.mean.unique().tolist() == [128]
    assert flow.input.scale.unique().tolist() == [1]


def test_fully_connected_layers_can_stay_random(tmp_path: Path) -> None:
    path = tmp_path / "vgg16.pth"
    torch.save(classic_state(), path)
    stream = thin_stream()
    before = stream.convolution("fc6").weight.clone()
    assert from_file(stream, path, random_fc=True).random == ("fc6", "fc7", "fc8")
    assert torch.equal(stream.convolution("fc6").weight, before)


@pytest.mark.parametrize("name", ["vgg16", "resnet50"])
def test_all_names_and_shapes_of_torchvision_fit(name: str) -> None:
    """With tensors of one element each, stretched: nothing of full size is made."""
    with torch.device("meta"):
        theirs = getattr(torchvision.models, name)()
        stream = Stream(backbone_of(name, "spatial"), in_channels=3, num_classes=101, dropout=0.5)
    state = {key: torch.zeros((), dtype=t.dtype).expand(t.shape) for key, t in theirs.state_dict().items()}
    report = load_stream(stream, from_torchvision(name, state, stream.backbone), ModelSettings())
    assert report.random == (stream.backbone.names[-1],)
    assert report.loaded == tuple(layer.name for layer in stream.layers[:-1] if layer.has_weights)
    other = backbone_of("resnet50" if name == "vgg16" else "vgg16", "spatial")
    with pytest.raises(SettingsError, match=f"has the layers of another net than {other.name}"):
        from_torchvision(name, state, other)


@torch.no_grad()
def test_resnet50_is_torchvisions(tmp_path: Path) -> None:
    torch.manual_seed(0)
    theirs = torchvision.models.resnet50().eval()
    stream = Stream(backbone_of("resnet50", "spatial"), in_channels=3, num_classes=101, dropout=0.5).eval()
    load_stream(stream, from_torchvision("r", theirs.state_dict(), stream.backbone), ModelSettings())
    theirs.fc = torch.nn.Identity()
    images = torch.rand(1, 3, 224, 224)
    seen = (images - torch.tensor(MEAN)[:, None, None]) / torch.tensor(STD)[:, None, None]
    found = stream.run(255 * images, 1, 0, len(stream.layers) - 1)[:, :, 0, 0]
    torch.testing.assert_close(found, theirs(seen), atol=1e-3, rtol=1e-3)


# -- checkpoints of ours -----------------------------------------------------------------------------------------------


def save(path: Path, state: dict[str, Tensor]) -> Path:
    """As .npz, or as a trainer's .pt with other things beside it."""
    if path.suffix == ".npz":
        np.savez(path, **{name: tensor.numpy() for name, tensor in state.items()})
    else:
        torch.save({"network": state, "epoch": 3}, path)
    return path


@pytest.mark.parametrize("suffix", [".pt", ".npz"])
def test_single_streams_start_a_fused_network(tmp_path: Path, suffix: str) -> None:
    singles = {name: debug_network(seed, network=name) for seed, name in enumerate(("spatial", "temporal"))}
    paths = {name: save(tmp_path / f"{name}{suffix}", dict(net.state_dict())) for name, net in singles.items()}
    network = build_network(
        debug_settings(spatial_weights=str(paths["spatial"])),
        num_classes=NUM_CLASSES,
        temporal_weights=str(paths["temporal"]),
    )
    for name, single in singles.items():
        for key, tensor in single.streams[name].state_dict().items():
            assert torch.equal(network.streams[name].state_dict()[key], tensor), key


def test_fused_checkpoint_gives_each_stream_its_own_and_reports(tmp_path: Path) -> None:
    before = fused(7)
    path = save(tmp_path / "fused.pt", dict(before.state_dict()))
    after = fused(8, spatial_weights=str(path), temporal_weights=str(path))
    reports = initialise(after)
    layers = ("conv1", "conv2", "conv3", "fc4", "fc5")
    assert reports["temporal"] == LoadReport(f"{path}, temporal stream", layers, ())
    assert torch.equal(before.temporal.convolution("fc5").weight, after.temporal.convolution("fc5").weight)
    assert initialise(fused())["spatial"] == LoadReport("random", (), layers)


def test_classifier_of_another_number_of_classes_stays_random(tmp_path: Path) -> None:
    """HMDB51's temporal stream from UCF101's."""
    path = save(tmp_path / "temporal.pt", dict(debug_network(network="temporal").state_dict()))
    network = build_network(debug_settings(network="temporal", temporal_weights=str(path)), num_classes=9)
    report = initialise(network)["temporal"]
    assert report.random == ("fc5",)
    assert network.streams["temporal"].classifier.weight.std().item() == pytest.approx(0.01, rel=0.2)


def test_concatenation_begins_as_convolution_would(tmp_path: Path) -> None:
    path = save(tmp_path / "spatial.pt", dict(debug_network(network="spatial").state_dict()))
    other = save(tmp_path / "temporal.pt", dict(debug_network(1, network="temporal").state_dict()))
    weights = {"spatial_weights": str(path), "temporal_weights": str(other), "temporal_fusion": "pool2d", "at": "relu4"}
    networks: list[Network] = [fused(fusion=fusion, **weights) for fusion in ("concat", "conv")]
    rgb, flow = clips()
    found = []
    for network in networks:
        initialise(network)
        found.append(network(rgb, flow)["spatiotemporal"])
    torch.testing.assert_close(*found)


def test_spatial_stream_may_start_a_temporal_one_but_not_the_other_way(tmp_path: Path) -> None:
    spatial = save(tmp_path / "spatial.pt", dict(debug_network(network="spatial").state_dict()))
    temporal = save(tmp_path / "temporal.pt", dict(debug_network(network="temporal").state_dict()))
    network = debug_network(network="temporal", temporal_weights=str(spatial))
    assert initialise(network)["temporal"].source == f"{spatial}, spatial stream"
    with pytest.raises(SettingsError, match="is for 20 input channels, this stream has 3"):
        initialise(debug_network(network="spatial", spatial_weights=str(temporal)))
    with pytest.raises(SettingsError, match="is for 20 input channels, this stream has 10"):
        initialise(debug_network(network="temporal", stack_length=5, temporal_weights=str(temporal)))


# -- what is missing, damaged or hostile -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"spatial.conv2.bias": None}, "lacks conv2.bias of debug"),
        ({"spatial.conv9.bias": torch.zeros(1)}, "has layers that debug does not have: conv9"),
        ({"spatial.conv2.bias": torch.zeros(3)}, r"conv2.bias must have the shape \(32,\), got \(3,\)"),
        ({"spatial.conv2.bias": torch.full((32,), torch.inf)}, "conv2.bias has values that are not finite"),
        ({"spatial.input.mean": None}, "has no input.mean and input.scale, so it is neither a network of fusion_train"),
    ],
)
def test_state_dict_that_does_not_fit_is_named(tmp_path: Path, change: dict[str, Tensor | None], message: str) -> None:
    state = {**debug_network(network="spatial").state_dict(), **change}
    path = save(tmp_path / "state.pt", {name: tensor for name, tensor in state.items() if tensor is not None})
    with pytest.raises(SettingsError, match=message):
        initialise(debug_network(network="spatial", spatial_weights=str(path)))


@pytest.mark.parametrize("name", ["a.pt", "a.pth", "a.npz", "a.mat"])
@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 cut", b"no weights at all, but text" * 20])
def test_damaged_file_is_named(tmp_path: Path, name: str, content: bytes) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(SettingsError, match=f"{name} is no .*damaged"):
        initialise(debug_network(network="spatial", spatial_weights=str(path)))


def test_file_of_other_things_is_named(tmp_path: Path) -> None:
    torch.save({"epoch": 3}, tmp_path / "a.pt")
    with pytest.raises(SettingsError, match="must hold a state dict"):
        initialise(debug_network(network="spatial", spatial_weights=str(tmp_path / "a.pt")))
    (tmp_path / "a.onnx").touch()
    with pytest.raises(SettingsError, match=r"must be torchvision, .* ending in .mat, .pt, .pth or .npz, got '.*onnx'"):
        initialise(debug_network(network="spatial", spatial_weights=str(tmp_path / "a.onnx")))


@pytest.mark.parametrize(
    ("state", "message"),
    [
        ({"features.conv0.weight": torch.ones(2, 3, 7, 7)}, r"a\.pt has the layers of another net than vgg16"),
        ({0: torch.ones(2)}, r"a\.pt must hold a state dict: names with tensors"),
        ({"a": np.float64(1)}, r"a\.pt holds more than tensors .* \.\.\.\)\): it asks for numpy"),
    ],
)
def test_state_dicts_of_others_are_named(tmp_path: Path, state: dict[Any, Any], message: str) -> None:
    """DenseNet has names where VGG has numbers."""
    torch.save(state, tmp_path / "a.pt")
    with pytest.raises(SettingsError, match=message):
        from_file(thin_stream(), tmp_path / "a.pt")


def test_file_that_may_not_be_read_is_not_called_damaged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise PermissionError(13, "Permission denied")

    torch.save({}, tmp_path / "a.pt")
    monkeypatch.setattr(torch, "load", refuse)
    with pytest.raises(SettingsError, match=r"a\.pt cannot be read: Permission denied$"):
        from_file(thin_stream(), tmp_path / "a.pt")


def test_missing_file_has_its_cure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with torch.device("meta"):
        message = (
            r"no file weights/imagenet-vgg-m-2048\.mat .* spatial stream; download it from https://www\.vlfeat\.org"
        )
        with pytest.raises(MissingDataError, match=message):
            build_network("ucf101-vggm", num_classes=101)
    with pytest.raises(
        MissingDataError, match=r"no file gone\.pt .*; check the path, set `temporal_weights` to another"
    ):
        build_network("debug", num_classes=3, temporal_weights="gone.pt")


def test_weights_that_cannot_be_downloaded_have_their_cure(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*args: Any, **options: Any) -> None:
        assert options["weights_only"]
        assert options["check_hash"]
        raise URLError("no network")

    monkeypatch.setattr(torch.hub, "load_state_dict_from_url", fail)
    message = (
        r"of vgg16 are not to be had .*no network.*; put https://download\.pytorch\.org/.*\.pth into .*checkpoints"
    )
    with torch.device("meta"), pytest.raises(MissingDataError, match=message):
        build_network("ucf101-vgg16", num_classes=101)


def test_downloaded_weights_are_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.hub, "load_state_dict_from_url", lambda *_, **__: classic_state())
    stream = thin_stream()
    report = load_stream(stream, find("torchvision", stream, "spatial"), ModelSettings())
    assert report.source == "torchvision VGG16_Weights.IMAGENET1K_V1"
    assert len(report.loaded) == 15

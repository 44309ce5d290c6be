"""Parameters, maps and shapes of the full-size networks, on the meta device: nothing is computed."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from fusion_train import build_network
from fusion_train.models.backbones import backbone_of
from fusion_train.models.stream import Stream
from fusion_train.models.two_stream import FusedNetwork, Network
from fusion_train.presets import PRESETS


def on_meta(preset: str, num_classes: int = 101, **overrides: Any) -> Network:
    with torch.device("meta"):
        return build_network(preset, num_classes=num_classes, weights="none", **overrides)


def num_parameters(module: torch.nn.Module, *, trained: bool = False) -> int:
    return sum(p.numel() for p in module.parameters() if p.requires_grad or not trained)


@pytest.mark.parametrize(
    ("dataset", "num_classes", "overrides", "expected"),
    [
        ("ucf101", 101, {"network": "spatial"}, 134_674_341),
        ("ucf101", 101, {"network": "temporal"}, 134_684_133),
        ("ucf101", 101, {}, 283_514_762),
        ("ucf101", 101, {"keep_temporal": False}, 163_555_109),
        ("hmdb51", 51, {}, 283_105_062),
        ("hmdb51", 51, {"keep_temporal": False}, 163_350_259),
    ],
)
@pytest.mark.parametrize("suffix", ["", "-authors"])
def test_parameters_of_vgg16(
    dataset: str, num_classes: int, overrides: dict[str, Any], expected: int, suffix: str
) -> None:
    assert num_parameters(on_meta(f"{dataset}-vgg16{suffix}", num_classes, **overrides)) == expected


def test_fused_vgg16_trains_the_filter_and_the_fully_connected_layers() -> None:
    network = on_meta("ucf101-vgg16")
    assert isinstance(network, FusedNetwork)
    assert num_parameters(network.fusions) == 14_156_288
    # 254.1 M: what the authors' released script trains
    full = [getattr(s, name) for s in network.streams.values() for name in ("fc6", "fc7", "fc8")]
    assert num_parameters(network, trained=True) == 254_075_594 == 14_156_288 + sum(map(num_parameters, full))


CONVS = 6_528_640  # of the spatial VGG-M; 20 channels instead of 3 add 96 * 7 * 7 * 17
FULL = 4096 * (6 * 6 * 512 + 1) + 2048 * (4096 + 1) + 101 * (2048 + 1)
FLOW_CONV1 = 96 * 49 * 17


@pytest.mark.parametrize(
    ("overrides", "expected"),
    [
        # table 1 in the order of the paper, whose counts take both conv1 as 20-channel ones
        ({"fusion": "sum", "at": "prediction"}, 2 * (CONVS + FULL) + FLOW_CONV1),  # 181.34 M
        ({"fusion": "max"}, 2 * CONVS + FULL + FLOW_CONV1),  # 97.24 M
        ({"fusion": "concat"}, 2 * CONVS + FULL + FLOW_CONV1 + 4096 * 36 * 512),  # 172.73 M
        ({"fusion": "bilinear"}, 2 * CONVS + FLOW_CONV1 + 101 * (512 * 512 + 1)),  # 13.1 M and the classifier
        ({"fusion": "sum"}, 2 * CONVS + FULL + FLOW_CONV1),
        ({"fusion": "conv"}, 2 * CONVS + FULL + FLOW_CONV1 + 524_800),  # 97.76 M
    ],
)
def test_parameters_of_vggm(overrides: dict[str, Any], expected: int) -> None:
    assert num_parameters(on_meta("ucf101-vggm", **overrides)) == expected


def test_parameters_of_vggm_are_those_of_the_spec() -> None:
    found = [num_parameters(on_meta("ucf101-vggm", fusion=name)) / 1e6 for name in ("max", "concat", "conv")]
    assert [round(value, 2) for value in found] == [97.24, 172.73, 97.76]
    temporal = Stream(backbone_of("vggm", "temporal"), in_channels=20, num_classes=101, dropout=0.9, end=-8)
    assert round(num_parameters(temporal) / 1e6, 4) == 6.6086


@pytest.mark.parametrize("stream", ["spatial", "temporal"])
def test_maps_of_vggm(stream: str) -> None:
    sizes = {"conv1": 109, "relu1": 109, "pool1": 54, "conv2": 26, "pool2": 13, "conv3": 13, "conv4": 13, "conv5": 13}
    check_maps("vggm", stream, {**sizes, "relu5": 13, "pool5": 6, "fc6": 1, "fc7": 1, "fc8": 1})
    assert ("norm2" in backbone_of("vggm", stream).names) == (stream == "spatial")


def test_maps_of_vgg16() -> None:
    check_maps("vgg16", "spatial", {"pool1": 112, "pool4": 14, "relu5_3": 14, "pool5": 7, "fc6": 1, "fc8": 1})


def test_maps_of_resnet50() -> None:
    check_maps("resnet50", "temporal", {"relu1": 112, "pool1": 56, "res4f": 14, "res5c": 7, "pool5": 1, "fc": 1})


@pytest.mark.parametrize("name", ["vgg16", "vggm"])
def test_dropout_comes_after_the_activation_of_each_hidden_layer(name: str) -> None:
    """So that a fusion `at` relu6 takes the map as it was before."""
    layers = ("fc6", "relu6", "drop6", "fc7", "relu7", "drop7", "fc8")
    assert backbone_of(name, "spatial").names[-7:] == layers


def check_maps(name: str, stream: str, sizes: dict[str, int]) -> None:
    """Sizes after layers at 224x224, and that a map's stride is what the table says."""
    backbone = backbone_of(name, stream)
    with torch.device("meta"):
        net = Stream(backbone, in_channels=3, num_classes=101, dropout=0.5)
        maps = torch.empty(1, 3, 224, 224)
        for index, layer in enumerate(backbone.layers):
            maps = net.run(maps, 1, index, index + 1)
            assert maps.shape[1] == backbone.channels_after(index, 101)
            if layer.name in sizes:
                assert tuple(maps.shape[2:]) == (sizes[layer.name],) * 2, layer.name
                assert abs(224 / backbone.stride_after(index) - sizes[layer.name]) <= 7


@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize("num_chunks", [1, 5])
def test_every_preset_gives_logits_of_any_size(preset: str, num_chunks: int) -> None:
    network = on_meta(preset)
    for height, width in ((224, 224), (256, 340), (231, 225)):
        with torch.device("meta"):
            rgb = torch.empty(2, num_chunks, 3, height, width, dtype=torch.uint8)
            flow = torch.empty(2, num_chunks, 20, height, width)
        logits = network(rgb, flow)
        towers = ["spatiotemporal", "temporal"] if network.settings.keep_temporal else ["spatiotemporal"]
        assert list(logits) == towers
        assert all(value.shape == (2, 101) and value.dtype == torch.float32 for value in logits.values())


@pytest.mark.parametrize(
    "at", ["relu1", "relu2", "relu3", "relu4", "relu5", "relu5,prediction", "relu3,relu5,fc6", "fc6", "relu7", "fc8"]
)
def test_vggm_is_fused_anywhere(at: str) -> None:
    check_forward(on_meta("ucf101-vggm", at=at))


@pytest.mark.parametrize("fusion", ["sum", "max", "concat", "bilinear"])
@pytest.mark.parametrize("temporal_fusion", ["pool2d", "pool3d"])
def test_every_fusion_runs_with_vgg16(fusion: str, temporal_fusion: str) -> None:
    check_forward(on_meta("ucf101-vgg16", fusion=fusion, temporal_fusion=temporal_fusion))


def check_forward(network: Network) -> None:
    with torch.device("meta"):
        rgb, flow = torch.empty(1, 2, 3, 224, 224), torch.empty(1, 2, 20, 224, 224)
    assert network(rgb, flow)["spatiotemporal"].shape == (1, 101)


def test_parameters_of_vggm_fused_at_relu4_are_those_of_table_2() -> None:
    """95.48 M, the one row of table 2 that counts the real filter; both conv1 are counted with 20 channels."""
    assert round((num_parameters(on_meta("ucf101-vggm", at="relu4")) + FLOW_CONV1) / 1e6, 2) == 95.48

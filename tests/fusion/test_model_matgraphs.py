"""Fused nets and ResNets of MatConvNet: streams, fusion filters, and batch normalisation by its moments."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers.mat_graphs import Graph, fused_net, resnet
from helpers.networks import NUM_CLASSES, fused
from helpers.weight_files import save_dag, thin
from torch import Tensor
from torch.nn import functional

from flowprep.errors import SettingsError
from fusion_train.config import ModelSettings
from fusion_train.models.backbones import backbone_of
from fusion_train.models.layers import Backbone
from fusion_train.models.matconvnet import read_fusion_filters, read_mat
from fusion_train.models.stream import Stream
from fusion_train.models.weights import initialise, load_stream

DEBUG = backbone_of("debug", "spatial")
CAFFE = thin(backbone_of("resnet50-caffe", "spatial"))


@pytest.mark.parametrize("over_time", [True, False])
def test_a_fused_net_gives_both_streams_and_its_filter(tmp_path: Path, over_time: bool) -> None:
    graph = fused_net(DEBUG, NUM_CLASSES, at="relu3", over_time=over_time)
    path = str(graph.save(tmp_path / "fused.mat"))
    network = fused(
        spatial_weights=path,
        temporal_weights=path,
        fusion_weights=path,
        temporal_fusion="conv3d+pool3d" if over_time else "pool2d",
    )
    reports = initialise(network)
    assert {name: report.random for name, report in reports.items()} == {"spatial": (), "temporal": (), "fusion": ()}
    assert reports["temporal"].source.endswith("fused.mat, temporal stream")
    state = {name: tensor.numpy() for name, tensor in network.state_dict().items()}
    for stream in ("spatial", "temporal"):
        for ours, theirs in (("conv2", "conv2f"), ("fc5", "layer38f")):
            expected = graph.values[f"{theirs}_{stream}"].transpose(3, 2, 0, 1)
            np.testing.assert_array_equal(state[f"{stream}.{ours}.weight"], expected)
    filters = graph.values["conv3Df"].astype(np.float32)
    weight = state["fusions.0.conv.weight"]  # (out, in, [t,] y, x)
    if over_time:
        assert weight[3, 5, 0, 1, 2] == filters[1, 2, 0, 5, 3]
    np.testing.assert_array_equal(weight, filters.transpose((4, 3, 2, 0, 1) if over_time else (3, 2, 0, 1)))
    np.testing.assert_array_equal(state["fusions.0.conv.bias"], graph.values["conv3Db"].ravel().astype(np.float32))


def test_a_file_without_a_fusion_has_no_filter(tmp_path: Path) -> None:
    graph = resnet(CAFFE, 3, 5, stride_first=True, conv1_bias=False)
    with pytest.raises(SettingsError, match="has no net with a convolution of two concatenated streams"):
        read_fusion_filters(graph.save(tmp_path / "net.mat"))


def as_matconvnet(graph: Graph, images: Tensor, backbone: Backbone) -> Tensor:
    """The net layer by layer, with Caffe's strides and pooling, and `(x - mean) / deviation * gain + shift`."""
    values = {name: torch.from_numpy(np.asarray(value)).double() for name, value in graph.values.items()}

    def conv(name: str, norm: str, x: Tensor, stride: int, padding: int = 0) -> Tensor:
        x = functional.conv2d(x, values[f"{name}_filter"].permute(3, 2, 0, 1), None, stride, padding)
        x = x + values.get(f"{name}_bias", torch.zeros(1)).reshape(1, -1, 1, 1)
        mean, deviation = values[f"{norm}_x"][:, 0, None, None], values[f"{norm}_x"][:, 1, None, None]
        return (x - mean) / deviation * values[f"{norm}_m"][:, :, None] + values[f"{norm}_b"][:, :, None]

    x = conv("conv1", "bn_conv1", images, 2, 3).relu()
    x = functional.max_pool2d(functional.pad(x, (0, 1, 0, 1), value=-torch.inf), 3, 2)  # MatConvNet pads by [0 1 0 1]
    for layer in backbone.layers:
        if layer.kind == "block":
            stem = layer.name.removeprefix("res")
            y = conv(f"res{stem}_branch2a", f"bn{stem}_branch2a", x, layer.stride).relu()
            y = conv(f"res{stem}_branch2b", f"bn{stem}_branch2b", y, 1, 1).relu()
            y = conv(f"res{stem}_branch2c", f"bn{stem}_branch2c", y, 1)
            if f"res{stem}_branch1_filter" in values:
                x = conv(f"res{stem}_branch1", f"bn{stem}_branch1", x, layer.stride)
            x = (x + y).relu()
    return functional.conv2d(x.mean((2, 3), keepdim=True), values["fc_f"].permute(3, 2, 0, 1), values["fc_b"].ravel())


@torch.no_grad()
@pytest.mark.parametrize("conv1_bias", [False, True])
def test_a_resnet_computes_what_matconvnet_does(tmp_path: Path, conv1_bias: bool) -> None:
    graph = resnet(CAFFE, 3, 5, stride_first=True, conv1_bias=conv1_bias)
    mean = np.array([120.0, 110.0, 100.0]).reshape(1, 1, 3)
    weights = read_mat(graph.save(tmp_path / "net.mat", mean), CAFFE, "spatial")
    stream = Stream(CAFFE, in_channels=3, num_classes=5, dropout=0.0)
    report = load_stream(stream, weights, ModelSettings())
    assert report.random == ()
    assert (report.loaded[0], report.loaded[-1]) == ("conv1", "fc")
    images = 255 * torch.rand(2, 3, 224, 224, generator=torch.Generator().manual_seed(0))
    expected = as_matconvnet(graph, images.double() - torch.tensor([120.0, 110.0, 100.0])[:, None, None], CAFFE)
    found = stream.double().eval().run(images.double(), 2)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4 * float(expected.abs().max()))


def without(graph: Graph, name: str) -> Graph:
    graph.layers = [layer for layer in graph.layers if layer["name"] != name]
    return graph


@pytest.mark.parametrize(
    ("change", "backbone", "message"),
    [
        (lambda g: g, "resnet50", r"strides in the 1x1 convolutions, as Caffe's, .*; use the backbone resnet50-caffe"),
        (lambda g: without(g, "bn2a_branch2b"), "resnet50-caffe", r"no batch normalisation takes .* res2a_branch2b"),
        (lambda g: without(g, "prediction"), "resnet50-caffe", r"has the layers none beside blocks"),
    ],
)
def test_other_resnets_are_named(tmp_path: Path, change: Any, backbone: str, message: str) -> None:
    path = change(resnet(CAFFE, 20, 5, stride_first=True, conv1_bias=False)).save(tmp_path / "net.mat")
    with pytest.raises(SettingsError, match=message):
        read_mat(path, thin(backbone_of(backbone, "temporal")), "temporal")


def test_a_vgg_is_no_resnet(tmp_path: Path) -> None:
    filters = {"conv1": (np.zeros((7, 7, 3, 4)), np.zeros((1, 4)))}
    save_dag(tmp_path / "net.mat", filters)
    with pytest.raises(SettingsError, match="no batch normalisation takes the output of conv1"):
        read_mat(tmp_path / "net.mat", CAFFE, "spatial")


@torch.no_grad()
def test_both_resnets_differ_in_where_they_stride_alone() -> None:
    """With equal weights their maps have equal sizes and other values."""
    nets = []
    for name in ("resnet50", "resnet50-caffe"):
        torch.manual_seed(0)
        nets.append(Stream(thin(backbone_of(name, "spatial")), in_channels=3, num_classes=5, dropout=0.0).eval())
    nets[1].load_state_dict(nets[0].state_dict())
    images = 255 * torch.rand(1, 3, 224, 224, generator=torch.Generator().manual_seed(0))
    first, second = (net.run(images, 1) for net in nets)
    assert first.shape == second.shape
    assert not torch.allclose(first, second)

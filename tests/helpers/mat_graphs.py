"""DagNN files with the variables between layers: fused nets of the authors, and ResNets."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import scipy.io
from helpers.weight_files import cells, random_filters, structures
from numpy.typing import NDArray

from fusion_train.models.layers import Backbone

Values = dict[str, NDArray[Any]]


class Graph:
    """Layers one after another, and the values of their parameters by name."""

    def __init__(self, seed: int = 2) -> None:
        self.layers: list[dict[str, Any]] = []
        self.values: Values = {}
        self.random = np.random.default_rng(seed)

    def add(self, name: str, kind: str, inputs: list[str], params: Values | None = None, **block: Any) -> str:
        """A layer; returns the name of its output."""
        output = f"x_{name}"
        self.values |= params or {}
        self.layers.append({
            "name": name, "type": f"dagnn.{kind}", "inputs": cells(list(inputs)), "outputs": cells([output]),
            "params": cells(list(params)) if params else np.zeros((0, 0)), "block": block or {"opts": 0},
        })  # fmt: skip
        return output

    def save(self, path: Path, mean: Any = None) -> Path:
        """Write the file, with the parameters in another order than the layers."""
        params = [{"name": name, "value": value} for name, value in reversed(self.values.items())]
        meta = {"normalization": {} if mean is None else {"averageImage": mean}}
        scipy.io.savemat(path, {"net": {"layers": structures(self.layers), "params": structures(params), "meta": meta}})
        return path


def fused_net(backbone: Backbone, num_classes: int, *, at: str, over_time: bool) -> Graph:
    """`cnn_ucf101_fusion.m`: both streams with suffixes, concatenated after `at` and convolved; two predictions."""
    graph = Graph()
    done = {"spatial": "input", "temporal": "input_flow"}

    def run(stream: str, first: int, last: int, filters: Any) -> None:
        for layer in backbone.layers[first:last]:
            name = "prediction" if layer.channels < 0 else layer.name
            if layer.kind == "conv":
                weight, bias = filters["layer38" if layer.channels < 0 else layer.name]
                own = f"layer38{{}}_{stream}" if layer.channels < 0 else f"{layer.name}{{}}_{stream}"
                params = {own.format("f"): weight, own.format("b"): bias}
                done[stream] = graph.add(f"{name}_{stream}", "Conv", [done[stream]], params, stride=[1, 1])
            else:
                done[stream] = graph.add(f"{name}_{stream}", layer.kind, [done[stream]])

    cut = backbone.names.index(at) + 1
    filters = {
        stream: random_filters(backbone, channels, num_classes, "layer38", seed)
        for stream, channels, seed in (("spatial", 3, 5), ("temporal", 20, 6))
    }
    for stream in done:
        run(stream, 0, cut, filters[stream])
    joined = graph.add(f"{at}_concat", "Concat", [done["spatial"], done["temporal"]], dim=3)
    channels = backbone.channels_after(cut - 1, num_classes)
    shape = (3, 3, 3, 2 * channels, channels) if over_time else (1, 1, 2 * channels, channels)
    params = {"conv3Df": graph.random.normal(size=shape), "conv3Db": graph.random.normal(size=(1, channels))}
    name = "conv53D" if over_time else f"conv_{at}_spatial"
    joined = graph.add(name, "Conv3D" if over_time else "Conv", [joined], params)
    done["spatial"] = graph.add("relu3D5", "ReLU", [joined])
    for stream in done:
        run(stream, cut, len(backbone.layers), filters[stream])
    graph.add("loss_spatial", "Loss", [done["spatial"], "label"])
    return graph


def resnet(backbone: Backbone, in_channels: int, num_classes: int, *, stride_first: bool, conv1_bias: bool) -> Graph:
    """`imagenet-resnet-50-dag.mat`, or what the authors make of it; branch 1 comes last, so that order counts not."""
    graph = Graph()

    def conv(name: str, norm: str, source: str, shape: tuple[int, ...], stride: int, *, bias: bool = False) -> str:
        params = {f"{name}_filter": graph.random.normal(size=shape) / np.sqrt(np.prod(shape[:3]))}
        if bias:
            params[f"{name}_bias"] = graph.random.normal(size=(1, shape[3]))
        out = graph.add(name, "Conv", [source], params, stride=[stride, stride], hasBias=bias)
        moments = np.stack([graph.random.normal(size=shape[3]), graph.random.uniform(0.5, 1.5, shape[3])], 1)
        gain, shift = graph.random.uniform(0.5, 1.0, (shape[3], 1)), graph.random.normal(size=(shape[3], 1)) / 4
        return graph.add(norm, "BatchNorm", [out], {f"{norm}_m": gain, f"{norm}_b": shift, f"{norm}_x": moments})

    channels = backbone.layers[0].channels
    x = conv("conv1", "bn_conv1", "data", (7, 7, in_channels, channels), 2, bias=conv1_bias)
    x = graph.add("pool1", "Pooling", [graph.add("conv1_relu", "ReLU", [x])])
    for layer in backbone.layers:
        if layer.kind != "block":
            continue
        stem, inside = layer.name.removeprefix("res"), layer.channels // 4
        first, second = (layer.stride, 1) if stride_first else (1, layer.stride)
        y = conv(f"res{stem}_branch2a", f"bn{stem}_branch2a", x, (1, 1, channels, inside), first)
        y = graph.add(f"res{stem}_branch2a_relu", "ReLU", [y])
        y = conv(f"res{stem}_branch2b", f"bn{stem}_branch2b", y, (3, 3, inside, inside), second)
        y = graph.add(f"res{stem}_branch2b_relu", "ReLU", [y])
        y = conv(f"res{stem}_branch2c", f"bn{stem}_branch2c", y, (1, 1, inside, layer.channels), 1)
        if layer.stride > 1 or channels != layer.channels:
            x = conv(f"res{stem}_branch1", f"bn{stem}_branch1", x, (1, 1, channels, layer.channels), layer.stride)
        x = graph.add(f"res{stem}", "Sum", [x, y])
        x = graph.add(f"res{stem}_relu", "ReLU", [x])
        channels = layer.channels
    params = {"fc_f": graph.random.normal(size=(1, 1, channels, num_classes)), "fc_b": np.ones((1, num_classes))}
    graph.add("prediction", "Conv", [graph.add("pool5", "Pooling", [x])], params, stride=[1, 1])
    return graph

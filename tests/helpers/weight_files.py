"""Files of weights as others write them: torchvision's names, MatConvNet's two forms, hostile ones."""

from __future__ import annotations

import dataclasses
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import scipy.io
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from fusion_train.models.layers import Backbone
from fusion_train.models.vgg import VGG16


def thin(backbone: Backbone = VGG16, factor: int = 16) -> Backbone:
    """A backbone with a fraction of the channels."""
    layers = [
        dataclasses.replace(layer, channels=layer.channels // factor if layer.channels > 0 else layer.channels)
        for layer in backbone.layers
    ]
    return Backbone(backbone.name, tuple(layers), backbone.min_size_px)


class ClassicVgg(nn.Module):
    """VGG-16 with torchvision's names and its linear layers, a sixteenth as wide, 1000 classes."""

    def __init__(self) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        channels = 3
        for entry in (4, 4, 0, 8, 8, 0, 16, 16, 16, 0, 32, 32, 32, 0, 32, 32, 32, 0):
            layers += [nn.Conv2d(channels, entry, 3, padding=1), nn.ReLU()] if entry else [nn.MaxPool2d(2)]
            channels = entry or channels
        self.features = nn.Sequential(*layers)
        self.classifier = nn.Sequential(
            nn.Linear(32 * 7 * 7, 256), nn.ReLU(), nn.Dropout(), nn.Linear(256, 256), nn.ReLU(), nn.Dropout(),
            nn.Linear(256, 1000),
        )  # fmt: skip

    def forward(self, images: Tensor) -> Tensor:
        hidden: Tensor = self.classifier[:-1](self.features(images).flatten(1))
        return hidden


def classic_state(seed: int = 3, *, classifier: str = "whole") -> OrderedDict[str, Tensor]:
    """A state dict of that, whose classifier is whole, not a number (nan), or missing (none)."""
    torch.manual_seed(seed)
    state = OrderedDict(ClassicVgg().state_dict())
    for name in [name for name in state if name.startswith("classifier") and classifier != "whole"]:
        state[name] = torch.full_like(state[name], torch.nan)
        if classifier == "none":
            del state[name]
    return state


Filters = dict[str, tuple[NDArray[np.float32], NDArray[np.float32]]]


def random_filters(backbone: Backbone, in_channels: int, num_classes: int, classifier: str, seed: int = 5) -> Filters:
    """Filters (H, W, Cin, Cout) and biases (1, Cout) of a backbone's convolutions, whose last has another name."""
    generator = np.random.default_rng(seed)
    filters: Filters = {}
    channels = in_channels
    for layer in backbone.layers:
        if layer.kind == "conv":
            num_out = num_classes if layer.channels < 0 else layer.channels
            shape = (layer.kernel, layer.kernel, channels, num_out)
            name = classifier if layer.channels < 0 else layer.name
            weight, bias = (generator.normal(size=size).astype(np.float32) for size in (shape, (1, num_out)))
            filters[name] = (weight, bias)
            channels = num_out
    return filters


def cells(values: list[Any]) -> NDArray[np.object_]:
    """A MATLAB cell array of one row."""
    out = np.empty((1, len(values)), object)
    for index, value in enumerate(values):
        out[0, index] = value
    return out


def structures(values: list[dict[str, Any]]) -> NDArray[Any]:
    """A MATLAB array of structures."""
    out = np.empty((1, len(values)), [(name, object) for name in values[0]])
    for index, value in enumerate(values):
        for name, item in value.items():
            out[0, index][name] = item
    return out


def save_simple(
    path: Path, filters: Filters, *, mean: Any = None, old: bool = False, norm: Any = None, compressed: bool = False
) -> None:
    """SimpleNN, at the top of the file as the ImageNet nets; `old` has filters and biases apart."""
    layers: list[dict[str, Any]] = []
    for name, (weight, bias) in filters.items():
        own = {"filters": weight, "biases": bias} if old else {"weights": cells([weight, bias])}
        layers += [
            {"name": name, "type": "conv", **own, "stride": [1, 1], "pad": 0},
            {"name": f"r{name}", "type": "relu"},
        ]
        if norm is not None and len(layers) == 2:
            layers.append({"name": "norm1", "type": "normalize", "param": norm})
    layers.append({"name": "prob", "type": "softmax"})
    normalization = {} if mean is None else {"averageImage": mean}
    meta = {"meta": {"normalization": {"imageSize": [224, 224, 3], **normalization}}}
    scipy.io.savemat(path, {"layers": cells(layers), **meta}, do_compression=compressed)


def save_dag(path: Path, filters: Filters, *, mean: Any = None, norm: Any = None) -> None:
    """DagNN in a variable `net`, as the authors' files."""
    layers: list[dict[str, Any]] = []
    params = []
    empty = np.zeros((0, 0))

    def add(name: str, kind: str, block: dict[str, Any], own: Any = empty) -> None:
        layers.append({"name": name, "type": f"dagnn.{kind}", "inputs": cells(["x"]), "params": own, "block": block})

    for name, (weight, bias) in filters.items():
        add(name, "Conv", {"size": list(weight.shape), "hasBias": True}, cells([f"{name}f", f"{name}b"]))
        add(f"relu_{name}", "ReLU", {"leak": 0})
        params += [
            {"name": f"{name}f", "value": weight, "learningRate": 1.0},
            {"name": f"{name}b", "value": bias, "learningRate": 2.0},
        ]
    if norm is not None:
        add("norm1", "LRN", {"param": norm})
    add("loss39", "Loss", {"loss": "softmaxlog"})
    params.reverse()  # they are found by name
    meta = {"normalization": {} if mean is None else {"averageImage": mean}}
    net = {
        "layers": structures(layers),
        "params": structures(params),
        "vars": structures([{"name": "x"}]),
        "meta": meta,
    }
    scipy.io.savemat(path, {"net": net})


class Bomb:
    """A pickle that makes a file when it is loaded with code."""

    def __init__(self, victim: Path) -> None:
        self.victim = victim

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.victim,)


def save_bomb(path: Path, victim: Path) -> None:
    """A .pt file, or an array in a .npz file, that would make `victim`."""
    if path.suffix == ".npz":
        np.savez(path, allow_pickle=True, bomb=np.array([Bomb(victim)], object))
    else:
        torch.save({"network": {"input.mean": Bomb(victim)}}, path)
    assert not victim.exists()
    if path.suffix == ".npz":
        np.load(path, allow_pickle=True)["bomb"]
    else:
        torch.load(path, weights_only=False)
    assert victim.exists(), "it is no bomb"
    victim.unlink()

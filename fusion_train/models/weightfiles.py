"""Weights as files have them: state dicts of ours and of torchvision, and where each is to be had.

Nothing is unpickled with code: `torch.load(weights_only=True)`, NumPy archives without pickle, MATLAB files by scipy.
"""

from __future__ import annotations

import pickle
import re
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

import numpy as np
import torch
from torch import Tensor
from torchvision.models import ResNet50_Weights, VGG16_Weights

from flowprep.errors import MissingDataError, SettingsError
from fusion_train.models.layers import Backbone

SOURCES: Mapping[str, str] = {
    "imagenet-vgg-m-2048.mat": "https://www.vlfeat.org/matconvnet/models/imagenet-vgg-m-2048.mat",
    "imagenet-vgg-verydeep-16.mat": "https://www.vlfeat.org/matconvnet/models/imagenet-vgg-verydeep-16.mat",
}
"""Where the files are published that presets name."""

TORCHVISION: Mapping[tuple[str, str], Any] = {
    ("vgg16", "torchvision"): VGG16_Weights.IMAGENET1K_V1,
    ("vgg16", "torchvision-features"): VGG16_Weights.IMAGENET1K_FEATURES,
    ("resnet50", "torchvision"): ResNet50_Weights.IMAGENET1K_V1,
}

CAFFE_MEAN = (123.68, 116.779, 103.939)
"""Mean of ImageNet's images, RGB of 0..255, which Caffe's and MatConvNet's nets subtract; they do not divide."""
_STD = (0.229, 0.224, 0.225)
_MEAN = (0.485, 0.456, 0.406)


@final
@dataclass(frozen=True)
class StreamWeights:
    """The weights of one stream in our names, as `conv1_1.weight`, and the normalisation they were trained with.

    Images enter as (x - mean) * scale, a value a channel of the first layer. `has_fc` is False where fc6 and fc7 are
    not valid; a `classifier` of ImageNet is never part of `tensors` where it can be told. `classes` are the names of
    the classifier's logits where the file has them. Where it has none, `unnamed` is the order that they have if they
    are these classes.
    """

    source: str
    tensors: Mapping[str, Tensor]
    mean: Tensor
    scale: Tensor
    has_fc: bool = True
    classes: tuple[str, ...] | None = None
    unnamed: tuple[str, ...] = ()


def read_tensors(path: Path) -> tuple[dict[str, Tensor], tuple[str, ...] | None]:
    """The state dict in a .pt, .pth or .npz file, or under `network`, `model` or `state_dict` in it.

    Returns:
        Tensors by name; and the names of the classes, where the file is a checkpoint of ours.

    Raises:
        SettingsError: The file is damaged, or holds anything but tensors.
    """
    try:
        if path.suffix == ".npz":
            # Looked at first, since NumPy leaves a damaged archive open.
            if not zipfile.is_zipfile(path):
                raise zipfile.BadZipFile("it is no archive")
            with np.load(path, allow_pickle=False) as archive:
                return {name: torch.from_numpy(archive[name]) for name in archive.files}, None
        content = torch.load(path, map_location="cpu", weights_only=True)
    except OSError as error:
        raise SettingsError(f"{path} cannot be read: {error.strerror or error}") from error
    except Exception as error:
        # Damage has no common class: RuntimeError, EOFError, IndexError, struct.error, UnpicklingError, BadZipFile, ..
        wanted = _UNSAFE.search(str(error)) if isinstance(error, pickle.UnpicklingError) else None
        if wanted is None:
            raise SettingsError(f"{path} is no file of weights, or damaged: {_reason(error)}") from error
        raise SettingsError(
            f"{path} holds more than tensors and could run code, so it is not read; save only a state dict "
            f"(torch.save(network.state_dict(), ...)): it asks for {wanted[1]}"
        ) from error
    names = content.get("classes") if isinstance(content, Mapping) else None
    classes = tuple(names) if isinstance(names, list) and all(isinstance(name, str) for name in names) else None
    for key in ("network", "model", "state_dict"):
        if isinstance(content, Mapping) and isinstance(content.get(key), Mapping):
            content = content[key]
    if not isinstance(content, Mapping) or not all(
        isinstance(name, str) and isinstance(value, Tensor) for name, value in content.items()
    ):
        raise SettingsError(f"{path} must hold a state dict: names with tensors, alone or under the key network")
    return dict(content), classes


_UNSAFE = re.compile(r"GLOBAL (\S+)")
"""In what PyTorch says of a file that needs a class or function which is not of tensors."""


def _reason(error: Exception) -> str:
    """The first line, without the advice of PyTorch to read what is no pickle with `weights_only=False`."""
    if isinstance(error, pickle.UnpicklingError):
        return "it is no pickle of tensors"
    return str(error).partition("\n")[0] or type(error).__name__


def from_state_dict(
    source: str,
    tensors: Mapping[str, Tensor],
    backbone: Backbone,
    stream: str,
    classes: tuple[str, ...] | None = None,
) -> StreamWeights:
    """A stream's weights of a state dict: torchvision's, a network of ours (`spatial.*`, `temporal.*`), or a stream.

    A network with one stream gives it to either; `source` says which it was.

    Raises:
        SettingsError: It has no weights of such a stream.
    """
    if any(name.startswith(("features.", "layer1.")) for name in tensors):
        return from_torchvision(source, tensors, backbone)
    streams = sorted({name.partition(".")[0] for name in tensors} & {"spatial", "temporal"})
    if streams:
        chosen = stream if stream in streams else streams[0]
        source = f"{source}, {chosen} stream"
        tensors = {name.removeprefix(f"{chosen}."): t for name, t in tensors.items() if name.startswith(f"{chosen}.")}
    if "input.mean" not in tensors or "input.scale" not in tensors:
        raise SettingsError(
            f"{source} has no input.mean and input.scale, so it is neither a network of fusion_train nor one of "
            f"torchvision; its first names are {', '.join(list(tensors)[:3]) or 'none'}"
        )
    layers = {name: tensor for name, tensor in tensors.items() if not name.startswith("input.")}
    return StreamWeights(source, layers, tensors["input.mean"], tensors["input.scale"], classes=classes)


def from_torchvision(source: str, tensors: Mapping[str, Tensor], backbone: Backbone) -> StreamWeights:
    """The weights of torchvision's VGG-16 or ResNet-50, without their classifier.

    `IMAGENET1K_FEATURES` is told by its fc6 and fc7, which are missing or not numbers: it has Caffe's scale.

    Raises:
        SettingsError: The file has another net than `backbone`.
    """
    layers = _resnet_names(tensors) if backbone.name == "resnet50" else _vgg_names(tensors, backbone)
    if layers is None:
        raise SettingsError(f"{source} has the layers of another net than {backbone.name}")
    mean, std = torch.tensor(_MEAN), torch.tensor(_STD)
    full = [name for name in layers if name.startswith("fc")]
    if backbone.name == "vgg16" and not (full and all(layers[name].isfinite().all() for name in full)):
        layers = {name: tensor for name, tensor in layers.items() if name not in full}
        mean = torch.tensor([0.48235, 0.45882, 0.40784])  # torchvision's documented mean of these weights
        return StreamWeights(source, layers, mean * 255, torch.ones(3), has_fc=False)
    return StreamWeights(source, layers, mean * 255, 1 / (255 * std))


def _vgg_names(tensors: Mapping[str, Tensor], backbone: Backbone) -> dict[str, Tensor] | None:
    """Torchvision numbers its layers: convolutions in order, then `classifier.0`, `.3` and `.6`."""
    names = [layer.name for layer in backbone.layers if layer.kind == "conv"]
    numbers = sorted({int(found[1]) for name in tensors if (found := re.match(r"features\.(\d+)\.", name))})
    theirs = [f"features.{number}" for number in numbers] + ["classifier.0", "classifier.3", "classifier.6"]
    if backbone.name != "vgg16" or len(theirs) != len(names):
        return None
    layers = {}
    kernels = {layer.name: layer.kernel for layer in backbone.layers}
    for name, their in list(zip(names, theirs, strict=True))[:-1]:
        for part in ("weight", "bias"):
            if f"{their}.{part}" in tensors:
                tensor = tensors[f"{their}.{part}"]
                if part == "weight" and tensor.ndim == 2:  # of flattened (C, H, W)
                    tensor = tensor.reshape(tensor.shape[0], -1, kernels[name], kernels[name])
                layers[f"{name}.{part}"] = tensor
    return layers


def _resnet_names(tensors: Mapping[str, Tensor]) -> dict[str, Tensor] | None:
    """`layer1.0.conv1.weight` is `res2a.conv1.weight`."""
    if "layer4.2.conv3.weight" not in tensors or "layer3.6.conv1.weight" in tensors:
        return None
    layers = {}
    for name, tensor in tensors.items():
        stage, _, rest = name.partition(".")
        if stage.startswith("layer"):
            block, _, rest = rest.partition(".")
            layers[f"res{int(stage[5:]) + 1}{'abcdef'[int(block)]}.{rest}"] = tensor
        elif stage in ("conv1", "bn1"):
            layers[name] = tensor
    return layers


def download(backbone: str, weights: str) -> tuple[str, dict[str, Tensor]]:
    """Name and tensors of torchvision's weights, from its cache or its server.

    Raises:
        MissingDataError: They are not in the cache and cannot be had, or are not what was published.
    """
    entry = TORCHVISION[backbone, weights]
    url = str(entry.url)
    cache = Path(torch.hub.get_dir()) / "checkpoints"
    try:
        state = torch.hub.load_state_dict_from_url(url, map_location="cpu", check_hash=True, weights_only=True)
    except (OSError, RuntimeError, pickle.UnpicklingError) as error:
        raise MissingDataError(
            f"torchvision's weights of {backbone} are not to be had ({error}); put {url} into {cache} on a machine "
            "with a network, or set the stream's weights to another file, or to none for random ones"
        ) from error
    return f"torchvision {entry}", dict(state)

"""ResNet-50 of MatConvNet into our names: `imagenet-resnet-50-dag.mat` and the authors' streams that start from it.

Layers are named as in Caffe: `conv1`, `res2a_branch1`, `res2a_branch2a` ..; a batch normalisation belongs to the
convolution whose output it takes. Its parameters are gain, bias and moments: mean and *standard deviation*, of which
the latter has MatConvNet's epsilon in it.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from torch import Tensor

from flowprep.errors import SettingsError
from fusion_train.models.layers import Backbone
from fusion_train.models.matfile import MatLayer, as_tensor

_BRANCH = re.compile(r"(res\d[a-f])_branch(1|2a|2b|2c)")
_PARTS = {"1": ("downsample.0", "downsample.1"), "2a": ("conv1", "bn1"), "2b": ("conv2", "bn2"), "2c": ("conv3", "bn3")}
_EPSILON = 1e-5  # of PyTorch's batch normalisation, which adds it to the variance


def resnet_tensors(path: Path, layers: Sequence[MatLayer], backbone: Backbone) -> dict[str, Tensor]:
    """Weights by our names, statistics of batch normalisation included.

    Raises:
        SettingsError: The net has other blocks than `backbone`, or its strides elsewhere.
    """
    norms = {layer.inputs[0]: layer for layer in layers if layer.kind == "bn" and layer.inputs}
    tensors: dict[str, Tensor] = {}
    strides: dict[str, float] = {}
    others = []
    for layer in layers:
        if layer.kind != "conv":
            continue
        if match := _BRANCH.fullmatch(layer.name):
            block, branch = match[1], match[2]
            conv, norm = (f"{block}.{part}" for part in _PARTS[branch])
            strides[layer.name] = max(layer.numbers("stride"), default=1.0)
        elif layer.name == "conv1":
            conv, norm = "conv1", "bn1"
        else:
            others.append(layer)
            continue
        tensors |= _convolution(path, layer, norms, conv, norm)
    if len(others) != 1:
        raise SettingsError(
            f"{path} has the layers {', '.join(layer.name for layer in others) or 'none'} beside blocks res2a .. "
            "res5c, wanted is the classifier alone"
        )
    filters, bias = others[0].filters()
    tensors[f"{backbone.names[-1]}.weight"] = as_tensor(filters.transpose(3, 2, 0, 1))
    tensors[f"{backbone.names[-1]}.bias"] = as_tensor(bias)
    _check(path, tensors, strides, backbone)
    return tensors


def _convolution(path: Path, layer: MatLayer, norms: dict[str, MatLayer], conv: str, norm: str) -> dict[str, Tensor]:
    """A convolution with the normalisation after it; a bias is taken from the mean that is subtracted next."""
    following = norms.get(layer.outputs[0]) if layer.outputs else None
    if following is None:
        raise SettingsError(f"{path}: no batch normalisation takes the output of {layer.name}")
    gain, shift, moments = (value for value in (*following.values, None, None, None)[:3])
    if gain is None or shift is None or moments is None or moments.size != 2 * gain.size:
        raise SettingsError(f"{path}: {following.name} must have gain, bias and moments (mean, standard deviation)")
    mean, deviation = np.asarray(moments, np.float64).reshape(-1, 2).T
    filters, bias = layer.filters()
    return {
        f"{conv}.weight": as_tensor(filters.transpose(3, 2, 0, 1)),
        f"{norm}.weight": as_tensor(gain.ravel()),
        f"{norm}.bias": as_tensor(shift.ravel()),
        f"{norm}.running_mean": as_tensor(mean - bias),
        f"{norm}.running_var": as_tensor(np.maximum(deviation**2 - _EPSILON, 0)),
    }


def _check(path: Path, tensors: dict[str, Tensor], strides: dict[str, float], backbone: Backbone) -> None:
    """All blocks are there and no other, and strides lie where the backbone has them."""
    wanted = {layer.name for layer in backbone.layers if layer.kind == "block"}
    found = {name.partition(".")[0] for name in tensors if name.startswith("res")}
    if wanted != found:
        names = ", ".join(sorted(wanted ^ found))
        raise SettingsError(f"{path} has another net than {backbone.name}: blocks {names} are in one of them alone")
    for layer in backbone.layers:
        if layer.kind != "block" or layer.stride == 1:
            continue
        first, second = (strides.get(f"{layer.name}_branch2{part}", 1.0) for part in "ab")
        if (first, second) != ((layer.stride, 1) if layer.stride_first else (1, layer.stride)):
            where = "1x1 convolutions, as Caffe's" if first > 1 else "3x3 convolutions, as torchvision's"
            other = "resnet50-caffe" if first > 1 else "resnet50"
            raise SettingsError(
                f"{path} has its strides in the {where}, {backbone.name} elsewhere; use the backbone {other}"
            )

"""Nets of MatConvNet: ImageNet's VGG-M-2048 and VGG-16, and the authors' single streams, from .mat files.

Two forms exist. SimpleNN has `layers` as cells, each with `name`, `type` and `weights` {filters, bias} (older files:
`filters` and `biases`). DagNN has `layers` as structures with names of their parameters, and `params` with the values.
Both stand at the top of the file or in a variable `net`. Filters are (H, W, Cin, Cout); images are RGB of 0..255 minus
`meta.normalization.averageImage`. Names are read from the file: the authors call a classifier `layer38`, or
`prediction`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.io import loadmat
from scipy.io.matlab import MatReadError

from flowprep.errors import SettingsError
from fusion_train.models.layers import Backbone, ResponseNorm
from fusion_train.models.weightfiles import CAFFE_MEAN, StreamWeights


@final
@dataclass(frozen=True)
class _Convolution:
    """A convolution of the file: filters (H, W, Cin, Cout), bias (Cout,)."""

    name: str
    filters: NDArray[Any]
    bias: NDArray[Any]


def read_mat(path: Path, backbone: Backbone) -> StreamWeights:
    """The weights of a VGG net. Layers are matched in order, and must have our shapes and, where they have one, names.

    Args:
        path: File of MATLAB 5 to 7.
        backbone: What the file must contain.

    Raises:
        SettingsError: The file is damaged, or has another net.
    """
    net = _net(path)
    layers = _field(net, "layers")
    simple = layers is not None and layers.dtype.names is None
    if layers is None or (not simple and _field(net, "params") is None):
        raise SettingsError(f"{path} has no net of MatConvNet: `layers`, or `layers` and `params`, are missing")
    found = list(_simple(layers) if simple else _dag(net, layers))
    _check_norms(path, layers)
    wanted = [layer for layer in backbone.layers if layer.kind == "conv"]
    ours = f"{backbone.name} with {', '.join(layer.name for layer in wanted)}"
    if any(layer.kind == "block" for layer in backbone.layers):
        raise SettingsError(f"{path}: nets of MatConvNet are read for VGG and not for {backbone.name}")
    if len(found) != len(wanted):
        raise SettingsError(f"{path} has the layers {', '.join(c.name for c in found)}, wanted is {ours}")
    tensors = {}
    for index, (layer, convolution) in enumerate(zip(wanted, found, strict=True)):
        if convolution.name in backbone.names and convolution.name != layer.name:
            raise SettingsError(f"{path} has {convolution.name} in the place of {layer.name}, wanted is {ours}")
        height, width, num_in, num_out = convolution.filters.shape
        before = found[index - 1].filters.shape[3] if index else num_in
        last = index == len(wanted) - 1
        if (height, width, num_in) != (layer.kernel, layer.kernel, before) or not (last or num_out == layer.channels):
            raise SettingsError(
                f"{path}: filters of {convolution.name} are {convolution.filters.shape} (H, W, in, out), those of "
                f"{layer.name} in {backbone.name} are ({layer.kernel}, {layer.kernel}, {before}, {layer.channels})"
            )
        filters = np.ascontiguousarray(convolution.filters.transpose(3, 2, 0, 1), np.float32)
        tensors[f"{layer.name}.weight"] = torch.from_numpy(filters)
        tensors[f"{layer.name}.bias"] = torch.from_numpy(np.array(convolution.bias, np.float32))
    num_inputs = found[0].filters.shape[2]
    return StreamWeights(str(path), tensors, _mean(net, num_inputs), torch.ones(num_inputs))


def _net(path: Path) -> Any:
    """The structure with `layers`: the variable `net`, or the file."""
    try:
        content = loadmat(path, squeeze_me=False, struct_as_record=True)
    except NotImplementedError as error:
        raise SettingsError(f"{path} is of MATLAB 7.3; load it in MATLAB and save it with -v7") from error
    except (MatReadError, ValueError, TypeError, EOFError) as error:
        raise SettingsError(f"{path} is no MATLAB file, or damaged: {error}") from error
    net = content.get("net")
    return content if net is None else net.ravel()[0]


def _field(structure: Any, name: str) -> Any:
    """A field of a structure or a variable of the file; None where there is none or it is empty."""
    if isinstance(structure, dict):
        value = structure.get(name)
    else:
        value = structure[name] if structure.dtype.names and name in structure.dtype.names else None
    return None if value is None or value.size == 0 else value


def _inner(structure: Any, name: str) -> Any:
    """The structure in a field."""
    value = _field(structure, name)
    return None if value is None else value.ravel()[0]


def _text(value: Any) -> str:
    """A text; MATLAB has it as an array of one."""
    return "" if value is None else str(value.ravel()[0])


def _cells(value: Any) -> list[Any]:
    return [] if value is None else list(value.ravel())


def _simple(layers: Any) -> Iterator[_Convolution]:
    for cell in _cells(layers):
        layer = cell.ravel()[0]
        if _text(_field(layer, "type")) != "conv":
            continue
        weights = _cells(_field(layer, "weights")) or [_field(layer, "filters"), _field(layer, "biases")]
        yield _convolution(_text(_field(layer, "name")), weights)


def _dag(net: Any, layers: Any) -> Iterator[_Convolution]:
    values = {_text(_field(p, "name")): _field(p, "value") for p in _cells(_field(net, "params"))}
    for layer in _cells(layers):
        if _text(_field(layer, "type")) == "dagnn.Conv":
            names = [_text(name) for name in _cells(_field(layer, "params"))]
            yield _convolution(_text(_field(layer, "name")), [values.get(name) for name in names])


def _convolution(name: str, weights: list[Any]) -> _Convolution:
    if not weights or weights[0] is None:
        raise SettingsError(f"layer {name} of the file has no filters")
    filters = np.asarray(weights[0])
    filters = filters.reshape(*filters.shape, *(1 for _ in range(4 - filters.ndim)))  # MATLAB drops ones at the end
    bias = weights[1] if len(weights) > 1 and weights[1] is not None else np.zeros(filters.shape[3])
    return _Convolution(name, filters, np.asarray(bias).ravel())


def _check_norms(path: Path, layers: Any) -> None:
    """Normalisation across channels must be that of the released VGG-M; MatConvNet's training example has another."""
    wanted = [ResponseNorm.SIZE, ResponseNorm.KAPPA, ResponseNorm.ALPHA, ResponseNorm.BETA]
    for cell in _cells(layers):
        layer = cell if layers.dtype.names else cell.ravel()[0]
        if _text(_field(layer, "type")) in ("normalize", "lrn", "dagnn.LRN"):
            block = _inner(layer, "block") if layers.dtype.names else layer
            param = None if block is None else _field(block, "param")
            if param is not None and not np.allclose(np.ravel(param), wanted, rtol=1e-3):
                raise SettingsError(f"{path} normalises channels with {np.ravel(param)}, we with {wanted}: another net")


def _mean(net: Any, num_inputs: int) -> torch.Tensor:
    """The mean a channel: of the average image if that has the channels, else ImageNet's for RGB and 128 for flow."""
    meta = _inner(net, "meta")
    normalization = _inner(net if meta is None else meta, "normalization")
    image = None if normalization is None else _field(normalization, "averageImage")
    if image is not None and image.size % num_inputs == 0 and image.shape[-1] in (num_inputs, 1):
        # A mean a channel may be stored as (1, 1, C) or as (C, 1).
        flat = image.reshape(-1, num_inputs) if image.shape[-1] == num_inputs else image.reshape(num_inputs, -1).T
        return torch.tensor(flat.mean(0), dtype=torch.float32)
    return torch.tensor(CAFFE_MEAN) if num_inputs == 3 else torch.full((num_inputs,), 128.0)

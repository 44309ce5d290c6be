"""Nets of MatConvNet into our names: ImageNet's VGG-M-2048, VGG-16 and ResNet-50, the authors' streams, fused nets.

Filters are (H, W, Cin, Cout); images are RGB of 0..255 minus `meta.normalization.averageImage`. Convolutions of VGG are
matched in order, and by name where the file has one of ours: the authors call a classifier `layer38`, or `prediction`.
In a fused net every layer of a stream ends in `_spatial` or `_temporal`, and what convolves a concatenation is its
fusion filter (`conv53D` in `cnn_ucf101_fusion.m`).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from flowprep.errors import SettingsError
from fusion_train.models.classorder import HMDB51_CLASSES
from fusion_train.models.layers import Backbone, ResponseNorm
from fusion_train.models.matfile import MatLayer, MatNet, as_tensor, field_of, inner, read_net
from fusion_train.models.matresnet import resnet_tensors
from fusion_train.models.weightfiles import CAFFE_MEAN, StreamWeights

STREAMS = ("spatial", "temporal")


def read_mat(path: Path, backbone: Backbone, stream: str) -> StreamWeights:
    """The weights of one stream.

    Args:
        path: File of MATLAB 5 to 7.
        backbone: What the file, or that stream of a fused net, must contain.
        stream: `spatial` or `temporal`; a file with one stream gives it to either.

    Raises:
        SettingsError: The file is damaged, or has another net.
    """
    return stream_weights(read_net(path), backbone, stream)


def stream_weights(net: MatNet, backbone: Backbone, stream: str) -> StreamWeights:
    """`read_mat` of a net that is read already."""
    layers, source = _of_stream(net, stream)
    _check_norms(net.path, layers)
    is_residual = any(layer.kind == "block" for layer in backbone.layers)
    tensors = resnet_tensors(net.path, layers, backbone) if is_residual else _vgg_tensors(net.path, layers, backbone)
    num_inputs = tensors[f"{backbone.names[0]}.weight"].shape[1]
    return StreamWeights(source, tensors, _mean(net, num_inputs), torch.ones(num_inputs), unnamed=HMDB51_CLASSES)


def read_fusion_filters(path: Path) -> tuple[tuple[Tensor, Tensor], ...]:
    """Filter and bias of each fusion of a fused net in order: (Cs, Cs + Ct, [T,] Y, X) and (Cs,).

    Raises:
        SettingsError: The file is damaged, or its net is not fused by a convolution.
    """
    found = fusion_filters(read_net(path))
    if not found:
        raise SettingsError(f"{path} has no net with a convolution of two concatenated streams")
    return found


def fusion_filters(net: MatNet) -> tuple[tuple[Tensor, Tensor], ...]:
    """`read_fusion_filters` of a net that is read already; none where it is not fused by a convolution."""
    found = []
    for layer in _fusions(net):
        filters, bias = layer.filters()
        order = (4, 3, 2, 0, 1) if filters.ndim == 5 else (3, 2, 0, 1)  # 3D: (y, x, t, in, out)
        found.append((as_tensor(filters.transpose(order)), as_tensor(bias)))
    return tuple(found)


def is_fused(net: MatNet) -> bool:
    """Whether a net has both streams."""
    return any(layer.name.endswith(f"_{name}") for layer in net.layers for name in STREAMS)


def _fusions(net: MatNet) -> list[MatLayer]:
    """The convolutions whose input is a concatenation."""
    joined = {name for layer in net.layers if layer.kind == "concat" for name in layer.outputs}
    return [layer for layer in net.layers if layer.kind == "conv" and joined & set(layer.inputs)]


def _of_stream(net: MatNet, stream: str) -> tuple[list[MatLayer], str]:
    """The layers of a stream, without its suffix, and what to call them."""
    if not is_fused(net):
        return list(net.layers), str(net.path)
    fusions = _fusions(net)
    suffix = f"_{stream}"
    layers = [
        dataclasses.replace(layer, name=layer.name.removesuffix(suffix))
        for layer in net.layers
        if layer.name.endswith(suffix) and layer not in fusions
    ]
    return layers, f"{net.path}, {stream} stream"


def _vgg_tensors(path: Path, layers: Sequence[MatLayer], backbone: Backbone) -> dict[str, Tensor]:
    """Weights and biases by our names. Raises SettingsError where number, order or shapes of layers are others."""
    found = [(layer.name, *layer.filters()) for layer in layers if layer.kind == "conv"]
    wanted = [layer for layer in backbone.layers if layer.kind == "conv"]
    ours = f"{backbone.name} with {', '.join(layer.name for layer in wanted)}"
    if len(found) != len(wanted):
        raise SettingsError(f"{path} has the layers {', '.join(name for name, _, _ in found)}, wanted is {ours}")
    tensors = {}
    for index, (layer, (name, filters, bias)) in enumerate(zip(wanted, found, strict=True)):
        if name in backbone.names and name != layer.name:
            raise SettingsError(f"{path} has {name} in the place of {layer.name}, wanted is {ours}")
        height, width, num_in, num_out = filters.shape
        before = found[index - 1][1].shape[3] if index else num_in
        last = index == len(wanted) - 1
        if (height, width, num_in) != (layer.kernel, layer.kernel, before) or not (last or num_out == layer.channels):
            raise SettingsError(
                f"{path}: filters of {name} are {filters.shape} (H, W, in, out), those of "
                f"{layer.name} in {backbone.name} are ({layer.kernel}, {layer.kernel}, {before}, {layer.channels})"
            )
        tensors[f"{layer.name}.weight"] = as_tensor(filters.transpose(3, 2, 0, 1))
        tensors[f"{layer.name}.bias"] = as_tensor(bias)
    return tensors


def _check_norms(path: Path, layers: Sequence[MatLayer]) -> None:
    """Normalisation across channels must be that of the released VGG-M; MatConvNet's training example has another."""
    wanted = [ResponseNorm.SIZE, ResponseNorm.KAPPA, ResponseNorm.ALPHA, ResponseNorm.BETA]
    for layer in layers:
        param = layer.numbers("param") if layer.kind == "lrn" else ()
        if param and not np.allclose(param, wanted, rtol=1e-3):
            raise SettingsError(f"{path} normalises channels with {param}, we with {wanted}: another net")


def _mean(net: MatNet, num_inputs: int) -> Tensor:
    """The mean a channel: of the average image if that has the channels, else ImageNet's for RGB and 128 for flow."""
    meta = inner(net.structure, "meta")
    normalization = inner(net.structure if meta is None else meta, "normalization")
    image = None if normalization is None else field_of(normalization, "averageImage")
    if image is not None and image.size % num_inputs == 0 and image.shape[-1] in (num_inputs, 1):
        # A mean a channel may be stored as (1, 1, C) or as (C, 1).
        flat = image.reshape(-1, num_inputs) if image.shape[-1] == num_inputs else image.reshape(num_inputs, -1).T
        return torch.tensor(flat.mean(0), dtype=torch.float32)
    return torch.tensor(CAFFE_MEAN) if num_inputs == 3 else torch.full((num_inputs,), 128.0)

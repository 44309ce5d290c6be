"""Small networks and clips for tests, and fusions and pooling by loops in NumPy."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fusion_train.config import ModelSettings
from fusion_train.models.build import new_network
from fusion_train.models.two_stream import FusedNetwork, Network
from fusion_train.presets import preset_settings

torch.set_num_threads(1)
"""The networks are so small that threads would wait for each other."""

NUM_CLASSES = 4
Array = NDArray[np.float64]


def debug_settings(**overrides: Any) -> ModelSettings:
    """Of the preset `debug`, without dropout unless asked for."""
    dropout = {"spatial_dropout": 0.0, "temporal_dropout": 0.0}
    return dataclasses.replace(preset_settings("debug"), **{**dropout, **overrides})


def debug_network(seed: int = 0, **overrides: Any) -> Network:
    """A network in evaluation mode whose weights all matter: He's classifier, and biases."""
    torch.manual_seed(seed)
    network = new_network(debug_settings(**overrides), num_classes=NUM_CLASSES).eval()
    for stream in network.streams.values():
        for layer in stream.layers:
            if layer.kind == "conv":
                torch.nn.init.uniform_(stream.convolution(layer.name).bias, -0.2, 0.2)
        if len(stream.layers) == len(stream.backbone.layers):
            torch.nn.init.kaiming_normal_(stream.classifier.weight)
    return network


def fused(seed: int = 0, **overrides: Any) -> FusedNetwork:
    network = debug_network(seed, **overrides)
    assert isinstance(network, FusedNetwork)
    return network


def clips(
    batch_size: int = 2, num_chunks: int = 3, height: int = 48, width: int = 48, seed: int = 1
) -> tuple[Tensor, Tensor]:
    """Random uint8 images and flow stacks."""
    generator = torch.Generator().manual_seed(seed)
    shapes = [(batch_size, num_chunks, channels, height, width) for channels in (3, 20)]
    rgb, flow = (torch.randint(0, 256, shape, generator=generator, dtype=torch.uint8) for shape in shapes)
    return rgb, flow


def grown(maps: Array, height: int, width: int) -> Array:
    """(N, C, H, W) with zeros at the bottom and right."""
    out = np.zeros((*maps.shape[:2], height, width))
    out[:, :, : maps.shape[2], : maps.shape[3]] = maps
    return out


def convolved(stacked: Array, weight: Array, bias: Array) -> Array:
    """A 3D correlation (B, C, T, H, W) with (O, C, t, y, x), zeros around, one output value after another."""
    num_batch, _, *sizes = stacked.shape
    reach = [side // 2 for side in weight.shape[2:]]
    out = np.zeros((num_batch, weight.shape[0], *sizes))
    for b, o, t, y, x in np.ndindex(*out.shape):
        total = bias[o]
        for dt, dy, dx in np.ndindex(*weight.shape[2:]):
            at = (t + dt - reach[0], y + dy - reach[1], x + dx - reach[2])
            if all(0 <= place < size for place, size in zip(at, sizes, strict=True)):
                total += stacked[b, :, at[0], at[1], at[2]] @ weight[o, :, dt, dy, dx]
        out[b, o, t, y, x] = total
    return out


def pooled_3d(clip: Array, kernel: Sequence[int], stride: Sequence[int], padding: Sequence[int]) -> Array:
    """Maxima over boxes of (C, T, H, W), then over the time steps that are left: (C, H', W')."""
    _, *sizes = clip.shape
    starts = [
        range(-pad, size + pad - side + 1, step)
        for size, side, step, pad in zip(sizes, kernel, stride, padding, strict=True)
    ]
    out = np.full((clip.shape[0], *(len(axis) for axis in starts)), -np.inf)
    for place in itertools.product(*(range(len(axis)) for axis in starts)):
        box = [axis[k] for axis, k in zip(starts, place, strict=True)]
        cut = tuple(slice(max(low, 0), low + side) for low, side in zip(box, kernel, strict=True))
        out[(slice(None), *place)] = clip[(slice(None), *cut)].max((1, 2, 3))
    return out.max(1)

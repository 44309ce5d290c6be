"""Checks of what a network is given: shapes, dtypes, sizes."""

from __future__ import annotations

import torch
from torch import Tensor

from flowprep.errors import SettingsError
from fusion_train.models.stream import Stream


def check_pair(rgb: Tensor | None, flow: Tensor | None, *, equal_sizes: bool = True) -> int:
    """The number of clips B.

    Raises:
        SettingsError: Neither is given, or they are not 5-dimensional, empty, or of unequal B, T or, with
            `equal_sizes`, H, W.
    """
    given = {name: tensor for name, tensor in (("rgb", rgb), ("flow", flow)) if tensor is not None}
    if not given:
        raise SettingsError("a network needs `rgb`, `flow` or both, got neither")
    for name, tensor in given.items():
        if tensor.ndim != 5 or 0 in tensor.shape:
            raise SettingsError(f"`{name}` must be (B, T, channels, H, W), none of them 0, got {tuple(tensor.shape)}")
        if tensor.dtype != torch.uint8 and not tensor.dtype.is_floating_point:
            raise SettingsError(f"`{name}` must be uint8 or float of 0..255, got {tensor.dtype}")
    if rgb is not None and flow is not None:
        shapes = [(*tensor.shape[:2], *(tensor.shape[3:] if equal_sizes else ())) for tensor in (rgb, flow)]
        if shapes[0] != shapes[1]:
            raise SettingsError(f"`rgb` and `flow` must have equal B, T, H and W, got {shapes[0]} and {shapes[1]}")
    return next(iter(given.values())).shape[0]


def clip_maps(name: str, images: Tensor | None, stream: Stream) -> Tensor:
    """The input of a stream as (B*T, C, H, W).

    Raises:
        SettingsError: It is missing, of another number of channels, or smaller than the backbone's smallest image.
    """
    argument = "rgb" if name == "spatial" else "flow"
    if images is None:
        raise SettingsError(f"this network has a {name} stream and needs `{argument}`, got None")
    if images.shape[2] != stream.in_channels:
        raise SettingsError(f"`{argument}` must have {stream.in_channels} channels, got {images.shape[2]}")
    smallest = stream.backbone.min_size_px
    if min(images.shape[3:]) < smallest:
        raise SettingsError(
            f"`{argument}` must be at least {smallest}x{smallest} pixels for {stream.backbone.name}, "
            f"got {images.shape[3]}x{images.shape[4]}"
        )
    return images.flatten(0, 1)

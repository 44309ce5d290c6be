"""Resizing and mirroring of a batch, on its device, in one call.

Crops are resized with antialiasing by the rule of Pillow (and of MATLAB's `imresize`: bicubic with a = -1/2), along
the rows first, then the columns, each rounded to 8 bits. On the CPU PyTorch's 8-bit kernel does that; elsewhere two
passes in float32 do, to within two codes. What comes out are whole numbers in float, 0..255, exact in bfloat16 too.

Note [flow sign under flip]: a mirrored picture moves the other way, so u is negated about the code of zero flow,
z = 128 (or 127 in stores of rounding `truncate`): u -> 2z - u. In float nothing is clipped, so that doing it twice
gives the same number, and zero stays zero. `-authors` has 255 - u, which makes 127 of 128. v does not change.
"""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import torch
from torch import Tensor
from torch.nn import functional

from fusion_train.data.batch import ClipBatch, Crops
from fusion_train.data.canvas import Canvases
from fusion_train.data.maps import MapBatch

_CANVASES = Canvases()
"""Memory of inputs on the CPU."""


def network_inputs(
    batch: ClipBatch | MapBatch, device: torch.device | str = "cpu", dtype: torch.dtype = torch.float32
) -> tuple[Tensor | None, Tensor | None]:
    """What a network takes: rgb (B, T, 3, H, W) and flow (B, T, 2L, H, W), u and v interleaved, 0..255.

    A stream that the batch has not is None. A mirrored u may be 256 or -1 (see the note above). Of a batch of maps
    these are what comes out.
    """
    batch = batch.to(device)
    if isinstance(batch, MapBatch):
        return batch.rgb, batch.flow
    return _rgb(batch, dtype), _flow(batch, dtype)


def _rgb(batch: ClipBatch, dtype: torch.dtype) -> Tensor | None:
    if batch.rgb is None:
        return None
    images = _resized(batch.rgb, batch)  # (R, 3, H, W)
    out = _empty((*batch.rgb_index.shape, 3, *batch.output_size), dtype, images.device)  # (B, T, 3, H, W)
    for clip, mirrored in enumerate(batch.flips):
        chunks = _rows(images, batch.rgb_index[clip])
        out[clip] = chunks.flip(-1) if mirrored else chunks
    return out


def _flow(batch: ClipBatch, dtype: torch.dtype) -> Tensor | None:
    if batch.flow is None:
        return None
    images = _resized(batch.flow, batch)  # (F, 4, H, W)
    fields = images.view(-1, 2, *batch.output_size)
    out = _empty((*batch.flow_index.shape, 2, *batch.output_size), dtype, fields.device)  # (B, T, L, 2, H, W)
    for clip, mirrored in enumerate(batch.flips):
        chunks = _rows(fields, batch.flow_index[clip])
        out[clip] = chunks.flip(-1) if mirrored else chunks
        if mirrored:
            out[clip, :, :, 0].neg_().add_(batch.flip_sum)
    return out.flatten(2, 3)


def _resized(crops: Crops, batch: ClipBatch) -> Tensor:
    """All crops of a stream at the output size, uint8 (N, C, H, W)."""
    out = _empty((len(crops), crops.num_channels, *batch.output_size), torch.uint8, crops.pixels.device)
    for k, images in enumerate(crops.videos()):
        if len(images):
            if not images.is_contiguous():  # crops in wider strips
                images = _empty(images.shape, images.dtype, images.device).copy_(images)
            resized = resize(images.permute(0, 3, 1, 2), batch.output_size, batch.interpolation)
            _copy(resized, out[crops.first[k] : crops.first[k + 1]])
    return out


def _empty(shape: Sequence[int], dtype: torch.dtype, device: torch.device) -> Tensor:
    return _CANVASES.empty(shape, dtype) if device.type == "cpu" else torch.empty(shape, dtype=dtype, device=device)


def _copy(images: Tensor, out: Tensor) -> None:
    """Images to contiguous planes of the same shape (N, C, H, W); on the CPU, OpenCV's `split` is ten times as fast."""
    if images.device.type != "cpu":
        out.copy_(images)
        return
    for pixels, planes in zip(images.permute(0, 2, 3, 1).numpy(), out.numpy(), strict=True):
        cv2.split(pixels, list(planes))


def _rows(images: Tensor, index: Tensor) -> Tensor:
    """`images[index]`; `index_select` takes a fifth of the time."""
    return images.index_select(0, index.flatten()).view(*index.shape, *images.shape[1:])


def resize(images: Tensor, size: tuple[int, int], interpolation: str) -> Tensor:
    """Images (N, C, H, W) of 8 bits at another size, as Pillow resizes them."""
    if tuple(images.shape[-2:]) == size:
        return images
    if images.device.type == "cpu":
        return functional.interpolate(images, size, mode=interpolation, antialias=True)
    return resize_in_float(images, size, interpolation)


def resize_in_float(images: Tensor, size: tuple[int, int], interpolation: str) -> Tensor:
    """`resize` where PyTorch has no kernel for 8 bits."""
    values = images.float()
    for target in ((images.shape[-2], size[1]), size):
        if tuple(values.shape[-2:]) != target:
            values = functional.interpolate(values, target, mode=interpolation, antialias=True)
            values = values.add_(0.5).floor_().clamp_(0, 255)  # halves go up, as in Pillow
    return values.to(torch.uint8)

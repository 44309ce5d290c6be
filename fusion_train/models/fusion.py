"""How two maps become one: sum, max, concatenation, convolution in 2D or 3D, bilinear (section 3.1 of the paper).

All take a spatial map (B*T, Cs, H, W) and a temporal one (B*T, Ct, H', W') at the same chunks. A smaller map is padded
with zeros at the bottom and right, as the authors' concatenation does: 13x13 of VGG-M beside 14x14 of VGG-16.
"""

from __future__ import annotations

from contextlib import nullcontext
from typing import final

import torch
from torch import Tensor, nn
from torch.nn import functional

from fusion_train.config import ModelSettings
from fusion_train.models.layers import by_clip


def match_sizes(spatial: Tensor, temporal: Tensor) -> tuple[Tensor, Tensor]:
    """Both maps with the larger height and the larger width, zeros at the bottom and right."""
    height = max(spatial.shape[-2], temporal.shape[-2])
    width = max(spatial.shape[-1], temporal.shape[-1])
    return _grown(spatial, height, width), _grown(temporal, height, width)


def _grown(maps: Tensor, height: int, width: int) -> Tensor:
    missing = height - maps.shape[-2], width - maps.shape[-1]
    return functional.pad(maps, (0, missing[1], 0, missing[0])) if any(missing) else maps


class Fusion(nn.Module):
    """What all fusions share. `batch_size` is B of the B*T maps."""

    def forward(self, spatial: Tensor, temporal: Tensor, batch_size: int) -> Tensor:
        """The fused map (B*T, C, max(H, H'), max(W, W'))."""
        return self._fuse(*match_sizes(spatial, temporal), batch_size)

    def _fuse(self, spatial: Tensor, temporal: Tensor, batch_size: int) -> Tensor:
        raise NotImplementedError


@final
class SumFusion(Fusion):
    """The sum of the two maps."""

    def _fuse(self, spatial: Tensor, temporal: Tensor, batch_size: int) -> Tensor:
        return spatial + temporal


@final
class MaxFusion(Fusion):
    """The larger of the two at each place and channel."""

    def _fuse(self, spatial: Tensor, temporal: Tensor, batch_size: int) -> Tensor:
        return torch.maximum(spatial, temporal)


@final
class ConcatFusion(Fusion):
    """All channels of the spatial map, then all of the temporal one.

    Note [block order]: the paper's formula interleaves them, the released code does not. With the next layer's weights
    permuted alike, both are the same.
    """

    def _fuse(self, spatial: Tensor, temporal: Tensor, batch_size: int) -> Tensor:
        return torch.cat([spatial, temporal], 1)


@final
class ConvFusion(Fusion):
    """Concatenation, then a convolution to the spatial stream's channels, in 2D or over time too; then ReLU.

    Padding keeps the map's size and number of chunks. There is no ReLU where the fused layer has none.
    """

    def __init__(
        self,
        num_spatial: int,
        num_temporal: int,
        *,
        kernel: int,
        over_time: bool,
        rectify: bool,
        settings: ModelSettings,
    ) -> None:
        super().__init__()
        convolution = nn.Conv3d if over_time else nn.Conv2d
        self.conv = convolution(num_spatial + num_temporal, num_spatial, kernel, padding=kernel // 2)
        self.rectify = rectify
        self._reset(num_spatial, num_temporal, settings)

    @torch.no_grad()
    def _reset(self, num_spatial: int, num_temporal: int, settings: ModelSettings) -> None:
        """The identity of each stream times its factor, spread over the kernel; or noise."""
        weight = self.conv.weight  # (Cs, Cs + Ct, [T,] Y, X)
        if self.conv.bias is not None:
            nn.init.zeros_(self.conv.bias)
        if settings.conv_init == "random":
            nn.init.normal_(weight, std=0.01)
            return
        window = kernel_window(tuple(weight.shape[2:]), gaussian=settings.conv_init == "gaussian")
        channels = identities(num_spatial, num_temporal, settings)
        spread = channels.reshape(*channels.shape, *(1 for _ in window.shape)) * window
        weight.copy_(spread)

    def _fuse(self, spatial: Tensor, temporal: Tensor, batch_size: int) -> Tensor:
        stacked = torch.cat([spatial, temporal], 1)
        if isinstance(self.conv, nn.Conv3d):
            clips = by_clip(stacked, batch_size).transpose(1, 2)  # (B, C, T, H, W)
            fused = self.conv(clips).transpose(1, 2).flatten(0, 1)
        else:
            fused = self.conv(stacked)
        return functional.relu(fused) if self.rectify else fused


def identities(num_spatial: int, num_temporal: int, settings: ModelSettings) -> Tensor:
    """[factor * I of the spatial channels, factor * I of the temporal ones], (Cs, Cs + Ct)."""
    spatial = settings.init_spatial * torch.eye(num_spatial)
    return torch.cat([spatial, settings.init_temporal * torch.eye(num_spatial, num_temporal)], 1)


def kernel_window(size: tuple[int, ...], *, gaussian: bool) -> Tensor:
    """A window of `size` that sums to 1: exp(-r^2 / 2) around its centre, or 1 there and 0 elsewhere."""
    axes = [torch.arange(side) - side // 2 for side in size]
    squares = torch.stack(torch.meshgrid(*axes, indexing="ij")).square().sum(0)
    window = torch.exp(-squares / 2) if gaussian else (squares == 0).float()
    return window / window.sum()


@final
class BilinearFusion(Fusion):
    """Outer products of the two maps' channels, summed over positions; signed square root; L2 norm.

    Lin, RoyChowdhury and Maji, ICCV 2015. `over_time` sums over the chunks too. Puts out features, float32
    (B or B*T, Cs*Ct, 1, 1), spatial channel slowest.
    """

    EPSILON = 1e-12  # of the root, whose slope at 0 is infinite

    def __init__(self, *, over_time: bool) -> None:
        super().__init__()
        self.over_time = over_time

    def _fuse(self, spatial: Tensor, temporal: Tensor, batch_size: int) -> Tensor:
        device = spatial.device.type
        # 16 bits would lose the small products beside the large ones.
        with torch.autocast(device, enabled=False) if torch.amp.is_autocast_available(device) else nullcontext():
            left, right = (self._positions(maps, batch_size) for maps in (spatial, temporal))
            products = (left @ right.transpose(1, 2)).flatten(1)  # (B, Cs*Ct)
            rooted = products.sign() * (products.abs() + self.EPSILON).sqrt()
            return functional.normalize(rooted)[:, :, None, None]

    def _positions(self, maps: Tensor, batch_size: int) -> Tensor:
        """(B*T, C, H*W), or (B, C, T*H*W) over time."""
        maps = maps if maps.dtype == torch.float64 else maps.float()
        if self.over_time:
            return by_clip(maps, batch_size).transpose(1, 2).flatten(2)
        return maps.flatten(2)

"""3D max pooling: over the chunks of a clip and their maps at once."""

from __future__ import annotations

from typing import final

from torch import Tensor, nn

from flowprep.errors import SettingsError
from fusion_train.models.layers import Layer, by_clip, make_layer

Window = tuple[tuple[int | str, int | str, int | str], ...]
"""Kernel, stride and padding, each in t, y, x; see `ModelSettings.pool_window`."""


@final
class TimePool(nn.Module):
    """3D max pooling and then the maximum over the time steps that remain: (B*T, C, H, W) to (B, C, H', W').

    Note [3D pooling without MaxPool3d]: a maximum over a box is the maximum over its sides one after another, so this
    takes the maximum over all chunks that a window covers and then pools in 2D. The values are those of MaxPool3d and
    a maximum over time, bit for bit; the gradient is deterministic, which that of MaxPool3d is not on CUDA; and only
    1/T of the maps are pooled in 2D. Equal values share the gradient.

    It stands in for a backbone's last pooling `layer`. If that one averages, only time is pooled by maximum.
    """

    def __init__(self, layer: Layer, window: Window) -> None:
        """`window` is kernel, stride and padding in t, y, x. Raises SettingsError where it does not fit `layer`."""
        super().__init__()
        kernel, stride, padding = window
        self.kernel_t, self.stride_t, self.padding_t = kernel[0], int(stride[0]), int(padding[0])
        if isinstance(self.kernel_t, int) and self.padding_t * 2 > self.kernel_t:
            raise SettingsError(
                f"`pool_padding` must be at most half of `pool_kernel` in t, got {self.padding_t} and {self.kernel_t}"
            )
        if layer.kind == "average":
            if any(value != "own" for values in window for value in values[1:]):
                raise SettingsError(
                    f"layer {layer.name} averages, so y and x of `pool_kernel`, `pool_stride` and `pool_padding` "
                    f"must be own, got {window}"
                )
            self.pool: nn.Module = make_layer(layer, 0, 0, 0.0)
            return
        kernel_yx = [layer.kernel if value == "own" else int(value) for value in kernel[1:]]
        stride_yx = [layer.stride if value == "own" else int(value) for value in stride[1:]]
        # What a larger kernel needs in order to put out the backbone's map: 1 for 3x3 in the place of VGG-16's 2x2.
        grown = [layer.padding + max(size - layer.kernel + 1, 0) // 2 for size in kernel_yx]
        padding_yx = [own if value == "own" else int(value) for own, value in zip(grown, padding[1:], strict=True)]
        if any(2 * pad > size for pad, size in zip(padding_yx, kernel_yx, strict=True)):
            raise SettingsError(
                f"`pool_padding` must be at most half of `pool_kernel`, got {padding_yx} and {kernel_yx}"
            )
        self.pool = nn.MaxPool2d(tuple(kernel_yx), tuple(stride_yx), tuple(padding_yx), ceil_mode=layer.ceil)

    def forward(self, maps: Tensor, batch_size: int) -> Tensor:
        """Maps (B*T, C, H, W) of `batch_size` B to (B, C, H', W')."""
        chunks = by_clip(maps, batch_size)  # (B, T, C, H, W)
        covered = self.covered(chunks.shape[1])
        if len(covered) < chunks.shape[1]:
            chunks = chunks[:, covered]
        pooled: Tensor = self.pool(chunks.amax(1))
        return pooled

    def covered(self, num_chunks: int) -> list[int]:
        """Indices of the chunks that lie in a window; the last ones may lie in none, as in every pooling."""
        if self.kernel_t == "all":
            return list(range(num_chunks))
        # A window longer than the clip takes all of it.
        kernel = min(int(self.kernel_t), num_chunks + 2 * self.padding_t)
        starts = range(-self.padding_t, num_chunks + self.padding_t - kernel + 1, self.stride_t)
        return sorted({t for start in starts for t in range(start, start + kernel) if 0 <= t < num_chunks})

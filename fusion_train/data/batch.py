"""Batches of clips as they come from the loader: the crops of their videos, and which chunk has which of them.

Crops differ in size from video to video, and each lies in a strip of its image, see `geometry.strip_of`. Strips lie one
after another in one piece of memory, so that a batch goes to its device in one copy a stream, and each is contiguous.

Note [four planes an image]: flow is kept as images of four channels, u and v of two fields each. Resized so, a plane
takes a tenth of the time or less that it takes as an image of its own (measured on one core with AVX2): PyTorch's 8-bit
kernel works on the channels of a pixel at once.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any, Self

import torch
from torch import Tensor

from fusion_train.data.canvas import Canvases


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Crops:
    """The crops of one stream of V videos, in their strips."""

    pixels: Tensor
    """All strips, uint8 (bytes,)."""
    num_channels: int
    first: tuple[int, ...]
    """Crops first[k] .. first[k + 1] - 1 are of video k; V + 1 numbers."""
    sizes: tuple[tuple[int, int], ...]
    """Height and width of each video's strips, V pairs."""
    columns: tuple[slice, ...]
    """Where in its strip each video's crop lies, V of them."""

    @classmethod
    def empty(
        cls,
        canvases: Canvases,
        counts: Sequence[int],
        sizes: Sequence[tuple[int, int]],
        columns: Sequence[slice],
        num_channels: int,
    ) -> Self:
        """Room for so many strips of each video."""
        num_pixels = sum(count * height * width for count, (height, width) in zip(counts, sizes, strict=True))
        pixels = canvases.empty([num_pixels * num_channels])
        first = tuple(accumulate(counts, initial=0))
        return cls(pixels=pixels, num_channels=num_channels, first=first, sizes=tuple(sizes), columns=tuple(columns))

    def __len__(self) -> int:
        return self.first[-1]

    def videos(self) -> list[Tensor]:
        """The crops of each video, uint8 (n, height, width, channels), all views of `pixels`."""
        return [strips[:, :, columns] for strips, columns in zip(self.strips(), self.columns, strict=True)]

    def strips(self) -> list[Tensor]:
        """The strips of each video, uint8 (n, height, width, channels), contiguous views of `pixels`."""
        shapes = [
            (self.first[k + 1] - self.first[k], height, width, self.num_channels)
            for k, (height, width) in enumerate(self.sizes)
        ]
        ends = accumulate(count * height * width * channels for count, height, width, channels in shapes)
        return [self.pixels[end - math.prod(shape) : end].view(shape) for shape, end in zip(shapes, ends, strict=True)]

    def to(self, device: torch.device | str) -> Self:
        """The crops on a device; from pinned memory the copy does not wait."""
        return dataclasses.replace(self, pixels=self.pixels.to(device, non_blocking=True))


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ClipBatch:
    """V videos with B clips of T chunks; in training B = V. Streams that the network does not use are None.

    Every image that any clip needs is there once, whatever number of clips and chunks share it.
    """

    ids: tuple[str, ...]
    """Of the V videos."""
    video: Tensor
    """Which of the videos a clip is of, int64 (B,)."""
    labels: Tensor
    """Of the clips, from 0, int64 (B,)."""
    times: Tensor
    """Decoded image of each chunk, int64 (B, T)."""
    flips: tuple[bool, ...]
    """Which of the B clips are mirrored."""
    rgb: Crops | None
    """Images, of three channels."""
    rgb_index: Tensor
    """The image of each chunk, int64 (B, T)."""
    flow: Crops | None
    """Flow fields, two an image of four channels: u, v, u, v."""
    flow_index: Tensor
    """The fields of each chunk, int64 (B, T, L): field i is half i % 2 of image i // 2."""
    output_size: tuple[int, int]
    """Height and width of the network's input."""
    flip_sum: int
    """A mirrored u is `flip_sum - u`: twice the code of zero flow, or 255 (`-authors`)."""
    interpolation: str
    """bicubic or bilinear."""

    def __len__(self) -> int:
        return len(self.labels)

    def clips(self, first: int, last: int) -> Self:
        """Clips first .. last - 1; the crops are shared."""
        names = ("video", "labels", "times", "flips", "rgb_index", "flow_index")
        changed: dict[str, Any] = {name: getattr(self, name)[first:last] for name in names}
        return dataclasses.replace(self, **changed)

    def to(self, device: torch.device | str) -> Self:
        """The batch on a device."""
        changed: dict[str, Any] = {
            field.name: value.to(device, non_blocking=True) if isinstance(value, Tensor) else value.to(device)
            for field in dataclasses.fields(self)
            if isinstance(value := getattr(self, field.name), (Tensor, Crops))
        }
        return dataclasses.replace(self, **changed)

"""Where the pixels of a resized line come from, for the kernels of every processor."""

from __future__ import annotations

import functools
from typing import NamedTuple

import numpy as np
import numpy.typing as npt


class SourceTable(NamedTuple):
    """Where the pixels of a line come from: `source[first] * (1 - weight) + source[second] * weight`."""

    first: npt.NDArray[np.int64]
    second: npt.NDArray[np.int64]
    weight: npt.NDArray[np.float32]


@functools.lru_cache(maxsize=256)
def source_table(num_source: int, num_target: int, factor: float, *, centred: bool, rows: bool) -> SourceTable:
    """The table of a line of `num_target` pixels, `factor` source pixels apart.

    Centred: pixel i lies at (i + 0.5) * factor - 0.5 in double, rounded to float, as `cv2.resize` has it; columns
    beyond the border take its value, rows keep their weight between two equal rows. Else: at i * factor in float, as
    `cv2.cuda.resize` has it.
    """
    index = np.arange(num_target)
    if centred:
        place = ((index + 0.5) * factor - 0.5).astype(np.float32)
    else:
        place = index.astype(np.float32) * np.float32(factor)
    first = np.floor(place).astype(np.int64)
    weight = place - first.astype(np.float32)
    if centred and not rows:
        weight[(first < 0) | (first >= num_source - 1)] = 0
    return SourceTable(np.clip(first, 0, num_source - 1), np.clip(first + 1, 0, num_source - 1), weight)

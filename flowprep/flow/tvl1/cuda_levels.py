"""The pyramid of frames of one size as it lies in device memory."""

from __future__ import annotations

from typing import NamedTuple, final

import numpy as np
import numpy.typing as npt

from flowprep.flow.tvl1.cuda_tiles import CELL_ROWS
from flowprep.flow.tvl1.params import TVL1Parameters
from flowprep.flow.tvl1.resize_tables import source_table

_SECTOR = 8
"""Floats of the smallest piece of memory that a device reads; rows begin at one."""


class Level(NamedTuple):
    """A level: its size in pixels, elements a row, and where its plane begins in a plane of all levels."""

    height: int
    width: int
    stride: int
    start: int

    @property
    def num_cells(self) -> int:
        """Cells of changes."""
        return -(-self.height // CELL_ROWS) * self.width


class Tables(NamedTuple):
    """The tables of one resizing in `DeviceGeometry.first`, `second` and `weight`: where those of x and y begin."""

    columns: int
    rows: int


@final
class DeviceGeometry:
    """Levels of frames of one size, finest first, and the tables of resizing between them.

    `down[l]` makes level l from level l - 1, `up[l]` from level l + 1; None where there is none.
    """

    def __init__(self, height: int, width: int, parameters: TVL1Parameters, *, centred: bool) -> None:
        self.levels: list[Level] = []
        start = 0
        for level_height, level_width in parameters.level_sizes(height, width):
            stride = -(-level_width // _SECTOR) * _SECTOR
            self.levels.append(Level(level_height, level_width, stride, start))
            start += level_height * stride
        self.size = height, width
        self.num_pixels = self.levels[0].height * self.levels[0].stride
        self.num_plane_elements = start
        self._parts: list[tuple[npt.NDArray[np.int64], npt.NDArray[np.int64], npt.NDArray[np.float32]]] = []
        self._num_entries = 0
        nominal = 1.0 / parameters.scale_step
        self.down = [self._tables(level, -1, nominal, centred) for level in range(len(self.levels))]
        self.up = [self._tables(level, 1, None, centred) for level in range(len(self.levels))]
        parts = self._parts or [(np.zeros(1, np.int64), np.zeros(1, np.int64), np.zeros(1, np.float32))]
        self.first = np.concatenate([part[0] for part in parts]).astype(np.int32)
        self.second = np.concatenate([part[1] for part in parts]).astype(np.int32)
        self.weight = np.concatenate([part[2] for part in parts])

    @property
    def num_levels(self) -> int:
        """Levels, at least one."""
        return len(self.levels)

    def _tables(self, level: int, offset: int, factor: float | None, centred: bool) -> Tables | None:
        """The tables that make a level from the level at an offset, `factor` apart or by the ratio of the sizes."""
        if not 0 <= level + offset < len(self.levels):
            return None
        source, target = self.levels[level + offset], self.levels[level]
        columns = self._add(source.width, target.width, factor, centred=centred, rows=False)
        return Tables(columns, self._add(source.height, target.height, factor, centred=centred, rows=True))

    def _add(self, num_source: int, num_target: int, factor: float | None, *, centred: bool, rows: bool) -> int:
        place = self._num_entries
        step = factor or num_source / num_target
        self._parts.append(source_table(num_source, num_target, step, centred=centred, rows=rows))
        self._num_entries += num_target
        return place

"""The pyramid of images of one size, and the rooms that computing a pair takes."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from flowprep.flow.tvl1.cpu_warp import num_plane_elements
from flowprep.flow.tvl1.params import TVL1Parameters
from flowprep.flow.tvl1.resize_tables import SourceTable, source_table
from flowprep.flow.tvl1.simd import LANES
from flowprep.flow.tvl1.team import NUM_STATE

FRONT = LANES
"""Elements before an image or a flow field, so that the left neighbour of the first pixel can be read."""

MAX_PASS = 32
"""Iterations in one pass over a level at most."""

HISTORY = 6
"""Changes from which the length of a pass is guessed."""

HEIGHT, WIDTH, STRIDE, IMAGE, COLUMNS, ROWS = range(6)
"""Columns of a table of levels: size, elements a line, where the image and the tables of its resizing begin."""


class Tables(NamedTuple):
    """The SourceTables of all levels, one after another, for the kernels."""

    first: npt.NDArray[np.int64]
    second: npt.NDArray[np.int64]
    weight: npt.NDArray[np.float32]


class Geometry:
    """Levels of frames of one size, finest first: `down` for images, `up` for flow; int64 (levels, 6) and `Tables`.

    The tables of level l in `down` make it from level l - 1, those in `up` from level l + 1.
    """

    def __init__(self, height: int, width: int, parameters: TVL1Parameters, *, centred: bool) -> None:
        sizes = parameters.level_sizes(height, width)
        levels = np.zeros((len(sizes), 6), np.int64)
        image = FRONT
        for level, (height, width) in enumerate(sizes):
            stride = (width + LANES) // LANES * LANES
            levels[level, :4] = height, width, stride, image
            image += height * stride
        self.sizes = sizes
        self.num_levels = len(sizes)
        self.stride = int(levels[0, STRIDE])
        self.num_image_elements = image + LANES
        nominal = 1.0 / parameters.scale_step
        self.down, self.down_tables = self._with_tables(levels, -1, nominal, centred)
        self.up, self.up_tables = self._with_tables(levels, 1, None, centred)

    def _with_tables(
        self, levels: npt.NDArray[np.int64], offset: int, factor: float | None, centred: bool
    ) -> tuple[npt.NDArray[np.int64], Tables]:
        """The levels with their tables; from level l + offset, `factor` apart or by the ratio of the sizes."""
        levels = levels.copy()
        tables: list[SourceTable] = []
        place = 0
        for level, target in enumerate(self.sizes):
            if not 0 <= level + offset < len(self.sizes):
                continue
            source = self.sizes[level + offset]
            for column, rows in ((COLUMNS, False), (ROWS, True)):
                axis = 0 if rows else 1
                step = factor or source[axis] / target[axis]
                tables.append(source_table(source[axis], target[axis], step, centred=centred, rows=rows))
                levels[level, column] = place
                place += target[axis]
        empty = SourceTable(np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0, np.float32))
        return levels, Tables(*(np.concatenate(parts) for parts in zip(*(tables or [empty]), strict=True)))


class Rooms(NamedTuple):
    """Memory of a pair in work, made once for a size; nothing of one pair matters to the next."""

    flow: npt.NDArray[np.float32]
    other_flow: npt.NDArray[np.float32]
    dual: npt.NDArray[np.float32]
    other_dual: npt.NDArray[np.float32]
    constants: npt.NDArray[np.float32]
    planes: npt.NDArray[np.float32]
    lines: npt.NDArray[np.float32]  # (members, ..): room for one thread's lines
    corners: npt.NDArray[np.int64]  # (members, blocks of a row)
    history: npt.NDArray[np.float32]  # (members, HISTORY)
    changes: npt.NDArray[np.float32]  # (MAX_PASS, height, LANES)
    state: npt.NDArray[np.int64]  # of the team's barrier


def make_rooms(geometry: Geometry, num_components: int, num_members: int) -> Rooms:
    """Rooms for pairs of a geometry."""
    height, width, stride = (int(value) for value in geometry.up[0, :3])
    field = num_components * height * stride + LANES
    dual = 2 * num_components * (height + 1) * stride + LANES
    return Rooms(
        flow=aligned_zeros(field),
        other_flow=aligned_zeros(field),
        dual=aligned_zeros(dual),
        other_dual=aligned_zeros(dual),
        constants=aligned_zeros(4 * height * stride),
        planes=aligned_zeros(num_plane_elements(height, width)),
        lines=aligned_zeros(num_members * 5 * (stride + 2 * LANES)).reshape(num_members, -1),
        corners=np.zeros((num_members, stride // LANES), np.int64),
        history=np.zeros((num_members, HISTORY), np.float32),
        changes=aligned_zeros(MAX_PASS * height * LANES),
        state=np.zeros(NUM_STATE, np.int64),
    )


def aligned_zeros(num_elements: int) -> npt.NDArray[np.float32]:
    """Float32 zeros that begin on a cache line; loads across lines cost a tenth of the speed."""
    line = 64
    memory: npt.NDArray[Any] = np.zeros(num_elements * 4 + line, np.uint8)
    start = -memory.ctypes.data % line
    return memory[start : start + num_elements * 4].view(np.float32)

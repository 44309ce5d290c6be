"""Device memory for a batch of pairs of one size, made once; nothing of one batch matters to the next."""

from __future__ import annotations

from typing import Any, final

import numpy as np
from numba import cuda

from flowprep.flow.tvl1.cuda_context import mark
from flowprep.flow.tvl1.cuda_kernel import num_multiprocessors
from flowprep.flow.tvl1.cuda_levels import DeviceGeometry
from flowprep.flow.tvl1.cuda_status import NUM_FIELDS
from flowprep.flow.tvl1.cuda_tiles import Tile, best_halo
from flowprep.flow.tvl1.cuda_warp import NUM_CONSTANTS

NUM_LOOKS = 4
"""Copies of the number of pairs that go on, under way at once at most."""


@final
class Rooms:
    """Fields of `capacity` pairs, and halos that suit so many.

    flow and dual have two sides each (`cuda_status.py`); `todo` two lists, each a length and the pairs.
    """

    def __init__(
        self,
        geometry: DeviceGeometry,
        tile: Tile,
        capacity: int,
        *,
        num_components: int,
        num_warps: int,
        records_each: bool,
    ) -> None:
        pixels = geometry.num_pixels
        height, width = geometry.size
        self.capacity, self.size = capacity, geometry.size
        self.num_components, self.num_pixels, self.stride = num_components, pixels, geometry.levels[0].stride
        self.halos = [
            best_halo(level.height, level.width, capacity, tile, num_multiprocessors()) for level in geometry.levels
        ]
        self.num_slots = max(self.halos) if records_each else 1
        num_cells = geometry.levels[0].num_cells
        self.flow = cuda.device_array(capacity * 2 * num_components * pixels, np.float32)
        self.dual = cuda.device_array(capacity * 4 * num_components * pixels, np.float32)
        self.constants = cuda.device_array(capacity * NUM_CONSTANTS * pixels, np.float32)
        self.changes = cuda.device_array(capacity * self.num_slots * num_cells, np.float32)
        self.status = cuda.to_device(np.zeros(capacity * NUM_FIELDS, np.int32))
        self.todo = cuda.to_device(np.zeros(2 * (capacity + 1), np.int32))
        self.expected = cuda.device_array(capacity, np.float64)
        num_counts = capacity * geometry.num_levels * num_warps
        self.counts = cuda.device_array(num_counts, np.int32)
        self.lanes = [Lane(capacity, height, width, num_counts) for _ in range(2)]
        self.looks = [cuda.pinned_array(1, np.int32) for _ in range(NUM_LOOKS)]
        self.looked = [mark() for _ in range(NUM_LOOKS)]
        self.heads = [self.todo[at : at + 1] for at in (0, capacity + 1)]

    def todo_at(self, number: int) -> int:
        """Where list 0 or 1 begins."""
        return number * (self.capacity + 1)


@final
class Lane:
    """What goes in and out for a batch; there are two, so that one is downloaded while the other is computed.

    All of it is made at once: what is only asked for later may find no memory, and no smaller batch would help then.
    """

    def __init__(self, capacity: int, height: int, width: int, num_counts: int) -> None:
        self.pinned_slots = cuda.pinned_array(2 * capacity, np.int32)
        self.slots = cuda.device_array(2 * capacity, np.int32)
        self.sources, self.targets = self.slots[:capacity], self.slots[capacity:]
        self.out = cuda.device_array(capacity * 2 * height * width, np.float32)
        self.pinned_out = cuda.pinned_array(capacity * 2 * height * width, np.float32)
        self.counts = cuda.device_array(num_counts, np.int32)
        self.pinned_counts = cuda.pinned_array(num_counts, np.int32)
        self.codes = _code_buffers(capacity, height, width)
        self.computed, self.downloaded = mark(), mark()


def _code_buffers(capacity: int, height: int, width: int) -> list[tuple[Any, Any]]:
    """Room for the codes of a batch, and for the sums of its rows: (device array, page-locked array) of each."""
    sizes = (
        (capacity * 2 * height * width, np.uint8),
        (capacity * height, np.float64),
        (capacity * height, np.int32),
    )
    return [(cuda.device_array(size, kind), cuda.pinned_array(size, kind)) for size, kind in sizes]


def pair_bytes(geometry: DeviceGeometry, num_components: int, num_slots: int) -> int:
    """Device memory of a pair in work, without its frames."""
    fields = (2 + 4) * num_components + NUM_CONSTANTS + 2 * 2 + 1  # the last for codes
    cells = geometry.levels[0].num_cells * num_slots
    return 4 * (fields * geometry.num_pixels + cells)

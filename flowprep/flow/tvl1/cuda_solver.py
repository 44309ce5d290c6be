"""A batch of pairs from their pyramids to their flow: the launches, in the order in which the device does them.

Everything goes on one stream and the device never waits for the host. How many passes a warp takes is decided on the
device (`cuda_stop.py`); the host puts launches on the stream ahead of that, and looks at the number of pairs that go on
as it was some passes ago. Passes that come after the last one find an empty list and end at once.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, final

import numpy as np
import numpy.typing as npt
from numba import cuda

from flowprep.flow.tvl1 import cuda_fields, cuda_median, cuda_stop
from flowprep.flow.tvl1.cuda_arithmetic import SIMULATED
from flowprep.flow.tvl1.cuda_frames import DeviceTables, FramePool
from flowprep.flow.tvl1.cuda_kernel import LIST_BLOCK, PIXEL_BLOCK, Kernels, num_multiprocessors, pixel_grid
from flowprep.flow.tvl1.cuda_levels import DeviceGeometry, Level
from flowprep.flow.tvl1.cuda_rooms import NUM_LOOKS, Lane, Rooms
from flowprep.flow.tvl1.cuda_solve import make_iterate
from flowprep.flow.tvl1.cuda_status import DUAL_SIDE, FLOW_SIDE
from flowprep.flow.tvl1.cuda_tiles import TILE, TILE_WITH_ILLUMINATION, Tile, tiles_of
from flowprep.flow.tvl1.cuda_warp import warp
from flowprep.flow.tvl1.params import TVL1CPUParameters, TVL1CUDAParameters

_PASSES_A_LOOK = 1 if SIMULATED else 2
"""Passes between two looks at how many pairs go on (assumed, not tuned on a device)."""

_BLOCKS_OF_A_MULTIPROCESSOR = 3 if SIMULATED else 16
"""Blocks of the iterations, at most; each then takes several tiles. The simulator pays for those without work too."""


@final
class Solver:
    """The launches of batches of one size."""

    def __init__(
        self,
        parameters: TVL1CPUParameters | TVL1CUDAParameters,
        geometry: DeviceGeometry,
        tables: DeviceTables,
        kernels: Kernels,
        stream: Any,
        tile: Tile | None = None,
    ) -> None:
        self._values = parameters
        self._geometry, self._tables, self._kernels, self.stream = geometry, tables, kernels, stream
        self.is_cpu = isinstance(parameters, TVL1CPUParameters)
        self.num_components = 2 if parameters.gamma == 0 else 3
        self.tile = tile or (TILE if self.num_components == 2 else TILE_WITH_ILLUMINATION)
        self._most_blocks = num_multiprocessors() * _BLOCKS_OF_A_MULTIPROCESSOR
        self._iterate = make_iterate(self.tile, illumination=self.num_components == 3, records_each=self.is_cpu)
        with np.errstate(over="ignore"):  # what is beyond float32 is infinite, and so becomes the flow
            self._steps = (
                np.float32(parameters.theta),
                np.float32(parameters.lambda_ * parameters.theta),
                np.float32(parameters.tau / parameters.theta),
                np.float32(parameters.gamma),
                np.float32(self.is_cpu),  # the stop rule counts the illumination's changes
            )
            self._shrink_factor = np.float32(parameters.scale_step)
            self._grow_factor = np.float32(1.0 / parameters.scale_step)
        if isinstance(parameters, TVL1CPUParameters):
            self._iterations, self._outer_iterations = parameters.inner_iterations, parameters.outer_iterations
            self._median = parameters.median_filtering
        else:
            self._iterations, self._outer_iterations, self._median = parameters.iterations, 1, 1

    def make_rooms(self, capacity: int) -> Rooms:
        """Memory for batches of so many pairs at most."""
        return Rooms(
            self._geometry,
            self.tile,
            capacity,
            num_components=self.num_components,
            num_warps=self._values.num_warps,
            records_each=self.is_cpu,
        )

    def solve(
        self,
        rooms: Rooms,
        lane: Lane,
        pool: FramePool,
        sources: Sequence[int],
        targets: Sequence[int],
        initial_flow: npt.NDArray[np.float32] | None,
    ) -> None:
        """Put the computation of a batch on the stream: from frames in slots to flow in the current side of `rooms`.

        `initial_flow` is float32 (B, H, W, 2) at the size of the finest level.
        """
        num = len(sources)
        lane.pinned_slots[:num] = sources
        lane.pinned_slots[rooms.capacity : rooms.capacity + num] = targets
        lane.slots.copy_to_device(lane.pinned_slots, stream=self.stream)
        self._begin_flow(rooms, num, initial_flow)
        for number in range(self._geometry.num_levels - 1, -1, -1):
            level = self._geometry.levels[number]
            tables = self._geometry.up[number]
            if tables is not None:
                coarser = self._geometry.levels[number + 1]
                self._resize_flow(rooms, num, tables, self._grow_factor, coarser, level)
            self._clear(rooms, num, DUAL_SIDE, rooms.dual, 2 * self.num_components, level)
            for warp_number in range(self._values.num_warps):
                self._warp(rooms, lane, pool, num, level)
                self._iterate_to_the_end(rooms, num, level, number, warp_number)

    def _begin_flow(self, rooms: Rooms, num: int, initial_flow: npt.NDArray[np.float32] | None) -> None:
        """The flow at the coarsest level: zero, or what was given, each level resized and times the scale step."""
        levels = self._geometry.levels
        if initial_flow is None:
            self._clear(rooms, num, FLOW_SIDE, rooms.flow, self.num_components, levels[-1])
            return
        height, width, stride, _ = levels[0]
        start = cuda.to_device(np.ascontiguousarray(initial_flow).reshape(-1), stream=self.stream)
        grid = pixel_grid(height, width, num)
        pixels = self._geometry.num_pixels
        self._kernels[cuda_fields.scatter](
            grid,
            PIXEL_BLOCK,
            self.stream,
            rooms.status,
            start,
            rooms.flow,
            self.num_components,
            height,
            width,
            stride,
            pixels,
        )
        for finer, level, tables in zip(levels, levels[1:], self._geometry.down[1:], strict=False):
            assert tables is not None
            self._resize_flow(rooms, num, tables, self._shrink_factor, finer, level)
        self.stream.synchronize()  # `start` is freed when this returns

    def _resize_flow(self, rooms: Rooms, num: int, tables: Any, factor: Any, source: Level, target: Level) -> None:
        height, width, stride, _ = target
        self._kernels[cuda_fields.resize_flow](
            pixel_grid(height, width, num),
            PIXEL_BLOCK,
            self.stream,
            rooms.status,
            rooms.flow,
            *self._tables.arrays,
            *tables,
            factor,
            self.num_components,
            source.stride,
            height,
            width,
            stride,
            self._geometry.num_pixels,
        )
        grid = -(-num // LIST_BLOCK)
        self._kernels[cuda_fields.flip](grid, LIST_BLOCK, self.stream, rooms.status, num)

    def _clear(self, rooms: Rooms, num: int, side_field: int, field: Any, num_planes: int, level: Level) -> None:
        self._kernels[cuda_fields.clear](
            pixel_grid(level.height, level.stride, num),
            PIXEL_BLOCK,
            self.stream,
            rooms.status,
            side_field,
            field,
            num_planes,
            level.height,
            level.stride,
            self._geometry.num_pixels,
        )

    def _warp(self, rooms: Rooms, lane: Lane, pool: FramePool, num: int, level: Level) -> None:
        self._kernels[warp](
            pixel_grid(level.height, level.width, num),
            PIXEL_BLOCK,
            self.stream,
            lane.sources,
            lane.targets,
            pool.images,
            rooms.status,
            rooms.flow,
            rooms.constants,
            -0.75 if self.is_cpu else -0.5,
            not self.is_cpu,
            self.num_components,
            level.start,
            level.height,
            level.width,
            level.stride,
            self._geometry.num_plane_elements,
            pool.slot_elements,
            self._geometry.num_pixels,
        )

    def _iterate_to_the_end(self, rooms: Rooms, num: int, level: Level, number: int, warp_number: int) -> None:
        """Passes until no pair goes on, and a few that find nothing to do."""
        rule = self._rule(level, rooms.halos[number])
        grid = -(-num // LIST_BLOCK)
        self._kernels[cuda_stop.begin](
            grid, LIST_BLOCK, self.stream, rooms.status, rooms.todo, rooms.expected, *rule.begin, num
        )
        counts_at = number * self._values.num_warps + warp_number
        num_looks = num_passes = 0
        while True:
            for _ in range(_PASSES_A_LOOK):
                self._pass(rooms, num, level, number, num_passes % 2, rule, counts_at)
                num_passes += 1
            place = num_looks % NUM_LOOKS
            rooms.heads[num_passes % 2].copy_to_host(rooms.looks[place], stream=self.stream)
            rooms.looked[place].record(self.stream)
            num_looks += 1
            if num_looks >= 2:  # the look before the last: passes after it are under way meanwhile
                place = (num_looks - 2) % NUM_LOOKS
                rooms.looked[place].synchronize()
                if rooms.looks[place][0] == 0:
                    return

    def _pass(
        self, rooms: Rooms, num: int, level: Level, number: int, current: int, rule: _Rule, counts_at: int
    ) -> None:
        pixels, halo = self._geometry.num_pixels, rooms.halos[number]
        todo_at, next_at = rooms.todo_at(current), rooms.todo_at(1 - current)
        if self._median > 1:
            self._kernels[cuda_median.filter_flow](
                pixel_grid(level.height, level.width, num),
                PIXEL_BLOCK,
                self.stream,
                rooms.status,
                rooms.flow,
                self._median,
                self.num_components,
                level.height,
                level.width,
                level.stride,
                pixels,
            )
        tile_rows, tile_columns = tiles_of(level.height, level.width, self.tile, halo)
        self._kernels[self._iterate](
            min(num * tile_rows * tile_columns, self._most_blocks),
            (self.tile.columns, self.tile.strips),
            self.stream,
            rooms.status,
            rooms.todo,
            todo_at,
            next_at,
            rooms.flow,
            rooms.dual,
            rooms.constants,
            rooms.changes,
            rooms.num_slots,
            level.num_cells,
            level.height,
            level.width,
            level.stride,
            pixels,
            halo,
            tile_rows,
            tile_columns,
            *self._steps,
        )
        self._kernels[cuda_stop.decide](
            num,
            cuda_stop.NUM_THREADS,
            self.stream,
            rooms.status,
            rooms.todo,
            todo_at,
            next_at,
            rooms.expected,
            rooms.changes,
            rooms.num_slots,
            level.num_cells,
            *rule.decide,
            rooms.counts,
            counts_at,
            self._geometry.num_levels * self._values.num_warps,
        )

    def _rule(self, level: Level, halo: int) -> _Rule:
        epsilon = self._values.epsilon
        limit = epsilon * epsilon * level.width * level.height
        if self.is_cpu:
            limit = float(np.float32(limit))
        common = (limit, epsilon > 0, self.is_cpu, self._median > 1, self._iterations)
        return _Rule((*common, halo), (*common, self._outer_iterations, halo))


@final
class _Rule:
    """The stop rule's arguments of the two kernels."""

    def __init__(self, begin: tuple[Any, ...], decide: tuple[Any, ...]) -> None:
        self.begin, self.decide = begin, decide

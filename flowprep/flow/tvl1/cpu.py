"""`native`: TV-L1 on the CPU, both variants, by kernels of our own that Numba compiles on the user's machine."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, final

import numpy as np
import numpy.typing as npt

from flowprep.flow.backend import FlowBackend, padded
from flowprep.flow.tvl1.cpu_kernels import Numbers, build_pyramid, pair_flow, pair_flow_with_illumination, shrink_flow
from flowprep.flow.tvl1.cpu_levels import Geometry, Rooms, aligned_zeros, make_rooms
from flowprep.flow.tvl1.jit import build
from flowprep.flow.tvl1.params import MIN_SIDE, TVL1CPUParameters, TVL1CUDAParameters

_Arguments = Callable[[int, Rooms, int, int], tuple[Any, ...]]
_ROWS_OF_A_MEMBER = 16
"""Rows of a pair for which another thread is worth its waiting, at least."""

_NO_FLOW = np.zeros((2, 0, 0), np.float32)


@final
class NativeBackend(FlowBackend):
    """TV-L1 by Numba kernels; the parameters' type decides the variant. Sides below 3 px are padded to 3.

    With several threads a batch's pairs are computed side by side, and where there are at least twice as many threads
    as pairs, each pair by all threads together, by rows. Neither changes a bit of the result.

    Attributes:
        num_iterations: Of the last batch, int64 (B, levels, warps), finest level first.
    """

    name = "native"
    takes_initial_flow = True

    def __init__(
        self,
        parameters: TVL1CPUParameters | TVL1CUDAParameters,
        *,
        num_threads: int = 1,
    ) -> None:
        self._values = parameters
        self._numbers = _numbers(parameters)
        self._kernel = pair_flow if parameters.gamma == 0 else pair_flow_with_illumination
        self._num_threads = num_threads
        self._geometry: Geometry | None = None
        self._rooms: list[Rooms] = []
        self._team_rooms: Rooms | None = None
        self._pool: ThreadPoolExecutor | None = None
        self._pool_process = 0
        self.variant = "cpu" if isinstance(parameters, TVL1CPUParameters) else "cuda"
        self.parameters = parameters.to_json()
        self.build = build()
        self.num_iterations = np.zeros((0, 0, 0), np.int64)

    def warm_up(self) -> None:
        """Compute a small pair."""
        frames = self._prepare(np.zeros((2, 32, 32), np.uint8))
        self._compute(frames[:1], frames[1:], 32, 32, None)

    def _prepare(self, frames: npt.NDArray[np.uint8]) -> list[Any]:
        return [self._pyramid(padded(frame, MIN_SIDE)) for frame in frames]

    def _pyramid(self, frame: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        geometry = self._geometry_of(*frame.shape)
        image = aligned_zeros(geometry.num_image_elements)
        lines = np.empty(2 * geometry.stride, np.float32)
        build_pyramid(np.ascontiguousarray(frame), geometry.down, geometry.down_tables, image, lines)
        return image

    def _compute(
        self,
        sources: Sequence[Any],
        targets: Sequence[Any],
        height: int,
        width: int,
        initial_flow: npt.NDArray[np.float32] | None,
    ) -> npt.NDArray[np.float32]:
        size = max(height, MIN_SIDE), max(width, MIN_SIDE)
        geometry = self._geometry_of(*size)
        num_pairs = len(sources)
        flow = np.empty((num_pairs, *size, 2), np.float32)
        counts = np.zeros((num_pairs, geometry.num_levels, self._values.num_warps), np.int64)
        starts = [_NO_FLOW] * num_pairs if initial_flow is None else [self._coarsest(f) for f in initial_flow]

        def arguments(k: int, rooms: Rooms, member: int, num_members: int) -> tuple[Any, ...]:
            images = sources[k], targets[k], geometry.up, geometry.up_tables
            return (*images, rooms, self._numbers, starts[k], flow[k], counts[k], member, num_members)

        # Half of the threads or more would stand idle: together they are faster, though they wait for one another.
        if 2 * num_pairs <= self._num_threads:
            self._together(arguments, num_pairs, max(1, min(self._num_threads, size[0] // _ROWS_OF_A_MEMBER)))
        else:
            self._pair_by_pair(arguments, num_pairs)
        self.num_iterations = counts
        return flow[:, :height, :width]

    def _pair_by_pair(self, arguments: _Arguments, num_pairs: int) -> None:
        """Each thread takes pairs until there are none."""
        assert self._geometry is not None
        while len(self._rooms) < self._num_threads:
            self._rooms.append(make_rooms(self._geometry, self._num_components, 1))
        if self._num_threads == 1:
            for k in range(num_pairs):
                self._kernel(*arguments(k, self._rooms[0], 0, 1))
            return
        remaining = iter(range(num_pairs))
        lock = threading.Lock()

        def work(rooms: Rooms) -> None:
            while True:
                with lock:
                    k = next(remaining, None)
                if k is None:
                    return
                self._kernel(*arguments(k, rooms, 0, 1))

        list(self._threads().map(work, self._rooms))

    def _together(self, arguments: _Arguments, num_pairs: int, num_members: int) -> None:
        """All members work on one pair after another."""
        assert self._geometry is not None
        if self._team_rooms is None:
            self._team_rooms = make_rooms(self._geometry, self._num_components, num_members)
        rooms = self._team_rooms
        self._kernel.load(*arguments(0, rooms, 0, num_members))
        everybody = threading.Barrier(num_members)

        def work(member: int) -> None:
            # In the kernel a member waits for the others without end, so none enters before all are there.
            everybody.wait()
            for k in range(num_pairs):
                self._kernel(*arguments(k, rooms, member, num_members))

        try:
            members = [self._threads().submit(work, member) for member in range(num_members)]
        except BaseException:  # a thread could not be started, or Ctrl-C
            everybody.abort()
            raise
        for member in members:
            member.result()

    @property
    def _num_components(self) -> int:
        return 2 if self._values.gamma == 0 else 3

    def _threads(self) -> ThreadPoolExecutor:
        if self._pool is None or self._pool_process != os.getpid():  # a fork has no threads of its parent's
            self._pool_process = os.getpid()
            self._pool = ThreadPoolExecutor(self._num_threads, thread_name_prefix="tvl1")
        return self._pool

    def _coarsest(self, initial_flow: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """An initial flow (H, W, 2) at the coarsest level, (2, H, W): each level resized, and times the scale step."""
        assert self._geometry is not None
        geometry = self._geometry
        height, width = geometry.sizes[0]
        below, right = height - initial_flow.shape[0], width - initial_flow.shape[1]
        flow = np.pad(initial_flow, ((0, below), (0, right), (0, 0)), mode="edge")
        coarsest = np.empty((2, *geometry.sizes[-1]), np.float32)
        room = aligned_zeros(geometry.num_image_elements)
        lines = np.empty(2 * geometry.stride, np.float32)
        for component in range(2):
            factor = self._numbers.downscale
            shrink_flow(
                np.ascontiguousarray(flow[..., component]),
                geometry.down,
                geometry.down_tables,
                factor,
                room,
                lines,
                coarsest[component],
            )
        return coarsest

    def _geometry_of(self, height: int, width: int) -> Geometry:
        if self._geometry is None or self._geometry.sizes[0] != (height, width):
            self._geometry = Geometry(height, width, self._values, centred=self.variant == "cpu")
            self._rooms, self._team_rooms = [], None
        return self._geometry

    def close(self) -> None:
        """Free memory and threads."""
        self._rooms, self._team_rooms, self._geometry = [], None, None
        if self._pool is not None and self._pool_process == os.getpid():
            self._pool.shutdown()
        self._pool = None


def _numbers(values: TVL1CPUParameters | TVL1CUDAParameters) -> Numbers:
    is_cpu = isinstance(values, TVL1CPUParameters)
    with np.errstate(over="ignore"):  # what is beyond float32 is infinite, and so becomes the flow
        return Numbers(
            theta=np.float32(values.theta),
            limit=np.float32(values.lambda_ * values.theta),
            taut=np.float32(values.tau / values.theta),
            gamma=np.float32(values.gamma),
            u3_counts=np.float32(is_cpu),
            cubic=np.float32(-0.75 if is_cpu else -0.5),
            replicate=not is_cpu,
            every_iteration=is_cpu,
            epsilon=values.epsilon,
            upscale=np.float32(1 / values.scale_step),
            downscale=np.float32(values.scale_step),
            num_warps=values.num_warps,
            outer_iterations=values.outer_iterations if isinstance(values, TVL1CPUParameters) else 1,
            inner_iterations=values.inner_iterations if isinstance(values, TVL1CPUParameters) else values.iterations,
            median_filtering=values.median_filtering if isinstance(values, TVL1CPUParameters) else 1,
        )

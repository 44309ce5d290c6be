"""What the iterations of a pair cost at least on a GPU, and what each step of a batch takes.

Two floors, for the iterations that the pairs really take. *Arithmetic*: OPERATIONS instructions of the float32 units a
pixel and iteration, counted in the machine code for compute capability 9.0 (without loads, addresses and what halos
compute twice), on all units at their highest clock. *Memory*: ten floats read and six written a pixel and pass, the
passes as long as the shortest halo, at the bandwidth of a copy, which is measured.
"""

from __future__ import annotations

import collections
import dataclasses
import functools
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import numpy.typing as npt
from numba import cuda

from flowprep.flow.tvl1.cuda import NativeCUDABackend
from flowprep.flow.tvl1.cuda_solver import Solver
from flowprep.flow.tvl1.cuda_tiles import TILE

OPERATIONS = 59
BYTES_A_PASS = 64
_LANES = {(7, 5): 64, (8, 0): 64}  # float32 units of a multiprocessor; others have 128
Frames = npt.NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class Floors:
    """Microseconds a pair, and what they follow from."""

    arithmetic_us: float
    memory_us: float
    pixel_iterations: float
    operations_per_s: float
    bytes_per_s: float

    @property
    def largest_us(self) -> float:
        """The larger of both."""
        return max(self.arithmetic_us, self.memory_us)

    def to_json(self) -> dict[str, float]:
        """Rounded to what can be meaningful."""
        return {name: float(f"{value:.4g}") for name, value in dataclasses.asdict(self).items()}

    def __str__(self) -> str:
        return (
            f"arithmetic {self.arithmetic_us:.1f} us, memory {self.memory_us:.1f} us a pair of "
            f"{self.pixel_iterations / 1e6:.1f} million pixel iterations"
        )

    @classmethod
    def of(cls, backend: NativeCUDABackend, runs: Frames) -> Self:
        """For the pairs of runs of frames, uint8 (runs, frames, H, W), on the backend's device."""
        height, width = runs.shape[2:]
        sizes = backend.values.level_sizes(height, width)
        areas = np.array([area_height * area_width for area_height, area_width in sizes])
        iterations, passes = [], []
        for run in runs:
            prepared = backend.prepare(run)
            backend.compute(prepared[:-1], prepared[1:])
            counts = backend.num_iterations  # (B, levels, warps)
            iterations.append((counts.sum(axis=2) * areas).sum(axis=1))
            passes.append((np.ceil(counts / TILE.halos[0]).sum(axis=2) * areas).sum(axis=1))
        pixel_iterations, pixel_passes = float(np.mean(iterations)), float(np.mean(passes))
        operations, bandwidth = _operations_per_s(), _copy_bytes_per_s()
        return cls(
            arithmetic_us=1e6 * OPERATIONS * pixel_iterations / operations,
            memory_us=1e6 * BYTES_A_PASS * pixel_passes / bandwidth,
            pixel_iterations=pixel_iterations,
            operations_per_s=operations,
            bytes_per_s=bandwidth,
        )


def _operations_per_s() -> float:
    """Instructions of all float32 units of the current device at its highest clock."""
    device = cuda.get_current_device()
    lanes = _LANES.get(tuple(device.compute_capability), 128)
    return float(device.MULTIPROCESSOR_COUNT * lanes * device.CLOCK_RATE * 1e3)


def _copy_bytes_per_s(num_bytes: int = 1 << 30, repeats: int = 5) -> float:
    """Bytes read and written by a copy on the device."""
    source, target = (cuda.device_array(num_bytes, np.uint8) for _ in range(2))
    best = float("inf")
    for _ in range(repeats + 1):
        cuda.synchronize()
        start = time.perf_counter()
        target.copy_to_device(source)
        cuda.synchronize()
        best = min(best, time.perf_counter() - start)
    return 2 * num_bytes / best


def kernel_milliseconds(backend: NativeCUDABackend, runs: Frames, num_pairs: int) -> dict[str, tuple[float, int]]:
    """Time of each step of a batch by level, with how often it was done, by events before and after it."""
    spans: list[tuple[str, Any, Any]] = []
    originals = {name: getattr(Solver, name) for name in ("_warp", "_pass", "_resize_flow", "_clear")}

    def timed(name: str, original: Callable[..., None]) -> Callable[..., None]:
        @functools.wraps(original)
        def step(self: Solver, *arguments: Any) -> None:
            before, after = cuda.event(), cuda.event()
            before.record(self.stream)
            original(self, *arguments)
            after.record(self.stream)
            levels = [argument for argument in arguments if hasattr(argument, "num_cells")]
            spans.append((f"{name.strip('_')} {levels[-1].width}x{levels[-1].height}", before, after))

        return step

    sources: list[Any] = []
    targets: list[Any] = []
    for number in range(-(-num_pairs // (runs.shape[1] - 1))):
        prepared = backend.prepare(runs[number % len(runs)])
        sources += prepared[:-1]
        targets += prepared[1:]
    try:
        for name, original in originals.items():
            setattr(Solver, name, timed(name, original))
        backend.compute(sources[:num_pairs], targets[:num_pairs])
    finally:
        for name, original in originals.items():
            setattr(Solver, name, original)
    cuda.synchronize()
    sums: dict[str, list[float]] = collections.defaultdict(list)
    for name, before, after in spans:
        sums[name].append(cuda.event_elapsed_time(before, after))
    return {name: (sum(values), len(values)) for name, values in sums.items()}

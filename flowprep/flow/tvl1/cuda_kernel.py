"""What a CUDA kernel is: a function, the types of its arguments, and how it is launched."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias, final

import numpy as np
from numba import cuda, float32, float64, int32, int64, uint8, void
from numba.core import config as numba_config

from flowprep.flow.tvl1.cuda_arithmetic import SIMULATED
from flowprep.flow.tvl1.cuda_launch import Launcher

Extent: TypeAlias = int | tuple[int, int] | tuple[int, int, int]
"""Of a grid in blocks, or of a block in threads."""

BYTES = uint8[::1]
FLOATS = float32[::1]
DOUBLES = float64[::1]
INTS = int32[::1]
FLOAT = float32
DOUBLE = float64
INT = int32
LONG = int64

_CASTS = {FLOAT: np.float32, DOUBLE: np.float64, INT: np.int32, LONG: np.int64}

PIXEL_BLOCK = (32, 8)
"""Threads of a block where a thread does a pixel."""

LIST_BLOCK = 32 if SIMULATED else 256
"""Threads of a block where threads do elements of a list. The simulator takes a millisecond for each."""

numba_config.CUDA_LOW_OCCUPANCY_WARNINGS = 0  # small batches have small grids
with contextlib.suppress(ImportError):  # newer releases of numba-cuda have a configuration of their own
    from numba.cuda.core import config as cuda_config

    cuda_config.CUDA_LOW_OCCUPANCY_WARNINGS = 0


@final
@dataclass(frozen=True, slots=True, eq=False)
class Kernel:
    """A kernel before it is compiled.

    `max_registers` bounds the registers of a thread, so that as many blocks fit on a multiprocessor as are wanted.
    """

    function: Callable[..., None]
    types: tuple[Any, ...]
    max_registers: int | None = None

    @property
    def name(self) -> str:
        """The function's name."""
        return self.function.__name__

    def compiled(self) -> Launchable:
        """The kernel for the current device."""
        return Launchable(self)


@final
class Launchable:
    """A compiled kernel. Numbers become those of the types that it was compiled for."""

    def __init__(self, kernel: Kernel) -> None:
        self._casts = [_CASTS.get(kind) for kind in kernel.types]
        self._launcher: Launcher | None = None
        if SIMULATED:
            self._compiled = cuda.jit(kernel.function)
        else:
            self._compiled = cuda.jit(void(*kernel.types), max_registers=kernel.max_registers)(kernel.function)
            self._launcher = Launcher(kernel.name, self._compiled, kernel.types)

    def __call__(self, grid: Extent, block: Extent, stream: Any, *arguments: Any) -> None:
        """Put a launch on a stream."""
        if self._launcher is not None:
            self._launcher(_three(grid), _three(block), stream, arguments)
            return
        assert len(arguments) == len(self._casts)
        values = [value if cast is None else cast(value) for cast, value in zip(self._casts, arguments, strict=True)]
        self._compiled[grid, block, stream](*values)


def _three(extent: Extent) -> tuple[int, int, int]:
    """An extent in three dimensions."""
    if isinstance(extent, int):
        return extent, 1, 1
    return extent if len(extent) == 3 else (*extent, 1)


@final
class Kernels(dict[Kernel, Launchable]):
    """Kernels compiled at their first use, for the device that is current then."""

    def __missing__(self, kernel: Kernel) -> Launchable:
        """Compile it."""
        self[kernel] = kernel.compiled()
        return self[kernel]


@functools.cache
def kernels_of(device: int) -> Kernels:  # noqa: ARG001 - it is the key
    """The kernels of a device in this process: compiling all of them takes some ten seconds."""
    return Kernels()


def pixel_grid(height: int, width: int, num: int) -> tuple[int, int, int]:
    """Blocks of PIXEL_BLOCK that cover `num` images."""
    return -(-width // PIXEL_BLOCK[0]), -(-height // PIXEL_BLOCK[1]), num


def num_multiprocessors() -> int:
    """Of the current device; the simulator's has 1."""
    return 1 if SIMULATED else int(cuda.get_current_device().MULTIPROCESSOR_COUNT)

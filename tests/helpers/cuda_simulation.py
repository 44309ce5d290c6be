"""Runs the CUDA kernels in Numba's simulator, in a process of its own: `python -m helpers.cuda_simulation OUT`.

The simulator starts a Python thread for each thread of each block, a millisecond each, so frames are small, with two
levels, two warps and four iterations at most. Tiles are smaller than those for a device, so that a level has several.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from helpers.tvl1 import difficult_pair, random_flow

SMALL_TILE = (16, 4, 4)
"""Threads of a block and rows of a thread: 16 x 16 pixels, of which 8 x 8 lie inside all halos."""


@dataclass(frozen=True, kw_only=True)
class Case:
    """Pairs of frames, by index, and how they are computed."""

    variant: str
    parameters: Mapping[str, Any] = field(default_factory=dict)
    height: int = 24
    width: int = 24
    pairs: tuple[tuple[int, int], ...] = ((0, 1),)
    tile: tuple[int, int, int] | None = SMALL_TILE
    halo: int | None = None
    max_pairs: int = 100
    initial: bool = False
    quantise: str = ""

    @property
    def all_parameters(self) -> dict[str, Any]:
        few = {"iterations": 4} if self.variant == "cuda" else {"inner_iterations": 4, "outer_iterations": 1}
        return {"num_scales": 2, "num_warps": 2, **few, **self.parameters}

    @property
    def frames(self) -> npt.NDArray[np.uint8]:
        """Two that move, one that is the first again but for a few pixels, and noise."""
        first, second = difficult_pair(self.height, self.width)
        still = first.copy()
        still[::7, ::5] ^= 1
        noise = np.random.default_rng(3).integers(0, 256, first.shape, np.uint8)
        return np.stack([first, second, still, noise])

    @property
    def initial_flow(self) -> npt.NDArray[np.float32] | None:
        if not self.initial:
            return None
        return np.stack([random_flow(self.height, self.width)] * len(self.pairs))


THREE = ((0, 1), (0, 2), (1, 3))
CASES: dict[str, Case] = {
    "batch": Case(variant="cuda", pairs=THREE, parameters={"epsilon": 0.1}),
    "alone": Case(variant="cuda", pairs=((0, 2),), parameters={"epsilon": 0.1}),
    "halves": Case(variant="cuda", pairs=THREE[::-1], parameters={"epsilon": 0.1, "num_scales": 1}, max_pairs=2),
    "whole": Case(variant="cuda", pairs=THREE[::-1], parameters={"epsilon": 0.1, "num_scales": 1}),
    "device tile": Case(variant="cuda", pairs=((0, 1),), parameters={"epsilon": 0.1}, tile=None),
    "short halo": Case(variant="cuda", parameters={"iterations": 6, "num_scales": 1}, tile=(20, 5, 4), halo=4),
    "long halo": Case(variant="cuda", parameters={"iterations": 6, "num_scales": 1}, tile=(20, 5, 4), halo=8),
    "illumination": Case(variant="cuda", parameters={"gamma": 0.2}),
    "initial flow": Case(variant="cuda", parameters={"scale_step": 0.7}, initial=True),
    "cpu": Case(variant="cpu", pairs=THREE[:2], parameters={"epsilon": 0.12}),
    "cpu rounds": Case(
        variant="cpu",
        parameters={"num_scales": 1, "inner_iterations": 3, "outer_iterations": 2, "median_filtering": 3},
        tile=None,
    ),
    "cpu illumination": Case(
        variant="cpu", parameters={"gamma": 0.2, "num_warps": 1, "median_filtering": 1, "epsilon": 0.05}, height=17
    ),
    "one pixel": Case(variant="cuda", height=1, width=1, tile=None),
    "one row": Case(variant="cpu", height=1, width=20, parameters={"num_warps": 1}, tile=None),
    "codes": Case(variant="cuda", height=9, width=20, parameters={"num_warps": 1}, quantise="round", pairs=((0, 3),)),
    "cut codes": Case(
        variant="cuda", height=9, width=20, parameters={"num_warps": 1}, quantise="truncate", pairs=((0, 3),)
    ),
}
BOUND_PX = 0.5
"""Bound of the quantised cases: low, so that some pixels are beyond it."""


def main(out: Path) -> None:
    """Compute all cases, or those that are named, into OUT (.npz)."""
    _serialise_shared_arrays()
    sys.setswitchinterval(1e-4)  # the simulator polls; its threads must get their turn
    results: dict[str, Any] = {}
    for name, case in CASES.items():
        for key, value in _compute(case).items():
            results[f"{name}/{key}"] = value
    np.savez(out, **results)


def _compute(case: Case) -> dict[str, Any]:
    from flowprep.config import QuantiseSettings
    from flowprep.flow.parameters import parse_parameters
    from flowprep.flow.tvl1 import cuda_rooms
    from flowprep.flow.tvl1.cuda import NativeCUDABackend
    from flowprep.flow.tvl1.cuda_tiles import Tile, best_halo

    def forced_halo(*_: Any) -> int:
        assert case.halo is not None
        return case.halo

    cuda_rooms.best_halo = best_halo if case.halo is None else forced_halo
    values = parse_parameters("native-cuda", case.variant, case.all_parameters)
    tile = None if case.tile is None else Tile(*case.tile)
    with NativeCUDABackend(values, tile=tile, max_pairs=case.max_pairs) as backend:
        prepared = backend.prepare(case.frames)
        pairs = [prepared[a] for a, _ in case.pairs], [prepared[b] for _, b in case.pairs]
        result = {"flow": backend.compute(*pairs, case.initial_flow), "counts": backend.num_iterations}
        if case.quantise:
            settings = QuantiseSettings(bound_px=BOUND_PX, rounding=case.quantise)
            result |= backend.compute_quantised(*pairs, settings)._asdict()
        return result


def _serialise_shared_arrays() -> None:
    """Two threads that ask for a shared array at the same moment get one each in the simulator of numba-cuda 0.30."""
    from numba.cuda.np import numpy_support
    from numba.cuda.simulator import kernelapi

    lock = threading.Lock()

    def array(self: Any, shape: Any, dtype: Any, alignment: Any = None) -> Any:
        caller = sys._getframe(1)
        key = caller.f_code.co_filename, caller.f_lineno
        with lock:
            if key not in self._allocations:
                self._allocations[key] = np.empty(shape, numpy_support.as_dtype(dtype))
            return self._allocations[key]

    kernelapi.FakeCUDAShared.array = array


if __name__ == "__main__":
    main(Path(sys.argv[1]))

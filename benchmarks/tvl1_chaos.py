"""Whether a pair is chaotic: how far OpenCV and our reference differ from themselves when images change by 1e-4 grey.

Noise of that size is a hundredth of what rounding an image to 8 bits does. A pair whose flow it moves by more than the
tolerances has no flow to that accuracy, by any implementation.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from common import print_table
from tvl1_pairs import Flow, Pair, flow_of, ipp, opencv

from flowprep.bench import difference
from flowprep.flow import create_backend
from flowprep.flow.tvl1.params import TVL1CUDAParameters
from flowprep.flow.tvl1.reference import tvl1_flow

_NOISE = 1e-4
"""Standard deviation of the noise, in grey levels of 255."""

_NUM_SEEDS = 4
_CROP = (128, 160)


def measure_chaos(pairs: Sequence[Pair], crops: Sequence[Pair]) -> dict[str, Any]:
    """Print the largest median difference to itself beside ours, a line a pair: whole pairs by OpenCV, crops by us."""
    with create_backend("native", variant="cpu") as cpu, create_backend("native", variant="cuda") as cuda:
        with ipp(on=False):
            rows = [_row(pair.name, pair.frames, _opencv, flow_of(cpu, pair.frames)) for pair in pairs]
        for pair in crops:
            top, left = ((side - part) // 2 for side, part in zip(pair.frames.shape[1:], _CROP, strict=True))
            frames = np.ascontiguousarray(pair.frames[:, top : top + _CROP[0], left : left + _CROP[1]])
            rows.append(_row(f"{pair.name}, crop, cuda", frames, _reference, flow_of(cuda, frames)))
    header = ("pair", "native median px", f"with noise: median px of {_NUM_SEEDS}, largest", "all")
    print_table("Against the oracle, and the oracle against itself with noise", header, rows)
    return {"rows": [list(row) for row in rows], "passed": True}


def _row(
    name: str, frames: npt.NDArray[np.uint8], oracle: Callable[[npt.NDArray[np.float32]], Flow], native: Flow
) -> tuple[str, str, str, str]:
    images = frames.astype(np.float32) / np.float32(255)
    truth = oracle(images)
    found = []
    for seed in range(_NUM_SEEDS):
        noise = np.random.default_rng(seed).normal(scale=_NOISE / 255, size=images.shape).astype(np.float32)
        found.append(difference(oracle(images + noise), truth).median_px)
    all_found = " ".join(f"{value:.1e}" for value in found)
    return name, f"{difference(native, truth).median_px:.1e}", f"{max(found):.1e}", all_found


def _opencv(images: npt.NDArray[np.float32]) -> Flow:
    return opencv(images)()  # type: ignore[arg-type]


def _reference(images: npt.NDArray[np.float32]) -> Flow:
    return tvl1_flow(images[0], images[1], TVL1CUDAParameters())

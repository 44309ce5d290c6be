"""What an iteration, a warp and a median filter cost in OpenCV and in `native`: by differences between whole pairs.

Nobody can look into OpenCV's object from outside, but with epsilon 0 it does exactly as many iterations, warps and
median filters as it is told. The same pairs of settings are measured with both, one thread each.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from statistics import median
from typing import Any

import numpy as np
import numpy.typing as npt
from common import print_table
from tvl1_pairs import Pair, native_seconds, opencv, seconds_of

from flowprep.flow import create_backend
from flowprep.flow.tvl1.params import TVL1CPUParameters

Settings = dict[str, int]
BASE: Settings = {"num_warps": 5, "inner_iterations": 2, "median_filtering": 1}
STEPS: dict[str, tuple[Settings, int]] = {
    "iteration": ({"inner_iterations": 32}, 5 * 30),
    "warp": ({"num_warps": 10}, 5),
    "median": ({"median_filtering": 5}, 5),
}
"""What is changed, and how many of the step a level then does more (a warp with its two iterations)."""


def measure_differences(pairs: Sequence[Pair], num_repeats: int) -> dict[str, Any]:
    """Print ns a pixel for each step, and give them."""
    found: dict[str, dict[str, list[float]]] = {name: {step: [] for step in STEPS} for name in ("opencv", "native")}
    for pair in pairs:
        sizes = TVL1CPUParameters().level_sizes(*pair.frames.shape[1:])
        num_pixels = sum(height * width for height, width in sizes)
        for name, seconds in (("opencv", _opencv_seconds), ("native", _native_seconds)):
            settings = [BASE, *({**BASE, **change} for change, _ in STEPS.values())]
            rounds = [[seconds(pair.frames, setting) for setting in settings] for _ in range(num_repeats)]
            base, *changed = (median(column) for column in zip(*rounds, strict=True))
            for (step, (_, times)), longer in zip(STEPS.items(), changed, strict=True):
                found[name][step].append((longer - base) / times / num_pixels * 1e9)
    figures = {name: {step: median(values) for step, values in steps.items()} for name, steps in found.items()}
    for steps in figures.values():
        steps["warp"] -= 2 * steps["iteration"]
    rows = [
        (step, f"{figures['opencv'][step]:.2f}", f"{figures['native'][step]:.2f}",
         f"{figures['opencv'][step] / figures['native'][step]:.1f}")
        for step in STEPS
    ]  # fmt: skip
    print_table("ns a pixel, by differences between settings", ("step", "OpenCV", "native cpu", "ratio"), rows)
    return {**figures, "passed": True}


def _opencv_seconds(frames: npt.NDArray[np.uint8], settings: Settings) -> float:
    calculate: Callable[[], Any] = opencv(
        frames,
        Epsilon=0.0,
        OuterIterations=1,
        WarpingsNumber=settings["num_warps"],
        InnerIterations=settings["inner_iterations"],
        MedianFiltering=settings["median_filtering"],
    )
    return seconds_of(calculate)


def _native_seconds(frames: npt.NDArray[np.uint8], settings: Settings) -> float:
    parameters = {"epsilon": 0.0, "outer_iterations": 1, **settings}
    with create_backend("native", variant="cpu", parameters=parameters) as backend:
        native_seconds(backend, frames)  # makes the buffers
        return native_seconds(backend, frames)

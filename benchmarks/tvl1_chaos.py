"""Whether a pair is chaotic: how far an oracle is from itself, when OpenCV uses IPP or images change by 1e-4 grey.

Noise of that size is a hundredth of what rounding an image to 8 bits does. A pair whose flow it moves by more than a
bar has no flow to that accuracy, by any implementation. Some pairs have two outcomes, of which one is rare: where ours
is further from the oracle than its first runs are, it gets more of them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from tvl1_flows import Difference, error_px
from tvl1_pairs import Flow

BARS = {"median px": 0.002, "other codes": 0.02, "error px": 0.002}
"""Of a pair: median difference to the oracle; share of pixels with another 8-bit code; error against the truth beyond
the oracle's."""

NUM_SEEDS = 4
"""Runs with noise of every pair. These alone say whether it is chaotic, however far ours is."""

_MAX_SEEDS = 40
_NOISE = 1e-4
"""Standard deviation of the noise, in grey levels of 255."""


class Judgement(NamedTuple):
    """Of a pair, by the names of BARS: our distance from the oracle, and those of its other runs."""

    oracle: str
    ours: dict[str, float]
    runs: list[dict[str, float]]
    num_first: int

    @property
    def is_chaotic(self) -> bool:
        """Whether the oracle misses a bar against itself in one of its first runs."""
        return any(abs(run[bar]) > BARS[bar] for run in self.runs[: self.num_first] for bar in run)

    def num_as_far(self, bar: str) -> int:
        """Of the runs: those at least as far from the oracle as ours."""
        return sum(abs(run[bar]) >= self.ours[bar] for run in self.runs)

    def furthest(self, bar: str) -> float:
        """The largest distance of the oracle from itself."""
        return max(abs(run[bar]) for run in self.runs)

    def is_explained(self, bar: str) -> bool:
        """Whether ours is within the bar, or no further than the oracle is from itself."""
        return self.ours[bar] <= BARS[bar] or self.num_as_far(bar) > 0

    def verdict(self, bar: str) -> str:
        """In words."""
        if self.ours[bar] <= BARS[bar]:
            return "within the bar"
        itself = f"{self.oracle} differs from itself by {self.furthest(bar):.2g}"
        if self.num_as_far(bar):
            return f"chaotic: {itself}, in {self.num_as_far(bar)} of {len(self.runs)} runs as far as ours"
        return f"chaotic, but less: {itself}" if self.furthest(bar) > BARS[bar] else f"unexplained: {itself}"

    def cells(self, bar: str) -> tuple[str, str, str]:
        """Ours, the oracle's largest distance from itself, and the verdict."""
        return f"{self.ours[bar]:.1e}", f"{self.furthest(bar):.1e}", self.verdict(bar)


def judge(
    frames: npt.NDArray[np.uint8],
    ours: Flow,
    expected: Flow,
    oracle: Callable[[npt.NDArray[np.float32]], Flow],
    *,
    name: str,
    others: Sequence[Flow] = (),
    truth: Flow | None = None,
) -> Judgement:
    """Our flow of a pair against `expected`, the oracle's; the oracle takes images (2, H, W) in 0..1.

    `others` are further results of the oracle, beside those with noise.
    """
    found = Judgement(
        name,
        _distances(ours, expected, truth),
        [_distances(flow, expected, truth) for flow in others],
        len(others) + NUM_SEEDS,
    )
    for images in _noisy(frames):
        if len(found.runs) >= found.num_first and all(map(found.is_explained, found.ours)):
            break
        found.runs.append(_distances(oracle(images), expected, truth))
    return found


def _noisy(frames: npt.NDArray[np.uint8]) -> Iterator[npt.NDArray[np.float32]]:
    images = frames.astype(np.float32) / np.float32(255)
    for seed in range(_MAX_SEEDS):
        yield images + np.random.default_rng(seed).normal(scale=_NOISE / 255, size=images.shape).astype(np.float32)


def _distances(flow: Flow, expected: Flow, truth: Flow | None) -> dict[str, float]:
    difference = Difference.of(flow, expected)
    found = {"median px": difference.median_px, "other codes": 1 - difference.within(0)}
    if truth is not None:
        found["error px"] = error_px(flow, truth) - error_px(expected, truth)
    return found

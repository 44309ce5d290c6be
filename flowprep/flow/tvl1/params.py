"""Parameters of TV-L1 with OpenCV's defaults, and the pyramid that follows from them.

The names are ours, the same for both variants; the docstrings say what OpenCV calls them. Pure standard library, so
that the command line can list them without loading NumPy or OpenCV.

Sources: C. Zach, T. Pock, H. Bischof, "A Duality Based Approach for Realtime TV-L1 Optical Flow", DAGM 2007;
J. Sanchez, E. Meinhardt-Llopis, G. Facciolo, IPOL 3 (2013) 137-150; OpenCV's `OpticalFlowDual_TVL1` (CUDA) and
`DualTVL1OpticalFlow` (CPU).
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

from flowprep.errors import SettingsError
from flowprep.settings import Settings, setting

MIN_LEVEL_SIDE = 16
"""OpenCV ends the pyramid before the first level with a side shorter than this (in pixels)."""

MIN_SIDE = 3
"""Frames are padded to at least this side: OpenCV's central differences read two neighbours without a check."""


@dataclass(frozen=True, kw_only=True)
class TVL1Parameters(Settings):
    """What both variants have. `lambda_` is `lambda` in JSON and on the command line; both spellings are read."""

    tau: float = setting(0.25, "Time step of the dual iteration; above 0.25 it may not converge.", above=0)
    lambda_: float = setting(0.15, "Weight of the data term; smaller gives smoother flow.", above=0)
    theta: float = setting(0.3, "Tightness of the coupling between data and smoothness.", above=0)
    num_scales: int = setting(5, "Pyramid levels at most (OpenCV: nscales).", minimum=1, maximum=100)
    num_warps: int = setting(5, "Warps a level (OpenCV: warps).", minimum=1, maximum=1_000_000)
    epsilon: float = setting(0.01, "Iterations end below this root mean square change, in pixels.", minimum=0)
    scale_step: float = setting(0.8, "Size of a level relative to the finer one (OpenCV: scaleStep).", above=0)
    gamma: float = setting(0.0, "Weight of the illumination term; 0 leaves it out.", minimum=0)

    def __post_init__(self) -> None:
        try:
            super().__post_init__()
        except SettingsError as error:
            raise SettingsError(str(error).replace("`lambda_`", "`lambda`")) from None
        for field in dataclasses.fields(self):
            if math.isinf(getattr(self, field.name)):
                raise SettingsError(f"`{field.name.rstrip('_')}` must be finite, got {getattr(self, field.name)}")
        if self.scale_step >= 1:
            raise SettingsError(f"`scale_step` must be below 1, got {self.scale_step}")

    def to_json(self) -> dict[str, Any]:
        """A plain JSON object of all parameters, with `lambda` for `lambda_`."""
        return {name.rstrip("_"): value for name, value in super().to_json().items()}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        """The parameters of a JSON object that `to_json` made."""
        return super().from_json({"lambda_" if name == "lambda" else name: value for name, value in data.items()})

    def level_sizes(self, height: int, width: int) -> list[tuple[int, int]]:
        """Height and width of the pyramid's levels, finest first: `num_scales`, fewer where a side gets too short.

        OpenCV finds this out while it runs and then lowers the number in its own object for good, or fails where a
        level would have no pixels. Telling it beforehand avoids both and gives the same flow.
        """
        sizes = [(height, width)]
        while len(sizes) < self.num_scales:
            # round() is half to even on the double product, as OpenCV's cvRound.
            height, width = round(height * self.scale_step), round(width * self.scale_step)
            if min(height, width) < MIN_LEVEL_SIDE:
                break
            sizes.append((height, width))
        return sizes

    def num_levels(self, height: int, width: int) -> int:
        """Pyramid levels that OpenCV uses for frames of this size, see `level_sizes`."""
        return len(self.level_sizes(height, width))


@dataclass(frozen=True, kw_only=True)
class TVL1CPUParameters(TVL1Parameters):
    """Variant `cpu`: iterations in two loops, with a median filter of the flow at the head of each outer one."""

    inner_iterations: int = setting(30, "Iterations between two median filters.", minimum=1, maximum=1_000_000)
    outer_iterations: int = setting(10, "Rounds of median filter and inner iterations.", minimum=1, maximum=1_000_000)
    median_filtering: int = setting(5, "Side of the median filter: 1 (none), 3 or 5.", minimum=1, maximum=5)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.median_filtering % 2 == 0:
            raise SettingsError(f"`median_filtering` must be 1, 3 or 5, got {self.median_filtering}")


@dataclass(frozen=True, kw_only=True)
class TVL1CUDAParameters(TVL1Parameters):
    """Variant `cuda`: one loop of iterations a warp, no median filter."""

    iterations: int = setting(300, "Iterations a warp at most.", minimum=1, maximum=1_000_000)

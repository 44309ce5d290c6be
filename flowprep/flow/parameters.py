"""The parameters of every flow algorithm, by backend and variant.

Pure standard library: the command line reads names, defaults and limits from here without loading OpenCV.
"""

from __future__ import annotations

import dataclasses
import difflib
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from flowprep.errors import SettingsError
from flowprep.flow.tvl1.params import TVL1CPUParameters, TVL1CUDAParameters
from flowprep.settings import Settings, setting

_DIS_PRESETS: Mapping[str, Mapping[str, int]] = {
    "ultrafast": {
        "finest_scale": 2,
        "patch_stride": 4,
        "gradient_descent_iterations": 12,
        "variational_refinement_iterations": 0,
    },
    "fast": {
        "finest_scale": 2,
        "patch_stride": 4,
        "gradient_descent_iterations": 16,
        "variational_refinement_iterations": 5,
    },
    "medium": {
        "finest_scale": 1,
        "patch_stride": 3,
        "gradient_descent_iterations": 25,
        "variational_refinement_iterations": 5,
    },
}


@dataclass(frozen=True, kw_only=True)
class DISParameters(Settings):
    """Dense inverse search (T. Kroeger et al., ECCV 2016; `cv2.DISOpticalFlow`).

    The preset fills in the parameters that are None; a constructed object has none that is None. `finest_scale` is
    lowered for frames that have no such level, see `flowprep.flow.opencv.DISBackend`.
    """

    preset: str = setting("fast", "Speed against accuracy.", choices=tuple(_DIS_PRESETS))
    finest_scale: int | None = setting(
        None, "Level at which flow is computed; 0 is the full size.", minimum=0, maximum=9
    )
    coarsest_scale: int = setting(
        -1, "Level at which the search starts; -1 follows from the size.", minimum=-1, maximum=9
    )
    patch_size: int = setting(8, "Side of a patch in pixels.", minimum=4, maximum=16)
    patch_stride: int | None = setting(None, "Pixels from patch to patch, at most the patch's side.", minimum=1)
    gradient_descent_iterations: int | None = setting(None, "Iterations of the patch search.", minimum=0)
    use_mean_normalization: bool = setting(default=True, help="Compare patches after subtracting their mean.")
    use_spatial_propagation: bool = setting(default=True, help="Start patches from their neighbours' flow too.")
    variational_refinement_iterations: int | None = setting(None, "Refinement iterations a level.", minimum=0)
    variational_refinement_alpha: float = setting(20.0, "Weight of smoothness.", minimum=0, maximum=1e6)
    variational_refinement_delta: float = setting(5.0, "Weight of colour constancy.", minimum=0, maximum=1e6)
    variational_refinement_gamma: float = setting(10.0, "Weight of gradient constancy.", minimum=0, maximum=1e6)
    # The default is the float32 nearest to 0.01 that OpenCV holds; 0 makes OpenCV crash.
    variational_refinement_epsilon: float = setting(0.01, "Norm's regulariser.", minimum=1e-6, maximum=1e6)

    def __post_init__(self) -> None:
        if self.preset in _DIS_PRESETS:  # if not, the check below says so
            for name, value in _DIS_PRESETS[self.preset].items():
                if getattr(self, name) is None:
                    object.__setattr__(self, name, value)
        super().__post_init__()
        assert self.patch_stride is not None
        assert self.finest_scale is not None
        if self.patch_stride > self.patch_size:
            raise SettingsError(
                f"`patch_stride` must be at most `patch_size` ({self.patch_size}), got {self.patch_stride}"
            )
        if 0 <= self.coarsest_scale < self.finest_scale:
            raise SettingsError(
                f"`coarsest_scale` must be at least `finest_scale` ({self.finest_scale}), got {self.coarsest_scale}"
            )

    def level_range(self, height: int, width: int) -> tuple[int, int]:
        """Finest and coarsest level that exist in frames of this size, sides at least 1.5 patches.

        Where `finest_scale` is beyond the coarsest level, OpenCV changes several parameters by the width alone and
        then reads levels that do not exist: wide, low frames give NaN, results that change from call to call, or a
        crash (seen in 5.0.0). The coarsest level follows OpenCV's rule; taking at most that one as the finest keeps
        OpenCV out of that branch.
        """
        assert self.finest_scale is not None
        longest = math.log(max(height, width) / (4.0 * self.patch_size)) / math.log(2.0) + 0.5
        shortest = math.log(min(height, width) // self.patch_size) / math.log(2.0)
        coarsest = min(int(longest), int(shortest), 9)  # OpenCV has memory for levels 0 to 9
        if self.coarsest_scale >= 0:
            coarsest = min(coarsest, self.coarsest_scale)
        return min(self.finest_scale, coarsest), coarsest


@dataclass(frozen=True, kw_only=True)
class FarnebackParameters(Settings):
    """Polynomial expansion (G. Farneback, SCIA 2003; `cv2.FarnebackOpticalFlow`).

    `fastPyramids` is left out: it has no effect on the CPU.
    """

    num_levels: int = setting(5, "Pyramid levels beside the full size (OpenCV: numLevels).", minimum=0, maximum=100)
    pyramid_scale: float = setting(
        0.5, "Size of a level relative to the finer one (OpenCV: pyrScale).", minimum=0.01, maximum=0.99
    )
    window_size: int = setting(13, "Side of the averaging window in pixels (OpenCV: winSize).", minimum=1, maximum=1001)
    num_iterations: int = setting(10, "Iterations a level (OpenCV: numIters).", minimum=1)
    poly_n: int = setting(5, "Radius of the neighbourhood that a polynomial is fitted to.", minimum=1, maximum=64)
    poly_sigma: float = setting(1.1, "Standard deviation of that fit's weights.", minimum=0.3, maximum=64)
    gaussian_window: bool = setting(default=False, help="Average with Gaussian weights, slower and more accurate.")


_PARAMETERS: Mapping[tuple[str, str | None], type[Settings]] = {
    ("native", "cuda"): TVL1CUDAParameters,
    ("native", "cpu"): TVL1CPUParameters,
    ("native-cuda", "cuda"): TVL1CUDAParameters,
    ("native-cuda", "cpu"): TVL1CPUParameters,
    ("opencv", "cpu"): TVL1CPUParameters,
    ("opencv-cuda", "cuda"): TVL1CUDAParameters,
    ("dis", None): DISParameters,
    ("farneback", None): FarnebackParameters,
}


def parameter_names(backend: str, variant: str | None) -> tuple[str, ...]:
    """Names of the flow parameters that a backend and variant take, as in JSON (`lambda`, not `lambda_`)."""
    return tuple(field.name.rstrip("_") for field in dataclasses.fields(_PARAMETERS[backend, variant]))


def parse_parameters(backend: str, variant: str | None, values: Mapping[str, Any]) -> Any:
    """The parameters object of a backend and variant, with defaults for what `values` does not give.

    Raises SettingsError that names the parameter: unknown (with what may have been meant), given twice, or out of its
    limits.
    """
    known = parameter_names(backend, variant)
    given: dict[str, Any] = {}
    for name, value in values.items():
        canonical = "lambda" if name == "lambda_" else name
        if canonical not in known:
            raise SettingsError(_unknown(name, backend, variant, known))
        field = "lambda_" if canonical == "lambda" else canonical
        if field in given:
            raise SettingsError("`lambda` is given twice, as `lambda` and as `lambda_`")
        given[field] = value
    return _PARAMETERS[backend, variant](**given)


def _unknown(name: str, backend: str, variant: str | None, known: tuple[str, ...]) -> str:
    where = f"{backend} (variant {variant})" if variant else backend
    elsewhere = [
        f"{other} (variant {has})" if has else other
        for other, has in _PARAMETERS
        if name in parameter_names(other, has)
    ]
    close = difflib.get_close_matches(name, known, n=1)
    hint = f"; it is one of {', '.join(elsewhere)}" if elsewhere else f" (did you mean `{close[0]}`?)" if close else ""
    return f"unknown flow parameter `{name}` for {where}{hint}; known are {', '.join(known)}"

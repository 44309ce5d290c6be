"""OpenCV's flow algorithms on the CPU: dual TV-L1, DIS and Farneback.

One algorithm object serves frames of one size; when the size changes it is replaced. OpenCV's objects adapt themselves
to small frames for good (TV-L1 lowers its number of scales, DIS several parameters), so that an object which saw a
small frame would compute another flow for the next large one.

Note [IPP off]: the x86 wheels may use Intel's IPP, which picks code by processor at run time and changes the last bits
of a resize; TV-L1 amplifies them (RubberWhale: mean 0.003 px, at most 1.5 px; same accuracy). Flow is computed with
IPP off, which costs no time (measured: 3.7 s against 4.1 s a pair of RubberWhale for TV-L1, the others alike) and
leaves OpenCV's own formulas. The switch is a thread's, and is put back after each call.

The number of OpenCV's threads is left as it is: it changes no result, and who runs several workers sets it once with
`cv2.setNumThreads(1)`.
"""

from __future__ import annotations

import contextlib
from abc import abstractmethod
from collections.abc import Iterator, Sequence
from typing import Any, ClassVar, final

import cv2
import numpy as np
import numpy.typing as npt

from flowprep.errors import SettingsError, VideoError
from flowprep.flow.backend import FlowBackend, padded
from flowprep.flow.parameters import DISParameters, FarnebackParameters
from flowprep.flow.tvl1.params import MIN_SIDE, TVL1CPUParameters
from flowprep.ipp import without_ipp

_cv2: Any = cv2  # the type stubs of the wheels lack the create functions


class _CPUBackend(FlowBackend):
    """Pairs one after another through one algorithm object of the padded size."""

    build = f"opencv {cv2.__version__}"

    def __init__(self, min_side: int) -> None:
        self._min_side = min_side
        self._size: tuple[int, int] | None = None
        self._algorithm: Any = None

    def _prepare(self, frames: npt.NDArray[np.uint8]) -> list[Any]:
        return [padded(frame, self._min_side) for frame in frames]

    def _compute(
        self,
        sources: Sequence[Any],
        targets: Sequence[Any],
        height: int,
        width: int,
        initial_flow: npt.NDArray[np.float32] | None,
    ) -> npt.NDArray[np.float32]:
        size = sources[0].shape
        flow = np.empty((len(sources), height, width, 2), np.float32)
        with opencv_failures(self.name, height, width), without_ipp():
            if size != self._size:
                self._algorithm, self._size = self._create_algorithm(*size), size
            for k, (source, target) in enumerate(zip(sources, targets, strict=True)):
                flow[k] = self._algorithm.calc(source, target, None)[:height, :width]
        return flow

    @abstractmethod
    def _create_algorithm(self, height: int, width: int) -> Any:
        """A fresh OpenCV object for frames of this (padded) size."""

    def close(self) -> None:
        self._algorithm, self._size = None, None


@final
class TVL1Backend(_CPUBackend):
    """`opencv`: `cv2.optflow.DualTVL1OpticalFlow`, variant `cpu`. Sides below 3 px are padded to 3.

    OpenCV 5 samples the warped frame at exact coordinates, 4.x at 1/32 px, so their flow differs (0.015 px on average).
    """

    name = "opencv"
    variant = "cpu"

    def __init__(self, parameters: TVL1CPUParameters) -> None:
        super().__init__(MIN_SIDE)
        self._values = parameters
        self.parameters = parameters.to_json()

    def _create_algorithm(self, height: int, width: int) -> Any:
        values = self._values
        algorithm = _cv2.optflow.DualTVL1OpticalFlow_create()
        algorithm.setTau(values.tau)
        algorithm.setLambda(values.lambda_)
        algorithm.setTheta(values.theta)
        algorithm.setScalesNumber(values.num_levels(height, width))
        algorithm.setWarpingsNumber(values.num_warps)
        algorithm.setEpsilon(values.epsilon)
        algorithm.setInnerIterations(values.inner_iterations)
        algorithm.setOuterIterations(values.outer_iterations)
        algorithm.setScaleStep(values.scale_step)
        algorithm.setGamma(values.gamma)
        algorithm.setMedianFiltering(values.median_filtering)
        algorithm.setUseInitialFlow(False)
        return algorithm


@final
class DISBackend(_CPUBackend):
    """`dis`: `cv2.DISOpticalFlow`. Sides below 1.5 patches (12 px) are padded to that.

    `finest_scale` is lowered to the coarsest level that the frame has, see `DISParameters.level_range`.
    """

    name = "dis"
    variant = None
    _PRESETS: ClassVar = {
        "ultrafast": cv2.DISOPTICAL_FLOW_PRESET_ULTRAFAST,
        "fast": cv2.DISOPTICAL_FLOW_PRESET_FAST,
        "medium": cv2.DISOPTICAL_FLOW_PRESET_MEDIUM,
    }

    def __init__(self, parameters: DISParameters) -> None:
        super().__init__(-(-3 * parameters.patch_size // 2))
        self._values = parameters
        self.parameters = parameters.to_json()

    def _create_algorithm(self, height: int, width: int) -> Any:
        values = self._values
        finest, coarsest = values.level_range(height, width)
        algorithm = _cv2.DISOpticalFlow_create(self._PRESETS[values.preset])
        algorithm.setFinestScale(finest)
        algorithm.setPatchSize(values.patch_size)
        algorithm.setPatchStride(values.patch_stride)
        algorithm.setGradientDescentIterations(values.gradient_descent_iterations)
        algorithm.setUseMeanNormalization(values.use_mean_normalization)
        algorithm.setUseSpatialPropagation(values.use_spatial_propagation)
        algorithm.setVariationalRefinementIterations(values.variational_refinement_iterations)
        algorithm.setVariationalRefinementAlpha(values.variational_refinement_alpha)
        algorithm.setVariationalRefinementDelta(values.variational_refinement_delta)
        algorithm.setVariationalRefinementGamma(values.variational_refinement_gamma)
        if values.coarsest_scale >= 0:
            _set_if_present(algorithm, "CoarsestScale", coarsest, "coarsest_scale")
        if values.variational_refinement_epsilon != 0.01:
            epsilon = values.variational_refinement_epsilon
            _set_if_present(algorithm, "VariationalRefinementEpsilon", epsilon, "variational_refinement_epsilon")
        return algorithm


@final
class FarnebackBackend(_CPUBackend):
    """`farneback`: `cv2.FarnebackOpticalFlow`. Sides below 11 px are padded to 11.

    OpenCV weighs down 5 pixels at each border; in smaller frames nothing has its full weight, and below 6 px the
    result is zero whatever moves.
    """

    name = "farneback"
    variant = None

    def __init__(self, parameters: FarnebackParameters) -> None:
        super().__init__(11)
        self._values = parameters
        self.parameters = parameters.to_json()

    def _create_algorithm(self, height: int, width: int) -> Any:
        values = self._values
        return _cv2.FarnebackOpticalFlow_create(
            numLevels=values.num_levels,
            pyrScale=values.pyramid_scale,
            fastPyramids=False,
            winSize=values.window_size,
            numIters=values.num_iterations,
            polyN=values.poly_n,
            polySigma=values.poly_sigma,
            flags=cv2.OPTFLOW_FARNEBACK_GAUSSIAN if values.gaussian_window else 0,
        )


@contextlib.contextmanager
def opencv_failures(name: str, height: int, width: int) -> Iterator[None]:
    """Raise OpenCV's errors as VideoError, `memory` where OpenCV could not allocate and `backend` else."""
    try:
        yield
    except cv2.error as error:
        text = " ".join(str(error).split())
        signs = ("out of memory", "Failed to allocate", "Insufficient memory", "bad_alloc")
        no_memory = any(sign in text for sign in signs)
        detail = f"flow backend {name} failed on frames of {width}x{height}: {text}"
        raise VideoError("memory" if no_memory else "backend", detail) from error


def _set_if_present(algorithm: Any, setter: str, value: Any, parameter: str) -> None:
    """Set what older OpenCV cannot set; called for values other than its default only."""
    function = getattr(algorithm, f"set{setter}", None)
    if function is None:
        raise SettingsError(f"OpenCV {cv2.__version__} cannot set `{parameter}`; leave it out or use OpenCV 5")
    function(value)

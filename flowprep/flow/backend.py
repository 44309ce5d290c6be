"""The contract of a flow backend: a batch of grey frame pairs in, a batch of flows out.

Every backend keeps it, whatever it runs on, and `tests/contracts/flow_backend.py` checks it:

- flow is float32 (H, W, 2), x then y, in pixels; (u, v) at (x, y) means that source(x, y) is target(x + u, y + v);
- the flow of a pair does not depend on its batch, its neighbours or what was computed before;
- frames of every size from 1x1 up are accepted; how too small ones are padded is documented by the backend;
- a backend object belongs to one thread and one process. OpenCV's algorithm objects keep their buffers as members, so
  two threads in one object give wrong flow without an error. Make one backend a worker.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any, ClassVar, NamedTuple, Self, final

import numpy as np
import numpy.typing as npt

from flowprep.config import QuantiseSettings
from flowprep.errors import SettingsError


@final
@dataclass(frozen=True, slots=True, eq=False)
class PreparedFrame:
    """What a backend made of a frame so that both pairs of the frame can use it.

    `height` and `width` are the frame's in pixels. `data` is the backend's own: a padded frame, an upload, a pyramid.
    """

    height: int
    width: int
    data: Any


class QuantisedFlow(NamedTuple):
    """Codes, uint8 (B, 2, H, W), x then y; sum of lengths in pixels and pixels beyond the bound of each pair, (B,).

    A sum is not finite where a flow is not.
    """

    codes: npt.NDArray[np.uint8]
    sum_magnitude_px: npt.NDArray[np.float64]
    num_saturated: npt.NDArray[np.int64]


class FlowBackend(ABC):
    """Computes flow; a context manager that frees memory and threads at its end.

    `parameters` has every parameter of the algorithm, defaults filled in, as plain JSON values. `build` says what code
    computes: library and version, and for compiled kernels the processor; equal builds give equal bytes.
    `pairs_at_a_time` is how many pairs a call of `compute` should have where there are as many. `download_seconds` is
    what the last batch took from a device to the host and no other work hid; 0 where there is no device.
    """

    name: ClassVar[str]
    variant: str | None
    takes_initial_flow: ClassVar[bool] = False
    pairs_at_a_time: ClassVar[int] = 16
    download_seconds: float = 0.0
    parameters: Mapping[str, Any]
    build: str

    @final
    def prepare(self, frames: npt.NDArray[np.uint8]) -> list[PreparedFrame]:
        """Do the work on frames that both of their pairs share. The result is valid until `close`, and is a copy.

        Args:
            frames: uint8 (T, H, W), grey, T may be 0.

        Raises:
            SettingsError: The array has another dtype or shape.
            VideoError: The backend failed (`backend`) or ran out of memory (`memory`).
        """
        if frames.dtype != np.uint8 or frames.ndim != 3 or 0 in frames.shape[1:]:
            raise SettingsError(f"`frames` must be uint8 (T, H, W), got {frames.dtype} {frames.shape}")
        height, width = frames.shape[1:]
        return [PreparedFrame(height, width, data) for data in self._prepare(frames)]

    @final
    def compute(
        self,
        sources: Sequence[PreparedFrame],
        targets: Sequence[PreparedFrame],
        initial_flow: npt.NDArray[np.float32] | None = None,
    ) -> npt.NDArray[np.float32]:
        """Flow from each source to the target at the same place.

        Args:
            sources: B prepared frames of this backend, at least one, all of one size.
            targets: B prepared frames of the same size; frames may stand in both, any number of times.
            initial_flow: float32 (B, H, W, 2), finite, x then y, in pixels: what the search starts from. Only where
                `takes_initial_flow` is set.

        Returns:
            float32 (B, H, W, 2), x then y, in pixels.

        Raises:
            SettingsError: The numbers or sizes of the frames or the initial flow do not agree, or there is an initial
                flow and the backend takes none.
            VideoError: The backend failed (`backend`) or ran out of memory (`memory`).
        """
        if len(sources) != len(targets) or not sources:
            raise SettingsError(
                f"`sources` and `targets` must be as many, at least one, got {len(sources)} and {len(targets)}"
            )
        sizes = {(frame.height, frame.width) for frame in (*sources, *targets)}
        if len(sizes) > 1:
            raise SettingsError(f"frames of a batch must have one size, got {sorted(sizes)}")
        ((height, width),) = sizes
        if initial_flow is not None:
            self._check_initial_flow(initial_flow, (len(sources), height, width, 2))
        flow = self._compute(
            [frame.data for frame in sources], [frame.data for frame in targets], height, width, initial_flow
        )
        assert flow.shape == (len(sources), height, width, 2)
        assert flow.dtype == np.float32
        return flow

    @abstractmethod
    def _prepare(self, frames: npt.NDArray[np.uint8]) -> list[Any]:
        """`PreparedFrame.data` of each of the checked frames (T, H, W)."""

    @abstractmethod
    def _compute(
        self,
        sources: Sequence[Any],
        targets: Sequence[Any],
        height: int,
        width: int,
        initial_flow: npt.NDArray[np.float32] | None,
    ) -> npt.NDArray[np.float32]:
        """Flow (B, H, W, 2) of checked pairs; H and W are of the frames before padding."""

    def compute_quantised(
        self, sources: Sequence[PreparedFrame], targets: Sequence[PreparedFrame], settings: QuantiseSettings
    ) -> QuantisedFlow | None:
        """As `compute`, with flow that has been made 8-bit codes on its device; None where the backend does not."""
        return None

    def _check_initial_flow(self, initial_flow: npt.NDArray[np.float32], shape: tuple[int, ...]) -> None:
        if not self.takes_initial_flow:
            raise SettingsError(f"backend {self.name} takes no initial flow; native does")
        if initial_flow.dtype != np.float32 or initial_flow.shape != shape:
            raise SettingsError(
                f"`initial_flow` must be float32 {shape}, got {initial_flow.dtype} {initial_flow.shape}"
            )
        if not np.isfinite(initial_flow).all():
            raise SettingsError("`initial_flow` must be finite; set unknown displacements to 0")

    def warm_up(self) -> None:  # noqa: B027 - most have nothing to compile
        """Compile or load what `compute` needs, so that the first pair takes no longer than others."""

    def wait(self) -> None:  # noqa: B027 - most have done it when `prepare` returns
        """Wait until a device has done what `prepare` asked for."""

    @abstractmethod
    def close(self) -> None:
        """Free what the backend holds. It may be called twice; nothing else may be called after it."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def padded(frame: npt.NDArray[np.uint8], min_side: int) -> npt.NDArray[np.uint8]:
    """A copy of the frame (H, W), its last row and column repeated until both sides have `min_side` pixels."""
    height, width = frame.shape
    below, right = max(min_side - height, 0), max(min_side - width, 0)
    if below or right:
        return np.pad(frame, ((0, below), (0, right)), mode="edge")
    return frame.copy()

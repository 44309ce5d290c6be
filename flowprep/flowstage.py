"""Grey frames in, 8-bit flow out: what the pipeline makes of a flow backend, in this process or in a device's."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol, final

import numpy as np
from numpy.typing import NDArray

from flowprep.config import ExtractSettings, QuantiseSettings
from flowprep.flow.backend import FlowBackend, PreparedFrame, QuantisedFlow
from flowprep.quantise import check_finite, flow_facts, quantise
from flowprep.records import FlowFacts


@final
@dataclass(frozen=True, slots=True, eq=False)
class FlowCodes:
    """Flow of one pair as 8-bit codes: planes of x and y, each uint8 (H, W), and sums over its flow in pixels.

    `backward` is flow from image i to image i - step, the other one from i to i + step.
    """

    backward: bool
    x: NDArray[np.uint8]
    y: NDArray[np.uint8]
    facts: FlowFacts


class FlowStage(Protocol):
    """The flow of one video. What comes out is in order of time within each direction, however much comes at once."""

    def add(self, frames: NDArray[np.uint8]) -> Iterable[FlowCodes]:
        """Take the next frames, uint8 (T, H, W), grey; give what is ready."""

    def finish(self) -> Iterable[FlowCodes]:
        """Give the rest, after the last frame."""

    def close(self) -> None:
        """Let go of what the video holds, finished or not."""


@final
class Pairs:
    """Keeps the last frames of a video, up to `step`, which still wait for the second of their pairs."""

    def __init__(self, step: int) -> None:
        self._step = step
        self._recent: list[PreparedFrame] = []

    def add(self, prepared: Sequence[PreparedFrame]) -> tuple[list[PreparedFrame], list[PreparedFrame]]:
        """Sources and targets of the pairs that the next frames complete."""
        frames = [*self._recent, *prepared]
        self._recent = frames[-self._step :]
        return frames[: -self._step], frames[self._step :]


@final
class LocalFlow:
    """Flow by a backend of this process."""

    def __init__(self, backend: FlowBackend, settings: ExtractSettings) -> None:
        self._settings = settings
        self._pairs = Pairs(settings.flow.step)
        # Attributes, for a benchmark to put clocks around.
        self.prepare, self.compute, self.codes_of = backend.prepare, backend.compute, codes_of

    def add(self, frames: NDArray[np.uint8]) -> Iterator[FlowCodes]:
        """See `FlowStage`."""
        sources, targets = self._pairs.add(self.prepare(frames))
        if sources:
            for flow_px in self.compute(sources, targets):
                yield self.codes_of(flow_px, self._settings.quantise)
            if self._settings.flow.backward:
                for flow_px in self.compute(targets, sources):
                    yield self.codes_of(flow_px, self._settings.quantise, backward=True)

    def finish(self) -> Iterator[FlowCodes]:
        """See `FlowStage`."""
        return iter(())

    def close(self) -> None:
        """See `FlowStage`; the backend stays open for the next video."""


def codes_of_pairs(
    backend: FlowBackend,
    sources: Sequence[PreparedFrame],
    targets: Sequence[PreparedFrame],
    settings: QuantiseSettings,
    *,
    backward: bool = False,
) -> list[Callable[[], FlowCodes]]:
    """For each pair what gives its codes, or raises VideoError `numeric` as `codes_of`: one pair fails, not all.

    Raises as `FlowBackend.compute`.
    """
    quantised = backend.compute_quantised(sources, targets, settings)
    if quantised is None:
        flows = backend.compute(sources, targets)
        return [functools.partial(codes_of, flow_px, settings, backward=backward) for flow_px in flows]
    return [functools.partial(_given, quantised, index, backward) for index in range(len(sources))]


def _given(quantised: QuantisedFlow, index: int, backward: bool) -> FlowCodes:
    x, y = quantised.codes[index]
    facts = FlowFacts(
        num_values=x.size,
        num_saturated=int(quantised.num_saturated[index]),
        sum_magnitude_px=float(quantised.sum_magnitude_px[index]),
    )
    check_finite(facts.sum_magnitude_px)
    return FlowCodes(backward, x, y, facts)


def codes_of(flow_px: NDArray[np.float32], settings: QuantiseSettings, *, backward: bool = False) -> FlowCodes:
    """Codes of one flow field, float32 (H, W, 2). Raises VideoError `numeric` if it is not finite."""
    x, y = quantise(flow_px, settings)
    return FlowCodes(backward, x, y, flow_facts(flow_px, x, y, settings))

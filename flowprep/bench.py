"""How long flow takes here: a backend on pairs of the user's own videos, alone or side by side with another one.

Every pair is computed several times, the two backends in turns, so that a busy moment of the machine meets both. Each
uses one thread. What counts is a pair's share of a run, in which a frame is prepared once and used by two pairs: its
target is prepared and its flow computed. Compiling is not counted, nor decoding, nor quantising and encoding.

`opencv` runs with IPP off, as it does in `extract`; its wheel as it comes has IPP on. That changes last bits, and no
time that could be measured (benchmarks/bench_tvl1.py measures both).
"""

from __future__ import annotations

import contextlib
import dataclasses
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import cv2
import numpy as np
import numpy.typing as npt

from flowprep import machine
from flowprep.config import BACKENDS, BenchSettings, FlowSettings, QuantiseSettings, ResizeSettings
from flowprep.errors import DatasetError, RunStoppedError, SettingsError, VideoError
from flowprep.flow import create_backend, parameter_names, resolve
from flowprep.flow.backend import FlowBackend
from flowprep.quantise import quantise
from flowprep.sample import FramePair, Unreadable, sample_pairs

DATASET_SIZES: Mapping[str, tuple[int, int]] = {
    "ucf101": (13_320, 185),
    "hmdb51": (6_766, 93),
    "kinetics400": (306_245, 300),
    "ssv2": (220_847, 48),
}
"""Videos of a data set and their mean number of frames.

ucf101, hmdb51: videos of the official splits; frames by the published frame lists of bryanyzhu/two-stream-pytorch
(2,469,975 frames) and artest08/LateTemporalModeling3DCNN (93.2 on average). kinetics400: W. Kay et al., 2017, clips of
about 10 s, at 30 frames a second. ssv2: its download page; 12 frames a second and 4.03 s on average (R. Goyal et al.,
ICCV 2017, on the first version).
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class DatasetSize:
    """How much a data set is: videos, and frames of a video on average."""

    name: str
    num_videos: int
    mean_frames: int

    @property
    def num_frames(self) -> int:
        """Frames of all videos."""
        return self.num_videos * self.mean_frames

    def num_pairs(self, flow: FlowSettings) -> int:
        """Pairs of frames whose flow is computed: of its step, in both directions where there is backward flow."""
        return self.num_videos * max(self.mean_frames - flow.step, 0) * (2 if flow.backward else 1)

    @classmethod
    def parse(cls, text: str) -> Self:
        """The size that a name of `DATASET_SIZES` or a text such as 13320x185 means. Raises SettingsError."""
        if text in DATASET_SIZES:
            num_videos, mean_frames = DATASET_SIZES[text]
            return cls(name=text, num_videos=num_videos, mean_frames=mean_frames)
        parts = text.lower().split("x")
        numbers = [int(part) for part in parts if part.isascii() and part.isdigit()]
        if len(parts) != 2 or len(numbers) != 2 or numbers[0] < 1 or numbers[1] < 2:
            raise SettingsError(
                f"`hours_for` must be one of {', '.join(DATASET_SIZES)}, or videos x frames (at least 2) such as "
                f"13320x185, got {text!r}"
            )
        return cls(name=text, num_videos=numbers[0], mean_frames=numbers[1])


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """A backend, and what it took: seconds a pair, in the order of the pairs, and hours for the data set."""

    backend: str
    variant: str | None
    parameters: Mapping[str, Any]
    pair_seconds: tuple[float, ...]
    median_seconds: float
    hours: float

    @property
    def title(self) -> str:
        """Its name for people."""
        return " ".join(filter(None, (self.backend, self.variant)))


@dataclass(frozen=True, slots=True, kw_only=True)
class PairFacts:
    """A pair: frames `index` and `index + 1` of a video, in the stored size."""

    video: str
    index: int
    width: int
    height: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """How the flow of a pair differs between two backends.

    Lengths of the difference vectors in pixels, and the share of the 8-bit codes that are equal (bound 20 px, `round`).
    """

    median_px: float
    mean_px: float
    max_px: float
    equal_codes: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """The other backend, and each pair's ratio of times (other / first) and difference of flow.

    `ratio_quartiles` are the quartiles of the pairs' ratios; the one in the middle is their median.
    """

    other: Measured
    ratios: tuple[float, ...]
    ratio_quartiles: tuple[float, float, float]
    differences: tuple[Difference, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class BenchResult:
    """What was measured. `notes` are sentences for the user; `complete` is False where the user stopped it."""

    videos: Path
    dataset: DatasetSize
    jobs: int
    num_repeats: int
    opencv_version: str
    pairs: tuple[PairFacts, ...]
    measured: Measured
    comparison: Comparison | None
    notes: tuple[str, ...]
    complete: bool

    def to_json(self) -> dict[str, Any]:
        """A JSON object."""
        return {**dataclasses.asdict(self), "videos": str(self.videos)}


@dataclass(frozen=True, slots=True, kw_only=True)
class _Row:
    """A pair's times in seconds, one a backend, and its difference where there are two."""

    facts: PairFacts
    seconds: tuple[float, ...]
    difference: Difference | None


def measure(
    videos: Path,
    *,
    flow: FlowSettings | None = None,
    resize: ResizeSettings | None = None,
    settings: BenchSettings | None = None,
    tell: Callable[[str], None] = lambda _: None,
) -> BenchResult:
    """Measure on pairs of the video file `videos`, or of the videos of that folder.

    With `settings.compare`, a backend without a variant runs the one that the other backend computes, so that the same
    algorithm is compared. Interrupted, it gives what was measured until then. `tell` hears notes and progress.

    Raises:
        SettingsError: A setting, or the combination of them, is wrong.
        MissingDataError, DatasetError: There is no such file, no video, or none that can be read.
        BackendUnavailableError: A backend cannot run here; the message has the reason and the cure.
        RunStoppedError: Interrupted before the first pair was measured.
    """
    flow, resize, settings = flow or FlowSettings(), resize or ResizeSettings(), settings or BenchSettings()
    dataset = DatasetSize.parse(settings.hours_for)
    chosen, notes = _choose(flow, settings.compare)
    for note in notes:
        tell(note)
    rows: list[_Row] = []
    complete = True
    with contextlib.ExitStack() as stack:
        backends = [stack.enter_context(_created(settings_of_one)) for settings_of_one in chosen]
        stack.enter_context(_one_opencv_thread())
        try:
            for backend in backends:
                backend.warm_up()
            for found in _measured(videos, resize, settings, backends):
                if isinstance(found, Unreadable):
                    notes.append(f"{found.video} was left out: {found.why}.")
                    tell(notes[-1])
                else:
                    rows.append(found)
                    tell(_progress(found, len(rows), settings.num_pairs))
        except KeyboardInterrupt:
            complete = False
            notes.append(f"Stopped after {len(rows)} of {settings.num_pairs} pairs.")
    if not rows:
        if not complete:
            raise RunStoppedError("stopped before the first pair was measured; start again, with fewer --repeats")
        raise DatasetError(f"no video of {videos} can be read: {notes[-1]}")
    jobs = settings.jobs or machine.num_cores()
    num_pairs = dataset.num_pairs(flow)
    first, *others = (_summed_up(backend, k, rows, num_pairs, jobs) for k, backend in enumerate(backends))
    return BenchResult(
        videos=videos,
        dataset=dataset,
        jobs=jobs,
        num_repeats=settings.num_repeats,
        opencv_version=cv2.__version__,
        pairs=tuple(row.facts for row in rows),
        measured=first,
        comparison=_comparison(others[0], rows) if others else None,
        notes=tuple(notes),
        complete=complete,
    )


def _choose(flow: FlowSettings, compare: str | None) -> tuple[list[FlowSettings], list[str]]:
    """The settings of the backends to measure, with names and variants resolved; and what the user should know."""
    if compare is None:
        name, variant = resolve(flow.backend, flow.variant, flow.cpu_baseline)
        return [dataclasses.replace(flow, backend=name, variant=variant)], []
    other, other_variant = resolve(compare)
    variant = flow.variant
    notes = []
    if variant is None and (flow.backend == "auto" or other_variant in BACKENDS[flow.backend]):
        variant = other_variant
    name, variant = resolve(flow.backend, variant, flow.cpu_baseline)
    default = resolve(name)[1]
    if name == other:
        raise SettingsError(f"--compare {compare} would compare {name} with itself; give another --backend")
    if flow.variant is None and variant != default:
        notes.append(
            f"{name} runs variant {variant}, the algorithm that {other} computes; without --compare it would run "
            f"variant {default}."
        )
    if variant != other_variant:
        title = " ".join(filter(None, (name, variant)))
        notes.append(f"{title} and {other} are two algorithms, so their flow differs by more than rounding.")
    known = parameter_names(other, other_variant)
    shared = {key: value for key, value in flow.parameters.items() if key.rstrip("_") in known}
    if unshared := sorted(set(flow.parameters) - set(shared)):
        notes.append(f"{other} has no parameter {', '.join(unshared)} and runs without.")
    first = dataclasses.replace(flow, backend=name, variant=variant)
    return [first, FlowSettings(backend=other, variant=other_variant, parameters=shared)], notes


def _created(flow: FlowSettings) -> FlowBackend:
    return create_backend(
        flow.backend, variant=flow.variant, parameters=flow.parameters, cpu_baseline=flow.cpu_baseline
    )


@contextlib.contextmanager
def _one_opencv_thread() -> Iterator[None]:
    before = cv2.getNumThreads()
    cv2.setNumThreads(1)
    try:
        yield
    finally:
        cv2.setNumThreads(before)


def _measured(
    videos: Path, resize: ResizeSettings, settings: BenchSettings, backends: Sequence[FlowBackend]
) -> Iterator[_Row | Unreadable]:
    for pair in sample_pairs(videos, settings.num_pairs, resize):
        if isinstance(pair, Unreadable):
            yield pair
            continue
        try:
            yield _measured_pair(pair, settings.num_repeats, backends)
        except VideoError as error:  # this pair's, such as a lack of memory for its size
            yield Unreadable(video=pair.video, why=error.detail)


def _measured_pair(pair: FramePair, num_repeats: int, backends: Sequence[FlowBackend]) -> _Row:
    seconds: list[list[float]] = [[] for _ in backends]
    flows: list[npt.NDArray[np.float32]] = []
    for _ in range(num_repeats):
        flows = []
        for backend, taken in zip(backends, seconds, strict=True):
            (source,) = backend.prepare(pair.frames[:1])
            start = time.perf_counter()
            (target,) = backend.prepare(pair.frames[1:])
            flows.append(backend.compute([source], [target])[0])
            taken.append(time.perf_counter() - start)
    height, width = pair.frames.shape[1:]
    return _Row(
        facts=PairFacts(video=pair.video, index=pair.index, width=width, height=height),
        seconds=tuple(statistics.median(taken) for taken in seconds),
        difference=difference(*flows) if len(flows) == 2 else None,
    )


def difference(flow: npt.NDArray[np.float32], other: npt.NDArray[np.float32]) -> Difference:
    """The difference of two flow fields in pixels, float32 (H, W, 2)."""
    lengths = np.hypot(*np.moveaxis(flow.astype(np.float64) - other, -1, 0))
    codes, other_codes = (np.stack(quantise(field, QuantiseSettings())) for field in (flow, other))
    return Difference(
        median_px=float(np.median(lengths)),
        mean_px=float(lengths.mean()),
        max_px=float(lengths.max()),
        equal_codes=float((codes == other_codes).mean()),
    )


def _progress(row: _Row, count: int, num_pairs: int) -> str:
    facts = row.facts
    seconds = " against ".join(f"{1000 * value:.1f} ms" for value in row.seconds)
    return f"Pair {count} of {num_pairs}: {facts.video} frame {facts.index}, {facts.width}x{facts.height}: {seconds}."


def _summed_up(backend: FlowBackend, place: int, rows: Sequence[_Row], num_pairs: int, jobs: int) -> Measured:
    seconds = tuple(row.seconds[place] for row in rows)
    return Measured(
        backend=backend.name,
        variant=backend.variant,
        parameters=dict(backend.parameters),
        pair_seconds=seconds,
        median_seconds=statistics.median(seconds),
        hours=num_pairs * statistics.fmean(seconds) / jobs / 3600,
    )


def _comparison(other: Measured, rows: Sequence[_Row]) -> Comparison:
    ratios = tuple(row.seconds[1] / row.seconds[0] for row in rows)
    lower, median, upper = (float(value) for value in np.percentile(ratios, (25, 50, 75)))
    return Comparison(
        other=other,
        ratios=ratios,
        ratio_quartiles=(lower, median, upper),
        differences=tuple(row.difference for row in rows if row.difference is not None),
    )

"""What the benchmarks of TV-L1 measure: real pairs at the stored size, and OpenCV's objects as its wheel makes them."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
import numpy.typing as npt

from flowprep.config import ResizeSettings
from flowprep.flow.backend import FlowBackend
from flowprep.flowfile import read_flow
from flowprep.pair import read_grey
from flowprep.sample import FramePair, sample_pairs

Clock = Callable[[], float]
Flow = npt.NDArray[np.float32]
UNKNOWN_PX = 1e9
"""Ground truth beyond this is unknown (Middlebury's files)."""


class Pair(NamedTuple):
    """Two neighbouring frames, grey uint8 (2, H, W), and their true flow (H, W, 2) in pixels where it is known."""

    name: str
    dataset: str
    frames: npt.NDArray[np.uint8]
    truth: Flow | None = None

    @property
    def size(self) -> str:
        """Width x height."""
        return f"{self.frames.shape[2]}x{self.frames.shape[1]}"


def real_pairs(data: Path, per_clip: int) -> list[Pair]:
    """Pairs at equal distances of each UCF101 and HMDB51 clip, at short side 256: slow and fast motion alike."""
    pairs = []
    for dataset in ("ucf101", "hmdb51"):
        clips = sorted(path for path in (data / "videos" / dataset).glob("*/*") if path.is_file())
        for clip in clips:
            for found in sample_pairs(clip, per_clip, ResizeSettings()):
                assert isinstance(found, FramePair), found
                pairs.append(Pair(f"{_short(clip)} {found.index}", dataset, found.frames))
    if not pairs:
        raise SystemExit(f"{data} has no clips in videos/ucf101 and videos/hmdb51; name the folder with --data")
    return pairs


def true_pairs(data: Path) -> list[Pair]:
    """The pairs with ground truth."""
    pairs = []
    for folder in sorted((data / "flow").iterdir()):
        truth = folder / "gt.flo"
        if truth.exists():
            frames = [read_grey(path) for path in sorted(folder.glob("frame?.*"))]
            pairs.append(Pair(folder.name, "truth", np.stack(frames), read_flow(truth)))
    return pairs


def _short(clip: Path) -> str:
    """The class, and enough of the name to tell clips of a class apart."""
    return f"{clip.parent.name}/{clip.stem.removeprefix('v_')[:12]}"


def opencv(frames: npt.NDArray[Any], **setters: float) -> Callable[[], Flow]:
    """A call of a fresh `cv2.optflow.DualTVL1OpticalFlow` with its defaults but for what `setters` name, on a pair."""
    algorithm: Any = cv2.optflow.DualTVL1OpticalFlow_create()
    for name, value in setters.items():
        getattr(algorithm, f"set{name}")(value)
    return lambda: np.asarray(algorithm.calc(frames[0], frames[1], None), np.float32)


def flow_of(backend: FlowBackend, frames: npt.NDArray[np.uint8]) -> Flow:
    """Flow of a pair."""
    source, target = backend.prepare(frames)
    return backend.compute([source], [target])[0]


def native_seconds(backend: FlowBackend, frames: npt.NDArray[np.uint8], clock: Clock = time.perf_counter) -> float:
    """A pair's share of a run, in which a frame is prepared once: its target's pyramid, and its flow."""
    (source,) = backend.prepare(frames[:1])
    start = clock()
    (target,) = backend.prepare(frames[1:])
    backend.compute([source], [target])
    return clock() - start


def seconds_of(call: Callable[[], Any], clock: Clock = time.perf_counter) -> float:
    """Time of a call."""
    start = clock()
    call()
    return clock() - start


@contextlib.contextmanager
def ipp(*, on: bool) -> Iterator[None]:
    """OpenCV with or without Intel's IPP; the wheels come with it on."""
    before = cv2.ipp.useIPP()
    cv2.ipp.setUseIPP(on)
    try:
        yield
    finally:
        cv2.ipp.setUseIPP(before)


def quartiles(values: Sequence[float]) -> str:
    """Median (lower quartile to upper quartile; minimum)."""
    low, middle, high = np.percentile(values, (25, 50, 75))
    return f"{middle:.1f} ({low:.1f} to {high:.1f}; at least {min(values):.1f})"

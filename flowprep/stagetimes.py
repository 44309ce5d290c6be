"""What a frame takes in each stage of an extraction here, and what bounds a run: measured in the pipeline itself.

Parts of a few videos are extracted in one process to a store that is removed again, by the pipeline's own functions
with a clock around each. Clocks show wall time and this process's processor time. In a stage that reads or writes the
difference is waiting for the disk; in one that computes it is time that other processes took. What is done once a video
or a shard, `commit` and `pack`, is shared by fewer frames than in a run, and so is shown dearer than it is there.
"""

from __future__ import annotations

import contextlib
import dataclasses
import shutil
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

import cv2
import numpy as np
from numpy.typing import NDArray

from flowprep import machine, source
from flowprep.config import BenchSettings, ExtractSettings, RunSettings
from flowprep.decode import VideoReader
from flowprep.devicetimes import DeviceTimes, WorkerTimes, measure_device
from flowprep.errors import DatasetError, MissingDataError, RunStoppedError, VideoError
from flowprep.flow import resolve
from flowprep.flow.backend import FlowBackend
from flowprep.flowstage import LocalFlow
from flowprep.pipeline import Stages, extract_frames, open_backend, own_stages
from flowprep.publisher import Publisher, open_publisher
from flowprep.records import Video
from flowprep.request import devices_of
from flowprep.sample import listed_videos, spread
from flowprep.stagebound import StageTime, advice, busy_note, find_bound
from flowprep.stores.pack import pack_shard

P = ParamSpec("P")
T = TypeVar("T")

STAGES: Mapping[str, str] = {
    "decode": "file to RGB",
    "resize": "to the stored size, and grey",
    "flow": "of each pair of frames",
    "quantise": "flow to 8 bits, and its sums",
    "encode frames": "JPEG",
    "encode flow": "JPEG",
    "write": "JPEGs to the disk, and their SHA-256",
    "commit": "flush and rename of a video, SHA-256 of its file",
    "pack": "commits to a shard, read back",
    "other": "between the stages",
}
"""Stage to what it is, in the order of the data."""

_NUM_VIDEOS, _VIDEO_SECONDS = 4, 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class StageTimes:
    """What was measured in one process, and what follows for `jobs` of them.

    `cpu_seconds` is the processor time of a frame; `bound_by` a stage, or `disk` where processes wait for that. Rates
    and hours for all jobs assume that memory and disk keep up with them. Where a device computes the flow, they are
    those of `device`, and `flow` is not in the stages, which are the workers'.
    """

    num_videos: int
    num_frames: int
    stages: tuple[StageTime, ...]
    frame_seconds: float
    cpu_seconds: float
    stored_bytes: float
    source_bytes: float
    jobs: int
    frames_per_second: float
    jobs_frames_per_second: float
    dataset: str
    hours: float
    bound_by: str
    advice: tuple[str, ...]
    notes: tuple[str, ...]
    complete: bool
    device: DeviceTimes | None = None

    def to_json(self) -> dict[str, Any]:
        """A JSON object."""
        return dataclasses.asdict(self)


class Clock:
    """Sums of wall and processor seconds by stage."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = defaultdict(float)
        self.cpu_seconds: dict[str, float] = defaultdict(float)

    def add(self, stage: str, seconds: float, cpu_seconds: float) -> None:
        """Add time to a stage."""
        self.seconds[stage] += seconds
        self.cpu_seconds[stage] += cpu_seconds

    def around(self, stage: str, function: Callable[P, T]) -> Callable[P, T]:
        """The function, with its time added to the stage."""

        def timed(*arguments: P.args, **named: P.kwargs) -> T:
            start, cpu_start = time.perf_counter(), time.process_time()
            try:
                return function(*arguments, **named)
            finally:
                self.add(stage, time.perf_counter() - start, time.process_time() - cpu_start)

        return timed

    def stages(self, num_frames: int) -> Stages:
        """The pipeline's own stages with clocks; decoding ends after `num_frames`, or when a video takes too long."""
        own = own_stages()

        def decode(reader: VideoReader) -> Iterator[NDArray[np.uint8]]:
            frames = own.decode(reader)
            pull = self.around("decode", lambda: next(frames, None))
            end = time.perf_counter() + _VIDEO_SECONDS
            for index in range(num_frames):
                frame = pull() if index < 2 or time.perf_counter() < end else None
                if frame is None:
                    return
                yield frame

        return Stages(
            decode=decode,
            resize=self.around("resize", own.resize),
            grey=self.around("resize", own.grey),
            encode_rgb=self.around("encode frames", own.encode_rgb),
            encode_plane=self.around("encode flow", own.encode_plane),
        )

    def flow(self, backend: FlowBackend, settings: ExtractSettings) -> LocalFlow:
        """The flow of a video, with clocks."""
        flow = LocalFlow(backend, settings)
        flow.prepare = self.around("flow", flow.prepare)
        flow.compute = self.around("flow", flow.compute)
        flow.codes_of = self.around("quantise", flow.codes_of)
        return flow


@dataclass(slots=True)
class _Totals:
    """Sums over what was extracted."""

    videos: list[Video] = dataclasses.field(default_factory=list)
    num_frames: int = 0
    wall_seconds: float = 0.0
    cpu_seconds: float = 0.0
    stored_bytes: int = 0
    source_bytes: float = 0.0
    grey: list[NDArray[np.uint8]] = dataclasses.field(default_factory=list)  # batches of the first video's frames


def measure_stages(
    videos: Path,
    out: Path,
    dataset: tuple[str, int],
    settings: ExtractSettings | None = None,
    bench: BenchSettings | None = None,
    *,
    devices: tuple[str, ...] | None = None,
    tell: Callable[[str], None] = lambda _: None,
) -> StageTimes:
    """Extract parts of the video file `videos`, or of videos of that folder, with a clock around each stage.

    A store is written to a folder beside what is in `out`, or would be, and removed. `dataset` is a name and the number
    of frames to give hours for. `devices` compute the flow; by default the first one if the backend is for that.
    Interrupted, it gives what was measured until then. `tell` hears notes.

    Raises:
        MissingDataError, DatasetError: There is no such file, no video, or none that can be read; `out` cannot be
            written.
        BackendUnavailableError: The backend cannot run here; the message has the reason and the cure.
        RunStoppedError: Interrupted before the first video was done, or the disk is full.
    """
    settings, bench = _resolved(settings or ExtractSettings()), bench or BenchSettings()
    devices = devices_of(settings, RunSettings()) if devices is None else devices
    folder, listed = listed_videos(videos)
    present = [video for video in listed if video.problem is None]
    chosen = [present[place] for place in spread(min(_NUM_VIDEOS, len(present)), len(present))] if present else []
    clock, totals, notes, complete = Clock(), _Totals(), list[str](), True
    with _scratch(out) as scratch, _backend(settings) as backend:
        publisher = open_publisher(scratch, settings, durability=bench.durability)
        try:
            for video in chosen:
                try:
                    _extract(video, folder, publisher, backend, clock, bench.num_frames, totals)
                except VideoError as error:
                    notes.append(f"{video.path} was left out: {error.detail}.")
                    tell(notes[-1])
                else:
                    tell(f"All stages of {video.path}: {totals.num_frames} frames so far.")
        except KeyboardInterrupt:
            complete = False
            notes.append(f"Stopped after {totals.num_frames} frames.")
        if not totals.num_frames:
            if not complete:
                raise RunStoppedError("stopped before the first video was done; start again, with fewer --frames")
            raise DatasetError(f"no video of {videos} can be read: {(notes or ['it has none'])[-1]}")
        _pack(scratch, publisher, clock, totals)
        jobs = bench.jobs or machine.num_cores()
        found = _summed_up(clock, totals, dataset, jobs, settings, notes, complete=complete)
        if devices and backend is not None and complete:
            found = _with_device(found, totals.grey, backend, settings, dataset[1], len(devices))
    return found


def _resolved(settings: ExtractSettings) -> ExtractSettings:
    name, variant = resolve(settings.flow.backend, settings.flow.variant, settings.flow.cpu_baseline)
    return dataclasses.replace(settings, flow=dataclasses.replace(settings.flow, backend=name, variant=variant))


@contextlib.contextmanager
def _scratch(out: Path) -> Iterator[Path]:
    try:
        folder = Path(tempfile.mkdtemp(prefix=".flowprep-bench-", dir=machine.existing_folder(out)))
    except OSError as error:
        raise MissingDataError(f"{out} cannot be written: {error.strerror}; give another --out") from error
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextlib.contextmanager
def _backend(settings: ExtractSettings) -> Iterator[FlowBackend | None]:
    """The backend with its kernels compiled, and OpenCV with one thread, as in a worker."""
    backend, num_threads = open_backend(settings), cv2.getNumThreads()
    cv2.setNumThreads(1)
    try:
        if backend is not None:
            backend.warm_up()
        yield backend
    finally:
        cv2.setNumThreads(num_threads)
        if backend is not None:
            backend.close()


def _extract(
    video: Video,
    folder: Path,
    publisher: Publisher,
    backend: FlowBackend | None,
    clock: Clock,
    num_frames: int,
    totals: _Totals,
) -> None:
    """What `pipeline.extract_video` does, of the first frames of a video; its times count only if all goes well."""
    measured = Clock()
    start, cpu_start = time.perf_counter(), time.process_time()
    path, index = folder / video.path, len(totals.videos)
    hashing = Clock()
    with publisher.begin(video, index, attempt="bench") as writer:
        with VideoReader(path, publisher.settings.decode, video.segment) as reader:
            expected = reader.expected_frames
            stages, add = measured.stages(num_frames), measured.around("write", writer.add)
            flow = measured.flow(backend, publisher.settings) if backend is not None else None
            if flow is not None and not totals.videos:
                flow.prepare = _keeping(totals.grey, flow.prepare)
            row = extract_frames(video, reader, publisher.settings, flow, add, lambda _: None, stages=stages)
            done = len(reader.pts_seconds)
        with source.opened(path) as file:
            version = source.fingerprint(file)
        hashing.around("commit", source.sha256_of)(path, version)
        stored = measured.around("commit", writer.commit)(row, reader.pts_seconds)
    # The whole file was hashed for a part of its frames: their share counts.
    share = min(1.0, done / expected) if expected else 1.0
    unshared = [(1 - share) * hashed["commit"] for hashed in (hashing.seconds, hashing.cpu_seconds)]
    measured.add("commit", share * hashing.seconds["commit"], share * hashing.cpu_seconds["commit"])
    for stage, seconds in measured.seconds.items():
        clock.add(stage, seconds, measured.cpu_seconds[stage])
    totals.videos.append(video)
    totals.num_frames += done
    totals.wall_seconds += time.perf_counter() - start - unshared[0]
    totals.cpu_seconds += time.process_time() - cpu_start - unshared[1]
    totals.stored_bytes += sum(stored.stream_bytes.values())
    totals.source_bytes += version.num_bytes * share


def _keeping(kept: list[Any], prepare: Callable[P, T]) -> Callable[P, T]:
    """`prepare`, and its frames are kept."""

    def keep(*arguments: P.args, **named: P.kwargs) -> T:
        kept.append(arguments[0])
        return prepare(*arguments, **named)

    return keep


def _with_device(
    found: StageTimes,
    grey: list[NDArray[np.uint8]],
    backend: FlowBackend,
    settings: ExtractSettings,
    num_frames: int,
    num_devices: int,
) -> StageTimes:
    """What was measured in one process, as of a run in which devices compute the flow."""
    workers = WorkerTimes.without_flow(found.stages, found.jobs, machine.num_cores())
    frames = np.concatenate(grey)
    if len(frames) < 2:
        return found
    device = measure_device(frames, len(grey[0]), backend, settings, workers, num_devices)
    rate = min(device.device_frames_per_second, device.workers_frames_per_second)
    bound_by = device.bound_by.removeprefix("workers: ")
    return dataclasses.replace(
        found,
        stages=tuple(dataclasses.replace(one, share=one.seconds / workers.seconds) for one in workers.stages),
        frame_seconds=workers.seconds,
        cpu_seconds=workers.cpu_seconds,
        frames_per_second=1 / workers.seconds,
        jobs_frames_per_second=rate,
        hours=num_frames / rate / 3600,
        bound_by=device.bound_by,
        advice=tuple(advice(bound_by, workers.stages, settings)),
        device=device,
    )


def _pack(scratch: Path, publisher: Publisher, clock: Clock, totals: _Totals) -> None:
    store = publisher.settings.store
    if store.format != "hdf5":
        return
    start, cpu_start = time.perf_counter(), time.process_time()
    pack = clock.around("pack", pack_shard)
    for shard in range(-(-len(totals.videos) // store.shard_videos)):
        pack(scratch, publisher.settings, totals.videos, shard, durability=publisher.durability)
    totals.wall_seconds += time.perf_counter() - start
    totals.cpu_seconds += time.process_time() - cpu_start


def _summed_up(
    clock: Clock,
    totals: _Totals,
    dataset: tuple[str, int],
    jobs: int,
    settings: ExtractSettings,
    notes: list[str],
    *,
    complete: bool,
) -> StageTimes:
    num, frame_seconds = totals.num_frames, totals.wall_seconds / totals.num_frames
    cpu_seconds = totals.cpu_seconds / num
    clock.add(
        "other",
        max(totals.wall_seconds - sum(clock.seconds.values()), 0.0),
        max(totals.cpu_seconds - sum(clock.cpu_seconds.values()), 0.0),
    )
    stages = tuple(
        StageTime(
            stage=stage,
            seconds=clock.seconds[stage] / num,
            cpu_seconds=clock.cpu_seconds[stage] / num,
            share=clock.seconds[stage] / totals.wall_seconds,
        )
        for stage in STAGES
        if stage in clock.seconds
    )
    if (note := busy_note(stages)) is not None:
        notes.append(note)
    bound_by = find_bound(stages)
    # More jobs than cores share these.
    rate = jobs / frame_seconds
    if jobs > machine.num_cores() and cpu_seconds > 0:
        rate = min(rate, machine.num_cores() / cpu_seconds)
    return StageTimes(
        num_videos=len(totals.videos),
        num_frames=num,
        stages=stages,
        frame_seconds=frame_seconds,
        cpu_seconds=cpu_seconds,
        stored_bytes=totals.stored_bytes / num,
        source_bytes=totals.source_bytes / num,
        jobs=jobs,
        frames_per_second=1 / frame_seconds,
        jobs_frames_per_second=rate,
        dataset=dataset[0],
        hours=dataset[1] / rate / 3600,
        bound_by=bound_by,
        advice=tuple(advice(bound_by, stages, settings)),
        notes=tuple(notes),
        complete=complete,
    )

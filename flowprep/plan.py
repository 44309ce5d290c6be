"""What a run would do, with disk and time estimated from a measured sample of the videos themselves."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import cv2

from flowprep import machine
from flowprep.config import ExtractSettings
from flowprep.decode import VideoReader
from flowprep.errors import VideoError
from flowprep.flow.backend import FlowBackend
from flowprep.flowstage import LocalFlow
from flowprep.pipeline import extract_frames, open_backend
from flowprep.publisher import open_publisher
from flowprep.records import Video
from flowprep.request import Prepared, Request, devices_of, prepare
from flowprep.survey import survey
from flowprep.turns import num_jobs
from flowprep.wording import counted

_NUM_SAMPLES = 4
_SAMPLE_FRAMES = 32
_SAMPLE_SECONDS = 4.0  # TV-L1 of one pair may take seconds, and a plan should not
_Result = TypeVar("_Result")
_BLOCK_BYTES = 4096  # a file of a tree takes whole blocks


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What a run would do. Estimates are 0 where no video could be sampled."""

    videos: Path
    out: Path
    settings: ExtractSettings
    num_videos: int
    num_classes: int
    num_todo: int
    num_missing: int
    num_unlisted: int
    source_bytes: int
    jobs: int
    num_sampled: int
    estimated_frames: int
    estimated_bytes: int
    estimated_seconds: float
    free_bytes: int
    notes: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """A JSON object."""
        data = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        return {**data, "videos": str(self.videos), "out": str(self.out), "settings": self.settings.to_json()}


@dataclass(frozen=True, slots=True, kw_only=True)
class _Sample:
    """One video's measured part: source bytes of the whole, frames of the whole, and cost of the part.

    `flow_seconds` of `seconds` were the backend's.
    """

    source_bytes: int
    num_frames: int
    measured_frames: int
    seconds: float
    flow_seconds: float
    stored_bytes: int


def plan(request: Request, *, tell: Callable[[str], None] = lambda _: None) -> Plan:
    """The plan of a request. Reads the list, decodes a few videos in part, and writes nothing.

    `tell` hears what takes a while.
    """
    prepared = prepare(request)
    videos, sizes = prepared.videos, prepared.saved.num_bytes
    assert sizes is not None, "the list of a run has sizes"
    todo = _to_do(request, prepared)
    present = [(videos[index], sizes[index]) for index in todo if sizes[index]]
    tell(f"Measuring parts of {counted(min(_NUM_SAMPLES, len(present)), 'video')} ...")
    samples = _measure([video for video, _ in present], request.videos, prepared.settings)
    source_bytes = sum(size for _, size in present)
    jobs, num_devices = num_jobs(request.run, len(todo)), len(devices_of(prepared.settings, request.run))
    frames = _scaled(source_bytes, sum(s.num_frames for s in samples), sum(s.source_bytes for s in samples))
    measured = sum(s.measured_frames for s in samples)
    return Plan(
        videos=request.videos,
        out=request.out,
        settings=prepared.settings,
        num_videos=len(prepared.indices(request.run.part)),
        num_classes=len(prepared.saved.listing.classes),
        num_todo=len(todo),
        num_missing=sum(videos[index].problem is not None for index in prepared.indices(request.run.part)),
        num_unlisted=len(prepared.saved.listing.unlisted),
        source_bytes=source_bytes,
        jobs=jobs,
        num_sampled=len(samples),
        estimated_frames=round(frames),
        estimated_bytes=round(_scaled(frames, sum(s.stored_bytes for s in samples), measured)),
        estimated_seconds=round(_scaled(frames, _seconds(samples, jobs, num_devices), measured), 3),
        free_bytes=shutil.disk_usage(machine.existing_folder(request.out)).free,
        notes=prepared.saved.listing.notes,
    )


def _seconds(samples: Sequence[_Sample], jobs: int, num_devices: int) -> float:
    """What the measured parts would take so many jobs, which share the devices if there are any."""
    whole, flow = sum(s.seconds for s in samples), sum(s.flow_seconds for s in samples)
    return max((whole - flow) / jobs, flow / num_devices) if num_devices else whole / jobs


def _scaled(amount: float, numerator: float, denominator: float) -> float:
    return amount * numerator / denominator if denominator else 0.0


def _to_do(request: Request, prepared: Prepared) -> list[int]:
    """List indices of the videos that a run would do."""
    indices = prepared.indices(request.run.part)
    if request.overwrite or not (request.out / ".flowprep").is_dir():
        return [index for index in indices if prepared.videos[index].problem is None]
    publisher = open_publisher(request.out, prepared.settings)
    return survey(publisher, prepared.videos, indices, request.videos, retry=request.run.retry)


def _measure(present: Sequence[Video], folder: Path, settings: ExtractSettings) -> list[_Sample]:
    """Measure up to four videos spread over the list; a video that fails says nothing and is left out."""
    num_samples = min(_NUM_SAMPLES, len(present))
    chosen = [present[(2 * k + 1) * len(present) // (2 * num_samples)] for k in range(num_samples)]
    backend = open_backend(settings)
    num_threads = cv2.getNumThreads()
    cv2.setNumThreads(1)
    try:
        if backend is not None and chosen:
            backend.warm_up()  # compiling is no part of what a video takes
        return [sample for video in chosen if (sample := _measure_one(video, folder, settings, backend)) is not None]
    finally:
        cv2.setNumThreads(num_threads)
        if backend is not None:
            backend.close()


class _EnoughError(Exception):
    """The sample is long enough."""


def _measure_one(video: Video, folder: Path, settings: ExtractSettings, backend: FlowBackend | None) -> _Sample | None:
    stored_bytes, measured, flow_seconds = 0, 0, 0.0
    tree = settings.store.format == "jpeg"

    def add(_stream: str, jpeg: bytes) -> None:
        nonlocal stored_bytes
        stored_bytes += -(-len(jpeg) // _BLOCK_BYTES) * _BLOCK_BYTES if tree else len(jpeg)

    def count(num_frames: int) -> None:
        nonlocal measured
        measured += num_frames
        if measured >= _SAMPLE_FRAMES or (measured > 2 and time.perf_counter() - start > _SAMPLE_SECONDS):
            raise _EnoughError

    def clocked(work: Callable[..., _Result]) -> Callable[..., _Result]:
        def run(*arguments: Any) -> _Result:
            nonlocal flow_seconds
            begun = time.perf_counter()
            try:
                return work(*arguments)
            finally:
                flow_seconds += time.perf_counter() - begun

        return run

    path = folder / video.path
    start = time.perf_counter()
    try:
        with VideoReader(path, settings.decode, video.segment) as reader:
            expected = reader.expected_frames
            with contextlib.suppress(_EnoughError):
                flow = LocalFlow(backend, settings) if backend is not None else None
                if flow is not None:
                    flow.prepare, flow.compute = clocked(flow.prepare), clocked(flow.compute)
                extract_frames(video, reader, settings, flow, add, count, batch_frames=2)
    except VideoError:
        return None
    source_bytes = os.stat(path).st_size
    if not expected and reader.num_bytes_read:  # a header without a length
        expected = round(measured * source_bytes / reader.num_bytes_read)
    return _Sample(
        source_bytes=source_bytes,
        num_frames=max(expected, measured),
        measured_frames=measured,
        seconds=time.perf_counter() - start,
        flow_seconds=flow_seconds,
        stored_bytes=stored_bytes,
    )

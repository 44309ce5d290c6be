"""What the owner of a device takes for a pair, stage by stage, in batches such as a run forms; and what bounds that.

The owner does these stages one after another: it copies frames out of shared memory, has them uploaded, computed and
downloaded, and copies codes back. A batch is a slot of each worker, or what the owner takes at most. Workers decode,
resize and encode beside it, so that a run is as fast as the slower side.
"""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import final

import numpy as np
from numpy.typing import NDArray

from flowprep.config import ExtractSettings
from flowprep.device.lane import LaneMemory, LaneShape
from flowprep.device.server import MAX_BATCH_PIXELS
from flowprep.errors import VideoError
from flowprep.flow.backend import FlowBackend, PreparedFrame
from flowprep.flowstage import codes_of_pairs
from flowprep.stagebound import StageTime, find_bound

DEVICE_STAGES: Mapping[str, str] = {
    "exchange": "frames and codes through shared memory",
    "upload": "frames to the device, and what both of their pairs share",
    "compute": "flow, and 8 bits of it",
    "download": "codes to the host",
}
"""Stage of the owner to what it is, in the order of the data."""

_REPEATS, _LONG_SECONDS = 3, 2.0


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceTimes:
    """Seconds of a pair in each stage of the owner, in batches of `num_pairs`, and what a run makes of it.

    `workers` is the time of a frame in each stage of a worker, in frames/s of all `jobs` if there were no other stage;
    `device` the same of the owners of `num_devices`. The rates are of each side as a whole, `bound_by` is such as
    `device: compute` or `workers: decode`. Where there is backward flow, a frame has two pairs.
    """

    num_devices: int
    num_pairs: int
    width: int
    height: int
    seconds: Mapping[str, float]
    device: Mapping[str, float]
    workers: Mapping[str, float]
    device_frames_per_second: float
    workers_frames_per_second: float
    bound_by: str


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerTimes:
    """What a frame takes a worker: its stages, wall and processor seconds, and how many workers and cores there are."""

    stages: tuple[StageTime, ...]
    seconds: float
    cpu_seconds: float
    jobs: int
    num_cores: int

    @classmethod
    def without_flow(cls, stages: Sequence[StageTime], jobs: int, num_cores: int) -> WorkerTimes:
        """Of the stages of one process that computes flow too."""
        own = tuple(stage for stage in stages if stage.stage not in ("flow", "quantise"))
        return cls(
            stages=own,
            seconds=sum(stage.seconds for stage in own),
            cpu_seconds=sum(stage.cpu_seconds for stage in own),
            jobs=jobs,
            num_cores=num_cores,
        )

    def frames_per_second(self, num_devices: int) -> float:
        """Of all workers, where each owner of a device keeps a core busy."""
        cores = max(1, self.num_cores - num_devices)
        rate = self.jobs / self.seconds
        return min(rate, cores / self.cpu_seconds) if self.jobs > cores and self.cpu_seconds > 0 else rate


def measure_device(
    frames: NDArray[np.uint8],
    slot_frames: int,
    backend: FlowBackend,
    settings: ExtractSettings,
    workers: WorkerTimes,
    num_devices: int = 1,
) -> DeviceTimes:
    """Measure a batch of the frames of one video, uint8 (T, H, W), grey, T at least 2, by a backend of this process.

    `slot_frames` are the frames that a worker sends at a time. A batch for which there is no memory is halved, as the
    owner does. Raises VideoError where there is none for a single pair, or the backend fails.
    """
    _, height, width = frames.shape
    num_pairs = max(1, min(workers.jobs * slot_frames, MAX_BATCH_PIXELS // (height * width)))
    while True:
        try:
            seconds = _batch_seconds(frames, num_pairs, slot_frames, backend, settings)
            break
        except VideoError as error:
            if error.code != "memory" or num_pairs == 1:
                raise
            num_pairs //= 2
    directions = 2 if settings.flow.backward else 1
    rates = {stage: num_devices / (directions * taken) for stage, taken in seconds.items() if taken > 0}
    device_rate = num_devices / (directions * sum(seconds.values()))
    workers_rate = workers.frames_per_second(num_devices)
    if workers_rate < device_rate:
        bound_by = f"workers: {find_bound(workers.stages)}"
    else:
        bound_by = f"device: {max(seconds, key=lambda stage: seconds[stage])}"
    return DeviceTimes(
        num_devices=num_devices,
        num_pairs=num_pairs,
        width=width,
        height=height,
        seconds=seconds,
        device=rates,
        workers={stage.stage: workers.jobs / stage.seconds for stage in workers.stages if stage.seconds > 0},
        device_frames_per_second=device_rate,
        workers_frames_per_second=workers_rate,
        bound_by=bound_by,
    )


def _batch_seconds(
    frames: NDArray[np.uint8], num_pairs: int, slot_frames: int, backend: FlowBackend, settings: ExtractSettings
) -> dict[str, float]:
    """Seconds of a pair by stage: the median of some batches, without the first, which makes room for the others."""
    _, height, width = frames.shape
    memory, descriptor = LaneMemory.create(LaneShape(height=height, width=width, frames=num_pairs, directions=1))
    os.close(descriptor)
    try:
        order = _to_and_fro(len(frames), num_pairs + 1)
        memory.frames(0, num_pairs)[...] = frames[order[1:]]
        (start,) = backend.prepare(frames[:1])
        first = _one_batch(memory, start, num_pairs, slot_frames, backend, settings)
        repeats = _REPEATS if sum(first.values()) < _LONG_SECONDS else 1
        taken = [_one_batch(memory, start, num_pairs, slot_frames, backend, settings) for _ in range(repeats)]
    finally:
        memory.close()
    return {stage: statistics.median(one[stage] for one in taken) / num_pairs for stage in DEVICE_STAGES}


def _one_batch(
    memory: LaneMemory,
    start: PreparedFrame,
    num_pairs: int,
    slot_frames: int,
    backend: FlowBackend,
    settings: ExtractSettings,
) -> dict[str, float]:
    """Seconds by stage of one batch, as `flowprep.device.server` does it."""
    waiting = memory.frames(0, num_pairs)
    begun = time.perf_counter()
    joined = np.concatenate([waiting[at : at + slot_frames] for at in range(0, num_pairs, slot_frames)])
    copied = time.perf_counter()
    prepared = [start, *backend.prepare(joined)]
    backend.wait()
    uploaded = time.perf_counter()
    codes = [one() for one in codes_of_pairs(backend, prepared[:-1], prepared[1:], settings.quantise)]
    computed = time.perf_counter()
    for plane, one in zip(memory.codes(0, num_pairs), codes, strict=True):
        plane[0], plane[1] = one.x, one.y
    ended = time.perf_counter()
    download = min(backend.download_seconds, computed - uploaded)
    return {
        "exchange": copied - begun + ended - computed,
        "upload": uploaded - copied,
        "compute": computed - uploaded - download,
        "download": download,
    }


def _to_and_fro(num_frames: int, length: int) -> list[int]:
    """Indices of frames, forwards and backwards in turns, so that neighbours are always neighbours of the video."""
    there = [*range(num_frames), *range(num_frames - 2, 0, -1)]
    return [there[k % len(there)] for k in range(length)]

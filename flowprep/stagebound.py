"""What bounds a run and what would help, by the times of its stages."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from flowprep.config import ExtractSettings

_DISK_STAGES = ("write", "commit", "pack")
_WAITING_STAGES = ("decode", *_DISK_STAGES)
_COMPUTING_STAGES = ("resize", "flow", "quantise", "encode frames", "encode flow")
_WAITING_SHARE, _BUSY_SHARE = 0.3, 0.15
"""Shares of time, chosen: waiting for the disk, from which a run is bound by it; and taken by others, to be told."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StageTime:
    """Seconds of a frame in a stage: wall and processor time, and the share of all wall time, 0 to 1."""

    stage: str
    seconds: float
    cpu_seconds: float
    share: float


def find_bound(stages: tuple[StageTime, ...]) -> str:
    """The stage that takes most, `disk` for those of the disk together; `disk` too where much of all is waiting."""
    if _waiting(stages, _WAITING_STAGES) > _WAITING_SHARE * sum(time.seconds for time in stages):
        return "disk"
    seconds = {time.stage: time.seconds for time in stages if time.stage not in (*_DISK_STAGES, "other")}
    seconds["disk"] = sum(time.seconds for time in stages if time.stage in _DISK_STAGES)
    return max(seconds, key=lambda stage: seconds[stage])


def busy_note(stages: tuple[StageTime, ...]) -> str | None:
    """That other processes took much of the time, if they did, and what a frame would take without them."""
    taken, all_seconds = _waiting(stages, _COMPUTING_STAGES), sum(time.seconds for time in stages)
    if taken <= _BUSY_SHARE * all_seconds:
        return None
    return (
        f"Other processes took {100 * taken / all_seconds:.0f} % of the time: on an idle machine a frame takes about "
        f"{1000 * (all_seconds - taken):.1f} ms."
    )


def _waiting(stages: tuple[StageTime, ...], which: tuple[str, ...]) -> float:
    """Seconds of a frame in which some stages did not run."""
    return sum(max(time.seconds - time.cpu_seconds, 0.0) for time in stages if time.stage in which)


def advice(bound_by: str, stages: tuple[StageTime, ...], settings: ExtractSettings) -> Iterator[str]:
    """What would make a run faster, most useful first, one sentence each."""
    ms = {time.stage: 1000 * time.seconds for time in stages}
    if bound_by.startswith("device"):
        yield "The device bounds it: another one would help (--device cuda:0,cuda:1), more --jobs or cores would not."
    elif bound_by == "disk":
        yield "A faster disk would help most, or a local one from which the finished store is copied."
        yield "--durability fast flushes nothing (a power failure then costs videos); --format hdf5 writes few files."
    else:
        yield "Cores bound it: twice as many take half as long, here (--jobs) or on other machines (--part I/N)."
        if sum(ms.get(stage, 0.0) for stage in _DISK_STAGES) < 0.1 * sum(ms.values()):
            yield "A faster disk would not help."
    if bound_by == "flow" and settings.flow.backend in ("opencv", "farneback", "dis"):
        yield "--backend native computes TV-L1 many times as fast as opencv; dis and farneback are other algorithms."
    if bound_by == "decode":
        yield "Videos that are stored in smaller frames, or in a codec that is easier to decode, would help."
    if "encode frames" in ms and ms["encode frames"] > 0.05 * sum(ms.values()):
        yield f"--no-rgb would leave out {ms['encode frames']:.2f} ms a frame, and the frames."

"""A child process as the run sees it: it is given videos, and says what has become of them."""

from __future__ import annotations

import itertools
import threading
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import final

from flowprep import child
from flowprep.config import ExtractSettings
from flowprep.errors import BackendUnavailableError, DeviceLostError, DiskFullError, RunStoppedError, StoreError
from flowprep.limits import Limits
from flowprep.process import NONSENSE, START_SECONDS, LostError, SupervisedProcess
from flowprep.records import Row, Video

_names = itertools.count()
_DEVICE_STALLS = 4  # a device that hangs is given up first, and its other batches take their time


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """What all videos of a run share. `memory_bytes` is what one may take beyond what a child needs anyway.

    `stall_seconds` is how long a video may make no progress; None: by the size of its frames, see `flowprep.limits`.
    `devices` are those that compute flow, such as `cuda:0`; without any each child does that itself.
    """

    videos: Path
    out: Path
    settings: ExtractSettings
    durability: str
    memory_bytes: int = 3 << 29
    stall_seconds: float | None = None
    devices: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """One video and its place in the list."""

    list_index: int
    video: Video


class IdleDeathError(Exception):
    """The child died before it began the video, which is not to blame."""


@final
class ChildProcess(SupervisedProcess):
    """A running child. `build` is what computes flow, "" where a device does or none is stored."""

    def __init__(self, work: Work, abort: threading.Event, waiting: Callable[[], None] = lambda: None) -> None:
        super().__init__(child.COMMAND, abort, waiting)
        self._work = work
        self.build = ""

    def wait_until_ready(self) -> None:
        """Wait for the child's first message. Raises as `Supervisor.perform`, and IdleDeathError."""
        work = self._work
        hello = {
            "videos": str(work.videos),
            "out": str(work.out),
            "settings": work.settings.to_json(),
            "durability": work.durability,
            "memory_bytes": work.memory_bytes,
            "on_device": bool(work.devices),
        }
        try:
            self.send({"work": hello})
            message = self.receive(time.monotonic() + START_SECONDS)
        except LostError as error:
            raise IdleDeathError(error.text()) from error
        match message:
            case {"event": "ready", "build": str(build)}:
                self.build = build
            case {"event": "unusable", "error": str(reason)}:
                raise BackendUnavailableError(reason)
            case _:
                raise IdleDeathError(NONSENSE)

    def perform(self, task: Task, progress: Callable[[int], None], device: str | None = None) -> Row:
        """Have the child do a video; `device` is the address of who computes its flow.

        Raises LostError where the child is lost over it, IdleDeathError where it was before, and DeviceLostError where
        the device is; then the child is well.
        """
        attempt = f"{next(_names)}-{uuid.uuid4().hex[:12]}"
        stall_seconds = self._work.stall_seconds
        if stall_seconds is not None and device is not None:
            stall_seconds *= _DEVICE_STALLS
        limits = Limits(stall_seconds)
        self.forget_stderr()
        start = last = time.monotonic()
        request = {"video": task.video.to_json(), "list_index": task.list_index, "attempt": attempt, "device": device}
        self.send({"task": request})
        try:
            acknowledgement = self.receive(start + START_SECONDS)
        except LostError as error:
            raise IdleDeathError(error.detail) from error
        if acknowledgement != {"event": "begun"}:
            raise IdleDeathError(NONSENSE)
        while True:
            message = self.receive(min(last + limits.stall_seconds, start + limits.wall_seconds))
            last = time.monotonic()
            match message:
                case {"event": "opened", "frames": int(num_frames), "pixels": int(num_pixels)}:
                    limits.opened(num_frames, num_pixels)
                case {"event": "frames", "num": int(num_frames)}:
                    limits.done(num_frames)
                    progress(num_frames)
                case {"event": "row", "row": dict(row)}:
                    try:
                        return Row.from_json(row)
                    except (KeyError, TypeError, ValueError) as error:
                        raise self.lost("crash", NONSENSE) from error
                case {"event": "memory"}:
                    raise self.lost("memory", "there is not enough memory; raise --memory")
                case {"event": "device_lost", "error": str(reason)}:
                    raise DeviceLostError(reason)
                case {"event": "stopped", "error": str(reason), "is_full": bool(is_full)}:
                    raise DiskFullError(reason) if is_full else RunStoppedError(reason)
                case {"event": "damaged", "error": str(reason)}:
                    raise StoreError(reason)
                case _:
                    raise self.lost("crash", NONSENSE)

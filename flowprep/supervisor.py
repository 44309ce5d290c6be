"""The run's side of a child: starts it, gives it videos, watches it, and says who is to blame when it dies.

A video that crashes its child, hangs it or runs out of memory gets a second try in a fresh one; then it is quarantined,
and no other video has paid for it. What counts is what the child has published: one that dies between its commit and
its answer has done its video.
"""

from __future__ import annotations

import dataclasses
import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flowprep import commit, source
from flowprep.childprocess import ChildProcess, IdleDeathError, Task, Work
from flowprep.device.process import MAX_DEATHS, Device
from flowprep.errors import CannotWorkError, DeviceLostError, VideoError
from flowprep.process import LostError
from flowprep.publisher import Publisher, open_publisher
from flowprep.records import Reason, Row, State
from flowprep.stores.rowfile import Entry

_log = logging.getLogger(__name__)
MAX_TRIES = 2
_RETRIED_AT_ONCE = frozenset({"io", "changed"})
_BACK_OFF_SECONDS = 1.0
_MAX_STARTS = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """One try at a video: who made it, how long it took, and how it ended.

    `outcome` is a state of the video, or the reason why it has none: `crash`, `timeout`, `memory`. `stderr` is the last
    that the child wrote where the video was not stored.
    """

    worker: str
    seconds: float
    outcome: str
    stderr: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Done:
    """What became of a task, and at what cost. `build` is what computed its flow, "" where there is none."""

    list_index: int
    row: Row
    seconds: float
    attempts: tuple[Attempt, ...]
    build: str

    @property
    def num_attempts(self) -> int:
        """How often it was tried."""
        return len(self.attempts)

    @property
    def worker(self) -> str:
        """Who made the last attempt."""
        return self.attempts[-1].worker


class SetAsideError(Exception):
    """The device died while it had this video and maybe others: who is to blame is found out when it runs alone."""

    def __init__(self, attempt: Attempt) -> None:
        super().__init__(attempt)
        self.attempt = attempt


class Supervisor:
    """Does videos one after another in a child, which is started when it is first needed and replaced when it dies.

    Where there is a `device`, that computes the flow. `progress` may be another one for each video, and so may
    `waiting`, which is called several times a second while a child is waited for: it is then within its limits.
    """

    def __init__(
        self, work: Work, abort: threading.Event, progress: Callable[[int], None], device: Device | None = None
    ) -> None:
        self._work, self._abort, self.progress, self._device = work, abort, progress, device
        self._publisher = open_publisher(work.out, work.settings, durability=work.durability)
        self._child: ChildProcess | None = None
        self.waiting: Callable[[], None] = lambda: None
        self._is_discarding = False

    def perform(self, task: Task, *, aside: Attempt | None = None) -> Done:
        """One video, tried again where that may help. Its outcome is published when this returns.

        `aside` is the attempt for which it was set aside. It is the only one that the device has now, and so to blame
        if that dies.

        Raises:
            SetAsideError: the device died, and others may be to blame.
            RunStoppedError: the store cannot be written, or no child can be started.
            BackendUnavailableError: the flow backend does not run here.
            AbortedError: the run ends now.
        """
        start = time.perf_counter()
        attempts = [] if aside is None else [aside]
        max_attempts = len(attempts) + MAX_TRIES
        row: Row | None = None
        lost: LostError | None = None
        num_idle_deaths = 0
        while row is None:
            begun = time.perf_counter()
            process = self._started()
            before = self._entry(task)
            address = None
            if self._device is not None:  # alone, a video may be one of several that break it
                address = self._device.address(MAX_DEATHS * (1 if aside is None else MAX_TRIES))
            try:
                row, lost = process.perform(task, self.progress, address), None
                outcome, stderr = str(row.state), "" if row.state.stored else process.stderr()
            except IdleDeathError as error:
                self._discard()
                num_idle_deaths += 1
                if num_idle_deaths == _MAX_STARTS:
                    raise CannotWorkError(f"worker processes die before they begin: {error}; run again") from error
                continue
            except LostError as error:
                self._discard()
                after = self._entry(task)
                lost, outcome, stderr = error, error.code, error.stderr
                if after is not None and after != before:
                    row, lost, outcome = after.row, None, str(after.row.state)
            except DeviceLostError:
                assert self._device is not None, "only a device can be lost"
                assert address is not None, "it has one"
                lost = self._device.why_lost(address)
                outcome, stderr = lost.code, lost.stderr
            except BaseException:
                self._discard()
                raise
            if row is not None and any(reason.code == "internal" for reason in row.reasons):
                _log.error("%s: an error of ours; its process wrote:\n%s", task.video.id, stderr)
            seconds = round(time.perf_counter() - begun, 4)
            attempts.append(Attempt(worker=process.name, seconds=seconds, outcome=outcome, stderr=stderr))
            if outcome == "gpu_crash" and aside is None:
                raise SetAsideError(attempts[-1])
            if len(attempts) >= max_attempts:
                break
            if row is not None and not row.state.stored and any(r.code in _RETRIED_AT_ONCE for r in row.reasons):
                row = None
                self._abort.wait(_BACK_OFF_SECONDS)
        if row is None:
            assert lost is not None, "without a row the child was lost"
            row = quarantine(self._publisher, self._work.videos, task, Reason(lost.code, lost.detail))
        return Done(
            list_index=task.list_index,
            row=row,
            seconds=time.perf_counter() - start,
            attempts=tuple(attempts),
            build=(process if self._device is None else self._device).build if row.flows else "",
        )

    def close(self) -> None:
        """Let the child end."""
        if self._is_discarding:  # a second Ctrl-C has cut that short
            self._discard()
        if self._child is not None:
            self._child.close()
            self._child = None

    def _started(self) -> ChildProcess:
        """A child that is alive and waits for a video."""
        if self._child is not None and self._child.is_alive():
            return self._child
        self._discard()
        for _ in range(_MAX_STARTS):
            process = ChildProcess(self._work, self._abort, lambda: self.waiting())
            try:
                process.wait_until_ready()
            except IdleDeathError as error:
                process.kill()
                reason = str(error)
            except BaseException:
                process.kill()
                raise
            else:
                self._child = process
                return process
        raise CannotWorkError(f"a worker process cannot start: {reason}; mend that and run the same command again")

    def _discard(self) -> None:
        """Get rid of the child and of what it has staged."""
        if self._child is not None:
            self._is_discarding = True
            self._child.kill()
            commit.remove_leftovers(self._work.out)
            self._child, self._is_discarding = None, False

    def _entry(self, task: Task) -> Entry | None:
        return self._publisher.read_entry(task.video, task.list_index)


def quarantine(publisher: Publisher, videos: Path, task: Task, reason: Reason) -> Row:
    """Publish that a video was given up, with what a later run compares its file by; gives the row that holds."""
    path, num_bytes, sha256, mtime_ns = videos / task.video.path, 0, "", 0
    try:
        with source.opened(path) as file:
            version = source.fingerprint(file)
        num_bytes, mtime_ns = version.num_bytes, version.mtime_ns
        sha256 = source.sha256_of(path, version)
    except VideoError:
        pass  # it has gone meanwhile, and will be looked at again
    row = dataclasses.replace(
        Row.unstored(task.video, State.QUARANTINED, reason), source_bytes=num_bytes, source_sha256=sha256
    )
    return publisher.publish_row(row, task.list_index, source_mtime_ns=mtime_ns)


def event_of(done: Done) -> dict[str, Any]:
    """The journal's line of a video; `frames` are images or, where none are stored, flows."""
    row = done.row
    return {
        "id": row.id,
        "state": str(row.state),
        "reasons": [reason.code for reason in row.reasons],
        "seconds": round(done.seconds, 4),
        "frames": max(row.frames, row.flows),
        "flows": row.flows,
        "bytes": row.source_bytes,
        "build": done.build,
        "attempts": [
            {name: value for name, value in dataclasses.asdict(attempt).items() if value != ""}
            for attempt in done.attempts
        ],
    }

"""`flowprep status`: how far a run is, or was, from the journals of its processes.

What a journal says is no proof: a process that was killed between a commit and its line leaves no line, and a run that
finds such a commit takes it over without one. `merge` and the manifest go by what is on disk, so the two may differ by
a few videos. Everything is read line by line, also while it is being written.
"""

from __future__ import annotations

import contextlib
import dataclasses
import datetime as dt
import heapq
from collections import Counter, deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from flowprep.driver import Holder, holders
from flowprep.errors import MissingDataError
from flowprep.journal import journal_folder, journals, read_journal
from flowprep.machine import file_system_seconds
from flowprep.records import State
from flowprep.resume import read_settings
from flowprep.stores.places import MANIFEST
from flowprep.stores.savedlist import read_problems

WINDOW_SECONDS = 300.0
"""How long back the rates look."""
_NUM_NAMED = 10


@dataclass(slots=True, kw_only=True)
class Worker:
    """One process that has worked on a store, as its journal tells.

    `state` is `working`, `done`, `stopped` (by a signal or an error), or `lost`: its journal has no end, and its driver
    file does not beat. `silent_seconds` is how long ago it gave its last sign of life. `num_todo` and `bytes_todo` are
    what it had set out to do. Rates are those of its last `WINDOW_SECONDS`.
    """

    host: str = ""
    pid: int = 0
    part: str | None = None
    since: str = ""
    state: str = "lost"
    error: str = ""
    silent_seconds: float = 0.0
    num_todo: int = 0
    bytes_todo: int = 0
    num_videos: int = 0
    num_frames: int = 0
    num_bytes: int = 0
    videos_per_second: float = 0.0
    frames_per_second: float = 0.0
    eta_seconds: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class TimedVideo:
    """A video that stands out: how long it took in its last run, and in how many attempts."""

    id: str
    seconds: float
    frames: int
    num_attempts: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Status:
    """How far a store is. `states` and `reasons` count the videos of its list.

    Rates are the sum of those at work, without any those of the process that began last. `eta_seconds` is when the last
    of those at work will be done with what it set out to do, None where that is not known. `is_finished` says that
    nothing is pending, nobody at work, and a manifest there.
    """

    out: Path
    num_videos: int
    states: Mapping[str, int]
    reasons: Mapping[str, int]
    is_finished: bool
    videos_per_second: float
    frames_per_second: float
    eta_seconds: float | None
    slowest: tuple[TimedVideo, ...]
    num_retried: int
    retried: tuple[TimedVideo, ...]
    workers: tuple[Worker, ...]

    def to_json(self) -> dict[str, Any]:
        """A JSON object."""
        data = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
        for name in ("slowest", "retried", "workers"):
            data[name] = [dataclasses.asdict(one) for one in data[name]]
        return {**data, "out": str(self.out)}


@dataclass(slots=True)
class _Ledger:
    """What all journals say about videos: the last outcome of each, and those that stand out."""

    outcomes: dict[str, tuple[str, ...]] = field(default_factory=dict)
    slowest: list[tuple[float, int, TimedVideo]] = field(default_factory=list)
    retried: list[tuple[int, int, TimedVideo]] = field(default_factory=list)
    num_retried: int = 0
    _known: dict[tuple[str, ...], tuple[str, ...]] = field(default_factory=dict)
    _count: int = 0

    def add(self, event: Mapping[str, Any]) -> None:
        """Take in the line of a video."""
        self._count += 1
        outcome = (event["state"], *event["reasons"])
        self.outcomes[event["id"]] = self._known.setdefault(outcome, outcome)
        num_attempts, seconds = len(event["attempts"]), event["seconds"]
        stands_out = len(self.slowest) < _NUM_NAMED or seconds > self.slowest[0][0]
        if not stands_out and num_attempts < 2:
            return
        video = TimedVideo(id=event["id"], seconds=seconds, frames=event["frames"], num_attempts=num_attempts)
        _keep(self.slowest, (seconds, self._count, video))
        if num_attempts > 1:
            self.num_retried += 1
            _keep(self.retried, (num_attempts, self._count, video))


def status(out: Path) -> Status:
    """How far the store `out` is. Raises MissingDataError where it is none, StoreError where its list is damaged."""
    read_settings(out)
    at_work = [holder for holder in holders(out) if holder.beats]
    now = _now(out)
    ledger, workers = _Ledger(), []
    for path in journals(out):
        with contextlib.suppress(OSError):
            workers.append(_worker(path, at_work, ledger, now))
    states, reasons = Counter[str](), Counter[str]()
    for video_id, problem in read_problems(out):  # journals may be of earlier lists too
        outcome = (str(State.FAILED), problem) if problem else ledger.outcomes.get(video_id, (str(State.PENDING),))
        states[outcome[0]] += 1
        reasons.update(outcome[1:])
    active = [worker for worker in workers if worker.state == "working"]
    rated = active or workers[-1:]
    etas = [worker.eta_seconds for worker in active]
    return Status(
        out=out,
        num_videos=states.total(),
        states={state: count for state, count in states.items() if count},
        reasons=dict(reasons.most_common()),
        is_finished=not at_work and not states[str(State.PENDING)] and (out / MANIFEST).exists(),
        videos_per_second=round(sum(worker.videos_per_second for worker in rated), 4),
        frames_per_second=round(sum(worker.frames_per_second for worker in rated), 3),
        eta_seconds=None if not etas or None in etas else max(eta for eta in etas if eta is not None),
        slowest=_best(ledger.slowest),
        num_retried=ledger.num_retried,
        retried=_best(ledger.retried),
        workers=tuple(workers),
    )


def _worker(path: Path, at_work: Iterable[Holder], ledger: _Ledger, now: float) -> Worker:
    """Read one journal; its videos go to the ledger. `now` is by the clock of the file system."""
    worker, recent, ended = Worker(), deque[tuple[float, int, int]](), False
    begun = last = 0.0
    for event in read_journal(path):
        try:
            last = dt.datetime.fromisoformat(event["time"]).timestamp()
            if event["event"] == "video":
                ledger.add(event)
                worker.num_videos += 1
                worker.num_frames += event["frames"]
                worker.num_bytes += event["bytes"]
                recent.append((last, event["frames"], event["bytes"]))
                while recent[0][0] < last - WINDOW_SECONDS:
                    recent.popleft()
            elif event["event"] == "start":
                begun, worker.since = last, event["time"]
                worker.host, worker.pid, worker.part = event["host"], event["pid"], event["part"]
                worker.num_todo, worker.bytes_todo = event["num_todo"], event["num_bytes"]
            elif event["event"] == "end":
                ended = True
                worker.error = event["error"]
                worker.state = "stopped" if event["interrupted"] else "done"
        except (KeyError, TypeError, ValueError):
            continue  # a line of another version
    silence = max(0.0, now - path.stat().st_mtime)  # since its last line
    beats = [h.silent_seconds for h in at_work if (h.host, h.pid, h.part) == (worker.host, worker.pid, worker.part)]
    worker.silent_seconds = round(min([silence, *beats]), 1)
    if beats and not ended:
        worker.state = "working"
        last += silence  # its clock and ours may differ, but time goes on for both
    _rate(worker, recent, begun, last)
    return worker


def _rate(worker: Worker, recent: Iterable[tuple[float, int, int]], begun: float, until: float) -> None:
    """Fill in the rates of a process that began at `begun`, and when it will be done, by its own clock."""
    since = max(begun, until - WINDOW_SECONDS)
    inside = [(frames, num_bytes) for time, frames, num_bytes in recent if time >= since]
    seconds = max(until - since, 1e-3)
    worker.videos_per_second = round(len(inside) / seconds, 4)
    worker.frames_per_second = round(sum(frames for frames, _ in inside) / seconds, 3)
    done, left = sum(num_bytes for _, num_bytes in inside), worker.bytes_todo - worker.num_bytes
    if worker.state == "working" and (done or left <= 0):
        worker.eta_seconds = round(max(0, left) * seconds / done, 1) if done else 0.0


def _keep(best: list[Any], item: tuple[float, int, TimedVideo]) -> None:
    """Keep the largest items of a heap."""
    if len(best) < _NUM_NAMED:
        heapq.heappush(best, item)
    else:
        heapq.heappushpop(best, item)


def _best(heap: Iterable[tuple[float, int, TimedVideo]]) -> tuple[TimedVideo, ...]:
    return tuple(video for _, _, video in sorted(heap, reverse=True))


def _now(out: Path) -> float:
    folder = journal_folder(out)
    if not folder.is_dir():
        raise MissingDataError(f"{out} has no journals: no run has worked on it, or they were removed")
    return file_system_seconds(folder)

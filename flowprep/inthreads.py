"""Work on videos in threads of this process, for what copies and checks files and computes nothing."""

from __future__ import annotations

import collections
import concurrent.futures
import dataclasses
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import final

from flowprep import journal
from flowprep.errors import FlowprepError
from flowprep.interruption import Interruption
from flowprep.listener import Listener, Start
from flowprep.records import Row, Video
from flowprep.summary import Counts, Tally
from flowprep.supervisor import Attempt, Done, event_of


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of an entry of the list, and how long that took."""

    list_index: int
    row: Row
    seconds: float


def rows_of(indices: Iterable[int], work: Callable[[int], Row], jobs: int, stop: threading.Event) -> Iterator[Outcome]:
    """The row that `work` gives for each index, `jobs` at a time and in order; no other begins when `stop` is set.

    What `work` raises ends it all. Few results wait at a time, whatever the length of the list.
    """

    def timed(index: int) -> Outcome:
        started = time.perf_counter()
        return Outcome(index, work(index), time.perf_counter() - started)

    with concurrent.futures.ThreadPoolExecutor(jobs) as pool:
        waiting: collections.deque[concurrent.futures.Future[Outcome]] = collections.deque()
        try:
            for index in indices:
                if stop.is_set():
                    break
                waiting.append(pool.submit(timed, index))
                if len(waiting) >= 2 * jobs:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


@final
class Progress:
    """What came of the videos so far. `complete` is False where that was stopped before the end."""

    def __init__(self) -> None:
        self.counts, self.tally = Counts(), Tally()
        self.complete = False


def do_videos(
    out: Path,
    videos: Sequence[Video],
    todo: Sequence[int],
    work: Callable[[int], Row],
    *,
    jobs: int,
    heard: Listener,
    interruption: Interruption,
    after: Callable[[Outcome], None] = lambda _: None,
    rest: Callable[[Callable[[], bool]], bool] = lambda _: True,
) -> Progress:
    """Do the videos `todo` of a list in threads, told to journal and listener as a run of `extract` tells its own.

    `work` runs in any thread, `after` in this one, for each outcome. At the end `rest` is called with what tells
    whether to stop, and says whether it came to its end. Signals are handled as in a run.
    """
    started, stop, progress = time.perf_counter(), interruption.stop, Progress()
    jobs = min(jobs, max(len(todo), 1))
    with journal.Journal(journal.journal_folder(out)) as record:
        start = Start(num_videos=len(videos), num_todo=len(todo), num_bytes=0, jobs=jobs)
        record.begin(**dataclasses.asdict(start))
        heard.started(start)
        error = ""
        try:
            with interruption.watched(heard.note):
                for outcome in rows_of(todo, work, jobs, stop):
                    after(outcome)
                    _tell(outcome, videos, progress, record, heard)
                progress.complete = progress.tally.num_videos == len(todo) and rest(stop.is_set)
        except KeyboardInterrupt:
            pass  # by a second signal; what is not finished is pending
        except FlowprepError as failure:
            error = str(failure)
            raise
        finally:
            progress.tally.seconds = round(time.perf_counter() - started, 3)
            record.append(
                "end",
                seconds=progress.tally.seconds,
                states=dict(progress.counts.states),
                interrupted=not progress.complete,
                error=error,
            )
    return progress


def _tell(
    outcome: Outcome, videos: Sequence[Video], progress: Progress, record: journal.Journal, heard: Listener
) -> None:
    row = outcome.row
    attempt = Attempt(worker="thread", seconds=round(outcome.seconds, 4), outcome=str(row.state))
    done = Done(list_index=outcome.list_index, row=row, seconds=outcome.seconds, attempts=(attempt,), build="")
    progress.tally.add(row)
    progress.counts.add(videos[outcome.list_index], row)
    record.append("video", **event_of(done))
    heard.progress(max(row.frames, row.flows))
    heard.finished(done)

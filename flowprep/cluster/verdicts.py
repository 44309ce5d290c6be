"""What becomes of videos that a cluster had: the disk says what is done, and how workers died who is to blame."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import final

from flowprep.childprocess import Task, Work
from flowprep.cluster.flights import Flight, Trouble
from flowprep.cluster.orders import done_from_json
from flowprep.cluster.sightings import Sightings
from flowprep.publisher import Publisher
from flowprep.records import Reason, Row
from flowprep.stores.rowfile import Entry
from flowprep.supervisor import Attempt, Done, quarantine

MAX_LOST = 3
"""Workers that may die with a video before it has to wait for the end, when it is alone."""
MAX_LOST_ALONE = 3
"""Workers that die with a video that is alone, while all others live: then it is to blame."""
_MAX_MISSED = 3  # by the same worker, which sees it in between
_MAX_INCONCLUSIVE = 20  # of deaths that others died at too or none was left to live, and of workers that have left


@final
class Verdicts:
    """Videos that are to be done `again`, `suspects` that are done at the end one at a time, and `results`.

    The engine tells `num_workers_lost`, and whether a worker is left that lives (`has_witness`).
    """

    def __init__(self, work: Work, publisher: Publisher, sightings: Sightings, note: Callable[[str], None]) -> None:
        self._work, self._publisher, self._sightings, self._note = work, publisher, sightings, note
        self.again: deque[tuple[Task, Trouble]] = deque()
        self.suspects: deque[tuple[Task, Trouble]] = deque()
        self.results: deque[Done] = deque()
        self.num_workers_lost = 0
        self.has_witness = False

    def entry(self, task: Task) -> Entry | None:
        """The outcome of a video that the disk has."""
        return self._publisher.read_entry(task.video, task.list_index)

    def confirm(self, flight: Flight, done: Done) -> bool:
        """Take a video that is said to be done for done if the disk says so too."""
        entry = self.entry(flight.task)
        if entry is None or (entry == flight.before and entry.row != done.row):
            return False
        self.results.append(_done(flight.task, entry, done, flight.trouble))
        return True

    def is_doubtful(self, flight: Flight, row: Row) -> bool:
        """True if a worker has not found a video whose file is seen from here, and no other one has said so yet."""
        missed_by = flight.trouble.missed_by
        is_settled = len(missed_by) >= _MAX_MISSED or any(worker is not flight.worker for worker in missed_by)
        return not is_settled and self._sightings.contradict(flight.task, row)

    def missed(self, flight: Flight) -> None:
        """A worker has not found a video: another one is to look for it."""
        seconds = round(flight.seconds, 4)
        attempt = Attempt(worker=flight.worker.address, seconds=seconds, outcome="missing")
        flight.trouble.attempts.append(attempt)
        flight.trouble.missed_by.append(flight.worker)
        (self.suspects if flight.is_alone else self.again).append((flight.task, flight.trouble))

    def take_back(self, flight: Flight, outcome: str, *, is_lost: bool) -> None:
        """A worker has not brought a video to its end: it is done all the same, or done again, soon or at the end."""
        task, trouble = flight.task, flight.trouble
        entry = self.entry(task)
        if flight.has_begun:
            seconds = round(flight.seconds, 4)
            trouble.attempts.append(Attempt(worker=flight.worker.address, seconds=seconds, outcome=outcome))
        if entry is not None and entry != flight.before and not self.is_doubtful(flight, entry.row):
            report = flight.report or {}
            done = done_from_json(report["done"]) if report.get("event") == "done" else None
            self.results.append(_done(task, entry, done, trouble))
        elif flight.is_alone:
            self._judge(flight, is_lost=is_lost)
        else:
            trouble.num_lost += is_lost
            trouble.num_inconclusive += flight.has_begun and outcome == "worker_left"
            self._queue(self.suspects if trouble.num_lost >= MAX_LOST else self.again, task, trouble)

    def _judge(self, flight: Flight, *, is_lost: bool) -> None:
        """A worker has died with a video that was alone: that is to blame, if others were there and they live."""
        task, trouble = flight.task, flight.trouble
        if is_lost and self.has_witness and self.num_workers_lost == flight.num_lost_before + 1:
            trouble.num_lost_alone += 1
        else:
            trouble.num_inconclusive += 1
        if trouble.num_lost_alone >= MAX_LOST_ALONE:
            reason = Reason("crash", f"the worker that had it alone died {MAX_LOST_ALONE} times")
            row = quarantine(self._publisher, self._work.videos, task, reason)
            self.results.append(_done(task, Entry(row, task.list_index), None, trouble))
        else:
            self._queue(self.suspects, task, trouble)

    def _queue(self, queue: deque[tuple[Task, Trouble]], task: Task, trouble: Trouble) -> None:
        """It is to be done again, unless that has been so too often."""
        if trouble.num_inconclusive < _MAX_INCONCLUSIVE:
            queue.append((task, trouble))
        else:
            self._note(
                f"{task.video.id}: {trouble.num_inconclusive} workers have died or left before it was done, which says "
                "nothing about it; it is left for another run, with workers that live longer"
            )


def _done(task: Task, entry: Entry, done: Done | None, trouble: Trouble) -> Done:
    """What became of a video: the outcome by the disk, the cost by what is known of it."""
    attempts = (*trouble.attempts, *(done.attempts if done is not None else ()))
    if not attempts:  # published by who was given up before it said that it had begun
        attempts = (Attempt(worker="unknown", seconds=0.0, outcome=str(entry.row.state)),)
    return Done(
        list_index=task.list_index,
        row=entry.row,
        seconds=sum(attempt.seconds for attempt in trouble.attempts) + (done.seconds if done is not None else 0.0),
        attempts=attempts,
        build=done.build if done is not None else "",
    )

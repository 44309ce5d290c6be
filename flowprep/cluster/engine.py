"""The driver of a cluster: sends videos to workers, watches, and says what became of each.

A cluster tells two things, as events in one queue: `("report", text)` is what a worker says (`cluster.worker`),
`("ended", number, error)` that something submitted has ended, with `error` "" or what Dask says. Neither is believed:
a video is done when the disk has an outcome that it had not when the video was sent. A worker that vanishes costs no
video anything but time; a video that workers vanish with again and again is found out at the end, when each suspect
has the cluster to itself.
"""

from __future__ import annotations

import contextlib
import itertools
import logging
import queue
import secrets
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeAlias, final

from flowprep.childprocess import Task, Work
from flowprep.cluster.census import Census
from flowprep.cluster.flights import (
    NUM_AHEAD,
    Connection,
    EngineLostError,
    Flight,
    Trouble,
    Worker,
    error_of,
    to_move,
)
from flowprep.cluster.orders import decode, done_from_json, encode, task_order, work_to_json
from flowprep.cluster.sightings import NUM_CANDIDATES, Sightings
from flowprep.cluster.verdicts import Verdicts
from flowprep.cluster.waits import Waits
from flowprep.errors import FlowprepError, RunStoppedError
from flowprep.publisher import Publisher
from flowprep.stores.freshness import open_folders_of
from flowprep.supervisor import Attempt, Done

_log = logging.getLogger(__name__)
_MAX_EVENTS = 1000  # at a time, between two looks at everything else

Events: TypeAlias = "queue.SimpleQueue[tuple[Any, ...]]"
Connect: TypeAlias = Callable[[str, Events], Connection]
"""Connects with a cluster, for a run of that token."""


@final
class Engine:
    """One run on a cluster. `connect` gives a connection that puts its events into `events`."""

    def __init__(
        self,
        work: Work,
        publisher: Publisher,
        connect: Connect,
        waits: Waits,
        introduction: dict[str, Any],
        *,
        stop: threading.Event,
        abort: threading.Event,
        progress: Callable[[int], None],
        note: Callable[[str], None],
    ) -> None:
        self._work, self._publisher, self._connect, self._waits = work, publisher, connect, waits
        self._introduction = introduction
        self._work_json = work_to_json(work)
        self._stop, self._abort, self._progress, self._note = stop, abort, progress, note
        self._unseen: list[tuple[float, Flight, Done]] = []
        self._obstacles: dict[str, str] = {}
        self._num_sent = 0
        self._begin(None, queue.SimpleQueue(), "")

    def _begin(self, connection: Connection | None, events: Events, token: str) -> None:
        """Start from nothing with a connection."""
        self._connection, self._events, self._token = connection, events, token
        self._workers: dict[str, Worker] = {}
        self._flights: dict[int, Flight] = {}
        self._joining: dict[int, Worker] = {}
        self._last_sign = time.monotonic()
        self._census = Census(self._waits, connection, self._obstacles, self._note)
        self._next_poll = 0.0

    def run(self, tasks: Iterable[Task]) -> Iterator[Done]:
        """Do the tasks and yield each as it ends. Raises RunStoppedError, and what workers say of the whole run."""
        first = [*itertools.islice(tasks := iter(tasks), NUM_CANDIDATES)]
        self._sightings = Sightings(self._work.videos, first)
        self._verdicts = Verdicts(self._work, self._publisher, self._sightings, self._note)
        self._tasks, self._is_listed = itertools.chain(first, tasks), False
        num_failures = 0
        while True:
            num_done = 0
            self._open()
            try:
                for done in self._serve():
                    num_done += 1
                    yield done
                return
            except EngineLostError as error:
                num_failures = 1 if num_done else num_failures + 1
                yield from self._take_all_back()
                if num_failures > self._waits.num_restarts:
                    raise RunStoppedError(
                        f"{error}; that was the case {num_failures} times in a row; what is finished is kept, look at "
                        "the cluster and run the same command again"
                    ) from error
                self._note(f"{error}; beginning anew with it")
            finally:
                self._close()

    # -- the connection ------------------------------------------------------------------------------------------------

    def _open(self) -> None:
        token, events = secrets.token_hex(8), queue.SimpleQueue[tuple[Any, ...]]()
        try:
            self._begin(self._connect(token, events), events, token)
        except EngineLostError as error:
            raise RunStoppedError(
                f"{error}; what is finished is kept, run the same command again when one does"
            ) from error

    def _close(self) -> None:
        if self._connection is not None:
            self._connection.close(at_once=self._abort.is_set())
            self._connection = None

    def _cluster(self) -> Connection:
        assert self._connection is not None, "it is open while it is served"
        return self._connection

    def _take_all_back(self) -> Iterator[Done]:
        """The cluster is of no use: what it had is as the disk says, or is done again."""
        for flight in [*self._flights.values(), *(flight for _, flight, _ in self._unseen)]:
            self._take_back(flight, "engine_lost", is_lost=False)
        self._unseen.clear()
        yield from self._emptied()

    # -- the loop ------------------------------------------------------------------------------------------------------

    def _serve(self) -> Iterator[Done]:
        while not self._abort.is_set():
            if time.monotonic() >= self._next_poll:
                self._poll()
                self._look_for_unseen()
                self._next_poll = time.monotonic() + self._waits.poll_seconds
            self._fill()
            yield from self._emptied()
            if self._is_at_end():
                return
            self._listen()
            self._watch()
            yield from self._emptied()

    def _emptied(self) -> Iterator[Done]:
        while self._verdicts.results:
            yield self._verdicts.results.popleft()

    def _is_at_end(self) -> bool:
        left = self._verdicts.again or self._verdicts.suspects or not self._is_listed
        return not self._flights and not self._unseen and (self._stop.is_set() or not left)

    def _listen(self) -> None:
        """Take what has come, waiting for it until something else is due."""
        timeout = max(0.01, min(self._next_poll - time.monotonic(), self._waits.poll_seconds))
        with contextlib.suppress(queue.Empty):
            self._take(self._events.get(timeout=timeout))
            for _ in range(_MAX_EVENTS - 1):
                self._take(self._events.get_nowait())

    def _take(self, event: tuple[Any, ...]) -> None:
        match event:
            case ("report", str(text)):
                self._take_report(decode(text))
            case ("ended", int(number), str(error)):
                if number in self._joining:
                    self._end_joining(self._joining.pop(number), error or "it did not answer")
                elif number in self._flights:
                    self._end_flight(self._flights[number], error)

    def _take_report(self, message: dict[str, Any]) -> None:
        self._last_sign = time.monotonic()
        match message:
            case {"event": "frames", "num": int(num_frames)}:
                self._progress(num_frames)
            case {"event": "alive"}:
                pass  # a sign, and nothing more: no frame is done by it
            case {"event": "joined", "number": int(number), "obstacle": str(obstacle)}:
                if number in self._joining:
                    self._end_joining(self._joining.pop(number), obstacle)
            case {"event": "begun", "number": int(number)}:
                if number in self._flights:
                    self._flights[number].has_begun = True
            case {"event": str(_), "number": int(number)}:
                if number in self._flights:
                    self._flights[number].report = message

    # -- workers -------------------------------------------------------------------------------------------------------

    def _poll(self) -> None:
        """Who is there?"""
        there = self._cluster().threads_of_workers()
        gone = [self._workers.pop(address) for address in [*self._workers] if address not in there]
        ready = [worker for worker in self._workers.values() if worker.state == "ready"]
        left = {worker for worker in gone if worker.state == "ready" and self._cluster().has_left(worker.address)}
        # Before any video is judged by it.
        self._verdicts.num_workers_lost += sum(worker.state == "ready" for worker in gone if worker not in left)
        self._verdicts.has_witness = bool(ready)
        for worker in gone:
            self._lose(worker, has_left=worker in left)
        for address, num_threads in there.items():
            if address not in self._workers:
                self._workers[address] = worker = Worker(address, num_threads)
                self._ask_to_join(worker)
            else:
                self._workers[address].num_threads = num_threads
        self._census.look(self._workers.values(), is_needed=not self._is_at_end())

    def _ask_to_join(self, worker: Worker, missed: Task | None = None) -> None:
        """See whether it can work for the run; again, where it has `missed` a video that is there."""
        self._drop(worker)
        number, worker.state = self._number(), "joining"
        self._joining = {key: one for key, one in self._joining.items() if one is not worker} | {number: worker}
        common = {"token": self._token, "number": number, "work": self._work_json, **self._introduction}
        order = {**common, "shown": self._sightings.shown(missed)}
        worker.handle = self._cluster().submit("join", encode(order), worker.address, number)

    def _end_joining(self, worker: Worker, obstacle: str) -> None:
        self._drop(worker)
        if obstacle:
            self._census.refuse(worker, obstacle)
        else:
            worker.state = "ready"
            self._census.forget(worker)
            self._last_sign = self._census.without_since = time.monotonic()

    def _lose(self, worker: Worker, *, has_left: bool) -> None:
        """A worker has gone, with what it had; if it `has_left` of itself, that is nobody's fault."""
        self._census.forget(worker)
        self._joining = {number: one for number, one in self._joining.items() if one is not worker}
        self._drop(worker)
        for flight in [*worker.flights.values()]:
            outcome = "worker_left" if has_left else "worker_lost"
            self._take_back(flight, outcome, is_lost=flight.has_begun and not has_left)

    # -- videos out ----------------------------------------------------------------------------------------------------

    def _fill(self) -> None:
        """Give workers what they have room for."""
        if self._stop.is_set():
            for worker in self._workers.values():
                for flight in worker.waiting:
                    self._forget(flight)
            return
        for num_ahead in range(1, NUM_AHEAD + 1):
            for worker in self._workers.values():
                for _ in range(worker.room(num_ahead)):
                    if (following := self._following()) is None:
                        self._end_game()
                        return
                    self._send(*following, worker)

    def _following(self) -> tuple[Task, Trouble] | None:
        """The next video; None when only suspects are left."""
        if self._verdicts.again:
            return self._verdicts.again.popleft()
        task = next(self._tasks, None)
        self._is_listed |= task is None
        return None if task is None else (task, Trouble())

    def _end_game(self) -> None:
        """No video is left to be sent: idle workers take over what waits behind others; then come the suspects."""
        ready = [worker for worker in self._workers.values() if worker.state == "ready"]
        for worker, flight in to_move(ready, self._waits.move_seconds):
            self._forget(flight)
            self._send(flight.task, flight.trouble, worker)
        if self._verdicts.suspects and ready and not self._flights and not self._unseen:
            if self._verdicts.suspects[0][1].num_lost and self._census.is_witness_due(ready):
                return
            worker = min(ready, key=lambda one: len(one.flights))
            self._send(*self._verdicts.suspects.popleft(), worker, is_alone=True)

    def _send(self, task: Task, trouble: Trouble, worker: Worker, *, is_alone: bool = False) -> None:
        flight = Flight(
            number=self._number(),
            task=task,
            worker=worker,
            before=self._verdicts.entry(task),
            trouble=trouble,
            is_alone=is_alone,
            num_lost_before=self._verdicts.num_workers_lost,
        )
        what = task_order(task, trouble.aside if is_alone else None)
        waits = {"idle_seconds": self._waits.idle_seconds, "sign_seconds": self._waits.sign_seconds}
        order = {"token": self._token, "work": self._work_json, **waits, "number": flight.number, **what}
        self._flights[flight.number] = worker.flights[flight.number] = flight
        flight.handle = self._cluster().submit("perform", encode(order), worker.address, flight.number)

    def _number(self) -> int:
        self._num_sent += 1
        return self._num_sent

    # -- videos back ---------------------------------------------------------------------------------------------------

    def _forget(self, flight: Flight) -> None:
        """It is not in the cluster any more."""
        self._flights.pop(flight.number, None)
        flight.worker.flights.pop(flight.number, None)
        self._drop(flight)

    def _drop(self, owner: Flight | Worker) -> None:
        if owner.handle is not None and self._connection is not None:
            self._connection.drop(owner.handle)
        owner.handle = None

    def _end_flight(self, flight: Flight, error: str) -> None:
        """What was submitted has ended; what is reported came before."""
        self._last_sign = time.monotonic()
        match flight.report:
            case {"event": "done", "done": dict(data)}:
                self._forget(flight)
                self._settle(flight, done_from_json(data), time.monotonic() + self._waits.visible_seconds)
            case {"event": "aside", "attempt": dict(attempt)}:
                self._forget(flight)
                flight.trouble.aside = Attempt(**attempt)
                self._verdicts.suspects.append((flight.task, flight.trouble))
            case {"event": "unable", "error": str(reason)}:
                self._census.refuse(flight.worker, reason)
                self._take_back(flight, "worker_lost", is_lost=False)
            case {"event": "error", "kind": str(kind), "error": str(text)}:
                self._fail(flight, error_of(kind, text))
            case None if "KilledWorker" in error:  # a scheduler that gives up sooner than ours
                self._poll()  # which finds the worker gone, and takes back what it had
                if flight.number in self._flights:
                    self._take_back(flight, "worker_lost", is_lost=flight.has_begun)
            case None if error:
                _log.debug("%s: %s", flight.task.video.id, error)
                if "Cancelled" not in error:
                    self._census.refuse(flight.worker, error)
                self._take_back(flight, "worker_lost", is_lost=False)
            case _:  # aborted, or its report has been lost
                self._take_back(flight, "worker_lost", is_lost=False)

    def _fail(self, flight: Flight, error: FlowprepError) -> None:
        """A worker cannot write: all, or it alone?"""
        if self._census.is_general(flight, error, self._workers.values()):
            raise error
        self._census.refuse(flight.worker, str(error))
        self._take_back(flight, "worker_failed", is_lost=False)
        for waiting in flight.worker.waiting:
            self._take_back(waiting, "worker_failed", is_lost=False)

    def _look_for_unseen(self) -> None:
        """Once a poll, since each look goes to the disk; as in Note [a name that is not seen yet] of `unseen`."""
        unseen, self._unseen = self._unseen, []
        if unseen:
            open_folders_of(self._work.out, [flight.task.video.id for _, flight, _ in unseen])
        for deadline, flight, done in unseen:
            self._settle(flight, done, deadline)

    def _settle(self, flight: Flight, done: Done, deadline: float) -> None:
        """A worker says that a video is done. Only the disk can tell, and that may take a moment to do so."""
        if self._verdicts.is_doubtful(flight, done.row):
            self._verdicts.missed(flight)
            if flight.worker.state == "ready":
                self._ask_to_join(flight.worker, flight.task)
        elif self._verdicts.confirm(flight, done):
            self._census.succeed()
            self._ask_again(flight, done)
        elif time.monotonic() < deadline:
            self._unseen.append((deadline, flight, done))
        else:
            self._note(f"{flight.task.video.id}: its worker has published it, but it is not there; it is done again")
            self._take_back(flight, "not_seen", is_lost=True)

    def _ask_again(self, flight: Flight, done: Done) -> None:
        """Workers that have missed a video which others miss too are as good as those, if they see the first ones."""
        if self._sightings.contradict(flight.task, done.row):
            for worker in flight.trouble.missed_by:
                if worker.state != "ready" and self._workers.get(worker.address) is worker:
                    self._ask_to_join(worker)

    def _take_back(self, flight: Flight, outcome: str, *, is_lost: bool) -> None:
        """A worker has not brought a video to its end."""
        self._forget(flight)
        self._verdicts.take_back(flight, outcome, is_lost=is_lost)

    # -- the watch -----------------------------------------------------------------------------------------------------

    def _watch(self) -> None:
        """A cluster that is stuck looks idle, not broken."""
        if not self._flights and not self._joining:
            self._last_sign = max(self._last_sign, self._census.without_since)
            return
        silence = time.monotonic() - self._last_sign
        if silence > self._waits.silence_seconds:
            _log.warning("%s is stuck: %s", self._cluster().name, self._cluster().dump())
            raise EngineLostError(f"{self._cluster().name} has done nothing for {silence:.0f} s")

"""The driver's books: which worker has which video, and what has happened to a video so far."""

from __future__ import annotations

import time
from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from flowprep.childprocess import Task
from flowprep.errors import FlowprepError
from flowprep.stores.rowfile import Entry
from flowprep.supervisor import Attempt

NUM_AHEAD = 2
"""Videos a thread of a worker: one in work, and one that waits there so that the thread never does."""


class EngineLostError(Exception):
    """The scheduler does not answer, or the cluster is stuck. Says nothing about any video."""


class Connection(Protocol):
    """A cluster as the engine needs it. What is submitted ends in an event, see `flowprep.cluster.engine`."""

    name: str
    num_expected: int  # workers that are there sooner or later, 0 where that is not known

    def threads_of_workers(self) -> dict[str, int]:
        """Address to number of threads of all workers. Raises EngineLostError."""

    def has_left(self, worker: str) -> bool:
        """True if a worker that is not there any more has said that it goes: at its lifetime's end, by SIGTERM.

        Raises EngineLostError.
        """

    def obstacles(self) -> list[str]:
        """What is known of workers that do not come. Raises RunStoppedError where none ever will."""

    def submit(self, function: str, order: str, worker: str, number: int) -> object:
        """Have a worker do something; what is given back must be kept until it has ended. Raises EngineLostError."""

    def drop(self, handle: object) -> None:
        """Forget something that was submitted: it is not begun any more, or its end is of no interest."""

    def dump(self) -> str:
        """What can be said of a cluster that is stuck."""

    def close(self, *, at_once: bool) -> None:
        """Have the workers end what belongs to the run, and disconnect. Takes some seconds at most."""


@dataclass(slots=True)
class Trouble:
    """What a video has been through: attempts that count as such, workers that died with it, and how it was alone.

    `missed_by` are workers that did not find its file, although that is seen from here; `num_failed` is the number of
    those that could not write.
    """

    attempts: list[Attempt] = field(default_factory=list)
    num_lost: int = 0
    num_lost_alone: int = 0
    num_inconclusive: int = 0
    aside: Attempt | None = None
    missed_by: list[Worker] = field(default_factory=list)
    num_failed: int = 0


@dataclass(slots=True, eq=False)
class Flight(Hashable):
    """A video that a worker has. `before` is its outcome on the disk when it was sent; `report` what has come back."""

    number: int
    task: Task
    worker: Worker
    before: Entry | None
    trouble: Trouble
    is_alone: bool = False
    num_lost_before: int = 0
    handle: object = None
    has_begun: bool = False
    report: dict[str, Any] | None = None
    since: float = field(default_factory=time.monotonic)

    __hash__ = object.__hash__

    @property
    def seconds(self) -> float:
        """Since it was sent."""
        return time.monotonic() - self.since


@dataclass(slots=True, eq=False)
class Worker:
    """A worker: `state` is `joining`, `ready` or `refused`."""

    address: str
    num_threads: int
    state: str = "joining"
    handle: object = None
    flights: dict[int, Flight] = field(default_factory=dict)

    def room(self, num_ahead: int) -> int:
        """How many more videos it may have."""
        return num_ahead * self.num_threads - len(self.flights) if self.state == "ready" else 0

    @property
    def waiting(self) -> list[Flight]:
        """Videos that it has not begun."""
        return [flight for flight in self.flights.values() if not flight.has_begun]


def to_move(ready: Sequence[Worker], seconds: float) -> Iterator[tuple[Worker, Flight]]:
    """Idle workers, each with a video that has waited so long behind another one elsewhere."""
    idle = [worker for worker in ready if len(worker.flights) < worker.num_threads]
    busy = [worker for worker in ready if len(worker.flights) > worker.num_threads]
    waiting = [flight for worker in busy for flight in worker.waiting if flight.seconds > seconds]
    return zip(idle, waiting, strict=False)


def error_of(kind: str, text: str) -> FlowprepError:
    """The error of ours that a worker has named."""
    kinds = {error.__name__: error for error in _all_errors(FlowprepError)}
    return kinds.get(kind, FlowprepError)(text)


def _all_errors(base: type[FlowprepError]) -> list[type[FlowprepError]]:
    return [base, *(error for below in base.__subclasses__() for error in _all_errors(below))]

"""How many workers there are, were and will be: whether it is worth while to wait for another one, and what is said."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection
from typing import final

from flowprep.cluster.flights import Connection, Flight, Worker
from flowprep.cluster.waits import Waits
from flowprep.errors import DiskFullError, FlowprepError, RunStoppedError, StoreError

_QUIET_SECONDS = 10.0  # without workers, before that is said
_MIN_FAILED = 3  # workers one after another, before that may be more than a matter of single nodes
_MAX_FAILED = 3  # workers with the same video in hand


@final
class Census:
    """What has been seen of the workers of one connection, None before there is one.

    `obstacles` are those of refused workers, by address; they outlive a connection, so that none is said twice.
    """

    def __init__(
        self, waits: Waits, connection: Connection | None, obstacles: dict[str, str], note: Callable[[str], None]
    ) -> None:
        self._waits, self._connection, self._obstacles, self._note = waits, connection, obstacles, note
        self._num_expected = 0 if connection is None else connection.num_expected
        self._num_failed = 0
        self.without_since = self._paired_at = self._refused_at = time.monotonic()
        self._is_told = False

    def look(self, workers: Collection[Worker], *, is_needed: bool) -> None:
        """Take note of who is there. Raises RunStoppedError where somebody is needed, and nobody can be hoped for."""
        self._num_expected = max(self._num_expected, len(workers))
        num_ready = sum(worker.state == "ready" for worker in workers)
        if num_ready > 1:
            self._paired_at = time.monotonic()
        if num_ready:
            self.without_since, self._is_told = time.monotonic(), False
        elif is_needed:
            self._wait(workers, time.monotonic() - self.without_since)

    def _wait(self, workers: Collection[Worker], seconds: float) -> None:
        assert self._connection is not None, "somebody has looked"
        absent, name = self._connection.obstacles(), self._connection.name
        refused = [f"{address} is refused: {text}" for address, text in [*self._obstacles.items()][-3:]]
        why = "; ".join([*refused, *absent])
        if self._is_hopeless(workers) or seconds > self._waits.workers_seconds:
            raise RunStoppedError(
                f"{name} has had no worker that can work for {seconds:.0f} s{': ' + why if why else ''}; what is "
                "finished is kept, run the same command again when there are some"
            )
        if seconds > min(_QUIET_SECONDS, self._waits.workers_seconds / 2) and not self._is_told:
            self._is_told = True
            about = f" ({'; '.join(absent)})" if absent else ""
            self._note(f"{name} has no worker that can work; waiting for one{about}")

    def _is_hopeless(self, workers: Collection[Worker]) -> bool:
        """True if all who can be expected are there, and all have been refused for a while."""
        is_full = 0 < self._num_expected <= len(workers)
        are_refused = all(worker.state == "refused" for worker in workers)
        return is_full and are_refused and time.monotonic() - self._refused_at > self._waits.connect_seconds

    def is_witness_due(self, ready: Collection[Worker]) -> bool:
        """True where one worker is ready and another may be on its way: the death of the only one proves nothing."""
        return len(ready) < 2 and time.monotonic() - self._paired_at < self._waits.witness_seconds

    def refuse(self, worker: Worker, obstacle: str) -> None:
        """It gets no more videos, which is said once for each reason."""
        if worker.state != "refused":
            worker.state, self._refused_at = "refused", time.monotonic()
            if obstacle not in self._obstacles.values():
                self._note(f"worker {worker.address} is not used: {obstacle}")
            self._obstacles[worker.address] = obstacle

    def forget(self, worker: Worker) -> None:
        """It is not refused any more, or not there."""
        self._obstacles.pop(worker.address, None)

    def is_general(self, flight: Flight, error: FlowprepError, workers: Collection[Worker]) -> bool:
        """True if a worker that cannot write tells of more than its own node.

        That is so of a full disk and a damaged store, where many workers say so with nothing done in between, and where
        several do with the same video in hand.
        """
        flight.trouble.num_failed += 1
        self._num_failed += flight.worker.state != "refused"  # else its error is no news
        is_many = self._num_failed >= max(_MIN_FAILED, len(workers) / 2)
        return isinstance(error, DiskFullError | StoreError) or is_many or flight.trouble.num_failed >= _MAX_FAILED

    def succeed(self) -> None:
        """A video is done: the disk works."""
        self._num_failed = 0

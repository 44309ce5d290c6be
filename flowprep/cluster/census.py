"""How many workers there are, were and will be: whether it is worth while to wait for another one."""

from __future__ import annotations

import time
from collections.abc import Collection
from typing import final

from flowprep.cluster.flights import Worker
from flowprep.cluster.waits import Waits


@final
class Census:
    """What has been seen of the workers of one connection; `num_expected` is that of the connection."""

    def __init__(self, waits: Waits, num_expected: int) -> None:
        self._waits, self._num_expected = waits, num_expected
        self._paired_at = self._refused_at = time.monotonic()

    def look(self, workers: Collection[Worker]) -> None:
        """Take note of who is there."""
        self._num_expected = max(self._num_expected, len(workers))
        if sum(worker.state == "ready" for worker in workers) > 1:
            self._paired_at = time.monotonic()

    def refuse(self) -> None:
        """One has just been refused."""
        self._refused_at = time.monotonic()

    def is_hopeless(self, workers: Collection[Worker]) -> bool:
        """True if all who can be expected are there, and all have been refused for a while."""
        is_full = 0 < self._num_expected <= len(workers)
        are_refused = all(worker.state == "refused" for worker in workers)
        return is_full and are_refused and time.monotonic() - self._refused_at > self._waits.connect_seconds

    def is_witness_due(self, ready: Collection[Worker]) -> bool:
        """True where one worker is ready and another may be on its way: the death of the only one proves nothing."""
        return len(ready) < 2 and time.monotonic() - self._paired_at < self._waits.witness_seconds

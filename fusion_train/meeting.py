"""What the processes of torchrun say to each other outside of collectives, through the store by which they have met.

A collective that not all processes enter hangs, and on NCCL a watchdog ends those that wait longer than ten minutes. So
what one process does alone for long, and whether a failure is everybody's, is asked for here.
"""

from __future__ import annotations

import itertools
import json
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar, final

from flowprep import errors
from flowprep.errors import FlowprepError

if TYPE_CHECKING:  # some builds of PyTorch have no torch.distributed; one process does not need it
    from torch.distributed.distributed_c10d import Store

_POLL_SECONDS = 0.05
_T = TypeVar("_T")


@final
class Meeting:
    """One process of several. All of them call the same methods in the same order."""

    def __init__(self, store: Store, rank: int, world_size: int) -> None:
        from torch.distributed.distributed_c10d import PrefixStore

        self._store = PrefixStore("fusion_train", store)
        self._rank = rank
        self._world_size = world_size
        self._calls = itertools.count()

    def of_first(self, work: Callable[[], _T]) -> _T:
        """Do `work` in the first process, and give what it gives to all: plain JSON. The others wait without limit.

        Raises what `work` raises, if that is a FlowprepError: in all processes, as the same class of `flowprep.errors`.
        """
        key = f"of_first/{next(self._calls)}"
        if self._rank == 0:
            try:
                value = work()
            except FlowprepError as error:
                self._store.set(key, json.dumps({"kind": type(error).__name__, "text": str(error)}))
                raise
            self._store.set(key, json.dumps({"value": value}))
            return value
        while not self._store.check([key]):  # not `wait`, which would not see a signal
            time.sleep(_POLL_SECONDS)
        said = json.loads(self._store.get(key))
        if "kind" in said:
            raise getattr(errors, said["kind"], FlowprepError)(said["text"])
        found: _T = said["value"]
        return found

    def all_have_failed(self, *, seconds: float) -> bool:
        """For a process in which something has failed: whether all others say the same, at most so much later.

        If so, no process is left in a collective. If not, one that fails must end: torchrun then ends the others.
        """
        number = next(self._calls)
        keys = [f"failed/{number}/{rank}" for rank in range(self._world_size)]
        self._store.set(keys[self._rank], "")
        until = time.monotonic() + seconds
        while not self._store.check(keys):
            if time.monotonic() > until:
                return False
            time.sleep(_POLL_SECONDS)
        return True

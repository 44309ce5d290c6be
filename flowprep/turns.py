"""How many videos of a list are done at a time, and in which order."""

from __future__ import annotations

from collections.abc import Sequence

from flowprep import machine
from flowprep.config import RunSettings

CLUSTER_SLOTS = 1024
"""In place of the number that a cluster does at a time, which changes while it works; few do more."""

_LAST_A_SLOT = 4


def num_jobs(run: RunSettings, num_todo: int) -> int:
    """Processes that a run uses."""
    return min(run.jobs or machine.num_cores(), max(num_todo, 1))


def in_turn(todo: Sequence[int], sizes: Sequence[int], num_slots: int) -> list[int]:
    """The order of work: that of the list, so that shards become complete one after another and commits do not pile up.

    Of the last ones the largest files come first, so that at the end nobody works long while all others wait. They are
    four for each of the `num_slots` that are done at a time (a tenth of a short list): it is enough that nobody begins
    a large one in the last rounds, and no shard to which one of them belongs is complete before the end.
    """
    first = len(todo) - min(_LAST_A_SLOT * num_slots, len(todo) // 10)
    return [*todo[:first], *sorted(todo[first:], key=lambda index: -sizes[index])]

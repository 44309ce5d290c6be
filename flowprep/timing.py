"""Time stamps of frames: repair of broken ones, and the choice of frames nearest to a rate."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Iterator, Sequence
from typing import TypeVar

T = TypeVar("T")


def repaired_times(times: Sequence[float | None], fps: float) -> tuple[list[float], int, str]:
    """Time stamps in seconds that never step back, how many had to be changed, and why the video is to be flagged.

    A missing stamp follows its predecessor by one frame period; this alone is no reason to flag. Where stamps step
    back (AVI files with packed B-frames carry coding order instead of display order) they are sorted: the decoder
    gives the frames in the right order, and the set of stamps is right. Where all are missing, frame i is at i / fps.
    """
    period = 1.0 / fps if fps > 0 else 0.04
    if times and all(time is None for time in times):
        return [index * period for index in range(len(times))], len(times), "no frame has a time stamp"
    filled: list[float] = []
    for time in times:
        filled.append(time if time is not None else filled[-1] + period if filled else 0.0)
    num_missing = sum(time is None for time in times)
    num_back = sum(later < earlier for earlier, later in itertools.pairwise(filled))
    if num_back == 0:
        return filled, num_missing, ""
    result = sorted(filled)
    num_changed = sum(old != new for old, new in zip(times, result, strict=True))
    return result, num_changed, f"time stamps step back {num_back} times"


def running_time(time: float | None, previous: float | None, period: float) -> float:
    """The time of the next frame while its successors are not known: never before its predecessor."""
    if time is None:
        return 0.0 if previous is None else previous + period
    return time if previous is None else max(time, previous)


def pick_nearest(timed: Iterable[tuple[float, T]], fps: float) -> Iterator[tuple[float, T]]:
    """The items whose times are nearest to start + k / fps for k = 0, 1, ...; each item at most once, none invented.

    Times must not step back. Of two items equally near, the earlier one is taken. A gap of any length costs nothing.
    """
    start = 0.0
    next_k = 0
    previous: tuple[float, T] | None = None
    emitted = False  # whether `previous` has been given
    interval = 0.0
    for time, item in timed:
        if previous is None:
            start = time
            previous, emitted, next_k = (time, item), True, 1
            yield previous
            continue
        # All targets in (previous, time] are nearest to one of the two: the first decides for the earlier item, the
        # last for the later one.
        last_k = math.floor((time - start) * fps + 1e-9)
        take = False
        if last_k >= next_k:
            first, last = start + next_k / fps, start + last_k / fps
            if not emitted and first - previous[0] <= time - first + 1e-9:
                yield previous
            take = time - last + 1e-9 < last - previous[0]
            next_k = last_k + 1
        interval = time - previous[0]
        previous, emitted = (time, item), take
        if take:
            yield previous
    # The last frame lasts about as long as the one before it; rounded stamps may put its target a little later.
    if previous is not None and not emitted and start + next_k / fps - previous[0] <= 0.5 * min(1 / fps, interval):
        yield previous

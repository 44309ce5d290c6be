"""Time stamps of frames: repair of broken ones, and the choice of frames nearest to a rate."""

from __future__ import annotations

import heapq
import math
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TypeVar

from flowprep.records import Segment

T = TypeVar("T")


@dataclass(slots=True)
class Stamps:
    """What was found about the time stamps of a video: how many frames, stamps missing, and steps back."""

    num_frames: int = 0
    num_missing: int = 0
    num_back: int = 0
    num_repaired: int = 0

    @property
    def problem(self) -> str:
        """Why the video is to be flagged, or "": isolated missing stamps are no reason."""
        if self.num_frames and self.num_missing == self.num_frames:
            return "no frame has a time stamp"
        return f"time stamps step back {self.num_back} times" if self.num_back else ""


def in_display_order(
    frames: Iterable[tuple[float | None, T]], period: float, depth: int, stamps: Stamps
) -> Iterator[tuple[float, T]]:
    """Frames with times in seconds that never step back, from frames in display order with the stamps that they have.

    AVI files with packed B-frames carry coding order in their stamps: the decoder gives the frames in the right order,
    and the set of stamps is right, so each frame gets the smallest stamp of those within `depth` frames that is left. A
    missing stamp follows its predecessor by one frame period. `stamps` is filled while frames pass.
    """
    waiting: deque[tuple[float | None, T]] = deque()
    heap: list[float] = []
    newest: float | None = None
    latest = -math.inf

    def first() -> tuple[float, T]:
        nonlocal latest
        stamp, item = waiting.popleft()
        latest = max(latest, heapq.heappop(heap))
        stamps.num_repaired += stamp != latest
        return latest, item

    for stamp, item in frames:
        stamps.num_frames += 1
        if stamp is None:
            stamps.num_missing += 1
            filled = 0.0 if newest is None else newest + period
        else:
            stamps.num_back += newest is not None and stamp < newest
            filled = stamp
        newest = filled
        waiting.append((stamp, item))
        heapq.heappush(heap, filled)
        if len(waiting) > depth:
            yield first()
    while waiting:
        yield first()


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


def resolve_segment(segment: Segment | None, duration_seconds: float | None, policy: str) -> Segment | None:
    """The segment to cut, or None for the whole file.

    `policy` is DecodeSettings.segments. With "auto", an uncertain segment (Kinetics files named by YouTube id alone) is
    cut unless the file is no longer than the segment plus a second, or ends before the segment's end: such a file has
    been cut already.
    """
    if segment is None or policy == "whole":
        return None
    if policy == "cut" or segment.certain or duration_seconds is None:
        return segment
    length = segment.end_seconds - segment.start_seconds
    trimmed = duration_seconds <= length + 1.0 or duration_seconds < segment.end_seconds - 1.0
    return None if trimmed else segment

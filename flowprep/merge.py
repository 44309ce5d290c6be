"""`flowprep merge`: end a store whose videos were done in parts, or say what is missing."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flowprep import commit, driver, journal, resume
from flowprep.conclusion import conclude, write_run_json
from flowprep.config import ExtractSettings, RunSettings
from flowprep.driver import Holder
from flowprep.errors import SettingsError
from flowprep.listener import Listener, Quiet
from flowprep.packer import Packer
from flowprep.parts import part_slices
from flowprep.publisher import Publisher, open_publisher
from flowprep.records import Video
from flowprep.stores.places import adopted_mark
from flowprep.stores.savedlist import SavedList, read_list
from flowprep.summary import INTERRUPTED, Summary, Tally
from flowprep.unseen import SETTLE_SECONDS, look_again


@dataclass(frozen=True, slots=True, kw_only=True)
class PartLeft:
    """A part with videos that have no outcome yet, and who is at work on it."""

    part: str
    num_videos: int
    num_pending: int
    holder: Holder | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Merged:
    """What `merge` has found. `summary` is None where the store is not ended, since videos have no outcome yet.

    `part` is what was packed, None for all; the numbers of videos are those of it.

    `parts` has the parts with such videos, as the latest part that has begun divides the list; it is empty where none
    has. `at_work` are all whose driver files beat. `settings` and `saved` say how the store was asked for.
    """

    out: Path
    part: str | None
    num_videos: int
    num_pending: int
    parts: tuple[PartLeft, ...]
    at_work: tuple[Holder, ...]
    settings: ExtractSettings
    saved: SavedList
    summary: Summary | None

    @property
    def is_being_adopted(self) -> bool:
        """True for a tree of another tool that is taken over where it lies, which no `extract` can end."""
        return self.settings.store.adopted and adopted_mark(self.out).exists()

    @property
    def exit_code(self) -> int:
        """That of a run over the whole list, and of one that stopped early where videos have no outcome yet."""
        if self.summary is None:
            return INTERRUPTED if self.part is None or self.num_pending else 0
        return self.summary.exit_code

    def to_json(self) -> dict[str, Any]:
        """A JSON object."""
        return {
            "out": str(self.out),
            "part": self.part,
            "num_videos": self.num_videos,
            "num_pending": self.num_pending,
            "parts": [
                {
                    "part": left.part,
                    "num_videos": left.num_videos,
                    "num_pending": left.num_pending,
                    "at_work": left.holder is not None,
                }
                for left in self.parts
            ],
            "at_work": [holder.to_json() for holder in self.at_work],
            "summary": None if self.summary is None else self.summary.to_json(),
        }


def merge(
    out: Path,
    *,
    part: str | None = None,
    allow_missing: bool = False,
    listener: Listener | None = None,
    settle_seconds: float = SETTLE_SECONDS,
) -> Merged:
    """Pack what is left, and end the store if every video of its list has an outcome.

    With `allow_missing` it is ended anyway, and videos without an outcome are `pending` in the manifest. With `part`,
    I/N, only the I-th of N equal runs of shards is packed and nothing is ended: so many jobs may pack a huge store side
    by side, and a last `merge` ends it. Any number of parts may be at work meanwhile.

    Videos that are not there although another machine has worked in the last `settle_seconds` are looked for until
    then, see Note [a name that is not seen yet]; but not while others are at work, unless `allow_missing`.

    Raises:
        SettingsError: `part` is no part, or stands beside `allow_missing`.
        MissingDataError: `out` is no store.
        StoreError: settings, list or a shard are damaged.
        RunStoppedError: the disk is full or fails.
    """
    heard, started = listener or Quiet(), time.perf_counter()
    settings, saved = resume.read_settings(out), read_list(out)
    if part is not None and allow_missing:
        raise SettingsError("`part` ends nothing, so `allow_missing` says nothing beside it; leave out one of them")
    part_settings = RunSettings(part=part)
    videos = saved.listing.videos
    publisher = open_publisher(out, settings)
    commit.remove_leftovers(out)
    indices = _of_shards(len(videos), settings.store.shard_videos, *part_settings.slice_of_parts())
    packer = Packer(out, settings, videos)
    packer.pack_rest(indices)
    pending = _pending(publisher, videos, indices)
    if pending and (allow_missing or not any(holder.beats for holder in driver.holders(out))):
        look = functools.partial(_pending, publisher, videos)
        if look_again(out, videos, pending, look, seconds=settle_seconds, note=heard.note) != pending:
            packer.pack_rest(indices)
            pending = _pending(publisher, videos, indices)
    at_work = tuple(holder for holder in driver.holders(out) if holder.beats)
    summary = None
    if part is None and (not pending or allow_missing):
        summary = conclude(out, settings, saved.listing, publisher, Tally())
        summary = dataclasses.replace(summary, seconds=round(time.perf_counter() - started, 3))
        for note in summary.notes:
            heard.note(note)
        write_run_json(out, summary)
    return Merged(
        out=out,
        part=part_settings.part,
        num_videos=len(indices),
        num_pending=len(pending),
        parts=_parts_left(out, saved, pending, at_work),
        at_work=at_work,
        settings=settings,
        saved=saved,
        summary=summary,
    )


def _of_shards(num_videos: int, shard_videos: int, part: int, num_parts: int) -> range:
    """List indices of the `part`-th of `num_parts` runs of whole shards, about equally many."""
    num_shards = -(-num_videos // shard_videos)
    start, end = (num_shards * number // num_parts * shard_videos for number in (part - 1, part))
    return range(min(start, num_videos), min(end, num_videos))


def _pending(publisher: Publisher, videos: Sequence[Video], indices: Iterable[int]) -> list[int]:
    """List indices, of these, of the videos that have no outcome."""
    return [index for index in indices if publisher.read_entry(videos[index], index) is None]


def _parts_left(out: Path, saved: SavedList, pending: Sequence[int], at_work: Sequence[Holder]) -> tuple[PartLeft, ...]:
    """The parts that the pending videos belong to."""
    num_parts = _num_parts(out)
    if not pending or num_parts is None or saved.num_bytes is None:
        return ()
    holder_of = {holder.part: holder for holder in at_work}  # None: a run over the whole list
    left, found = set(pending), []
    for number, indices in enumerate(part_slices(saved.num_bytes, num_parts), 1):
        part, num_pending = f"{number}/{num_parts}", sum(index in left for index in indices)
        if num_pending:
            holder = holder_of.get(part) or holder_of.get(None)
            found.append(PartLeft(part=part, num_videos=len(indices), num_pending=num_pending, holder=holder))
    return tuple(found)


def _num_parts(out: Path) -> int | None:
    """Into how many parts the list was divided last, by the journals; None where it was not."""
    for path in reversed(journal.journals(out)):
        with contextlib.suppress(OSError, SettingsError, TypeError):
            first = next(journal.read_journal(path), {})
            if first.get("part"):
                return RunSettings(part=first["part"]).slice_of_parts()[1]
    return None

"""What the disk says about one video: the only reader of commits, row files and packed rows.

A stored commit comes before a row file, and both before the packed rows: whatever supersedes an outcome first removes
or replaces the older file, so that two of a kind are left only by attempts that ran at the same time, and then a
stored video is worth more than a failed one.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from flowprep.errors import StoreError
from flowprep.records import Row, State, Video
from flowprep.stores.clipfile import read_clip_entry
from flowprep.stores.packed import PackedShard
from flowprep.stores.places import unpacked_paths
from flowprep.stores.replaced import read_current
from flowprep.stores.rowfile import Entry, read_row_file


@dataclass(frozen=True, slots=True)
class Final:
    """The outcome of a video and where it is recorded: `clip`, `row`, `packed`, or by the `list` alone."""

    entry: Entry
    source: str


def find_final(out: Path, video: Video, list_index: int, packed: Callable[[], PackedShard | None]) -> Final | None:
    """The outcome of a video, or None while it has none, see `find_recorded`. What is recorded precedes the list."""
    found = find_recorded(out, video.id, list_index, packed)
    if found is None and video.problem is not None:
        return Final(listed_failure(video, list_index), "list")
    return found


def listed_failure(video: Video, list_index: int) -> Entry:
    """The outcome of a video that fails by the list alone; ten thousand missing videos need no ten thousand files."""
    assert video.problem is not None, "the list alone fails only a video with a problem"
    return Entry(Row.unstored(video, State.FAILED, video.problem), list_index)


def find_recorded(out: Path, video_id: str, list_index: int, packed: Callable[[], PackedShard | None]) -> Final | None:
    """The outcome of a video that the disk has, or None. Torn files count as absent.

    `packed` gives the packed rows of the video's shard. It is called after the commit was looked for: a packer deletes
    commits when it has published the rows, so that one of the two is found.

    Raises StoreError if the outcome belongs to another place in the list.
    """
    found = find_unpacked(out, video_id)
    if found is None:
        rows = packed()
        if rows is None or list_index not in rows.entries:
            return None
        found = Final(rows.entries[list_index], "packed")
    if found.entry.row.id != video_id or found.entry.list_index != list_index:
        raise StoreError(
            f"{out}: list entry {list_index} is {video_id!r} now, but was committed as entry "
            f"{found.entry.list_index}, {found.entry.row.id!r}; a list may only grow at its end"
        )
    return found


def find_unpacked(out: Path, video_id: str) -> Final | None:
    """The outcome in a video's commit or row file, or None if there is neither."""
    clip, row = unpacked_paths(out, video_id)
    for source, path, read in (("clip", clip, read_clip_entry), ("row", row, read_row_file)):
        if not os.path.exists(path):
            continue
        try:
            return Final(read_current(Path(path), read), source)
        except (FileNotFoundError, StoreError):
            continue
    return None

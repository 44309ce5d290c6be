"""What the disk says about one video: the only reader of commits, row files and packed rows.

A stored commit comes before a row file, and both before the packed rows: whatever supersedes an outcome first removes
or replaces the older file, so that two of a kind are left only by attempts that ran at the same time, and then a
stored video is worth more than a failed one.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from flowprep.errors import StoreError
from flowprep.records import Row, State, Video
from flowprep.stores.clipfile import read_clip_entry
from flowprep.stores.packed import PackedShard
from flowprep.stores.places import clip_path, row_path
from flowprep.stores.rowfile import Entry, read_row_file


@dataclass(frozen=True, slots=True)
class Final:
    """The outcome of a video and where it is recorded: `clip`, `row`, `packed`, or by the `list` alone."""

    entry: Entry
    source: str


def find_final(out: Path, video: Video, list_index: int, packed: PackedShard | None) -> Final | None:
    """The outcome of a video, or None while it has none. Torn files count as absent.

    Raises StoreError if the outcome belongs to another place in the list.
    """
    found = None
    for source, path, read in (
        ("clip", clip_path(out, video.id), read_clip_entry),
        ("row", row_path(out, video.id), read_row_file),
    ):
        try:
            found = Final(read(path), source)
            break
        except (FileNotFoundError, StoreError):
            continue
    if found is None and packed is not None and list_index in packed.entries:
        found = Final(packed.entries[list_index], "packed")
    if found is None and video.problem is not None:
        # Ten thousand missing videos are no reason for ten thousand files.
        return Final(Entry(Row.unstored(video, State.FAILED, video.problem), list_index), "list")
    if found is None:
        return None
    if found.entry.row.id != video.id or found.entry.list_index != list_index:
        raise StoreError(
            f"{out}: list entry {list_index} is {video.id!r} now, but was committed as entry "
            f"{found.entry.list_index}, {found.entry.row.id!r}; a list may only grow at its end"
        )
    return found

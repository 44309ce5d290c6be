"""What a store is converted from: its rows, its list, and when its videos had been modified. Nothing is written."""

from __future__ import annotations

import functools
import json
import threading
from array import array
from collections.abc import Callable, Sequence
from typing import final, overload

from flowprep import driver
from flowprep.errors import MissingDataError, StoreError, UnfinishedStoreError
from flowprep.records import Listing, Row, Segment, State, Video
from flowprep.stores import Store, find_manifest
from flowprep.stores.finals import find_recorded
from flowprep.stores.manifest import read_manifest
from flowprep.stores.packed import PackedRows
from flowprep.stores.places import SPLITS
from flowprep.stores.savedlist import SavedList, read_list
from flowprep.wording import counted


@final
class SourceRows(Sequence[Row]):
    """The rows of all listed videos. Those of stored ones are parsed when they are asked for, the others held."""

    def __init__(self, store: Store) -> None:
        self._stored = store.rows
        self._unstored: dict[int, Row] = {}
        self._positions = array("q")
        self.ids: list[str] = []
        num_stored = 0
        for row in read_manifest(find_manifest(store.path))[1]:
            if not row.state.stored:
                self._unstored[len(self.ids)] = row
            self._positions.append(num_stored)
            num_stored += row.state.stored
            self.ids.append(row.id)
        self.num_pending = sum(row.state is State.PENDING for row in self._unstored.values())

    def __len__(self) -> int:
        return len(self.ids)

    @overload
    def __getitem__(self, index: int) -> Row: ...
    @overload
    def __getitem__(self, index: slice) -> list[Row]: ...
    def __getitem__(self, index: int | slice) -> Row | list[Row]:
        if isinstance(index, slice):
            return [self[k] for k in range(*index.indices(len(self)))]
        return self._unstored.get(index) or self._stored[self._positions[index]]


def list_of(store: Store, rows: SourceRows) -> SavedList:
    """The list of a finished store: its own, or what manifest and splits say where it has lost that.

    Raises UnfinishedStoreError where the store is not finished.
    """
    at_work = [holder for holder in driver.holders(store.path) if holder.beats]
    if at_work:
        text = f"the store {store.path} is being made by {at_work[0].text()}; wait until it has ended"
        raise UnfinishedStoreError(text, store.path)
    if rows.num_pending:
        lacking = counted(rows.num_pending, "video")
        raise UnfinishedStoreError(
            f"{store.path} lacks the outcome of {lacking}; run `flowprep extract` again to finish it", store.path
        )
    try:
        saved = read_list(store.path)
    except MissingDataError:
        return SavedList(listing=_listing_of(store, rows), videos=None)
    if [video.id for video in saved.listing.videos] != rows.ids:
        raise UnfinishedStoreError(
            f"the manifest of {store.path} is not of its list, {len(saved.listing.videos)} videos; "
            "run `flowprep extract` again to finish it",
            store.path,
        )
    return saved


def _listing_of(store: Store, rows: Sequence[Row]) -> Listing:
    """The listing of a store that was copied without its `.flowprep`."""
    path = store.path / SPLITS
    try:
        splits = json.loads(path.read_text("utf-8"))
        return Listing(
            dataset=splits["dataset"],
            videos=tuple(_video_of(row) for row in rows),
            classes=tuple(splits["classes"]),
            splits={
                name: {part: tuple(ids) for part, ids in parts.items()} for name, parts in splits["splits"].items()
            },
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise StoreError(f"{path} cannot be read: {error}; restore it") from error


def _video_of(row: Row) -> Video:
    segment = None if row.segment is None else Segment(start_seconds=row.segment[0], end_seconds=row.segment[1])
    return Video(id=row.id, path=row.path, class_name=row.class_name, label=row.label, segment=segment)


def mtimes_of(store: Store) -> Callable[[Video, int], int]:
    """When the source of each video had been modified, 0 where the store has not kept that; for any thread."""
    packed, shard_videos, lock = PackedRows(store.path), store.settings.store.shard_videos, threading.Lock()
    is_tree = store.settings.store.format == "jpeg"

    def mtime_ns_of(video: Video, index: int) -> int:
        with lock:
            rows = (lambda: None) if is_tree else functools.partial(packed.of, index // shard_videos)
            found = find_recorded(store.path, video.id, index, rows)
        return 0 if found is None else found.entry.source_mtime_ns

    return mtime_ns_of

"""The files at the top of a finished store: manifest, splits, times of a tree, checksums.

All of them follow from the rows on disk and the list, in list order, so that every way to get there gives the same
bytes. The manifest makes a folder a store, hence it appears after what it refers to; `SHA256SUMS`, in the form that
`sha256sum -c` reads, covers it and comes last.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from pathlib import Path

from flowprep import commit
from flowprep.config import ExtractSettings
from flowprep.errors import StoreError
from flowprep.records import Listing, Row
from flowprep.stores.manifest import header_line, row_line, split_json
from flowprep.stores.packed import packed_sha256
from flowprep.stores.places import CHECKSUMS, MANIFEST, SPLITS, TIMING, row_path, shard_location, staging_folder
from flowprep.stores.rowfile import read_row_file
from flowprep.stores.timingfile import write_timing


def finish(out: Path, settings: ExtractSettings, listing: Listing, rows: Iterable[Row]) -> None:
    """Write splits.json, timing.h5 (trees), manifest.jsonl and SHA256SUMS. `rows` has one row a video, in list order.

    Rows are read once and not held. Raises StoreError if they are not those of the list, RunStoppedError if the disk
    fails.
    """
    with commit.output_errors(out, video=False):
        commit.ensure_folder(out, staging_folder(out), sync=False)
        commit.remove_file(out / CHECKSUMS, sync=False)
        write_splits(out, listing)
        with commit.staged(out, MANIFEST, "file") as staging:
            stored = _Stored()
            lines = _lines(settings, listing, stored.passing(rows))
            commit.write_file(staging / MANIFEST, (f"{line}\n".encode() for line in lines), sync=True)
            if settings.store.format == "jpeg":
                write_timing(staging / TIMING, stored.ids, stored.frames, _times(out, stored.ids))
                commit.sync_file(staging / TIMING)
                commit.publish_into(out, staging / TIMING, out / TIMING, sync=True)
            commit.publish_into(out, staging / MANIFEST, out / MANIFEST, sync=True)
        commit.write_lines(out / CHECKSUMS, _checksum_lines(out, settings, len(listing.videos)))


def write_splits(out: Path, listing: Listing) -> None:
    """Write splits.json: the official splits by id, and the classes."""
    commit.write_json(out / SPLITS, split_json(listing.dataset, listing.classes, listing.splits))


class _Stored:
    """Ids and counts of the stored rows that pass by."""

    def __init__(self) -> None:
        self.ids: list[str] = []
        self.frames: list[int] = []

    def passing(self, rows: Iterable[Row]) -> Iterator[Row]:
        for row in rows:
            if row.state.stored:
                self.ids.append(row.id)
                self.frames.append(row.frames)
            yield row


def _lines(settings: ExtractSettings, listing: Listing, rows: Iterable[Row]) -> Iterator[str]:
    yield header_line(settings, len(listing.videos))
    count = 0
    for count, row in enumerate(rows, 1):
        if count > len(listing.videos) or row.id != listing.videos[count - 1].id:
            raise StoreError(f"row {count} is of {row.id!r}, which is not video {count} of the list")
        yield row_line(row, settings)
    if count != len(listing.videos):
        raise StoreError(f"there are {count} rows for {len(listing.videos)} listed videos")


def _times(out: Path, ids: Iterable[str]) -> Iterator[list[float]]:
    for video_id in ids:
        yield list(read_row_file(row_path(out, video_id)).pts_seconds)


def _checksum_lines(out: Path, settings: ExtractSettings, num_videos: int) -> Iterator[str]:
    names = [MANIFEST, SPLITS, *([TIMING] if settings.store.format == "jpeg" else [])]
    for name in names:
        with (out / name).open("rb") as file:
            yield f"{hashlib.file_digest(file, 'sha256').hexdigest()}  {name}"
    if settings.store.format == "hdf5":
        for shard in range(-(-num_videos // settings.store.shard_videos)):
            digest = packed_sha256(out, shard)
            if digest is not None:
                yield f"{digest}  {shard_location(shard)}"

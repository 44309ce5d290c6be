"""Which videos of a list are to be done: new ones, changed ones, and those that failed in a way that is tried again."""

from __future__ import annotations

import os
import platform
import stat
from collections.abc import Iterable, Sequence
from pathlib import Path

from flowprep import source
from flowprep.errors import RunStoppedError
from flowprep.publisher import Publisher
from flowprep.records import RETRIED_BY_DEFAULT, State, Video
from flowprep.stores.finals import listed_failure
from flowprep.stores.rowfile import Entry
from flowprep.summary import Counts


def survey(
    publisher: Publisher,
    videos: Sequence[Video],
    indices: Iterable[int],
    folder: Path,
    *,
    retry: str,
    settled: Counts | None = None,
) -> list[int]:
    """List indices, out of `indices`, of the videos that are to be done; the others are counted in `settled`.

    `folder` is where the videos' paths begin, `retry` that of `RunSettings`.
    """
    todo = []
    for index in indices:
        video = videos[index]
        entry = publisher.read_entry(video, index)
        # What fails by the list alone is no work; its path may be a forbidden one, and is never looked at.
        if video.problem is None and _is_to_do(entry, video, folder, retry):
            todo.append(index)
        elif settled is not None:
            settled.add(video, (entry or listed_failure(video, index)).row)
    return todo


def sizes_of(videos: Iterable[Video], folder: Path) -> list[int]:
    """Bytes of each video's file; 0 where it will fail before it is opened."""
    return [_size_of(f"{folder}/{video.path}") if video.problem is None else 0 for video in videos]


def check_mounted(videos: Sequence[Video], sizes: Sequence[int], indices: Iterable[int], folder: Path) -> None:
    """Raise RunStoppedError where `folder` is empty or gone, although of `indices` some had `sizes` in bytes in it.

    On a node where nothing is mounted at the mount point of the videos, every one of them would fail as missing.
    """
    expected = next((index for index in indices if sizes[index]), None)
    if expected is None:
        return
    try:
        with os.scandir(folder) as entries:
            is_empty = next(entries, None) is None
    except FileNotFoundError:
        is_empty = True
    except OSError:
        return  # what is wrong will be said of each video
    if is_empty:
        raise RunStoppedError(
            f"{folder} has no files on {platform.node()}, but the list has {videos[expected].path} in it "
            f"({sizes[expected]} bytes); mount the disk of the videos there and run the same command again"
        )


def _size_of(path: str) -> int:
    try:
        status = os.stat(path)
    except (OSError, ValueError):
        return 0
    return status.st_size if stat.S_ISREG(status.st_mode) else 0


def _is_to_do(entry: Entry | None, video: Video, folder: Path, retry: str) -> bool:
    if entry is None or entry.row.state is State.PENDING:
        return True
    if not entry.row.state.stored:
        codes = {reason.code for reason in entry.row.reasons}
        if retry == "all" or codes & RETRIED_BY_DEFAULT:
            return True
    return _is_changed(entry, f"{folder}/{video.path}")


def _is_changed(entry: Entry, path: str) -> bool:
    """True if the source is not the file that the outcome came from; one that is gone changes nothing.

    Another modification time alone proves nothing (files are copied and touched), so then the content decides.
    """
    try:
        version = source.fingerprint_of(os.stat(path))
        if version.num_bytes != entry.row.source_bytes:
            return True
        if version.mtime_ns == entry.source_mtime_ns:
            return False
        return source.sha256_of(Path(path), version) != entry.row.source_sha256
    except (OSError, ValueError):  # VideoError is a ValueError
        return False

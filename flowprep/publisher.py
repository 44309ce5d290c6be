"""Publishes videos, in a tree or as commits for shards, and says which are published.

One attempt at a video is a `VideoWriter`: JPEGs are added one by one, then it is committed or aborted. What the steps
of a commit promise is said in `flowprep.commit`.
"""

from __future__ import annotations

import abc
import contextlib
import dataclasses
import errno
import functools
import hashlib
import os
from array import array
from collections.abc import Sequence
from pathlib import Path
from typing import Self, final

from flowprep import commit
from flowprep.config import ExtractSettings
from flowprep.errors import SettingsError, VideoError
from flowprep.records import Row, Video
from flowprep.stores.clipfile import MAGIC, encode_tail
from flowprep.stores.finals import find_recorded, listed_failure
from flowprep.stores.layouts import layout_of
from flowprep.stores.packed import PackedRows
from flowprep.stores.places import SHARDS, clip_path, id_hash, row_path, shard_location, staging_folder
from flowprep.stores.rowfile import Entry, encode_row_file

DURABILITY = ("video", "strict", "fast")


class VideoWriter(abc.ABC):
    """One attempt at one video. Holds no JPEG longer than a call. As a context manager it aborts unless committed."""

    def __init__(self, publisher: Publisher, video: Video, list_index: int, attempt: str) -> None:
        self.publisher = publisher
        self.video = video
        self.list_index = list_index
        self._num_added = dict.fromkeys(publisher.settings.streams, 0)
        self._num_bytes = dict.fromkeys(publisher.settings.streams, 0)
        self._hashes = {stream: hashlib.sha256() for stream in publisher.settings.streams}
        with commit.output_errors(publisher.out, video=True):
            self.staging = commit.new_staging(publisher.out, id_hash(video.id)[:16], attempt)
            try:
                self._open()
            except BaseException:
                self.abort()
                raise

    def add(self, stream: str, jpeg: bytes | memoryview) -> None:
        """Append one JPEG to a stream; its index is the number of those added before.

        Streams may be interleaved in any order. Images that the layout leaves out (the first one of tsn) are dropped.
        Raises RunStoppedError if the disk is full, VideoError `io` if it fails otherwise.
        """
        if stream not in self._num_added:
            raise ValueError(f"`stream` must be one of {', '.join(self._num_added)}, got {stream!r}")
        index = self._num_added[stream]
        self._num_added[stream] = index + 1
        if stream == "rgb":
            index -= self.publisher.first_image
            if index < 0:
                return
        self._hashes[stream].update(jpeg)
        self._num_bytes[stream] += len(jpeg)
        with commit.output_errors(self.publisher.out, video=True):
            self._write(stream, index, jpeg)

    def commit(self, row: Row, pts_seconds: Sequence[float], *, source_mtime_ns: int = 0) -> Row:
        """Publish the video and give back its final row, with location, sizes and checksums filled in.

        `row.frames` and `row.flows` count what is stored; `pts_seconds` has a time for every image that was added, and
        those of dropped images are dropped with them (all of them where the store has no images). `source_mtime_ns` is
        kept beside the row, see `Entry`.

        Raises:
            VideoError: `internal` if a stream has not as many images as the row says; `io` if the disk fails.
            RunStoppedError: the disk is full.
        """
        try:
            times = self._stored_times(pts_seconds)
            self._check_counts(row, len(times))
            stored = dataclasses.replace(
                row,
                location=self.publisher.location(self.video, self.list_index),
                stream_sha256={stream: digest.hexdigest() for stream, digest in self._hashes.items()},
                stream_bytes=dict(self._num_bytes),
            )
            with commit.output_errors(self.publisher.out, video=True):
                self._publish(Entry(stored, self.list_index, times, source_mtime_ns))
            commit.drop_aside(self.publisher.out, id_hash(self.video.id))
        finally:
            self.abort()
        return stored

    def abort(self) -> None:
        """Remove what is staged; does nothing to what is published."""
        commit.remove_tree(self.staging)

    def _stored_times(self, pts_seconds: Sequence[float]) -> list[float]:
        if "rgb" not in self._num_added:
            return []
        num = self._num_added["rgb"]
        if len(pts_seconds) != num:
            raise VideoError("internal", f"{len(pts_seconds)} time stamps for {num} images")
        return [float(pts) for pts in pts_seconds[self.publisher.first_image :]]

    def _check_counts(self, row: Row, num_times: int) -> None:
        if not row.state.stored:
            raise VideoError("internal", f"a video that is {row.state} was committed as stored")
        if num_times != row.frames:
            raise VideoError("internal", f"{num_times} images where the row says {row.frames}")
        for stream, num in self._num_added.items():
            if stream != "rgb" and num != row.flows:
                raise VideoError("internal", f"stream {stream} has {num} images where the row says {row.flows}")

    @abc.abstractmethod
    def _open(self) -> None:
        """Make what the staging folder needs."""

    @abc.abstractmethod
    def _write(self, stream: str, index: int, jpeg: bytes | memoryview) -> None:
        """Write one JPEG into the staging folder."""

    @abc.abstractmethod
    def _publish(self, entry: Entry) -> None:
        """Flush and rename, record last."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.abort()


class Publisher(abc.ABC):
    """Publishes the videos of one store, and says what is published. Made by `open_publisher`."""

    def __init__(self, out: Path, settings: ExtractSettings, durability: str) -> None:
        self.out = out
        self.settings = settings
        self.durability = durability

    @property
    def sync(self) -> bool:
        """True if what is published is flushed to the disk before."""
        return self.durability != "fast"

    @property
    def first_image(self) -> int:
        """Number of decoded images at the start that are not stored."""
        return 0

    @abc.abstractmethod
    def begin(self, video: Video, list_index: int, *, attempt: str) -> VideoWriter:
        """Start one attempt at a video. `attempt` becomes part of the temporary names: letters, digits, _ and -."""

    @abc.abstractmethod
    def location(self, video: Video, list_index: int) -> str:
        """What `Row.location` will be."""

    def read_row(self, video: Video, list_index: int) -> Row | None:
        """The row of a video as the disk has it, or None while it has no outcome. Half-written things do not count.

        Raises StoreError if the video was committed as another entry of the list.
        """
        entry = self.read_entry(video, list_index)
        return None if entry is None else entry.row

    def read_entry(self, video: Video, list_index: int) -> Entry | None:
        """As `read_row`, with what is kept beside the row; time stamps only where there is a row file."""
        entry = self._recorded(video.id, list_index)
        if entry is None and video.problem is not None:
            return listed_failure(video, list_index)
        return entry

    @abc.abstractmethod
    def _recorded(self, video_id: str, list_index: int) -> Entry | None:
        """The outcome of a video that the disk has."""

    def publish_row(self, row: Row, list_index: int, *, source_mtime_ns: int = 0, attempt: str = "row") -> Row:
        """Publish the outcome of a video that is not stored, and give back the row that holds.

        A stored outcome of the same source stays, so that a late attempt undoes no success. Raises RunStoppedError if
        the disk fails: an outcome that cannot be recorded is not that of a video.
        """
        assert not row.state.stored, "a stored video is published by its writer"
        existing = self._recorded(row.id, list_index)
        stored = existing.row if existing is not None and existing.row.state.stored else None
        if stored is not None and _may_be_same_source(stored, row):
            return stored
        row = dataclasses.replace(row, location="", frames=0, flows=0, stream_sha256={}, stream_bytes={})
        entry = Entry(row, list_index, source_mtime_ns=source_mtime_ns)
        with (
            commit.output_errors(self.out, video=False),
            commit.staged(self.out, id_hash(row.id)[:16], attempt) as staging,
        ):
            self._publish_unstored(entry, staging, stored)
        commit.drop_aside(self.out, id_hash(row.id))
        return row

    @abc.abstractmethod
    def _publish_unstored(self, entry: Entry, staging: Path, stored: Row | None) -> None:
        """Publish the row of a video that is not stored, and take away what was `stored` of it."""

    def publish_row_file(self, entry: Entry, staging: Path) -> None:
        """Write, flush and rename a row file: the last step of every outcome that has one."""
        temporary = staging / "row.json"
        commit.write_file(temporary, [encode_row_file(entry)], sync=self.sync)
        commit.publish_into(self.out, temporary, row_path(self.out, entry.row.id), sync=self.sync)


def open_publisher(out: Path, settings: ExtractSettings, *, durability: str = "video") -> Publisher:
    """The publisher of a store, whose folder is made. `durability` is that of `RunSettings`.

    Raises:
        SettingsError: the folder cannot be made or written, or folders that videos pass through are not on one file
            system.
        RunStoppedError: the disk is full.
    """
    if durability not in DURABILITY:
        raise SettingsError(f"`durability` must be one of {', '.join(DURABILITY)}, got {durability!r}")
    staging = staging_folder(out)
    try:
        out.mkdir(parents=True, exist_ok=True)
        commit.ensure_folder(out, staging, sync=False)
        _check_one_file_system(out)
        commit.new_staging(out, "probe", "open").rmdir()
    except OSError as error:
        if error.errno in commit.DISK_FULL:
            with commit.output_errors(out, video=False):
                raise
        raise SettingsError(f"{out} cannot be written: {error.strerror}; give another --out") from error
    kind = TreePublisher if settings.store.format == "jpeg" else ShardPublisher
    return kind(out, settings, durability)


@final
class TreePublisher(Publisher):
    """Publishes folders of JPEG files: the folders of a video by rename, then its row file."""

    def __init__(self, out: Path, settings: ExtractSettings, durability: str) -> None:
        super().__init__(out, settings, durability)
        self.layout = layout_of(settings)

    @property
    def first_image(self) -> int:
        """Number of decoded images at the start that are not stored."""
        return self.layout.first_image

    def location(self, video: Video, list_index: int) -> str:
        """The video's folder."""
        return self.layout.location(video)

    def begin(self, video: Video, list_index: int, *, attempt: str) -> VideoWriter:
        """Start one attempt at a video."""
        return TreeWriter(self, video, list_index, attempt)

    def folders(self, location: str) -> dict[str, Path]:
        """Final folders of a video by part (feichtenhofer has three parts, the others one)."""
        places = self.layout.folders(location, self.settings.streams)
        return {part: self.out / place for part, place in places.items()}

    def _recorded(self, video_id: str, list_index: int) -> Entry | None:
        """The row file's entry; a stored one only if its folders are there."""
        with commit.output_errors(self.out, video=False):
            found = find_recorded(self.out, video_id, list_index, lambda: None)
        if found is None:
            return None
        row = found.entry.row
        if row.state.stored and not all(
            path.is_dir() and not path.is_symlink() for path in self.folders(row.location).values()
        ):
            return None
        return found.entry

    def _publish_unstored(self, entry: Entry, staging: Path, stored: Row | None) -> None:
        self.publish_row_file(entry, staging)
        if stored is not None:
            self.take_away(stored, staging)

    def take_away(self, row: Row, staging: Path | None) -> None:
        """Move what lies under a video's final names into `staging`, to be deleted, or aside where that is None."""
        for part, folder in self.folders(row.location).items():
            if not os.path.lexists(folder):
                continue
            if staging is None:
                commit.move_aside(self.out, folder, id_hash(row.id))
            else:
                commit.publish(folder, staging / f"old{part}")
            if self.sync:
                commit.sync_folder(folder.parent)


@final
class TreeWriter(VideoWriter):
    """Stages the files of a video in folders that are renamed as a whole."""

    publisher: TreePublisher

    def _open(self) -> None:
        location = self.publisher.location(self.video, self.list_index)
        self._folders = {part: self.staging / f"new{part}" for part in self.publisher.folders(location)}
        self._strict = self.publisher.durability == "strict"
        for folder in self._folders.values():
            commit.ensure_folder(self.staging, folder, sync=False)

    def _write(self, stream: str, index: int, jpeg: bytes | memoryview) -> None:
        part, name = self.publisher.layout.file(stream, index)
        commit.write_file(self._folders[part] / name, [jpeg], sync=self._strict)

    def _publish(self, entry: Entry) -> None:
        publisher, sync = self.publisher, self.publisher.sync
        existing = publisher.read_entry(self.video, self.list_index)
        if existing is not None and existing.row == entry.row:
            # Another attempt was first, and its bytes are the same.
            if existing.source_mtime_ns != entry.source_mtime_ns:
                publisher.publish_row_file(entry, self.staging)
            return
        if self._strict:
            for folder in self._folders.values():
                commit.sync_folder(folder)
        elif sync:
            commit.sync_tree(self.staging)
        had_row = commit.remove_file(row_path(publisher.out, self.video.id), sync=sync)
        # A folder whose row we replace is deleted with the staging folder; one without a row is not ours to delete.
        publisher.take_away(entry.row, self.staging if had_row else None)
        for part, folder in publisher.folders(entry.row.location).items():
            try:
                commit.publish_into(publisher.out, self._folders[part], folder, sync=sync)
            except OSError as error:
                if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                    raise
                # Another attempt came in between; its row, if it still appears, will be the same as ours.
                commit.move_aside(publisher.out, folder, id_hash(self.video.id))
                commit.publish_into(publisher.out, self._folders[part], folder, sync=sync)
        publisher.publish_row_file(entry, self.staging)


@final
class ShardPublisher(Publisher):
    """Publishes one commit file a video, which packing (`stores.pack`) later turns into shards."""

    def __init__(self, out: Path, settings: ExtractSettings, durability: str) -> None:
        super().__init__(out, settings, durability)
        self._packed = PackedRows(out)

    def location(self, video: Video, list_index: int) -> str:
        """The shard that the video's place in the list decides."""
        return shard_location(list_index // self.settings.store.shard_videos)

    def begin(self, video: Video, list_index: int, *, attempt: str) -> VideoWriter:
        """Start one attempt at a video."""
        return ClipWriter(self, video, list_index, attempt)

    def _recorded(self, video_id: str, list_index: int) -> Entry | None:
        """The entry in the video's commit, row file or packed shard, in this order."""
        packed = functools.partial(self._packed.of, list_index // self.settings.store.shard_videos)
        with commit.output_errors(self.out, video=False):
            found = find_recorded(self.out, video_id, list_index, packed)
        return None if found is None else found.entry

    def _publish_unstored(self, entry: Entry, staging: Path, stored: Row | None) -> None:
        if stored is not None:
            commit.remove_file(clip_path(self.out, stored.id), sync=self.sync)
        self.publish_row_file(entry, staging)


@final
class ClipWriter(VideoWriter):
    """Streams a video into one commit file."""

    _fd = -1

    def _open(self) -> None:
        self._before = _outcome(self.publisher.read_entry(self.video, self.list_index))
        self._path = self.staging / "video.clip"
        self._index = {stream: array("Q") for stream in self.publisher.settings.streams}
        self._end = len(MAGIC)
        self._fd = commit.open_new(self._path)
        commit.write(self._fd, MAGIC)

    def _write(self, stream: str, index: int, jpeg: bytes | memoryview) -> None:
        commit.write(self._fd, jpeg)
        self._index[stream].extend((self._end, len(jpeg)))
        self._end += len(jpeg)

    def _publish(self, entry: Entry) -> None:
        out, sync = self.publisher.out, self.publisher.sync
        was = _outcome(self.publisher.read_entry(self.video, self.list_index))
        if was == _outcome(entry) and was != self._before:
            return  # another attempt was first meanwhile, its bytes are the same, and its shard may be packed by now
        commit.write(self._fd, encode_tail(entry, self._index, self._end))
        if sync:
            commit.fsync(self._fd)
        fd, self._fd = self._fd, -1
        commit.close(fd)
        commit.remove_file(row_path(out, self.video.id), sync=sync)
        commit.publish_into(out, self._path, clip_path(out, self.video.id), sync=sync)

    def abort(self) -> None:
        """Close and remove the staged file."""
        fd, self._fd = self._fd, -1
        if fd >= 0:
            commit.abandon(fd)
        super().abort()


def _outcome(entry: Entry | None) -> tuple[Row, int] | None:
    """What tells one outcome of a video from another."""
    return None if entry is None else (entry.row, entry.source_mtime_ns)


def _may_be_same_source(existing: Row, row: Row) -> bool:
    """False if both rows know their source file and it differs."""
    return row.source_bytes in (0, existing.source_bytes) and row.source_sha256 in ("", existing.source_sha256)


def _check_one_file_system(out: Path) -> None:
    """Videos and shards get their final names by rename, which cannot leave a file system."""
    device = os.stat(out).st_dev
    folders = [out / ".flowprep" / name for name in ("staging", "commits", "rows", "packed", "aside")]
    for folder in (*folders, out / SHARDS):
        with contextlib.suppress(FileNotFoundError):
            if os.stat(folder).st_dev != device:
                raise SettingsError(f"{folder} must be on the same file system as {out}; unmount it")

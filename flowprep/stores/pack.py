"""Packing: the commits of a shard's videos become one HDF5 file.

Video k of the list belongs to shard k // shard_videos, whatever became of it, so that a shard's content does not depend
on who packs it or when. It is written to the staging folder, closed, read back, hashed and renamed, together with its
rows, see Note [rows before their shard]; only then its commits are deleted. A packer that is killed anywhere leaves
commits from which the same bytes are made again, and two packers at once make the same bytes twice.

A shard whose videos change later (a failed one became ok, the list grew) is built anew from the old shard's bytes and
the new commits.
"""

from __future__ import annotations

import functools
import hashlib
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from flowprep import commit
from flowprep.config import ExtractSettings
from flowprep.datasets.ids import raw_bytes
from flowprep.errors import StoreError
from flowprep.records import Video
from flowprep.stores.clipfile import ClipFile
from flowprep.stores.finals import Final, find_final, find_unpacked
from flowprep.stores.packed import PackedRows, encode_packed, file_sha256, read_packed
from flowprep.stores.places import clip_path, next_packed_path, packed_path, shard_location, unpacked_paths
from flowprep.stores.replaced import is_stale
from flowprep.stores.rowfile import Entry
from flowprep.stores.safe_h5 import disk_errors
from flowprep.stores.shardfile import ShardFile, create_shard, read_index, unit_of

_BLOCK = 4 << 20  # bytes that are copied at a time
_MAX_ROUNDS = 8  # times that packing starts again because another packer was faster


class _DamagedClipError(Exception):
    """A commit's bytes are not those that its row names; its path is the argument."""


@dataclass(frozen=True, slots=True)
class _Source:
    """The JPEGs of one stored video as they are read for packing: bytes in blocks, and sizes, by stream."""

    entry: Entry
    clip: Path | None
    old: ShardFile | None

    def read(self, stream: str) -> tuple[NDArray[np.uint64], Iterator[bytes]]:
        """Sizes of the JPEGs, uint64 (n,), and their bytes, which are checked against the row as they pass."""
        if self.clip is not None:
            places = _clip_index(self.clip)[0][stream]
            return places[:, 1], self._checked(stream, _clip_blocks(self.clip, places))
        old, position = self._packed()
        return old.sizes(position, stream), self._checked(stream, old.blocks(position, stream))

    def pts_seconds(self) -> NDArray[np.float64]:
        """Times of the images in seconds, float64 (frames,)."""
        if self.clip is not None:
            return _clip_index(self.clip)[1]
        old, position = self._packed()
        return old.pts_seconds(position)

    def _packed(self) -> tuple[ShardFile, int]:
        assert self.old is not None, "a packed video lies in a shard"
        position = self.old.positions.get(raw_bytes(self.entry.row.id))
        if position is None:
            raise StoreError(
                f"{self.old.path} has lost {self.entry.row.id!r}; restore it, or extract anew with --overwrite"
            )
        return self.old, position

    def _checked(self, stream: str, blocks: Iterable[bytes]) -> Iterator[bytes]:
        digest = hashlib.sha256()
        for block in blocks:
            digest.update(block)
            yield block
        if digest.hexdigest() == self.entry.row.stream_sha256[stream]:
            return
        if self.clip is not None:
            raise _DamagedClipError(self.clip)
        raise StoreError(
            f"{self.entry.row.location}: {stream} of {self.entry.row.id!r} is damaged; "
            "restore the file, or extract anew with --overwrite"
        )


def pack_ready(out: Path, settings: ExtractSettings, videos: Sequence[Video], shard: int) -> bool:
    """True if every video of the shard is final and at least one of them is not yet packed, or a packer has died.

    Looks at the last videos first: while work goes on in list order, they answer the question at once.
    """
    packed = PackedRows(out).of(shard)
    found_new = next_packed_path(out, shard).exists()
    for list_index, video in reversed(_members(settings, videos, shard)):
        is_new = any(map(os.path.exists, unpacked_paths(out, video.id)))
        is_packed = packed is not None and list_index in packed.entries
        if not (is_new or is_packed or video.problem is not None):
            return False
        found_new |= is_new or not is_packed
    return found_new


def pack_shard(
    out: Path,
    settings: ExtractSettings,
    videos: Sequence[Video],
    shard: int,
    *,
    durability: str = "video",
    attempt: str = "pack",
) -> bool:
    """Pack a shard; False if it cannot be packed because not all of its videos are final.

    A commit that turns out to be damaged is moved aside; its video is pending again.

    Raises:
        StoreError: the old shard, from which videos have to be taken over, is damaged.
        RunStoppedError: the disk is full or fails; commits are kept.
    """
    members = _members(settings, videos, shard)
    sync = durability != "fast"
    with commit.output_errors(out, video=False):
        for _ in range(_MAX_ROUNDS):
            finals = _gather(out, members, shard)
            if finals is None:
                return False
            if all(final.source == "packed" for final in finals):
                _promote(out, shard, None, sync=sync)
                return True
            with commit.staged(out, f"shard-{shard:05d}", attempt) as staging:
                try:
                    size, digest = _build(out, settings, finals, shard, staging / "shard.h5", sync=sync)
                except _DamagedClipError as error:
                    damaged: Path = error.args[0]
                    commit.move_aside(out, damaged, damaged.stem)
                    return False
                except (OSError, StoreError) as error:
                    is_gone = isinstance(error, (FileNotFoundError, StoreError)) or is_stale(error)
                    if not is_gone or _gather(out, members, shard) == finals:
                        raise
                    continue  # another packer has published the shard and deleted the commits meanwhile
                entries = [final.entry for final in finals]
                record = encode_packed(size, digest, entries)
                commit.write_file(staging / "packed.jsonl", [record], sync=sync)
                if _gather(out, members, shard) != finals:
                    continue
                _promote(out, shard, None, sync=sync)
                commit.publish_into(out, staging / "packed.jsonl", next_packed_path(out, shard), sync=sync)
                commit.publish_into(out, staging / "shard.h5", out / shard_location(shard), sync=sync)
                _promote(out, shard, digest, sync=sync)
            packed = PackedRows(out).of(shard)
            if packed is not None and packed.file_sha256 == digest:
                _delete_commits(out, finals)
                return True
    raise StoreError(f"{out}: shard {shard} kept changing while it was packed; are two runs at work on one store?")


def _members(settings: ExtractSettings, videos: Sequence[Video], shard: int) -> list[tuple[int, Video]]:
    first = shard * settings.store.shard_videos
    return [(first + k, video) for k, video in enumerate(videos[first : first + settings.store.shard_videos])]


def _gather(out: Path, members: Sequence[tuple[int, Video]], shard: int) -> list[Final] | None:
    """The outcome of each video of a shard, None if one has none yet."""
    packed = functools.partial(PackedRows(out).of, shard)
    finals = []
    for list_index, video in members:
        found = find_final(out, video, list_index, packed)
        if found is None:
            return None
        finals.append(found)
    return finals


def _build(
    out: Path, settings: ExtractSettings, finals: Sequence[Final], shard: int, path: Path, *, sync: bool
) -> tuple[int, str]:
    """Write the shard, read it back, and give its size and SHA-256."""
    stored = [final for final in finals if final.entry.row.state.stored]
    old = ShardFile(out / shard_location(shard)) if any(final.source == "packed" for final in stored) else None
    sources = [
        _Source(final.entry, clip_path(out, final.entry.row.id) if final.source == "clip" else None, old)
        for final in stored
    ]
    with disk_errors(path):
        create_shard(path, settings, [source.entry for source in sources])
    target = read_index(path)
    fd = commit.open_existing(path)
    try:
        for stream, place in target.streams.items():
            used = sources if stream in settings.streams else []
            _fill_stream(fd, stream, place.blob.offset, place.offsets.offset, used)
        at = target.pts_seconds.offset
        for source in sources:
            times = source.pts_seconds().astype("<f8").tobytes()
            commit.write_at(fd, times, at)
            at += len(times)
        if sync:
            commit.fsync(fd)
    except BaseException:
        commit.abandon(fd)
        raise
    commit.close(fd)
    _check(ShardFile(path), settings, sources)
    return target.file_bytes, file_sha256(path)


def _fill_stream(fd: int, stream: str, blob_at: int, offsets_at: int, sources: Sequence[_Source]) -> None:
    """Write the JPEGs of a stream one after another, and where each begins."""
    end = 0
    commit.write_at(fd, np.zeros(1, "<u8").tobytes(), offsets_at)
    offsets_at += 8
    for source in sources:
        sizes, blocks = source.read(stream)
        written = 0
        for block in blocks:
            commit.write_at(fd, block, blob_at + end + written)
            written += len(block)
        ends = (end + np.cumsum(sizes, dtype=np.uint64)).astype("<u8").tobytes()
        commit.write_at(fd, ends, offsets_at)
        offsets_at += len(ends)
        end += written


def _check(shard: ShardFile, settings: ExtractSettings, sources: Sequence[_Source]) -> None:
    """Compare what was read back with the rows. Raises StoreError if the disk or HDF5 has changed it."""
    if list(shard.index.ids) != [raw_bytes(source.entry.row.id) for source in sources]:
        raise StoreError(f"{shard.path} reads back with other videos; check the disk and run again")
    for position, source in enumerate(sources):
        row = source.entry.row
        for stream in settings.streams:
            count = row.frames if unit_of(stream) == "rgb" else row.flows
            digest = hashlib.sha256()
            for block in shard.blocks(position, stream):
                digest.update(block)
            if len(shard.sizes(position, stream)) != count or digest.hexdigest() != row.stream_sha256[stream]:
                raise StoreError(
                    f"{shard.path} reads back differently in {stream} of {row.id!r}; check the disk and run again"
                )


def _promote(out: Path, shard: int, digest: str | None, *, sync: bool) -> None:
    """Give the `.next` rows of a shard, if there are any, their final name, if they fit.

    `digest` is the SHA-256 of the shard; None: it has to be read, as after a packer that died. Rows that do not fit
    stay, since they may be those of a packer that is about to publish its shard; the next packing replaces them.
    """
    path = next_packed_path(out, shard)
    try:
        rows = read_packed(path)
        digest = digest or file_sha256(out / shard_location(shard))
        if rows.file_sha256 == digest:
            commit.publish_into(out, path, packed_path(out, shard), sync=sync)
    except (FileNotFoundError, StoreError):
        return  # there are none, or another packer was faster


def _delete_commits(out: Path, finals: Sequence[Final]) -> None:
    """Delete what is packed now. A commit that has been replaced meanwhile is another outcome and stays."""
    for final in finals:
        video_id = final.entry.row.id
        if final.source in ("packed", "list") or find_unpacked(out, video_id) != final:
            continue
        for path in unpacked_paths(out, video_id):
            commit.remove_file(Path(path), sync=False)


def _clip_index(path: Path) -> tuple[dict[str, NDArray[np.uint64]], NDArray[np.float64]]:
    try:
        with ClipFile(path) as clip:
            return clip.read_index()
    except StoreError as error:
        raise _DamagedClipError(path) from error


def _clip_blocks(path: Path, places: NDArray[np.uint64]) -> Iterator[bytes]:
    block = bytearray()
    with ClipFile(path) as clip:
        for jpeg in clip.jpegs(places):
            block += jpeg
            if len(block) >= _BLOCK:
                yield bytes(block)
                block.clear()
    yield bytes(block)

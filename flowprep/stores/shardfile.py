"""HDF5 shards, format 1: skeleton, index, and JPEG bytes by offset.

    /                 attributes: format = 1, settings = canonical JSON of ExtractSettings
    /rgb, /flow_x, /flow_y, and with backward flow /back_x, /back_y:
        blob          uint8, all JPEGs of the stream one after another; absent where there are no bytes
        offsets       uint64 (n + 1,), JPEG i is blob[offsets[i]:offsets[i + 1]]
    /videos           one element a stored video, in list order
        id, class     texts; UTF-8, except that a byte of a file name that is not UTF-8 stays that byte
        label         int32            list_index    int64 (place in the list)
        height, width int32            fps           float64
        rgb_first, rgb_num, flow_first, flow_num     int64 (first JPEG and number of JPEGs in the streams)
    /pts_seconds      float64, one element an image

Backward flow uses flow_first and flow_num too. All arrays are contiguous and unfiltered; there are no time stamps of
objects, so that the same videos give the same bytes.
"""

from __future__ import annotations

import itertools
import mmap
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

import h5py
import numpy as np
from numpy.typing import NDArray

from flowprep.config import ExtractSettings
from flowprep.datasets.ids import raw_bytes
from flowprep.errors import StoreError
from flowprep.records import canonical_json
from flowprep.stores.rowfile import Entry
from flowprep.stores.safe_h5 import ArrayPlace, SafeGroup, opened

FORMAT = 1
_ALWAYS = ("rgb", "flow_x", "flow_y")
_BACKWARD = ("back_x", "back_y")
_LIBVER = ("v108", "v108")
_BLOCK = 4 << 20  # bytes that are read at a time
_NUMBERS = {
    "label": "<i4",
    "list_index": "<i8",
    "height": "<i4",
    "width": "<i4",
    "fps": "<f8",
    "rgb_first": "<i8",
    "rgb_num": "<i8",
    "flow_first": "<i8",
    "flow_num": "<i8",
}


@dataclass(frozen=True, slots=True)
class StreamPlace:
    """Where a stream's bytes and offsets lie in the file."""

    blob: ArrayPlace
    offsets: ArrayPlace


@dataclass(frozen=True, slots=True)
class ShardIndex:
    """What a shard holds and where. `first` and `num` are by unit, "rgb" or "flow", int64 (videos,)."""

    file_bytes: int
    settings_json: str
    ids: tuple[bytes, ...]
    list_index: NDArray[np.int64]
    first: dict[str, NDArray[np.int64]]
    num: dict[str, NDArray[np.int64]]
    streams: dict[str, StreamPlace]
    pts_seconds: ArrayPlace


def unit_of(stream: str) -> str:
    """The unit that counts a stream's JPEGs: "rgb" for images, "flow" for all flow streams."""
    return "rgb" if stream == "rgb" else "flow"


def create_shard(path: Path, settings: ExtractSettings, entries: Sequence[Entry]) -> None:
    """Write everything of a new shard but blobs, offsets and time stamps, whose space is reserved but not filled."""
    rows = [entry.row for entry in entries]
    num = {"rgb": [row.frames for row in rows], "flow": [row.flows for row in rows]}
    first = {unit: [0, *itertools.accumulate(counts)] for unit, counts in num.items()}
    text = h5py.string_dtype("utf-8")
    with h5py.File(path, "w-", libver=_LIBVER, locking=False, track_times=False) as file:
        file.attrs.create("format", FORMAT, dtype="<i8")
        file.attrs.create("settings", canonical_json(settings.to_json()), dtype=text)
        for stream in _stream_names(settings):
            group = file.create_group(stream, track_times=False)
            num_bytes = sum(row.stream_bytes.get(stream, 0) for row in rows)
            if num_bytes:
                _reserve(group, "blob", "u1", num_bytes)
            _reserve(group, "offsets", "<u8", first[unit_of(stream)][-1] + 1)
        videos = file.create_group("videos", track_times=False)
        texts = {"id": [row.id for row in rows], "class": [row.class_name for row in rows]}
        for name, values in texts.items():
            data = np.array([raw_bytes(value) for value in values], dtype=object)
            videos.create_dataset(name, data=data, dtype=text, track_times=False)
        numbers: dict[str, Sequence[float]] = {
            "label": [row.label for row in rows],
            "list_index": [entry.list_index for entry in entries],
            "height": [row.height for row in rows],
            "width": [row.width for row in rows],
            "fps": [row.fps for row in rows],
            "rgb_first": first["rgb"][:-1],
            "rgb_num": num["rgb"],
            "flow_first": first["flow"][:-1],
            "flow_num": num["flow"],
        }
        for name, dtype in _NUMBERS.items():
            videos.create_dataset(name, data=np.array(numbers[name], dtype=dtype), track_times=False)
        _reserve(file, "pts_seconds", "<f8", first["rgb"][-1])


def _reserve(group: Any, name: str, dtype: str, size: int) -> None:
    creation = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    creation.set_layout(h5py.h5d.CONTIGUOUS)
    creation.set_alloc_time(h5py.h5d.ALLOC_TIME_EARLY)
    creation.set_fill_time(h5py.h5d.FILL_TIME_NEVER)
    creation.set_obj_track_times(False)
    kind = h5py.h5t.py_create(np.dtype(dtype))
    h5py.h5d.create(group.id, name.encode(), kind, h5py.h5s.create_simple((size,)), creation)


def _stream_names(settings: ExtractSettings) -> tuple[str, ...]:
    return _ALWAYS + (_BACKWARD if settings.flow.backward else ())


def read_index(path: Path) -> ShardIndex:
    """The index of a shard.

    Raises StoreError if the file is not a shard of format 1, holds a link, external or virtual storage, chunks or
    filters, or if its sizes contradict each other or the file's.
    """
    with opened(path) as root:
        number = root.number_attribute("format")
        if number != FORMAT:
            raise StoreError(f"{path} has shard format {number}; this version reads format {FORMAT}")
        names = [name for name in (*_ALWAYS, *_BACKWARD) if name in _ALWAYS or root.has(name)]
        root.check_members({*names, "videos", "pts_seconds"})
        videos = root.subgroup("videos")
        videos.check_members({"id", "class", *_NUMBERS})
        table = {name: videos.numbers(name, dtype) for name, dtype in _NUMBERS.items()}
        ids = tuple(videos.texts("id"))
        num_classes = len(videos.texts("class"))
        if any(len(column) != len(ids) for column in table.values()) or num_classes != len(ids):
            raise StoreError(f"{path}: the columns of /videos differ in length; the file is damaged")
        first = {unit: table[f"{unit}_first"] for unit in ("rgb", "flow")}
        num = {unit: table[f"{unit}_num"] for unit in ("rgb", "flow")}
        for unit in first:
            _check_counts(path, unit, first[unit], num[unit])
        streams = {name: _stream_place(root.subgroup(name), int(num[unit_of(name)].sum())) for name in names}
        pts_seconds = root.place("pts_seconds", "<f8")
        if pts_seconds.size != int(num["rgb"].sum()):
            raise root.error("pts_seconds", f"has {pts_seconds.size} elements for {int(num['rgb'].sum())} images")
        return ShardIndex(
            file_bytes=root.file_bytes,
            settings_json=root.text_attribute("settings"),
            ids=ids,
            list_index=table["list_index"],
            first=first,
            num=num,
            streams=streams,
            pts_seconds=pts_seconds,
        )


def _check_counts(path: Path, unit: str, first: NDArray[np.int64], num: NDArray[np.int64]) -> None:
    expected = np.concatenate([[0], np.cumsum(num)[:-1]]) if len(num) else num
    if (num < 0).any() or not np.array_equal(first, expected):
        raise StoreError(f"{path}: /videos/{unit}_first and {unit}_num do not follow one another; the file is damaged")


def _stream_place(group: SafeGroup, num_jpegs: int) -> StreamPlace:
    group.check_members({"blob", "offsets"})
    offsets = group.place("offsets", "<u8")
    if offsets.size != num_jpegs + 1:
        raise group.error("offsets", f"has {offsets.size} elements for {num_jpegs} JPEGs")
    blob = group.place("blob", "u1") if group.has("blob") else ArrayPlace(0, 0)
    return StreamPlace(blob=blob, offsets=offsets)


@final
class ShardFile:
    """A shard whose bytes are read through a memory map: no HDF5, no lock, safe after fork and in many threads."""

    def __init__(self, path: Path, index: ShardIndex | None = None) -> None:
        self.path = path
        self.index = index or read_index(path)
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            if os.fstat(fd).st_size != self.index.file_bytes:
                raise StoreError(f"{path} has changed since it was opened; open the store again")
            self._map = mmap.mmap(fd, 0, prot=mmap.PROT_READ)
        finally:
            os.close(fd)
        self._bytes = memoryview(self._map)
        self._offsets = {stream: self._checked_offsets(stream) for stream in self.index.streams}
        self.positions = {video_id: k for k, video_id in enumerate(self.index.ids)}

    def _checked_offsets(self, stream: str) -> NDArray[np.uint64]:
        place = self.index.streams[stream]
        offsets = np.frombuffer(self._map, "<u8", place.offsets.size, place.offsets.offset)
        if offsets[0] != 0 or offsets[-1] != place.blob.size or (offsets[1:] < offsets[:-1]).any():
            raise StoreError(f"{self.path}: /{stream}/offsets do not fit its blob; the file is damaged")
        return offsets

    def jpeg(self, position: int, stream: str, index: int) -> memoryview:
        """Bytes of JPEG `index` of the video at `position`; the caller has checked both against the index."""
        (jpeg,) = self.jpegs(position, stream, (index,))
        return jpeg

    def jpegs(self, position: int, stream: str, indices: Sequence[int]) -> list[memoryview]:
        """`jpeg` of each of some indices."""
        first, offsets = int(self.index.first[unit_of(stream)][position]), self._offsets[stream]
        start = self.index.streams[stream].blob.offset
        return [
            self._bytes[start + int(offsets[at]) : start + int(offsets[at + 1])]
            for at in (first + index for index in indices)
        ]

    def sizes(self, position: int, stream: str) -> NDArray[np.uint64]:
        """Size of each JPEG of a video's stream in bytes, uint64 (n,)."""
        return np.diff(self._video_offsets(position, stream))

    def blocks(self, position: int, stream: str) -> Iterator[bytes]:
        """All bytes of a video's stream, in blocks; the map's pages do not stay in memory."""
        offsets = self._video_offsets(position, stream)
        start = self.index.streams[stream].blob.offset
        end = start + int(offsets[-1])
        for at in range(start + int(offsets[0]), end, _BLOCK):
            yield bytes(self._bytes[at : min(at + _BLOCK, end)])
            page = at // mmap.PAGESIZE * mmap.PAGESIZE
            self._map.madvise(mmap.MADV_DONTNEED, page, min(_BLOCK, self.index.file_bytes - page))

    def _video_offsets(self, position: int, stream: str) -> NDArray[np.uint64]:
        unit = unit_of(stream)
        first, num = int(self.index.first[unit][position]), int(self.index.num[unit][position])
        return self._offsets[stream][first : first + num + 1]

    def pts_seconds(self, position: int) -> NDArray[np.float64]:
        """Time of each image of a video in seconds, float64 (frames,)."""
        first, num = int(self.index.first["rgb"][position]), int(self.index.num["rgb"][position])
        place = self.index.pts_seconds
        return np.frombuffer(self._bytes, "<f8", num, place.offset + 8 * first).copy()

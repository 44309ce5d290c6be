"""HDF5 shards, open for reading.

A shard's index is read once, when a video of it is first asked for; HDF5 is closed again at once and JPEG bytes come
from a memory map. No lock is taken: published shards never change, and disks without locks work.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import final

import numpy as np
from numpy.typing import NDArray

from flowprep.datasets.ids import raw_bytes
from flowprep.errors import StoreError
from flowprep.records import canonical_json
from flowprep.stores.base import Store
from flowprep.stores.manifest import StoredRows
from flowprep.stores.rowtable import RowTable
from flowprep.stores.shardfile import ShardFile, ShardIndex

_MAX_MAPS = 512  # a map holds a file descriptor, of which a process often has 1024


@final
class ShardStore(Store):
    """Shards of many videos each. Bytes of a JPEG are a view of the mapped file, not a copy."""

    def __init__(self, path: Path, rows: RowTable | None = None) -> None:
        super().__init__(path, rows or StoredRows(path))
        self._settings_json = canonical_json(self.settings.to_json())
        self._indices: dict[str, ShardIndex] = {}
        self._shards: dict[str, ShardFile] = {}

    def pts_seconds(self, video_id: str) -> NDArray[np.float64]:
        """Time of each stored image in seconds, float64 (frames,)."""
        shard, place = self._find(self._position(video_id))
        return shard.pts_seconds(place)

    def jpeg_name(self, video_id: str, stream: str, index: int) -> str:
        """Where a JPEG lies, for messages."""
        return f"{stream} {index} of {video_id!r} in {self.path / self._rows.locations[self._position(video_id)]}"

    def close(self) -> None:
        """Let go of the files. Bytes that were given out stay valid."""
        self._shards.clear()
        super().close()

    def _jpeg(self, position: int, stream: str, index: int) -> memoryview:
        shard, place = self._find(position)
        return shard.jpeg(place, stream, index)

    def _jpegs(self, position: int, stream: str, indices: Sequence[int]) -> Iterator[memoryview]:
        shard, place = self._find(position)
        yield from shard.jpegs(place, stream, indices)

    def _find(self, position: int) -> tuple[ShardFile, int]:
        """The shard of a video and its place there. Threads that meet here do the same work twice, without harm."""
        location = self._rows.locations[position]
        shard = self._shards.get(location) or self._open(location)
        place = shard.positions.get(raw_bytes(self._rows.ids[position]))
        if place is None:
            raise StoreError(f"{shard.path} has no video {self._rows.ids[position]!r}; it is not of this manifest")
        counts = int(shard.index.num["rgb"][place]), int(shard.index.num["flow"][place])
        if counts != (self._rows.frames[position], self._rows.flows[position]):
            raise StoreError(f"{shard.path} has other counts of {self._rows.ids[position]!r} than the manifest")
        return shard, place

    def _open(self, location: str) -> ShardFile:
        shard = ShardFile(self.path / location, self._indices.get(location))
        if shard.index.settings_json != self._settings_json:
            raise StoreError(f"{shard.path} was made with other settings than the manifest says")
        while len(self._shards) >= _MAX_MAPS:
            self._shards.pop(list(self._shards)[0], None)  # noqa: RUF015 (one step, which no other thread can break)
        self._indices[location] = shard.index
        self._shards[location] = shard
        return shard

"""A committed video: all its JPEGs in one file, written in one go and recognised when torn.

Layout: magic, JPEG bytes in the order in which they were made (streams interleaved), then a tail that is written last:
index (for each stream its images' offset and size, uint64 pairs), time stamps (float64), the row as JSON, and a footer
of fixed size with lengths and checksums. All little endian. A file that ends anywhere before its last byte has no
footer where one must be; JPEG bytes are covered by the row's `stream_sha256`, which packing checks.
"""

from __future__ import annotations

import hashlib
import json
import os
import struct
from array import array
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Self, final

import numpy as np
from numpy.typing import NDArray

from flowprep.errors import StoreError
from flowprep.records import canonical_json
from flowprep.stores.rowfile import Entry, entry_json, parse_entry

MAGIC = b"FPCLIP1\n"
_FOOTER = struct.Struct(
    "<QQQQ32s32s8s"
)  # index offset; bytes of index, times, row; SHA-256 of index+times, of row; magic


def encode_tail(entry: Entry, index: Mapping[str, array[int]], num_bytes: int) -> bytes:
    """What follows `num_bytes` of magic and JPEGs. `index` has (offset, size) of each image, flattened, by stream."""
    content = entry_json(entry)
    content["streams"] = [[stream, len(places) // 2] for stream, places in index.items()]
    row = canonical_json(content).encode()
    places = b"".join(np.asarray(pairs, dtype="<u8").tobytes() for pairs in index.values())
    times = np.asarray(entry.pts_seconds, dtype="<f8").tobytes()
    checks = hashlib.sha256(places + times).digest(), hashlib.sha256(row).digest()
    footer = _FOOTER.pack(num_bytes, len(places), len(times), len(row), *checks, MAGIC)
    return places + times + row + footer


@final
class ClipFile:
    """A committed video, open for reading. Raises FileNotFoundError, or StoreError if it is torn or altered.

    The row is read at once, the index when it is asked for; JPEG bytes are not held.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            self._read_row()
        except BaseException:
            os.close(self._fd)
            raise

    def _read_row(self) -> None:
        size = os.fstat(self._fd).st_size
        footer = os.pread(self._fd, _FOOTER.size, max(0, size - _FOOTER.size))
        if len(footer) != _FOOTER.size or not footer.endswith(MAGIC):
            raise self._torn()
        start, index_bytes, times_bytes, row_bytes, self._tail_sha256, row_sha256, _ = _FOOTER.unpack(footer)
        if start + index_bytes + times_bytes + row_bytes + _FOOTER.size != size:
            raise self._torn()
        self._index_at, self._index_bytes, self._times_bytes = start, index_bytes, times_bytes
        text = os.pread(self._fd, row_bytes, start + index_bytes + times_bytes)
        if hashlib.sha256(text).digest() != row_sha256:
            raise self._torn()
        content = json.loads(text)
        self.entry = parse_entry(content, self.path)
        self._streams: list[tuple[str, int]] = [(stream, num) for stream, num in content["streams"]]

    def read_index(self) -> tuple[dict[str, NDArray[np.uint64]], NDArray[np.float64]]:
        """For each stream uint64 (n, 2) of offset and size; and the time stamps in seconds, float64 (frames,)."""
        tail = os.pread(self._fd, self._index_bytes + self._times_bytes, self._index_at)
        if hashlib.sha256(tail).digest() != self._tail_sha256:
            raise self._torn()
        pairs = np.frombuffer(tail, "<u8", self._index_bytes // 8).reshape(-1, 2)
        index, first = {}, 0
        for stream, num in self._streams:
            index[stream] = pairs[first : first + num]
            first += num
        return index, np.frombuffer(tail, "<f8", offset=self._index_bytes)

    def jpegs(self, places: NDArray[np.uint64]) -> Iterator[bytes]:
        """Bytes of the images at `places`, uint64 (n, 2), one after another."""
        for offset, size in places.tolist():
            yield os.pread(self._fd, size, offset)

    def _torn(self) -> StoreError:
        return StoreError(f"{self.path} is torn or altered; its video has to be extracted again")

    def close(self) -> None:
        """Close the file."""
        os.close(self._fd)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


def read_clip_entry(path: Path) -> Entry:
    """The entry of a commit, without its time stamps. Raises as `ClipFile` does."""
    with ClipFile(path) as clip:
        return clip.entry

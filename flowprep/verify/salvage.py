"""The images in the file of a shard that may be damaged, found without a look at its index.

Where each video's bytes lie follows from the rows: a shard of the same rows is laid out anew, without its images, and
has the same places. Hence not a byte of the damaged file is believed that has not the checksum of its row, and HDF5
never reads it.
"""

from __future__ import annotations

import hashlib
import itertools
import os
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Self, final

import numpy as np
from numpy.typing import NDArray

from flowprep.config import ExtractSettings
from flowprep.stores.rowfile import Entry
from flowprep.stores.shardfile import create_shard, read_index
from flowprep.verify import jpeg
from flowprep.verify.files import UNTRUSTED, open_regular
from flowprep.verify.looked import num_images

_BLOCK = 4 << 20  # bytes that are read at a time


@final
class Salvage:
    """The file of a shard that holds, or has held, the videos of `entries`. Raises OSError where it cannot be read.

    `broken` has the position and stream of all images that are not as their row says.
    """

    def __init__(self, path: Path, settings: ExtractSettings, entries: Sequence[Entry]) -> None:
        self.entries, self._streams = entries, settings.streams
        self._starts = {
            stream: [0, *itertools.accumulate(entry.row.stream_bytes[stream] for entry in entries)]
            for stream in settings.streams
        }
        self._first_times = [0, *itertools.accumulate(entry.row.frames for entry in entries)]
        self._fd = open_regular(str(path))
        try:
            with tempfile.TemporaryDirectory(prefix="flowprep-verify-") as folder:
                create_shard(Path(folder, "shard.h5"), settings, entries)
                self._index = read_index(Path(folder, "shard.h5"))
            self.broken = set(self._find_broken())
            if entries and len(self.broken) == len(entries) * len(self._streams):
                self._try_own_index(path)
        except BaseException:
            os.close(self._fd)
            raise

    def _try_own_index(self, path: Path) -> None:
        """Take the places that the file says itself, if they are better: another version of HDF5 may lay it out so."""
        laid_out = self._index
        try:
            self._index = read_index(path)
            self.broken = set(self._find_broken())
        except UNTRUSTED:
            self._index = laid_out

    def _find_broken(self) -> Iterator[tuple[int, str]]:
        for position, entry in enumerate(self.entries):
            for stream in self._streams:
                digest = hashlib.sha256()
                for block in self._blocks(*self._place(position, stream)):
                    digest.update(block)
                if digest.hexdigest() != entry.row.stream_sha256[stream]:
                    yield position, stream

    def _place(self, position: int, stream: str) -> tuple[int, int]:
        """First byte and end of a video's stream in the file."""
        offset, starts = self._index.streams[stream].blob.offset, self._starts[stream]
        return offset + starts[position], offset + starts[position + 1]

    def _blocks(self, start: int, end: int) -> Iterator[bytes]:
        while start < end:
            block = os.pread(self._fd, min(_BLOCK, end - start), start)
            if not block:
                return
            start += len(block)
            yield block

    def images(self, position: int, stream: str) -> list[bytes]:
        """The JPEGs of a video's stream, as far as they can be told apart."""
        return jpeg.split(b"".join(self._blocks(*self._place(position, stream))))

    def is_whole(self, position: int) -> bool:
        """True if all images of a video are as its row says, and can be told apart."""
        row = self.entries[position].row
        return all(
            (position, stream) not in self.broken and len(self.images(position, stream)) == num_images(row, stream)
            for stream in self._streams
        )

    def pts_seconds(self, position: int) -> NDArray[np.float64]:
        """Times of the images of a video in seconds, float64 (frames,). They have no checksum of their own."""
        first, end = self._first_times[position : position + 2]
        size = 8 * (end - first)
        return np.frombuffer(os.pread(self._fd, size, self._index.pts_seconds.offset + 8 * first).ljust(size, b"\0"))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        os.close(self._fd)

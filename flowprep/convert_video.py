"""One video from store to store: its JPEG bytes, checked against their checksums, and its row."""

from __future__ import annotations

import dataclasses
import hashlib
import math
import secrets
import threading
from collections.abc import Callable
from pathlib import Path
from typing import final

from flowprep.config import ExtractSettings
from flowprep.errors import StoreError, VideoError
from flowprep.first_image import FirstImages
from flowprep.publisher import Publisher, VideoWriter, open_publisher
from flowprep.records import Reason, Row, State, Video
from flowprep.stores import Store
from flowprep.stores.jpegfile import jpeg_size
from flowprep.stores.rowfile import Entry


@final
class Converter:
    """Copies videos of a store into another one; threads may share it, and each has a publisher of its own."""

    def __init__(
        self,
        source: Store,
        out: Path,
        settings: ExtractSettings,
        *,
        durability: str,
        first_images: FirstImages | None,
        mtime_ns_of: Callable[[Video, int], int],
    ) -> None:
        self._source, self._settings, self._first_images = source, settings, first_images
        self._mtime_ns_of = mtime_ns_of
        self._out, self._durability = out, durability
        self._local = threading.local()
        self._attempt = f"c{secrets.token_hex(4)}"

    @property
    def _publisher(self) -> Publisher:
        if not hasattr(self._local, "publisher"):
            self._local.publisher = open_publisher(self._out, self._settings, durability=self._durability)
        publisher: Publisher = self._local.publisher
        return publisher

    def is_done(self, video: Video, index: int, row: Row) -> bool:
        """True if the store has the outcome that `row`, of the source, demands."""
        entry = self._publisher.read_entry(video, index)
        if entry is None:
            return False
        if not row.state.stored:
            return entry.row.state.stored or entry.row == dataclasses.replace(row, location="")
        return entry.row.state.stored and self._comparable(entry, row) == self._comparable(Entry(row, index), row)

    def _comparable(self, entry: Entry, row: Row) -> Row:
        """A row without what differs between layouts. Images stay if all of them are in both."""
        streams = [stream for stream in row.stream_sha256 if stream != "rgb" or not self._shift]
        return dataclasses.replace(
            entry.row,
            location="",
            frames=0,
            stream_sha256={stream: entry.row.stream_sha256.get(stream, "") for stream in streams},
            stream_bytes={},
        )

    @property
    def _shift(self) -> int:
        """How many more images a video has than in the source: 1, 0 or -1."""
        return (self._source.first_image - self._publisher.first_image) if self._settings.store.rgb else 0

    def convert(self, video: Video, index: int, row: Row) -> Row:
        """Publish a video's outcome. One that is damaged in the source fails, by its name.

        Raises RunStoppedError where the new store cannot be written.
        """
        mtime_ns = self._mtime_ns_of(video, index)
        if row.state.stored:
            try:
                with self._publisher.begin(video, index, attempt=self._attempt) as writer:
                    times = self._copy(writer, video, row)
                    frames = max(row.frames + self._shift, 0) if self._settings.store.rgb else 0
                    return writer.commit(dataclasses.replace(row, frames=frames), times, source_mtime_ns=mtime_ns)
            except VideoError as error:
                reasons = (*row.reasons, Reason(error.code, error.detail))
                row = dataclasses.replace(row, state=State.FAILED, reasons=reasons)
        return self._publisher.publish_row(row, index, source_mtime_ns=mtime_ns)

    def _copy(self, writer: VideoWriter, video: Video, row: Row) -> list[float]:
        """All streams of a video; gives a time for each image that was added."""
        times = self._times(row)
        if self._source.first_image and self._settings.store.rgb:
            if self._first_images is not None:
                jpeg, pts = self._first_images.make(video, row)
                times.insert(0, math.nan if self._settings.store.adopted else pts)
                writer.add("rgb", jpeg)
            else:
                times.insert(0, math.nan)
                writer.add("rgb", b"")  # a writer of layout tsn drops the first image, which is not here already
        for stream in self._settings.streams:
            digest = hashlib.sha256()
            for index in range(row.frames if stream == "rgb" else row.flows):
                jpeg_bytes = self._jpeg(row, stream, index)
                digest.update(jpeg_bytes)
                writer.add(stream, jpeg_bytes)
            if digest.hexdigest() != row.stream_sha256.get(stream):
                raise VideoError("damaged", self._damage(row, stream))
        return times

    def _times(self, row: Row) -> list[float]:
        if not self._settings.store.rgb:
            return []
        try:
            return [float(pts) for pts in self._source.pts_seconds(row.id)]
        except (StoreError, OSError) as error:
            raise VideoError("damaged", f"its times cannot be read: {error}") from error

    def _jpeg(self, row: Row, stream: str, index: int) -> bytes | memoryview:
        """A JPEG of the source; errors of the new store must not be taken for those of the source."""
        try:
            return self._source.jpeg(row.id, stream, index)
        except (StoreError, OSError) as error:
            where = self._source.jpeg_name(row.id, stream, index)
            raise VideoError("damaged", f"{where}: {error}; restore it and convert again") from error

    def _damage(self, row: Row, stream: str) -> str:
        """Which JPEG of a stream has other bytes than when it was stored, as far as that can be told."""
        num = row.frames if stream == "rgb" else row.flows
        for index in range(num):
            try:
                size = jpeg_size(self._jpeg(row, stream, index))
                problem = "" if size == (row.width, row.height) else f"the image has {size[0]}x{size[1]} pixels"
            except StoreError as error:
                problem = str(error)
            if problem:
                where = self._source.jpeg_name(row.id, stream, index)
                return f"{where}: {problem}; restore it and convert again"
        return (
            f"{stream} of {row.id!r} in {self._source.path} has another SHA-256 than when it was stored, though each "
            f"of its {num} files looks like a JPEG; restore them and convert again"
        )

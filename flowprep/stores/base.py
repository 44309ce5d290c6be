"""What every store can do: clips by id, JPEGs by stream and index, images and stacks of flow.

Indices count from 0 in every layout. Flow i goes from image i to image i + step; in layout tsn, whose first image is
not stored, from image i - 1 to image i.
"""

from __future__ import annotations

import abc
import difflib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from flowprep.config import ExtractSettings
from flowprep.encode import decode_plane, decode_rgb
from flowprep.errors import FrameIndexError, StoreError, UnknownVideoError
from flowprep.quantise import dequantise
from flowprep.records import Row
from flowprep.stores.rowtable import RowTable

_FORWARD = ("flow_x", "flow_y")
_BACKWARD = ("back_x", "back_y")
_MAX_COMPARED = 20_000  # ids that an unknown one is compared with for a suggestion


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredClip:
    """A stored video: counts of images and flow fields, size of both in pixels, rate of the source."""

    id: str
    class_name: str
    label: int
    num_frames: int
    num_flows: int
    height: int
    width: int
    fps: float


class Store(abc.ABC):
    """A finished store, open for reading; threads may share it, and processes that are forked.

    Methods raise UnknownVideoError (a KeyError) for an id that is not stored, FrameIndexError (an IndexError) for an
    index that is not there, and StoreError where the store is damaged or has no such stream.
    """

    def __init__(self, path: Path, rows: RowTable) -> None:
        self.path = path
        self._rows = rows

    @property
    def settings(self) -> ExtractSettings:
        """The content settings that the store was made with."""
        return self._rows.settings

    @property
    def rows(self) -> Sequence[Row]:
        """Rows of the stored videos in list order; each is parsed when it is asked for."""
        return self._rows

    @property
    def ids(self) -> Sequence[str]:
        """Ids of the stored videos in list order."""
        return self._rows.ids

    @property
    def first_image(self) -> int:
        """Number of decoded images that were left out: stored image j is decoded image j + first_image."""
        return 0

    def clip(self, video_id: str) -> StoredClip:
        """What is stored of a video."""
        row = self._rows[self._position(video_id)]
        return StoredClip(
            id=row.id,
            class_name=row.class_name,
            label=row.label,
            num_frames=row.frames,
            num_flows=row.flows,
            height=row.height,
            width=row.width,
            fps=row.fps,
        )

    def position(self, video_id: str) -> int | None:
        """Place of a video in `ids` and `rows`, None where it is not stored."""
        return self._rows.position.get(video_id)

    def jpeg(self, video_id: str, stream: str, index: int) -> bytes | memoryview:
        """Bytes of one JPEG. `stream` is one of `settings.streams`."""
        position = self._position(video_id)
        self._check_range(position, stream, index, index + 1)
        return self._jpeg(position, stream, index)

    def image(self, video_id: str, stream: str, index: int) -> NDArray[np.uint8]:
        """One decoded image: RGB, uint8 (H, W, 3), or a plane of 8-bit flow, uint8 (H, W)."""
        return next(self.images(video_id, stream, (index,)))

    def images(self, video_id: str, stream: str, indices: Sequence[int]) -> Iterator[NDArray[np.uint8]]:
        """Decoded images one after another, each as `image` gives it, with less work than so many calls of that."""
        position = self._position(video_id)
        if indices:
            self._check_range(position, stream, min(indices), max(indices) + 1)
        return self._decoded(position, stream, indices)

    def stack(self, video_id: str, start: int, length: int, *, backward: bool = False) -> NDArray[np.uint8]:
        """Flow start .. start + length - 1 as 8-bit codes, uint8 (2 * length, H, W): x, y, x, y, ..."""
        position = self._position(video_id)
        streams = _BACKWARD if backward else _FORWARD
        for stream in streams:
            self._check_range(position, stream, start, start + length)
        planes = np.empty((2 * length, self._rows.heights[position], self._rows.widths[position]), np.uint8)
        for k, stream in enumerate(streams):
            for plane, image in zip(
                planes[k::2], self._decoded(position, stream, range(start, start + length)), strict=True
            ):
                plane[:] = image
        return planes

    def flow_px(self, video_id: str, index: int, *, backward: bool = False) -> NDArray[np.float32]:
        """One flow field in pixels, float32 (H, W, 2), x then y, dequantised by the store's own rule and bound."""
        codes = self.stack(video_id, index, 1, backward=backward)
        return dequantise(np.ascontiguousarray(codes.transpose(1, 2, 0)), self.settings.quantise)

    @abc.abstractmethod
    def pts_seconds(self, video_id: str) -> NDArray[np.float64]:
        """Time of each stored image in seconds, float64 (frames,), NaN where it is not known."""

    @abc.abstractmethod
    def jpeg_name(self, video_id: str, stream: str, index: int) -> str:
        """Where a JPEG lies, for messages. It is not looked for."""

    @abc.abstractmethod
    def _jpeg(self, position: int, stream: str, index: int) -> bytes | memoryview:
        """Bytes of a JPEG of the video at `position` of the rows; stream and index have been checked."""

    def _jpegs(self, position: int, stream: str, indices: Sequence[int]) -> Iterable[bytes | memoryview]:
        """What `_jpeg` gives for each of some indices; what is raised, is raised as they are taken."""
        return (self._jpeg(position, stream, index) for index in indices)

    def close(self) -> None:
        """Let go of the files. Bytes that were given out stay valid."""
        self._rows.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.path,)

    def _position(self, video_id: str) -> int:
        try:
            return self._rows.position[video_id]
        except KeyError:
            raise UnknownVideoError(self._unknown(video_id)) from None

    def _unknown(self, video_id: str) -> str:
        near = difflib.get_close_matches(str(video_id), self._rows.ids[:_MAX_COMPARED], n=1)
        hint = f"; did you mean {near[0]!r}?" if near else f"; it has {len(self._rows)}, see Store.ids"
        return f"{self.path} has no stored video {video_id!r}{hint}"

    def _check_range(self, position: int, stream: str, start: int, stop: int) -> None:
        if stream not in self.settings.streams:
            raise StoreError(f"{self.path} has no stream {stream!r}; it has {', '.join(self.settings.streams)}")
        count = (self._rows.frames if stream == "rgb" else self._rows.flows)[position]
        if not 0 <= start < stop <= count:
            raise FrameIndexError(
                f"{self._rows.ids[position]!r} has {count} JPEGs in {stream}, 0 to {count - 1}; "
                f"asked for {start}" + (f" to {stop - 1}" if stop - start != 1 else "")
            )

    def _decoded(self, position: int, stream: str, indices: Sequence[int]) -> Iterator[NDArray[np.uint8]]:
        decode = decode_rgb if stream == "rgb" else decode_plane
        size = self._rows.heights[position], self._rows.widths[position]
        jpegs = iter(self._jpegs(position, stream, indices))
        for index in indices:
            try:
                image = decode(next(jpegs))
            except StoreError as error:
                raise StoreError(f"{self.path}: {self._rows.ids[position]!r} {stream} {index}: {error}") from error
            if image.shape[:2] != size:
                raise StoreError(
                    f"{self.path}: {self._rows.ids[position]!r} {stream} {index} is {image.shape[1]}x{image.shape[0]} "
                    f"where the manifest says {size[1]}x{size[0]}"
                )
            yield image

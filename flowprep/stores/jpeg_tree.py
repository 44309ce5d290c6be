"""A tree of JPEG files in one of the named layouts, open for reading."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, final

import numpy as np
from numpy.typing import NDArray

from flowprep.errors import StoreError
from flowprep.stores.base import Store
from flowprep.stores.jpegfile import open_plain
from flowprep.stores.layouts import layout_of
from flowprep.stores.manifest import StoredRows
from flowprep.stores.places import TIMING
from flowprep.stores.rowtable import FoundRows, RowTable
from flowprep.stores.timingfile import Timing

_NUM_RECENT = 32  # videos; as many as threads of a loader may read at a time


@final
class TreeStore(Store):
    """One file a JPEG. Files and folders that are links are refused, wherever they lead."""

    def __init__(self, path: Path, rows: RowTable | None = None) -> None:
        super().__init__(path, rows or StoredRows(path))
        self._layout = layout_of(self.settings)
        self._root = os.path.realpath(path)
        self._has_been_checked = bytearray(len(self._rows))  # by position
        self._recent: dict[int, dict[str, str]] = {}
        self._timing: Timing | None = None

    @property
    def first_image(self) -> int:
        """Number of decoded images that were left out."""
        return self._layout.first_image

    def pts_seconds(self, video_id: str) -> NDArray[np.float64]:
        """Time of each stored image in seconds, float64 (frames,)."""
        position = self._position(video_id)
        if isinstance(self._rows, FoundRows):
            return np.full(self._rows.frames[position], np.nan)
        if self._timing is None:
            self._timing = Timing(self.path / TIMING)
        times = self._timing.pts_seconds(video_id)
        if len(times) != self._rows.frames[position]:
            raise StoreError(f"{self.path / TIMING} has {len(times)} times of {video_id!r}, not those of the manifest")
        return times

    def jpeg_name(self, video_id: str, stream: str, index: int) -> str:
        """Path of a JPEG, for messages."""
        part, name = self._layout.file(stream, index)
        places = self._layout.folders(self._rows.locations[self._position(video_id)], self.settings.streams)
        return f"{self.path}/{places[part]}/{name}"

    def _jpeg(self, position: int, stream: str, index: int) -> bytes:
        part, name = self._layout.file(stream, index)
        path = f"{self._video_folders(position)[part]}/{name}"
        try:
            with open_plain(path) as file:
                return file.read()
        except OSError as error:
            raise StoreError(
                f"{path} cannot be read: {error.strerror}; restore it, or extract anew with --overwrite"
            ) from error

    def __reduce__(self) -> tuple[Any, ...]:
        return (type(self), (self.path, self._rows)) if isinstance(self._rows, FoundRows) else super().__reduce__()

    def _video_folders(self, position: int) -> dict[str, str]:
        """Absolute folder of each part of a video. Of a million videos those of a few are held, whoever reads them."""
        if (known := self._recent.get(position)) is not None:
            return known
        places = self._layout.folders(self._rows.locations[position], self.settings.streams)
        folders = {part: f"{self._root}/{place}" for part, place in places.items()}
        if not self._has_been_checked[position]:
            for folder in folders.values():
                if os.path.realpath(folder) != folder:
                    raise StoreError(f"{folder} lies behind a symbolic link, which is refused")
            self._has_been_checked[position] = True
        if len(self._recent) >= _NUM_RECENT:
            self._recent = {}  # other threads may be looking into the old one
        self._recent[position] = folders
        return folders

"""The commit of one video, read as a store: what prediction makes of a file, without a store around it."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any, final

import numpy as np
from numpy.typing import NDArray

from flowprep.config import ExtractSettings
from flowprep.stores.base import Store
from flowprep.stores.clipfile import ClipFile
from flowprep.stores.layouts import layout_of
from flowprep.stores.rowtable import FoundRows


@final
class OneVideoStore(Store):
    """A store of the one video in a commit; `path` is that of its source. It has no manifest and no splits.

    `settings` may be those of any layout: in `tsn` the first image is left out, as a stored video has it. The commit
    stays open, so its file may be deleted meanwhile; hence this store cannot be pickled. JPEGs are read when they are
    asked for. Raises FileNotFoundError, or StoreError if the commit is torn or altered.
    """

    def __init__(self, commit: Path, settings: ExtractSettings, source: Path) -> None:
        self._first_image = layout_of(settings).first_image
        self._file = ClipFile(commit)
        try:
            places, pts_seconds = self._file.read_index()
        except BaseException:
            self._file.close()
            raise
        row = self._file.entry.row
        super().__init__(
            source,
            FoundRows(settings, [dataclasses.replace(row, frames=max(row.frames - self._first_image, 0))]),
        )
        self._pts_seconds = pts_seconds[self._first_image :]
        self._places = {
            stream: pairs[self._first_image :] if stream == "rgb" else pairs for stream, pairs in places.items()
        }

    @property
    def first_image(self) -> int:
        """As of the store whose settings these are."""
        return self._first_image

    def pts_seconds(self, video_id: str) -> NDArray[np.float64]:
        """See `Store`."""
        self._position(video_id)
        return self._pts_seconds

    def jpeg_name(self, video_id: str, stream: str, index: int) -> str:
        """See `Store`."""
        return f"{self.path} {stream} {index}"

    def close(self) -> None:
        """Close the commit."""
        super().close()
        self._file.close()

    def __reduce__(self) -> tuple[Any, ...]:
        raise TypeError(f"the store of {self.path} lasts as long as it is open; it cannot be pickled")

    def _jpeg(self, position: int, stream: str, index: int) -> bytes:
        (jpeg,) = self._file.jpegs(self._places[stream][index : index + 1])
        return jpeg

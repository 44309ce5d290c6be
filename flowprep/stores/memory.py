"""One video in memory, read as a store is: what prediction makes of a file, without writing anything."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, final

import numpy as np
from numpy.typing import NDArray

from flowprep.config import ExtractSettings
from flowprep.records import Row
from flowprep.stores.base import Store
from flowprep.stores.layouts import layout_of
from flowprep.stores.rowtable import FoundRows


@final
class MemoryStore(Store):
    """The JPEGs of one video by stream, in their order; `path` is that of its file. It has no manifest and no splits.

    In layout tsn the first image is left out, as a stored video has it.
    """

    def __init__(
        self,
        path: Path,
        settings: ExtractSettings,
        row: Row,
        jpegs: Mapping[str, Sequence[bytes]],
        pts_seconds: Sequence[float],
    ) -> None:
        super().__init__(path, FoundRows(settings, [row]))
        self._first_image = layout_of(settings).first_image
        self._pts_seconds = np.asarray(pts_seconds[self._first_image :], np.float64)
        self._jpegs = {
            stream: images[self._first_image :] if stream == "rgb" else images for stream, images in jpegs.items()
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

    def __reduce__(self) -> tuple[Any, ...]:
        rows = tuple(self.rows)
        # The first image has been left out, so what is pickled is whole again with any bytes in its place.
        first = [b""] * self._first_image
        jpegs = {name: [*(first if name == "rgb" else ()), *images] for name, images in self._jpegs.items()}
        times = [*(float("nan") for _ in first), *self._pts_seconds.tolist()]
        return type(self), (self.path, self.settings, rows[0], jpegs, times)

    def _jpeg(self, position: int, stream: str, index: int) -> bytes:
        return self._jpegs[stream][index]

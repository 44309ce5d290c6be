"""The rows of stored videos by number and by id: what a store reads all the time is held in compact columns.

`StoredRows` (in `stores.manifest`) parses a row when it is asked for; `FoundRows` holds those of a tree that has no
manifest.
"""

from __future__ import annotations

import abc
from array import array
from collections.abc import Iterable, Sequence
from typing import final, overload

from flowprep.config import ExtractSettings
from flowprep.records import Row


class RowTable(Sequence[Row]):
    """Rows in list order. Ids, counts, sizes and places need no parsing, and 700,000 videos take some 200 MB."""

    def __init__(self, settings: ExtractSettings) -> None:
        self.settings = settings
        self.ids: list[str] = []
        self.position: dict[str, int] = {}
        self.locations: list[str] = []
        self.frames, self.flows, self.heights, self.widths = array("q"), array("q"), array("q"), array("q")

    def _append(self, video_id: str, location: str, counts: Sequence[int]) -> bool:
        """Take in a video with its frames, flows, height and width; False if its id is there already."""
        if self.position.setdefault(video_id, len(self.ids)) != len(self.ids):
            return False
        self.ids.append(video_id)
        self.locations.append(location)
        for values, value in zip((self.frames, self.flows, self.heights, self.widths), counts, strict=True):
            values.append(value)
        return True

    def __len__(self) -> int:
        return len(self.ids)

    @overload
    def __getitem__(self, index: int) -> Row: ...
    @overload
    def __getitem__(self, index: slice) -> list[Row]: ...
    def __getitem__(self, index: int | slice) -> Row | list[Row]:
        if isinstance(index, slice):
            return [self._row(k) for k in range(*index.indices(len(self)))]
        return self._row(index)

    @abc.abstractmethod
    def _row(self, index: int) -> Row:
        """The row at a place, which may count from the end."""

    def close(self) -> None:
        """Close what is open; rows that were given out stay as they are."""


@final
class FoundRows(RowTable):
    """Rows that are in memory."""

    def __init__(self, settings: ExtractSettings, rows: Iterable[Row]) -> None:
        super().__init__(settings)
        self._all = list(rows)
        for row in self._all:
            is_new = self._append(row.id, row.location, (row.frames, row.flows, row.height, row.width))
            assert is_new, "ids are made different before"

    def _row(self, index: int) -> Row:
        return self._all[index]

"""manifest.jsonl: a header line, then one line a video in list order.

The header is `{"format": 1, "kind": "flowprep-manifest", "num_videos": N, "settings": {...}}`. A video's line is its
`Row` as JSON, in which the location is called `shard` or `folder`. Lines hold only what is the same in every run.
"""

from __future__ import annotations

import json
import mmap
from array import array
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, final

from flowprep.config import ExtractSettings
from flowprep.errors import SettingsError, StoreError
from flowprep.records import Row, State, canonical_json
from flowprep.stores.places import MANIFEST, checked_location
from flowprep.stores.rowtable import RowTable

FORMAT = 1
KIND = "flowprep-manifest"
_MAX_COUNT = 2**31 - 1


def header_line(settings: ExtractSettings, num_videos: int) -> str:
    """The first line."""
    return canonical_json({"format": FORMAT, "kind": KIND, "num_videos": num_videos, "settings": settings.to_json()})


def row_line(row: Row, settings: ExtractSettings) -> str:
    """The line of one video."""
    data = row.to_json()
    data[_location_key(settings)] = data.pop("location")
    return canonical_json(data)


def read_manifest(path: Path) -> tuple[ExtractSettings, Iterator[Row]]:
    """Settings and rows of a manifest, row by row.

    Raises StoreError, here or while the rows are read, that names the line which is not as it must be.
    """
    settings, num_videos = _read_header(path)
    return settings, _rows(path, settings, num_videos)


def _rows(path: Path, settings: ExtractSettings, num_videos: int) -> Iterator[Row]:
    for number, _, line in _lines(path, num_videos):
        yield _parse(path, number, line, settings)


def _read_header(path: Path) -> tuple[ExtractSettings, int]:
    with path.open("rb") as file:
        line = file.readline()
    try:
        header = json.loads(line)
        kind, number = header["kind"], header["format"]
    except (KeyError, TypeError, ValueError) as error:
        raise StoreError(f"{path} line 1 is not the header of a manifest") from error
    if kind != KIND or number != FORMAT:
        raise StoreError(f"{path} is {kind!r} of format {number!r}; this version reads {KIND} of format {FORMAT}")
    try:
        return ExtractSettings.from_json(header["settings"]), int(header["num_videos"])
    except (KeyError, TypeError, ValueError, SettingsError) as error:
        raise StoreError(f"{path} line 1 has settings that this version cannot read: {error}") from error


def _lines(path: Path, num_videos: int) -> Iterator[tuple[int, int, bytes]]:
    """Line number, byte offset and bytes of each video's line. Raises StoreError if lines are missing or cut."""
    count = 0
    with path.open("rb") as file:
        offset = len(file.readline())
        for count, line in enumerate(file, 1):
            if not line.endswith(b"\n"):
                raise StoreError(f"{path} line {count + 1} is cut; run `flowprep extract` again to write it anew")
            yield count + 1, offset, line
            offset += len(line)
    if count != num_videos:
        raise StoreError(
            f"{path} has {count} videos where its header says {num_videos}; "
            "run `flowprep extract` again to write it anew"
        )


def _parse(path: Path, number: int, line: bytes, settings: ExtractSettings) -> Row:
    try:
        data = json.loads(line)
        data["location"] = data.pop(_location_key(settings))
        return Row.from_json(data)
    except (KeyError, TypeError, ValueError) as error:
        raise StoreError(f"{path} line {number} is not the row of a video: {error!r}") from error


def _location_key(settings: ExtractSettings) -> str:
    return "shard" if settings.store.format == "hdf5" else "folder"


@final
class StoredRows(RowTable):
    """The rows of the stored videos, parsed when they are asked for."""

    def __init__(self, folder: Path) -> None:
        """Raises StoreError as `read_manifest`, or where an id is there twice or a place is outside the store."""
        self.path = folder / MANIFEST
        settings, num_videos = _read_header(self.path)
        super().__init__(settings)
        self._offsets, self._numbers = array("q"), array("q")
        shared: dict[str, str] = {}  # one text a shard instead of one a video
        key = _location_key(self.settings)
        for number, offset, line in _lines(self.path, num_videos):
            try:
                data = json.loads(line)
                if not State(data["state"]).stored:
                    continue
                video_id, location = data["id"], data[key]
                counts = [data[name] for name in ("frames", "flows", "height", "width")]
                if not isinstance(video_id, str) or not all(isinstance(count, int) and count >= 0 for count in counts):
                    raise TypeError("a field has the wrong type")
                if max(counts) > _MAX_COUNT:
                    raise ValueError("a number is too large")
                location = shared.setdefault(location, checked_location(location, shard=key == "shard"))
            except (KeyError, TypeError, ValueError, AttributeError) as error:
                raise StoreError(f"{self.path} line {number} is not the row of a video: {error}") from error
            if not self._append(video_id, location, counts):
                raise StoreError(f"{self.path} line {number} has the id {video_id!r} a second time")
            self._offsets.append(offset)
            self._numbers.append(number)
        with self.path.open("rb") as file:
            self._map = mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ)

    def _row(self, index: int) -> Row:
        offset = self._offsets[index]
        line = self._map[offset : self._map.find(b"\n", offset)]
        return _parse(self.path, self._numbers[index], line, self.settings)

    def close(self) -> None:
        """Close the file; rows that were given out stay as they are."""
        self._map.close()


def split_json(dataset: str, classes: Sequence[str], splits: Any) -> dict[str, Any]:
    """Content of splits.json: the official splits by id."""
    named = {name: {part: list(ids) for part, ids in parts.items()} for name, parts in splits.items()}
    return {"format": FORMAT, "dataset": dataset, "classes": list(classes), "splits": named}

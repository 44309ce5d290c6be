"""A video's row on disk, with its time stamps and a checksum, so that a torn or altered file is never believed.

The file is one JSON object, `{"entry": {...}, "sha256": "..."}`, whose checksum is that of the entry's own bytes.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flowprep.errors import StoreError
from flowprep.records import Row, canonical_json

FORMAT = 1
_HEAD = b'{"entry":'
_TAIL_BYTES = len(',"sha256":""}\n') + 64


@dataclass(frozen=True, slots=True)
class Entry:
    """What became of entry `list_index` of the list.

    `pts_seconds` is that of the stored images, in seconds, NaN where nobody knows it (as in a tree of another tool).
    `source_mtime_ns` is when the source file had been modified,
    0 if unknown; it tells a run which sources to look at again, and is in neither shard nor manifest, since copies of a
    file have their own.
    """

    row: Row
    list_index: int
    pts_seconds: Sequence[float] = ()
    source_mtime_ns: int = 0


def encode_row_file(entry: Entry) -> bytes:
    """Bytes of a row file."""
    data = entry_json(entry)
    data["pts_seconds"] = [None if math.isnan(pts) else pts for pts in entry.pts_seconds]  # JSON has no NaN
    return _with_checksum(canonical_json(data).encode())


def read_row_file(path: Path) -> Entry:
    """The entry of a row file. Raises FileNotFoundError, or StoreError if the file is torn or altered."""
    data = path.read_bytes()
    text = data[len(_HEAD) : -_TAIL_BYTES]
    if _with_checksum(text) != data:
        raise StoreError(f"{path} is torn or altered; its video has to be extracted again")
    content = json.loads(text)
    times = [math.nan if pts is None else pts for pts in content["pts_seconds"]]
    return dataclasses.replace(parse_entry(content, path), pts_seconds=times)


def _with_checksum(text: bytes) -> bytes:
    return _HEAD + text + b',"sha256":"' + hashlib.sha256(text).hexdigest().encode() + b'"}\n'


def entry_json(entry: Entry) -> dict[str, Any]:
    """JSON object of an entry without its time stamps."""
    return {
        "format": FORMAT,
        "list_index": entry.list_index,
        "row": entry.row.to_json(),
        "source_mtime_ns": entry.source_mtime_ns,
    }


def parse_entry(content: Any, path: Path) -> Entry:
    """The entry of a JSON object that `entry_json` made. Raises StoreError on any other."""
    try:
        if content["format"] != FORMAT:
            raise StoreError(f"{path} has format {content['format']!r}; this version reads format {FORMAT}")
        row, mtime_ns = Row.from_json(content["row"]), content.get("source_mtime_ns", 0)
        return Entry(row, int(content["list_index"]), source_mtime_ns=int(mtime_ns))
    except (KeyError, TypeError, ValueError) as error:
        if isinstance(error, StoreError):
            raise
        raise StoreError(f"{path} is not a row of flowprep: {error}") from error

"""Rows of a packed shard, kept when its commits are deleted: a header line, then a line a video in list order.

The header has size and SHA-256 of the shard file and a checksum of the lines, so that a torn or altered file, or one
whose shard is gone, counts as absent: its videos are then extracted again.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flowprep.errors import StoreError
from flowprep.records import canonical_json
from flowprep.stores.places import packed_path, shard_location
from flowprep.stores.rowfile import FORMAT, Entry, entry_json, parse_entry

_KIND = "flowprep-packed"


@dataclass(frozen=True, slots=True)
class PackedShard:
    """Size and SHA-256 of a shard file, and the entries of all its videos (also of those not stored) by list index."""

    file_bytes: int
    file_sha256: str
    entries: Mapping[int, Entry]


def encode_packed(file_bytes: int, file_sha256: str, entries: Sequence[Entry]) -> bytes:
    """Bytes of the file."""
    lines = "".join(canonical_json(entry_json(entry)) + "\n" for entry in entries).encode()
    header = {
        "format": FORMAT,
        "kind": _KIND,
        "bytes": file_bytes,
        "sha256": file_sha256,
        "lines_sha256": hashlib.sha256(lines).hexdigest(),
    }
    return canonical_json(header).encode() + b"\n" + lines


def read_packed(path: Path) -> PackedShard:
    """The rows of a packed shard. Raises FileNotFoundError, or StoreError if the file is torn or altered."""
    head, _, lines = path.read_bytes().partition(b"\n")
    header = _parse_header(path, head)
    if header["lines_sha256"] != hashlib.sha256(lines).hexdigest():
        raise StoreError(f"{path} is torn or altered")
    parsed = [parse_entry(json.loads(line), path) for line in lines.splitlines()]
    return PackedShard(
        header["bytes"], header["sha256"], {list_index: Entry(row, list_index) for row, list_index in parsed}
    )


def current_packed(out: Path, shard: int) -> PackedShard | None:
    """The rows of a shard if it is packed and its file is there in the recorded size, else None."""
    try:
        packed = read_packed(packed_path(out, shard))
        size = (out / shard_location(shard)).stat().st_size
    except (FileNotFoundError, StoreError):
        return None
    return packed if size == packed.file_bytes else None


def packed_sha256(out: Path, shard: int) -> str | None:
    """SHA-256 of a packed shard's file as it was when it was packed; None if the shard is not packed."""
    path = packed_path(out, shard)
    try:
        with path.open("rb") as file:
            return str(_parse_header(path, file.readline())["sha256"])
    except (FileNotFoundError, StoreError):
        return None


def _parse_header(path: Path, line: bytes) -> dict[str, Any]:
    try:
        header = json.loads(line)
        known = header["kind"] == _KIND and header["format"] == FORMAT
        if known and {"bytes", "sha256", "lines_sha256"} <= header.keys():
            return dict(header)
    except (KeyError, TypeError, ValueError) as error:
        raise StoreError(f"{path} is torn or altered: {error}") from error
    raise StoreError(f"{path} has another kind or format than {_KIND} {FORMAT}")

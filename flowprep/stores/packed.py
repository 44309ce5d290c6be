"""Rows of a packed shard, kept when its commits are deleted: a header line, then a line a video in list order.

The header has size and SHA-256 of the shard file and a checksum of the lines, so that a torn or altered file, or one
whose shard is gone, counts as absent: its videos are then extracted again.

Note [rows before their shard]: two files cannot be renamed in one step, and rows that do not fit the shard would lose
all of its videos. Hence the new rows are published beside the old ones, as `NNNNN.next.jsonl`, then the shard, then the
new rows take the place of the old ones. Whenever a packer dies, one of the two files has the rows of the shard that is
there; the size tells which, and where it fits both, the SHA-256.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

from flowprep.errors import StoreError
from flowprep.records import canonical_json
from flowprep.stores.places import next_packed_path, packed_path, shard_location
from flowprep.stores.replaced import read_current
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
    head, _, lines = read_current(path, Path.read_bytes).partition(b"\n")
    header = _parse_header(path, head)
    if header["lines_sha256"] != hashlib.sha256(lines).hexdigest():
        raise StoreError(f"{path} is torn or altered")
    entries = [parse_entry(json.loads(line), path) for line in lines.splitlines()]
    return PackedShard(header["bytes"], header["sha256"], {entry.list_index: entry for entry in entries})


@final
class PackedRows:
    """The packed rows of a store. Those of the last shard are kept for as long as its files stay the same."""

    def __init__(self, out: Path) -> None:
        self._out = out
        self._version: object = None
        self._rows: PackedShard | None = None

    def of(self, shard: int) -> PackedShard | None:
        """The rows of a shard if it is packed and its file is there as recorded, else None."""
        # Files that a packer replaces while they are read may not belong together, hence the second look.
        while self._version != (version := _version(self._out, shard)):
            self._rows = _current(self._out, shard)
            self._version = version
        return self._rows


def packed_sha256(out: Path, shard: int) -> str | None:
    """SHA-256 of a packed shard's file as it was when it was packed; None if the shard is not packed."""
    return next(iter(_fitting(out, shard).values()), None)


def file_sha256(path: Path) -> str:
    """SHA-256 of a file in hex."""
    return read_current(path, _sha256)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _current(out: Path, shard: int) -> PackedShard | None:
    for path in _fitting(out, shard):
        with contextlib.suppress(FileNotFoundError, StoreError):
            return read_packed(path)
    return None


def _fitting(out: Path, shard: int) -> dict[Path, str]:
    """The files with the rows of the shard as it lies there, see Note [rows before their shard], and its SHA-256."""
    file = out / shard_location(shard)
    fitting: dict[Path, str] = {}
    for path in (packed_path(out, shard), next_packed_path(out, shard)):
        with contextlib.suppress(FileNotFoundError, StoreError):
            header = _read_header(path)
            if header["bytes"] == file.stat().st_size:
                fitting[path] = str(header["sha256"])
    if fitting.keys() <= {packed_path(out, shard)}:
        return fitting
    with contextlib.suppress(FileNotFoundError, StoreError):
        digest = file_sha256(file)
        return {path: sha256 for path, sha256 in fitting.items() if sha256 == digest}
    return {}


def _version(out: Path, shard: int) -> tuple[object, ...]:
    """Changes when a file changes that says what is in a shard."""
    version: list[object] = [shard]
    for path in _files(out, shard):
        try:
            status = os.stat(path)
        except FileNotFoundError:
            version.append(None)
        else:
            version.append((status.st_ino, status.st_size, status.st_mtime_ns))
    return tuple(version)


@functools.lru_cache(maxsize=64)
def _files(out: Path, shard: int) -> tuple[str, str, str]:
    return str(packed_path(out, shard)), str(next_packed_path(out, shard)), f"{out}/{shard_location(shard)}"


def _read_header(path: Path) -> dict[str, Any]:
    return _parse_header(path, read_current(path, _first_line))


def _first_line(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.readline()


def _parse_header(path: Path, line: bytes) -> dict[str, Any]:
    try:
        header = json.loads(line)
        known = header["kind"] == _KIND and header["format"] == FORMAT
        if known and {"bytes", "sha256", "lines_sha256"} <= header.keys():
            return dict(header)
    except (KeyError, TypeError, ValueError) as error:
        raise StoreError(f"{path} is torn or altered: {error}") from error
    raise StoreError(f"{path} has another kind or format than {_KIND} {FORMAT}")

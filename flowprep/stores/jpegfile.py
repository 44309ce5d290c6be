"""Whether the bytes of a JPEG file are whole, without decoding them.

The markers are followed from the first to the last: that finds files that are empty, cut or overwritten, and gives the
size of the image. Bits that flip inside the coded data are seen by a checksum only, if at all.
"""

from __future__ import annotations

import os
import re
import stat
from io import FileIO
from pathlib import Path

from flowprep.errors import StoreError

_START, _END, _SCAN = 0xD8, 0xD9, 0xDA
_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}  # markers that carry the image's size
_WITHOUT_LENGTH = frozenset({0x01, *range(0xD0, 0xD8)})
_MARKER = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]", re.DOTALL)  # in coded data, FF is followed by 00 or RST


def jpeg_size(data: bytes | memoryview) -> tuple[int, int]:
    """(width, height) of a whole JPEG file. Raises StoreError with what is wrong with any other."""
    data = bytes(data)
    if not data:
        raise StoreError("the file is empty")
    if data[:2] != bytes((0xFF, _START)):
        raise StoreError("the file is not a JPEG")
    size: tuple[int, int] | None = None
    at, has_scan = 2, False
    while True:
        if at + 2 > len(data):
            raise StoreError(f"the file is cut after {len(data)} bytes")
        if data[at] != 0xFF:
            raise StoreError(f"the file is damaged at byte {at}")
        marker = data[at + 1]
        if marker == 0xFF:
            at += 1
        elif marker in _WITHOUT_LENGTH:
            at += 2
        elif marker == _END:
            break
        else:
            length = int.from_bytes(data[at + 2 : at + 4], "big")
            if at + 2 + length > len(data):
                raise StoreError(f"the file is cut after {len(data)} bytes")
            if length < 2 or (marker in _FRAMES and length < 8):
                raise StoreError(f"the file is damaged at byte {at}")
            if marker in _FRAMES:
                size = int.from_bytes(data[at + 7 : at + 9], "big"), int.from_bytes(data[at + 5 : at + 7], "big")
            at += 2 + length
            if marker == _SCAN:
                has_scan = True
                found = _MARKER.search(data, at)
                at = found.start() if found else len(data)
    if size is None or 0 in size or not has_scan:
        raise StoreError("the file has no image")
    return size


def open_plain(path: Path | str) -> FileIO:
    """A file that is no link, open for reading without a buffer. Raises OSError for links and folders."""
    # os.fdopen would leave the descriptor of a folder open when it refuses that.
    return open(path, "rb", buffering=0, opener=_open_no_link)


def _open_no_link(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)


def read_plain_file(path: Path | str) -> bytes:
    """All bytes of a regular file that is no link. Raises StoreError with what is wrong with any other."""
    try:
        with open_plain(path) as file:
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                raise StoreError("it is not a regular file")
            return file.readall()
    except OSError as error:
        raise StoreError(f"it cannot be read: {error.strerror}") from error

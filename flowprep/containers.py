"""How long a container says its file is, read from the outermost structure alone.

A decoder that reaches the end of a cut file mostly reports nothing (FFmpeg ends AVI and Matroska files silently), so
truncation has to be found from what the file says about itself. This module knows the sizes that containers announce:
RIFF chunks (AVI), the EBML Segment (Matroska, WebM), top-level boxes (MP4, MOV), and the ASF file properties.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import BinaryIO

_MAX_PARTS = 1_000_000  # more boxes than any real file has; stops a crafted one
_RIFF_UNKNOWN = (0, 0xFFFFFFFF)  # sizes that stay where a writer died, or wrote to a pipe
_AVI_UNKNOWN_FRAMES = 1 << 30  # FFmpeg's, into an AVI that goes to a pipe
_ASF_HEADER = bytes.fromhex("3026b2758e66cf11a6d900aa0062ce6c")
_ASF_FILE_PROPERTIES = bytes.fromhex("a1dcab8c47a9cf118ee400c00c205365")


@dataclass(frozen=True, slots=True, kw_only=True)
class Extent:
    """What a file's outermost structure says.

    `kind` is "avi", "matroska", "mp4", "asf", "other", "playlist" or "" (by its first bytes, no known container).
    `announced_bytes` is the length that the file should have at least, None where it does not say.
    """

    kind: str
    num_bytes: int
    announced_bytes: int | None

    @property
    def missing_bytes(self) -> int:
        """Bytes that are announced but not there; 0 where nothing is announced."""
        return max((self.announced_bytes or 0) - self.num_bytes, 0)

    @property
    def complete(self) -> bool:
        """True if the file announces its length and is as long as that."""
        return self.announced_bytes is not None and self.missing_bytes == 0


def announced_frames(extent: Extent, num_frames: int) -> int:
    """How many frames a header announces that says `num_frames`, 0 where its writer could not know."""
    return 0 if extent.kind == "avi" and num_frames == _AVI_UNKNOWN_FRAMES else num_frames


def read_extent(file: BinaryIO) -> Extent:
    """The extent of an open, seekable file. Never raises for strange content: it then announces nothing."""
    num_bytes = file.seek(0, 2)
    file.seek(0)
    head = file.read(16)
    announced: int | None = None
    if head[:4] == b"RIFF" and head[8:12] in (b"AVI ", b"AVIX"):
        kind, announced = "avi", _riff_end(file, num_bytes)
    elif head[:4] == b"\x1a\x45\xdf\xa3":
        kind, announced = "matroska", _ebml_end(file, num_bytes)
    elif head[4:8] in (b"ftyp", b"moov", b"mdat", b"free", b"skip", b"wide", b"pnot", b"styp"):
        kind, announced = "mp4", _boxes_end(file, num_bytes)
    elif head == _ASF_HEADER:
        kind, announced = "asf", _asf_end(file, num_bytes)
    elif head.startswith((b"FLV", b"OggS", b"\0\0\1\xba", b"\0\0\1\xb3", b".RMF")):
        kind = "other"
    elif head.startswith(b"#EXTM3U"):
        kind = "playlist"
    else:
        kind = ""
    return Extent(kind=kind, num_bytes=num_bytes, announced_bytes=announced)


def _riff_end(file: BinaryIO, num_bytes: int) -> int | None:
    """End of the last RIFF chunk: one, or several in OpenDML files beyond 1 GiB; None where its size is not known."""
    position = 0
    for _ in range(_MAX_PARTS):
        file.seek(position)
        header = file.read(8)
        if len(header) < 8 or header[:4] != b"RIFF":
            break
        (size,) = struct.unpack("<I", header[4:])
        if size in _RIFF_UNKNOWN:
            return None
        position += 8 + size + (size & 1)
        if position >= num_bytes:
            break
    # Files of odd size often lack the pad byte at their very end, which is no loss.
    return position - 1 if position == num_bytes + 1 else position


def _ebml_end(file: BinaryIO, num_bytes: int) -> int | None:
    """End of the Segment element; None where its size is "unknown" (live streams) or the header is damaged."""
    file.seek(4)
    header_size = _vint(file)
    if header_size is None or header_size > num_bytes:  # file systems refuse to seek to absurd places
        return None
    file.seek(header_size, 1)
    if file.read(4) != b"\x18\x53\x80\x67":
        return None
    size = _vint(file)
    return None if size is None else file.tell() + size


def _vint(file: BinaryIO) -> int | None:
    """An EBML variable-length size; None for the reserved "unknown" value and for damage."""
    first = file.read(1)
    if not first or first[0] == 0:
        return None
    length = 9 - first[0].bit_length()
    rest = file.read(length - 1)
    if len(rest) < length - 1:
        return None
    value = int.from_bytes(bytes([first[0] & (0xFF >> length)]) + rest, "big")
    return None if value == (1 << 7 * length) - 1 else value


def _boxes_end(file: BinaryIO, num_bytes: int) -> int | None:
    """End of the last top-level box of an ISO media file.

    A box of size 0 reaches to the end of the file, which tells nothing about its length.
    """
    position = 0
    for _ in range(_MAX_PARTS):
        file.seek(position)
        header = file.read(16)
        if len(header) < 8:
            break
        size = int.from_bytes(header[:4], "big")
        if size == 1 and len(header) == 16:
            size = int.from_bytes(header[8:], "big")
        if not all(32 <= letter < 127 or letter == 0xA9 for letter in header[4:8]):
            break  # trailing bytes that are no box
        if size == 0:
            return None
        if size < 8:
            break
        position += size
        if position >= num_bytes:
            break
    return position


def _asf_end(file: BinaryIO, num_bytes: int) -> int | None:
    """File size of the ASF file properties object; None for broadcast files, where the field is not valid."""
    file.seek(24)
    count = int.from_bytes(file.read(4), "little")
    file.seek(30)
    for _ in range(min(count, 1000)):
        header = file.read(24)
        if len(header) < 24:
            return None
        size = int.from_bytes(header[16:], "little")
        if header[:16] == _ASF_FILE_PROPERTIES:
            body = file.read(68)
            broadcast = len(body) < 68 or body[64] & 1
            return None if broadcast else int.from_bytes(body[16:24], "little")
        if not 24 <= size <= num_bytes:
            return None
        file.seek(size - 24, 1)
    return None

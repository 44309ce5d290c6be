"""Whether bytes are one whole JPEG image of a given size: by its markers, and by decoding it."""

from __future__ import annotations

from flowprep.encode import decode_plane, decode_rgb
from flowprep.errors import StoreError

_START, _END = b"\xff\xd8", b"\xff\xd9"
_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}  # start of frame, of every kind of coding
_SCAN = 0xDA


def problem_of(jpeg: bytes | memoryview, width: int, height: int, channels: int, *, decode: bool = False) -> str:
    """A clause that says why bytes are not such an image, "" if they are.

    Without `decode` only markers are looked at, which costs nothing; with it every pixel is decoded too.
    """
    data = bytes(jpeg)
    if not data:
        return "is empty"
    if not data.startswith(_START):
        return "does not begin as a JPEG image"
    shape = _shape(data)
    if shape is None:
        return "has no whole JPEG header"
    if shape != (height, width, channels):
        return f"is {shape[1]}x{shape[0]} with {shape[2]} channels, not {width}x{height} with {channels}"
    if not data.endswith(_END):
        return "ends before its image does"
    if decode:
        try:
            image = (decode_rgb if channels == 3 else decode_plane)(data)
        except StoreError:
            return "cannot be decoded"
        if image.shape[:2] != (height, width):
            return f"decodes to {image.shape[1]}x{image.shape[0]}, not {width}x{height}"
    return ""


def _shape(data: bytes) -> tuple[int, int, int] | None:
    """Height, width and channels, by the start of the frame; None if the scan comes first."""
    at = len(_START)
    while at + 10 <= len(data) and data[at] == 0xFF:
        marker = data[at + 1]
        if marker in _FRAMES:
            size = int.from_bytes(data[at + 5 : at + 7], "big"), int.from_bytes(data[at + 7 : at + 9], "big")
            return *size, data[at + 9]
        if marker == _SCAN:
            return None
        at += 2 + int.from_bytes(data[at + 2 : at + 4], "big")
    return None


def split(data: bytes) -> list[bytes]:
    """JPEG images that lie one after another. An end followed by a start is between two: no coded data hold it."""
    if not data:
        return []
    first, *others = data.split(_END + _START)
    images = [first, *(_START + other for other in others)]
    return [*(image + _END for image in images[:-1]), images[-1]]

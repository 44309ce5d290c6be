"""Messages between a run and its children: JSON objects, each after its length in four bytes.

No pickle: a child reads files that strangers made, and what it sends must not be able to run code.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator
from typing import IO, Any

from flowprep.records import canonical_json

_LENGTH = struct.Struct("<I")
MAX_BYTES = 64 << 20
"""A message that announces more than this is none of ours."""


class WireError(ValueError):
    """What came is no message."""


def encode(message: dict[str, Any]) -> bytes:
    """The bytes of a message."""
    body = canonical_json(message).encode("ascii")
    return _LENGTH.pack(len(body)) + body


def read(stream: IO[bytes]) -> dict[str, Any] | None:
    """The next message, None at the end. Waits for it."""
    head = stream.read(_LENGTH.size)
    if len(head) < _LENGTH.size:
        return None
    body = stream.read(_LENGTH.unpack(head)[0])
    message = json.loads(body)
    assert isinstance(message, dict)
    return message


class Splitter:
    """Makes messages of bytes that arrive in pieces."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, data: bytes) -> Iterator[dict[str, Any]]:
        """The messages that are complete with `data`. Raises WireError."""
        self._buffer += data
        while len(self._buffer) >= _LENGTH.size:
            (length,) = _LENGTH.unpack_from(self._buffer)
            if length > MAX_BYTES:
                raise WireError(f"a message of {length} bytes is announced")
            end = _LENGTH.size + length
            if len(self._buffer) < end:
                return
            body = bytes(self._buffer[_LENGTH.size : end])
            del self._buffer[:end]
            try:
                message = json.loads(body)
            except ValueError as error:
                raise WireError(str(error)) from error
            if not isinstance(message, dict):
                raise WireError("a message is no object")
            yield message

"""Random draws that depend on what they are for and on nothing else.

A draw is a hash of (seed, epoch, video, ...) and a counter. So it does not matter which thread or rank makes it, in
what order, or which version of which library is installed: a resumed run draws what the uninterrupted one would have.
"""

from __future__ import annotations

import hashlib
from typing import final


@final
class Draws:
    """A stream of draws that `parts` name, e.g. seed, epoch and video id."""

    __slots__ = ("_block", "_counter", "_key")

    def __init__(self, *parts: int | str) -> None:
        # Each part as text with its length, so that no two lists of parts give one key.
        texts = [str(part).encode("utf-8", "surrogatepass") for part in parts]
        self._key = hashlib.blake2b(b"".join(b"%d:%b" % (len(text), text) for text in texts), digest_size=32).digest()
        self._counter = 0
        self._block = b""

    def bits(self) -> int:
        """A number of 64 random bits."""
        if not self._block:
            self._block = hashlib.blake2b(self._counter.to_bytes(8, "little"), key=self._key).digest()
            self._counter += 1
        value, self._block = int.from_bytes(self._block[:8], "little"), self._block[8:]
        return value

    def uniform(self) -> float:
        """A number in [0, 1), a multiple of 2**-53."""
        return (self.bits() >> 11) * 2.0**-53

    def below(self, limit: int) -> int:
        """A whole number from 0 to limit - 1."""
        return (self.bits() * limit) >> 64

    def between(self, first: int, last: int) -> int:
        """A whole number from first to last, both included."""
        return first + self.below(last - first + 1)

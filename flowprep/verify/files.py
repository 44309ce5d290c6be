"""Files of a store that nobody vouches for: looked at before they are opened, and never through a link."""

from __future__ import annotations

import hashlib
import os
import stat
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import final

UNTRUSTED = (
    OSError,
    ValueError,  # StoreError, JSON and UTF-8 errors among them
    KeyError,
    TypeError,
    AttributeError,
    IndexError,
    OverflowError,
    RecursionError,
    struct.error,
)
"""What reading a file of any content may raise. None of it may end a verification."""

_BLOCK = 4 << 20  # bytes that are read at a time


@final
class Files:
    """The files below a store, by their place: a path relative to it with `/` between parts."""

    def __init__(self, out: Path) -> None:
        self.out = out
        self._folders: set[str] = {""}  # those that proved to be folders of the store itself

    def path(self, place: str) -> Path:
        """The path of a place."""
        return self.out / place

    def exists(self, place: str) -> bool:
        """True if there is anything, be it a link that leads nowhere."""
        return os.path.lexists(f"{self.out}/{place}")

    def problem(self, place: str, *, folder: bool = False) -> tuple[str, str] | None:
        """Why a place is not a file (or folder) of the store itself: kind of finding and a clause; None if it is."""
        above, _, _ = place.rpartition("/")
        if above not in self._folders:
            found = self.problem(above, folder=True)
            if found is not None:
                return found[0], found[1] if found[0] == "missing" else f"lies behind {above}, which {found[1]}"
        try:
            mode = os.lstat(f"{self.out}/{place}").st_mode
        except (FileNotFoundError, NotADirectoryError):
            return "missing", "is not there"
        except (OSError, ValueError) as error:
            return "unreadable", f"cannot be looked at: {error}"
        if stat.S_ISLNK(mode):
            return "link", "is a symbolic link, which is not followed"
        if stat.S_ISDIR(mode) != folder or not (folder or stat.S_ISREG(mode)):
            return "link", f"is not a {'folder' if folder else 'regular file'}"
        if folder:
            self._folders.add(place)
        return None

    def blocks(self, place: str) -> Iterator[bytes]:
        """The bytes of a file, some at a time. Raises OSError where it cannot be read or is a link."""
        fd = open_regular(f"{self.out}/{place}")
        with os.fdopen(fd, "rb", buffering=0) as file:
            while block := file.read(_BLOCK):
                yield block

    def sha256(self, place: str) -> str:
        """SHA-256 of a file in hex. Raises OSError where it cannot be read or is a link."""
        digest = hashlib.sha256()
        for block in self.blocks(place):
            digest.update(block)
        return digest.hexdigest()


def open_regular(path: str) -> int:
    """Descriptor of a regular file for reading; never waits for the other end of a pipe. Raises OSError on others."""
    fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        os.close(fd)
        raise OSError(f"{path} is not a regular file")
    return fd

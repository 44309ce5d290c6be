"""Files that another machine removes or replaces while they are read.

On a local disk a file that is open stays as it was. On NFS it is gone for the other clients at once, and reading on
gives ESTALE, which says nothing of the disk: what counts is the file of that name now.
"""

from __future__ import annotations

import errno
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from flowprep.errors import StoreError

MAX_TRIES = 3
_Content = TypeVar("_Content")


def read_current(path: Path, read: Callable[[Path], _Content]) -> _Content:
    """What `read` makes of the file, which it opens by its name: of the new one where it is replaced meanwhile.

    Raises what `read` raises, and StoreError where that goes on.
    """
    for _ in range(MAX_TRIES):
        try:
            return read(path)
        except OSError as error:
            if not is_stale(error):
                raise
    raise lost(path)


def lost(path: Path) -> StoreError:
    """What to raise where a file goes stale again and again."""
    return StoreError(f"{path} cannot be read: stale file handle, several times; look at its disk and run again")


def is_stale(error: BaseException) -> bool:
    """True if another machine has removed or replaced what was read."""
    return isinstance(error, OSError) and error.errno == errno.ESTALE

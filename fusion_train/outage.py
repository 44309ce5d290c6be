"""What ends a training for reasons outside of it, in a sentence: a disk that is full, a device without memory."""

from __future__ import annotations

import contextlib
import errno
import os
import re
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from flowprep.errors import DeviceMemoryError, FlowprepError, MissingDataError, RunStoppedError

_DISK_FULL = frozenset({errno.ENOSPC, errno.EDQUOT})
_WRONG_PLACE = frozenset(
    {errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.EEXIST, errno.EACCES, errno.EPERM, errno.EROFS,
     errno.ENAMETOOLONG}
)  # fmt: skip
_NO_MEMORY = ("out of memory", "can't allocate memory", "STATUS_ALLOC_FAILED")
"""In errors of PyTorch on CUDA, of its allocator on a CPU, and of cuBLAS and cuDNN: all RuntimeErrors."""
_TOKEN_BYTES = 4


@contextlib.contextmanager
def writing(path: Path) -> Iterator[None]:
    """A block that writes `path`, or makes that folder.

    Raises:
        RunStoppedError: The disk is full or broken.
        MissingDataError: Nothing can be written there at all: no folder, no permission.
    """
    try:
        yield
    except FlowprepError:
        raise
    except (OSError, RuntimeError) as error:
        found = _os_error(error)
        if found is None:
            raise
        reason = found.strerror or str(found)
        if found.errno in _WRONG_PLACE:
            raise MissingDataError(f"{path} cannot be written: {reason}") from error
        if found.errno in _DISK_FULL:
            raise RunStoppedError(
                f"{path} cannot be written, its disk is full: {reason}; free some space and run again, "
                "what is finished is kept"
            ) from error
        raise RunStoppedError(
            f"{path} cannot be written: {reason}; run again when the disk works, what is finished is kept"
        ) from error


@contextlib.contextmanager
def whole_file(path: Path) -> Iterator[BinaryIO]:
    """A file that gets its name when all is written and on the disk; if the block raises, it is removed.

    Raises:
        RunStoppedError: The disk is full or broken.
        MissingDataError: Nothing can be written there.
    """
    unfinished = path.with_name(f".{path.name}.{secrets.token_hex(_TOKEN_BYTES)}")
    try:
        with writing(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            with unfinished.open("xb") as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            os.replace(unfinished, path)
    finally:
        with contextlib.suppress(OSError):  # its folder may not be one
            unfinished.unlink()


def remove_unfinished(path: Path) -> None:
    """Remove what processes have left that were killed while they wrote `path`; nobody else may be writing it."""
    form = re.compile(rf"\.{re.escape(path.name)}\.[0-9a-f]{{{2 * _TOKEN_BYTES}}}")
    with contextlib.suppress(OSError):  # there may be no folder
        for there in path.parent.iterdir():
            if form.fullmatch(there.name):
                there.unlink()


def _os_error(error: BaseException | None) -> OSError | None:
    """`torch.save` into a file that is full raises a RuntimeError of its own, while the OSError is handled."""
    while error is not None and not isinstance(error, OSError):
        error = error.__cause__ or error.__context__
    return error


@contextlib.contextmanager
def device_memory(cure: str) -> Iterator[None]:
    """A block, or as a decorator a function, that may take more memory than there is; `cure` follows "out of memory".

    Raises DeviceMemoryError.
    """
    try:
        yield
    except FlowprepError:
        raise
    except (MemoryError, RuntimeError) as error:
        text = str(error).partition("\n")[0]
        if not isinstance(error, MemoryError) and not any(sign in text for sign in _NO_MEMORY):
            raise
        raise DeviceMemoryError(f"out of memory: {cure} ({text})") from error

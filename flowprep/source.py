"""A source file before it is decoded: what may be opened at all, and its fingerprint.

Opening a FIFO or device by mistake hangs every decoder (measured), so a path is opened without blocking and must prove
to be a regular, non-empty file before FFmpeg sees it.
"""

from __future__ import annotations

import contextlib
import errno
import functools
import hashlib
import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from io import BufferedReader
from pathlib import Path

from flowprep.errors import VideoError

_CODES = {
    errno.ENOENT: ("missing", "the file does not exist"),
    errno.ENOTDIR: ("missing", "the file does not exist"),
    errno.ELOOP: ("loop", "the path is a loop of symbolic links"),
    errno.EACCES: ("permission", "the file may not be read; give read permission"),
    errno.EPERM: ("permission", "the file may not be read; give read permission"),
    errno.ENAMETOOLONG: ("name_too_long", "the path is longer than the file system allows"),
    errno.ENXIO: ("not_regular", "the path is a socket, not a regular file"),
    errno.ENOMEM: ("memory", "there is not enough memory"),
}

_ENVIRONMENT = frozenset(
    {errno.ESTALE, errno.ETIMEDOUT, errno.EREMOTEIO, errno.EACCES, errno.ENOENT, errno.ENOMEM, errno.EMFILE}
)
"""Errors that are not about what is in a file."""

_BLOCK = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Fingerprint:
    """Identity of a file at one moment; a different one means that the file was changed or replaced."""

    num_bytes: int
    mtime_ns: int
    inode: int


def failure_of(error: OSError) -> VideoError:
    """The VideoError that an operating system error amounts to (`io` where it is no plainer one)."""
    code, detail = _CODES.get(error.errno or 0, ("io", f"the file system reported: {os.strerror(error.errno or 0)}"))
    return VideoError(code, detail)


def failure_behind(number: int | None, path: Path) -> VideoError | None:
    """What the error number of a library that reads `path` amounts to; None where the content is to blame.

    FFmpeg says EIO of damaged content too (of a Matroska file it cannot follow), so then the file is read to its end.
    """
    if number == errno.EIO:
        try:
            with opened(path) as file:
                while file.read(_BLOCK):
                    pass
        except VideoError as error:
            return error
        return None
    return failure_of(OSError(number, "")) if number in _ENVIRONMENT else None


@contextlib.contextmanager
def opened(path: Path) -> Iterator[BufferedReader]:
    """`path` open for reading in binary; VideoError unless it is a readable, regular file with at least one byte.

    An OSError inside the block is taken for one of reading this file, and becomes a VideoError too.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except ValueError as error:  # a NUL inside the name
        raise VideoError("name", f"the name is not allowed: {error}") from None
    except OSError as error:
        raise failure_of(error) from error
    status = os.fstat(descriptor)
    if not stat.S_ISREG(status.st_mode):
        os.close(descriptor)
        raise VideoError("not_regular", "the path is a folder, pipe or device, not a regular file")
    with os.fdopen(descriptor, "rb") as file:
        if status.st_size == 0:
            raise VideoError("empty", "the file has no bytes; fetch it again")
        try:
            yield file
        except OSError as error:
            raise failure_of(error) from error


def fingerprint(file: BufferedReader) -> Fingerprint:
    """The fingerprint of an open file."""
    return fingerprint_of(os.fstat(file.fileno()))


def fingerprint_of(status: os.stat_result) -> Fingerprint:
    """The fingerprint of a file by its status."""
    return Fingerprint(num_bytes=status.st_size, mtime_ns=status.st_mtime_ns, inode=status.st_ino)


def check_unchanged(path: Path, before: Fingerprint) -> None:
    """Raise VideoError `changed` unless `path` is still the file that it was."""
    with opened(path) as file:
        if fingerprint(file) != before:
            raise VideoError("changed", "the file changed while it was read")


@functools.lru_cache(maxsize=8)
def _sha256(path: Path, _version: Fingerprint) -> str:
    """Cached, since the segments of one long video follow each other."""
    with opened(path) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def sha256_of(path: Path, version: Fingerprint) -> str:
    """SHA-256 of the file's bytes as hex. Raises VideoError where it cannot be read."""
    return _sha256(path, version)

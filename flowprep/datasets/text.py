"""Text and paths of split lists, with errors that name file and line."""

from __future__ import annotations

import os
import posixpath
from collections.abc import Iterable, Iterator
from pathlib import Path

from flowprep.errors import DatasetError, MissingDataError


def read_text(path: Path, *, errors: str = "strict") -> str:
    """The content of a UTF-8 file, without byte order mark.

    With `errors="surrogateescape"` bytes that are not UTF-8 are kept, for lists of file names.

    Raises MissingDataError if there is no such file, DatasetError with the line if it is not UTF-8 or not readable.
    """
    try:
        content = path.read_bytes()
    except FileNotFoundError as error:
        raise MissingDataError(
            f"the list {path} does not exist; name the right file or folder with --splits"
        ) from error
    except OSError as error:
        raise DatasetError(f"the list {path} cannot be read: {error.strerror}") from error
    try:
        return content.decode("utf-8-sig", errors)
    except UnicodeDecodeError as error:
        num_line = content.count(b"\n", 0, error.start) + 1
        raise DatasetError(
            f"{path}, line {num_line}: byte 0x{content[error.start]:02x} is not UTF-8; save the file as UTF-8"
        ) from error


def read_lines(path: Path) -> Iterator[tuple[int, str]]:
    """Line numbers from 1 and lines of a UTF-8 list, without line ends, outer blanks, and lines that are blank.

    Only line feeds end a line: names may hold the other characters that Unicode calls line breaks.
    """
    for number, line in enumerate(read_text(path).split("\n"), start=1):
        if stripped := line.strip(" \t\r"):
            yield number, stripped


def roots_of(videos: Path) -> tuple[str, ...]:
    """The absolute names of a folder: as given, and with its links resolved."""
    return os.path.abspath(videos), os.path.realpath(videos)


def shown(text: str, length: int = 60) -> str:
    """What a list says, in quotes and cut to a length that a message can have."""
    return repr(text if len(text) <= length else f"{text[:length]}...")


def relative_path(listed: str, roots: Iterable[str] = ()) -> str | None:
    """`listed` in its shortest form, or None if it is empty, holds NUL or leaves the video folder.

    A path that goes up anywhere leaves, even if it would come back; an absolute one may lie in one of `roots`, names
    of the video folder. Links are not looked at: one that leads out of the folder is the user's own and only read.
    """
    if not listed or "\0" in listed or ".." in listed.split("/"):
        return None
    if listed.startswith("/"):
        whole = posixpath.normpath("/" + listed.lstrip("/"))
        for root in roots:
            prefix = root.rstrip("/") + "/"
            if whole.startswith(prefix):
                return whole[len(prefix) :] or None
        return None
    shortest = posixpath.normpath(listed)
    return None if shortest == "." else shortest

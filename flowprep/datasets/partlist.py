"""Which videos are for training and for the test, of data sets without official lists: a column `split` in a list."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

from flowprep.datasets.fields import FieldError, rows
from flowprep.datasets.listing import PARTS
from flowprep.datasets.text import read_text, relative_path, roots_of
from flowprep.errors import DatasetError

SPLIT = "1"
"""Name of the split that such a column makes: the one that training takes where none is named."""


def part_of(line: int, text: str) -> str:
    """The part that a field names, "" for none. Raises FieldError for another text."""
    if text and text not in PARTS:
        raise FieldError(line, f"a split is {', '.join(PARTS)}, or empty, got {text!r}")
    return text


def parts_of(names: Iterable[str]) -> Mapping[str, Mapping[str, list[int]]]:
    """Split to part to places, from the part of each video; nothing where no video is in one."""
    parts: dict[str, list[int]] = {}
    for index, name in enumerate(names):
        if name:
            parts.setdefault(name, []).append(index)
    return {SPLIT: parts} if parts else {}


def read_part_list(path: Path, videos: Path) -> dict[str, str]:
    """Path below `videos` to part, of a CSV or text file whose header has `path` and `split`; others are not read.

    Raises DatasetError, with the line, where a column is missing, a file is in two parts, a path leaves `videos` or a
    part has no such name; MissingDataError where there is no such file.
    """
    found: dict[str, str] = {}
    roots = roots_of(videos)
    try:
        for line, columns, fields in rows(read_text(path, errors="surrogateescape")):
            if "split" not in columns:
                raise FieldError(line, "a header with the columns path and split is wanted")
            values = dict(zip(columns, fields, strict=True))
            video, part = relative_path(values["path"], roots), part_of(line, values["split"])
            if video is None:
                raise FieldError(line, f"the path {values['path']!r} is empty, holds NUL or leaves {videos}")
            if found.setdefault(video, part) != part:
                raise FieldError(line, f"{video} is in two parts, {found[video]} and {part}")
    except FieldError as error:
        raise DatasetError(f"{path}, line {error.line}: {error}") from error
    if not found:
        raise DatasetError(f"{path} names no video: nothing to train on")
    return found

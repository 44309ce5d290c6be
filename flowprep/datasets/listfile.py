"""`list`: a CSV or text file of the user's names the videos. `fields` says how its lines are read.

Columns are path, then any of label (a whole number from 0, or a class name), id, start and end (seconds), in this order
or as a header says; a header may also have `class`, and then `label` is a number, and `split`, the part of each video.
Numbers that are not whole are refused, as are numbers below a label that is none (a header of other names): they would
become names of classes.
"""

from __future__ import annotations

import math
import re
import sys
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

from flowprep.datasets.fields import FieldError, rows
from flowprep.datasets.listing import class_labels, finish_listing
from flowprep.datasets.partlist import part_of, parts_of
from flowprep.datasets.scan import Scan, probe, scan, stem
from flowprep.datasets.text import read_text, relative_path, roots_of, shown
from flowprep.errors import DatasetError
from flowprep.records import Listing, Reason, Segment, Video

_MAX_LABEL = 2**31 - 1  # shards store labels as int32
_INTEGER = re.compile(r"[+-]?[0-9]{1,18}")  # Python makes no number of thousands of digits
_NUMBER = re.compile(r"[+-]?[0-9]+(\.[0-9]*)?")


@dataclass(frozen=True, slots=True)
class _Entry:
    """One line. `path` is None where the listed one is not allowed."""

    line: int
    listed: str
    path: str | None
    label: str
    class_name: str
    id: str
    segment: Segment | None
    part: str

    @property
    def key(self) -> tuple[str, Segment | None, str]:
        """What makes an entry another video: the same file twice needs other times or another id."""
        return self.listed if self.path is None else self.path, self.segment, self.id


def list_from_file(videos: Path, list_path: Path, *, skip_bad_lines: bool = False) -> Listing:
    """The videos that `list_path` names, in its order; paths are relative to `videos` or absolute inside it.

    Repeated lines are dropped and counted. Where all labels are whole numbers they are taken as they are, otherwise
    they are class names, numbered from 0 in the order of their bytes. An entry without an id has `<class>/<stem>`, or
    its stem where there is no class. Times make a segment that is cut from the file. A column `split` with `train`,
    `val` and `test` (or nothing) makes the split "1".

    Raises DatasetError, before anything else is done, for an empty list, for a malformed line (with its number), and
    for paths that are empty, hold NUL or leave `videos` (with the numbers of all such lines); with `skip_bad_lines`
    these last ones are entries with the problem `name` instead.
    """
    entries: dict[tuple[str, Segment | None, str], _Entry] = {}
    num_duplicates = 0
    bad_lines = []
    for entry in _entries(videos, list_path):
        if entry.path is None:
            bad_lines.append(entry.line)
        first = entries.setdefault(entry.key, entry)
        if first is not entry:
            for what, own, before in (
                ("label", (entry.label, entry.class_name), (first.label, first.class_name)),
                ("split", entry.part, first.part),
            ):
                if own != before:
                    raise DatasetError(
                        f"{list_path}, line {entry.line}: {entry.listed} has another {what} than in line {first.line}; "
                        f"give each an id of its own, or one {what}"
                    )
            num_duplicates += 1
    if not entries:
        raise DatasetError(f"{list_path} names no video: nothing to do")
    if bad_lines and not skip_bad_lines:
        raise DatasetError(
            f"{list_path}: the paths in these lines are empty, hold NUL or leave the video folder {videos}: "
            f"{_ranges(bad_lines)}; correct them, or pass --skip-bad-lines to record them as failed"
        )
    found = scan(videos) if videos != Path("/") else Scan(paths=(), problems={})
    listed = set(found.paths)
    labels = _Labels(list_path, list(entries.values()))
    all_videos = [_video(entry, list_path, videos, found, listed, labels) for entry in entries.values()]
    parts = parts_of(entry.part for entry in entries.values())
    del entries  # a long list is not held twice
    return finish_listing(
        "list",
        all_videos,
        found=found,
        classes=labels.classes,
        parts=parts,
        num_duplicates=num_duplicates,
    )


def _entries(videos: Path, list_path: Path) -> Iterator[_Entry]:
    roots = roots_of(videos)
    try:
        # Names of files need not be UTF-8; `_video` refuses such a line if it names no file.
        for line, columns, fields in rows(read_text(list_path, errors="surrogateescape")):
            values = dict(zip(columns, fields, strict=True))
            yield _Entry(
                line,
                values["path"],
                relative_path(values["path"], roots),
                sys.intern(values.get("label", "")),
                sys.intern(values.get("class", "")),
                values.get("id", ""),
                _segment(line, values.get("start", ""), values.get("end", "")),
                part_of(line, values.get("split", "")),
            )
    except FieldError as error:
        raise DatasetError(f"{list_path}, line {error.line}: {error}") from error


def _segment(line: int, start: str, end: str) -> Segment | None:
    if not start and not end:
        return None
    try:
        start_seconds, end_seconds = float(start), float(end)
    except ValueError:
        start_seconds = end_seconds = math.nan
    if not 0 <= start_seconds < end_seconds < math.inf:
        raise FieldError(
            line, f"start and end must be seconds with 0 <= start < end, got {shown(start)} and {shown(end)}"
        )
    return Segment(start_seconds=start_seconds, end_seconds=end_seconds)


class _Labels:
    """Class name and label of every entry: numbers as given, or numbers for names."""

    def __init__(self, list_path: Path, entries: list[_Entry]) -> None:
        self._has_class_column = any(entry.class_name for entry in entries)
        self._are_numbers = all(_INTEGER.fullmatch(entry.label) for entry in entries if entry.label)
        self.classes: tuple[str, ...] = ()
        if self._has_class_column and not self._are_numbers:
            wrong = next(entry for entry in entries if entry.label and not _INTEGER.fullmatch(entry.label))
            raise DatasetError(
                f"{list_path}, line {wrong.line}: beside a class the label must be a whole number, got "
                f"{shown(wrong.label)}"
            )
        _check_are_names(list_path, [entry for entry in entries if entry.label], self._are_numbers)
        if self._are_numbers and any(entry.label for entry in entries):
            self._check_numbers(list_path, entries)
        else:
            names = [entry.class_name if self._has_class_column else entry.label for entry in entries]
            self._label_of_name = class_labels(names)
            self._are_numbers = False
            self.classes = tuple(self._label_of_name)

    def of(self, entry: _Entry) -> tuple[str, int]:
        """Class name ("" where the list has numbers only) and label (-1 where it has none)."""
        if self._are_numbers:
            return entry.class_name, int(entry.label or -1)
        name = entry.class_name if self._has_class_column else entry.label
        return name, self._label_of_name.get(name, -1)

    def _check_numbers(self, list_path: Path, entries: list[_Entry]) -> None:
        """Numbers are in range and, where classes are named, one number means one class."""
        name_of: dict[int, str] = {}
        numbers_of: dict[str, set[int]] = defaultdict(set)
        for entry in entries:
            number = int(entry.label or -1)
            if not (0 if entry.label else -1) <= number <= _MAX_LABEL:
                raise DatasetError(
                    f"{list_path}, line {entry.line}: a label is from 0 to {_MAX_LABEL}, or empty, got {entry.label}"
                )
            if entry.class_name and entry.label:
                numbers_of[entry.class_name].add(number)
                if (
                    name_of.setdefault(number, entry.class_name) != entry.class_name
                    or len(numbers_of[entry.class_name]) > 1
                ):
                    raise DatasetError(
                        f"{list_path}, line {entry.line}: class {shown(entry.class_name)} and label {number} were "
                        "paired otherwise above; one label means one class"
                    )
        if sorted(name_of) == list(range(len(name_of))):
            self.classes = tuple(name_of[number] for number in sorted(name_of))


def _check_are_names(list_path: Path, labelled: list[_Entry], are_numbers: bool) -> None:
    """Refuse numbers that would be taken for names of classes and numbered anew, as their bytes sort: 0, 1, 10, 2."""
    others = [entry for entry in labelled if not _NUMBER.fullmatch(entry.label)]
    if are_numbers or (others and (others != labelled[:1] or len(labelled) == 1)):
        return
    first = labelled[0]
    cure = "in a column `class`, which needs a header, numbers are names of classes"
    if others:
        raise DatasetError(
            f"{list_path}, line {first.line}: the label {shown(first.label)} is no number and all others are; if this "
            f"line is a header, name its columns path, label, class, id, start and end; {cure}"
        )
    wrong = next(entry for entry in labelled if not _INTEGER.fullmatch(entry.label))
    raise DatasetError(
        f"{list_path}, line {wrong.line}: a label is a whole number or the name of a class, got "
        f"{shown(wrong.label)}; {cure}"
    )


def _video(entry: _Entry, list_path: Path, videos: Path, found: Scan, on_disk: set[str], labels: _Labels) -> Video:
    class_name, label = labels.of(entry)
    if entry.path is None:
        path = entry.listed
        problem: Reason | None = Reason(
            "name", f"line {entry.line}: the path {shown(path)} is empty, holds NUL or leaves the video folder"
        )
        name = path or f"line {entry.line}"
    else:
        path, name = entry.path, stem(entry.path)
        problem = found.problems.get(path) if path in on_disk else probe(videos, path)
        if problem is not None and problem.code == "missing":
            _check_is_no_label(entry, list_path, on_disk)
    if problem is not None and problem.code == "missing" and _is_not_utf8(path):
        raise DatasetError(f"{list_path}, line {entry.line}: it is not UTF-8 and names no file; save the list as UTF-8")
    own_id = entry.id or (f"{class_name}/{name}" if class_name else name)
    return Video(id=own_id, path=path, class_name=class_name, label=label, segment=entry.segment, problem=problem)


def _check_is_no_label(entry: _Entry, list_path: Path, on_disk: set[str]) -> None:
    """Refuse a missing file whose last word is the name of a class: behind a blank it counts as part of the path."""
    assert entry.path is not None, "it has been looked for"
    name, blank, word = entry.path.rpartition(" ")
    if blank and not entry.label and name.rstrip() in on_disk:
        raise DatasetError(
            f"{list_path}, line {entry.line}: there is no file {entry.listed!r}, but {name.rstrip()!r} is; behind a "
            f"blank a label is a whole number, so write a class with a comma: {name.rstrip()},{word}"
        )


def _is_not_utf8(text: str) -> bool:
    return not text.isascii() and any("\ud800" <= character <= "\udfff" for character in text)


def _ranges(numbers: list[int]) -> str:
    """Rising numbers as text, neighbours joined: 3, 7-9."""
    spans = []
    for _, group in groupby(enumerate(numbers), key=lambda item: item[1] - item[0]):
        span = [number for _, number in group]
        spans.append(str(span[0]) if len(span) == 1 else f"{span[0]}-{span[-1]}")
    return ", ".join(spans)

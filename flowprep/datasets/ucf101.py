"""UCF101 with its official lists for action recognition.

`classInd.txt` has `<number> <class>`, `trainlist0N.txt` `<class>/<file>.avi <number>`, `testlist0N.txt` the same
without the number. Labels are the numbers less one. The class HandstandPushups holds files that are named
`v_HandStandPushups_*`, and copies of the lists differ in that case, so names match without it.
"""

from __future__ import annotations

import re
from pathlib import Path

from flowprep.datasets.folder import list_unsplit
from flowprep.datasets.ids import fold
from flowprep.datasets.listing import check_has_videos, finish_listing
from flowprep.datasets.matching import FileIndex
from flowprep.datasets.scan import Scan, parent_name, scan, stem
from flowprep.datasets.text import read_lines, relative_path
from flowprep.errors import DatasetError, MissingDataError
from flowprep.records import Listing, Video

_LIST = re.compile(r"(train|test)list0*(\d+)\.txt")
_FILE = re.compile(r"v_(.+)_g\d+_c\d+", re.IGNORECASE)


def list_ucf101(videos: Path, splits: Path | None, found: Scan | None = None) -> Listing:
    """All videos of the official lists, in the order in which trainlist01, testlist01, trainlist02, ... first name one.

    Files may lie in class folders or side by side and may be transcoded, see `matching.FileIndex`. The id is the stem
    of the listed name. Without `splits` all video files are taken, with their folder as class, or the class in their
    name where they lie at the top.

    Raises MissingDataError where lists are missing, DatasetError with file and line where they are malformed.
    """
    if splits is None:
        return list_unsplit("ucf101", videos, class_of=_class_of_file, id_of=stem, found=found)
    lists = _lists(splits)
    classes = _read_classes(splits / "classInd.txt")
    by_name = {fold(name): name for name in classes}
    entries: dict[str, tuple[str, str]] = {}  # folded path: class, path; in list order
    parts: dict[str, dict[str, list[int]]] = {}
    positions: dict[str, int] = {}
    num_duplicates = 0
    for list_path, split, part in lists:
        chosen: set[int] = set()
        for number, line in read_lines(list_path):
            path, label = _parse(line)
            where = f"{list_path}, line {number}"
            name = by_name.get(fold(parent_name(path)))
            if relative_path(path) != path or path.count("/") != 1:
                raise DatasetError(f"{where}: expected `<class>/<file>`, got {line!r}")
            if name is None:
                raise DatasetError(f"{where}: the class {parent_name(path)!r} is not in {splits / 'classInd.txt'}")
            if label is not None and label != classes[name] + 1:
                raise DatasetError(f"{where}: label {label} is not that of {name}, {classes[name] + 1} in classInd.txt")
            key = fold(path)
            position = positions.setdefault(key, len(positions))
            entries.setdefault(key, (name, path))
            if position in chosen:
                num_duplicates += 1
                continue
            chosen.add(position)
            parts.setdefault(split, {}).setdefault(part, []).append(position)
    found = found or scan(videos)
    check_has_videos("ucf101", videos, found)
    index = FileIndex(videos, found)
    listed = []
    also_listed: list[str] = []
    for name, path in entries.values():
        match = index.find(path)
        also_listed += match.candidates
        listed.append(
            Video(id=stem(path), path=match.path, class_name=name, label=classes[name], problem=match.problem)
        )
    return finish_listing(
        "ucf101",
        listed,
        found=found,
        classes=classes,
        parts=parts,
        also_listed=also_listed,
        num_duplicates=num_duplicates,
    )


def _lists(splits: Path) -> list[tuple[Path, str, str]]:
    """(file, split, part) of the lists in `splits`, by split, train before test."""
    matches = [(path, _LIST.fullmatch(path.name)) for path in splits.iterdir()]
    lists = [(path, match[2], match[1]) for path, match in matches if match]
    if not lists:
        raise MissingDataError(
            f"the folder {splits} holds no trainlist01.txt or testlist01.txt; they are in the official archive "
            "UCF101TrainTestSplits-RecognitionTask.zip, on the same page as the videos"
        )
    return sorted(lists, key=lambda item: (int(item[1]), item[2] != "train"))


def _read_classes(path: Path) -> dict[str, int]:
    """Class name to label from 0, in the order of labels."""
    classes: dict[str, int] = {}
    for number, line in read_lines(path):
        label, _, name = line.partition(" ")
        if not label.isascii() or not label.isdecimal() or not name.strip():
            raise DatasetError(f"{path}, line {number}: expected `<number> <class>`, got {line!r}")
        if int(label) != len(classes) + 1 or name.strip() in classes:
            raise DatasetError(
                f"{path}, line {number}: expected a new class with number {len(classes) + 1}, got {line!r}"
            )
        classes[name.strip()] = len(classes)
    if not classes:
        raise DatasetError(f"{path} names no class: nothing to do")
    return classes


def _parse(line: str) -> tuple[str, int | None]:
    """Path and label number of a list line; test lists carry no label."""
    path, _, last = line.rpartition(" ")
    return (path.strip(), int(last)) if path and last.isascii() and last.isdecimal() else (line, None)


def _class_of_file(path: str) -> str:
    match = _FILE.fullmatch(stem(path))
    return parent_name(path) or (match[1] if match else "")

"""HMDB51 with its official lists: `<class>_test_splitN.txt`, lines `<file>.avi <0|1|2>`.

1 is for training, 2 for testing, 0 is in neither part of that split. File names may hold blanks, brackets, `&`, `;` and
`#`.
"""

from __future__ import annotations

import re
from pathlib import Path

from flowprep.datasets.folder import list_unsplit
from flowprep.datasets.listing import check_has_videos, class_labels, finish_listing
from flowprep.datasets.matching import FileIndex
from flowprep.datasets.scan import Scan, parent_name, scan, stem
from flowprep.datasets.text import read_lines
from flowprep.errors import DatasetError, MissingDataError
from flowprep.records import Listing, Video

_LIST = re.compile(r"([^.].*)_test_split(\d+)\.txt")  # not the hidden `._` files that macOS puts beside others
_PART_OF_FLAG = {"0": None, "1": "train", "2": "test"}


def list_hmdb51(videos: Path, splits: Path | None, found: Scan | None = None) -> Listing:
    """All videos of the official lists: classes sorted by bytes, within a class in the order of split 1, then 2, 3.

    Videos that no part of any split uses are listed too. Files may lie in class folders or side by side and may be
    transcoded, see `matching.FileIndex`. The id is `<class>/<stem of the listed name>`. Without `splits` all video
    files are taken, with their folder as class.

    Raises MissingDataError where lists are missing, DatasetError with file and line where they are malformed.
    """
    if splits is None:
        return list_unsplit("hmdb51", videos, class_of=parent_name, id_of=_id_of_file, found=found)
    lists = _lists(splits)
    labels = class_labels(name for _, name, _ in lists)
    entries: dict[tuple[str, str], int] = {}  # class and file: position
    parts: dict[str, dict[str, list[int]]] = {}
    num_duplicates = 0
    for list_path, class_name, split in lists:
        flags: dict[str, str] = {}
        for number, line in read_lines(list_path):
            name, _, flag = line.rpartition(" ")
            name = name.rstrip()
            if flag not in _PART_OF_FLAG or not name or "/" in name or "\0" in name:
                raise DatasetError(f"{list_path}, line {number}: expected `<file> <0|1|2>`, got {line!r}")
            if name in flags:
                if flags[name] != flag:
                    raise DatasetError(f"{list_path}, line {number}: {name} has flag {flags[name]} above, {flag} here")
                num_duplicates += 1
                continue
            flags[name] = flag
            position = entries.setdefault((class_name, name), len(entries))
            part = _PART_OF_FLAG[flag]
            if part is not None:
                parts.setdefault(split, {}).setdefault(part, []).append(position)
    found = found or scan(videos)
    check_has_videos("hmdb51", videos, found)
    index = FileIndex(videos, found)
    listed = []
    also_listed: list[str] = []
    for class_name, name in entries:
        match = index.find(f"{class_name}/{name}")
        also_listed += match.candidates
        listed.append(
            Video(
                id=f"{class_name}/{stem(name)}",
                path=match.path,
                class_name=class_name,
                label=labels[class_name],
                problem=match.problem,
            )
        )
    return finish_listing(
        "hmdb51",
        listed,
        found=found,
        classes=labels,
        parts=dict(sorted(parts.items())),
        also_listed=also_listed,
        num_duplicates=num_duplicates,
    )


def _lists(splits: Path) -> list[tuple[Path, str, str]]:
    """(file, class, split) of the lists in `splits`, by class and split."""
    matches = [(path, _LIST.fullmatch(path.name)) for path in splits.iterdir()]
    lists = [(path, match[1], match[2]) for path, match in matches if match]
    if not lists:
        raise MissingDataError(
            f"the folder {splits} holds no <class>_test_split1.txt; they are in the official archive "
            "test_train_splits.rar, on the same page as the videos"
        )
    labels = class_labels(name for _, name, _ in lists)
    return sorted(lists, key=lambda item: (labels[item[1]], int(item[2])))


def _id_of_file(path: str) -> str:
    return f"{parent_name(path)}/{stem(path)}" if parent_name(path) else stem(path)

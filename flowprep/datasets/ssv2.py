"""Something-Something V2 with its official JSON lists.

`labels.json` maps each label text to its number. The lists are arrays of objects with `id`, `label` (as written by the
actor) and `template` (the class, with its placeholders in brackets); the list for testing has ids only. Both families
of names are read: `something-something-v2-train.json` and, since 2022, `train.json`.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from flowprep.datasets.folder import list_unsplit
from flowprep.datasets.listing import check_has_videos, finish_listing
from flowprep.datasets.scan import VIDEO_EXTENSIONS, Scan, probe, scan, stem
from flowprep.datasets.text import read_text
from flowprep.errors import DatasetError, MissingDataError
from flowprep.records import Listing, Reason, Video

_LISTS = (("train", "train"), ("val", "validation"), ("test", "test"))
_PREFIX = "something-something-v2-"


def list_ssv2(videos: Path, splits: Path | None, found: Scan | None = None) -> Listing:
    """All videos of the lists for training, validation and testing that are in `splits`, in this order.

    A video is `<id>` with any video extension at any depth below `videos`; `<id>.webm` at the top is preferred. Labels
    are those of the labels file. Without `splits` all video files are taken, without classes.

    Raises MissingDataError where `splits` has none of the lists or no labels file, DatasetError with file and place
    where one is malformed.
    """
    if splits is None:
        return list_unsplit("ssv2", videos, class_of=lambda _: "", id_of=stem, found=found)
    lists = {part: _find(splits, name) for part, name in _LISTS}
    if not any(lists.values()):
        names = ", ".join(f"{name}.json" for _, name in _LISTS)
        raise MissingDataError(
            f"the folder {splits} holds none of the lists {names}, with {_PREFIX} before their names or without; they "
            "are among the labels that Qualcomm gives out with the videos"
        )
    labels_path = _find(splits, "labels")
    if labels_path is None:
        raise MissingDataError(f"the folder {splits} holds neither {_PREFIX}labels.json nor labels.json")
    labels = _read_labels(labels_path)
    entries: dict[str, str] = {}  # id: class, in list order
    positions: dict[str, int] = {}
    parts: dict[str, list[int]] = {}
    num_duplicates = 0
    for part, path in lists.items():
        if path is None:
            continue
        chosen: dict[int, None] = {}
        for video_id, class_name in _entries(path, labels):
            if video_id in entries:
                num_duplicates += 1
            entries[video_id] = entries.get(video_id) or class_name
            chosen[positions.setdefault(video_id, len(positions))] = None
        parts[part] = list(chosen)
    found = found or scan(videos)
    check_has_videos("ssv2", videos, found)
    by_stem: dict[str, list[str]] = defaultdict(list)
    for file in found.with_extension(VIDEO_EXTENSIONS):
        by_stem[stem(file)].append(file)
    listed = []
    also_listed: list[str] = []
    for video_id, class_name in entries.items():
        expected = f"{video_id}.webm"
        candidates = by_stem.get(video_id, [])
        also_listed += candidates
        if expected in candidates:
            candidates = [expected]
        if len(candidates) == 1:
            file, problem = candidates[0], found.problems.get(candidates[0])
        elif candidates:
            detail = f"{video_id} may be any of {', '.join(candidates)}; keep one of them"
            file, problem = expected, Reason("ambiguous", detail)
        else:
            file, problem = expected, probe(videos, expected)
        label = labels.get(class_name, -1)
        listed.append(Video(id=video_id, path=file, class_name=class_name, label=label, problem=problem))
    return finish_listing(
        "ssv2",
        listed,
        found=found,
        classes=labels,
        parts={"official": parts},
        also_listed=also_listed,
        num_duplicates=num_duplicates,
    )


def _find(splits: Path, name: str) -> Path | None:
    """The file of that name, old or new."""
    paths = (splits / f"{prefix}{name}.json" for prefix in (_PREFIX, ""))
    return next((path for path in paths if path.exists()), None)


def _read_json(path: Path) -> Any:
    try:
        return json.loads(read_text(path))
    except json.JSONDecodeError as error:
        raise DatasetError(f"{path}, line {error.lineno}: not JSON: {error.msg}") from error


def _read_labels(path: Path) -> dict[str, int]:
    """Label text to number from 0, in the order of numbers."""
    data = _read_json(path)
    try:
        labels = {str(text): int(number) for text, number in data.items()}
    except (AttributeError, TypeError, ValueError) as error:
        raise DatasetError(f"{path}: expected one object that maps each label text to its number") from error
    if not labels or sorted(labels.values()) != list(range(len(labels))):
        raise DatasetError(f"{path}: the numbers of the {len(labels)} labels are not 0 to {len(labels) - 1}, each once")
    return dict(sorted(labels.items(), key=lambda item: item[1]))


def _entries(path: Path, labels: dict[str, int]) -> Iterator[tuple[str, str]]:
    """(id, class) of every entry of a list; the class is "" where there is no template."""
    data = _read_json(path)
    if not isinstance(data, list):
        raise DatasetError(f"{path}: expected an array of objects with `id`, got {type(data).__name__}")
    for number, entry in enumerate(data, start=1):
        video_id = entry.get("id") if isinstance(entry, dict) else None
        if isinstance(video_id, int) and not isinstance(video_id, bool):
            video_id = str(video_id)
        if not isinstance(video_id, str) or not video_id.isascii() or not video_id.isalnum():
            raise DatasetError(
                f"{path}, entry {number}: expected an object with an `id` that is a number, got {entry!r}"
            )
        template = entry.get("template", "")
        class_name = template.replace("[", "").replace("]", "") if isinstance(template, str) else None
        if class_name is None or (class_name and class_name not in labels):
            raise DatasetError(
                f"{path}, entry {number} (id {video_id}): the template {template!r} is not among the labels"
            )
        yield video_id, class_name

"""`folder`: the folder itself is the list, its class folders are the classes. Also the other datasets without lists."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from flowprep.datasets.listing import check_has_videos, class_labels, finish_listing
from flowprep.datasets.partlist import parts_of, read_part_list
from flowprep.datasets.scan import FOLDER_EXTENSIONS, VIDEO_EXTENSIONS, Scan, extension, scan
from flowprep.errors import DatasetError
from flowprep.records import Listing, Video
from flowprep.wording import counted


def list_folder(videos: Path, splits: Path | None = None, found: Scan | None = None) -> Listing:
    """`<class>/.../<file>`: the first folder is the class, the id is the path without extension.

    Files at the top have no class. Every file that has an extension of `scan.FOLDER_EXTENSIONS` and no leading dot
    counts, whatever its content or kind; a note tells how many others were left out. Order: bytes of the path. The file
    `splits` says which videos are for training and for the test, see `partlist.read_part_list`.

    Raises DatasetError if there is none, and for a malformed `splits`.
    """
    found = found or scan(videos)
    paths = found.with_extension(FOLDER_EXTENSIONS)
    others = [path for path in found.paths if extension(path) not in FOLDER_EXTENSIONS]
    if not paths:
        raise DatasetError(
            f"the folder {videos} holds no video file: nothing to do; files that count end in "
            f"{', '.join(sorted(FOLDER_EXTENSIONS))}, others can be named with --dataset list"
        )
    notes = [f"{len(others)} files without a video's extension were left out, such as {others[0]}."] if others else []
    parts: Mapping[str, Mapping[str, Sequence[int]]] = {}
    notes += _class_notes(videos, paths)
    if splits is not None:
        part_by_path = read_part_list(splits, videos)
        parts = parts_of(part_by_path.get(path, "") for path in paths)
        notes += _other_files(splits, part_by_path, paths)
    return list_files(
        "folder", found, paths, class_of=_first_folder, id_of=_without_extension, notes=notes, parts=parts
    )


def _other_files(splits: Path, part_by_path: Mapping[str, str], paths: Sequence[str]) -> list[str]:
    """Notes of what only the list or only the folder has."""
    absent, others = sorted(set(part_by_path).difference(paths)), [path for path in paths if path not in part_by_path]
    notes = []
    if absent:
        notes.append(f"Not in the folder: {counted(len(absent), 'file')} of {splits}, such as {absent[0]}.")
    if others:
        notes.append(f"Not in {splits}, and so in no part: {counted(len(others), 'video')}, such as {others[0]}.")
    return notes


def list_unsplit(
    dataset: str,
    videos: Path,
    *,
    class_of: Callable[[str], str],
    id_of: Callable[[str], str],
    found: Scan | None = None,
) -> Listing:
    """All video files of a dataset whose official lists are not at hand, with a note that says so."""
    found = found or scan(videos)
    check_has_videos(dataset, videos, found)
    note = (
        f"The official lists of {dataset} were not found: all video files below {videos} are taken, without official "
        "labels and splits; name the folder of the lists with --splits."
    )
    return list_files(
        dataset,
        found,
        found.with_extension(VIDEO_EXTENSIONS),
        class_of=class_of,
        id_of=id_of,
        notes=[note],
    )


def list_files(
    dataset: str,
    found: Scan,
    paths: tuple[str, ...],
    *,
    class_of: Callable[[str], str],
    id_of: Callable[[str], str],
    notes: list[str],
    parts: Mapping[str, Mapping[str, Sequence[int]]] | None = None,
) -> Listing:
    """A listing of `paths` in their order, class and id by functions of the path; `parts` as in `finish_listing`."""
    names = [class_of(path) for path in paths]
    labels = class_labels(names)
    return finish_listing(
        dataset,
        [
            Video(
                id=id_of(path),
                path=path,
                class_name=name,
                label=labels.get(name, -1),
                problem=found.problems.get(path),
            )
            for path, name in zip(paths, names, strict=True)
        ],
        found=found,
        classes=labels,
        parts=parts,
        notes=notes,
    )


def _class_notes(videos: Path, paths: tuple[str, ...]) -> list[str]:
    """What is strange about the classes, as where `videos` is a folder too deep or too high."""
    num_without, classes = sum("/" not in path for path in paths), {_first_folder(path) for path in paths}
    if num_without:
        lie = "lies" if num_without == 1 else "lie"
        where = f"{counted(num_without, 'video')} of {len(paths)} {lie} directly in {videos}"
        return [f"{where}, so without a class; the folders in it are the classes."]
    if len(classes) == 1:
        return [f"All videos have one class, {classes.pop()!r}; the folders in {videos} are the classes."]
    return []


def _first_folder(path: str) -> str:
    return path.partition("/")[0] if "/" in path else ""


def _without_extension(path: str) -> str:
    return os.path.splitext(path)[0]

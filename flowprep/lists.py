"""`flowprep lists`: annotation lists of mmaction2 and TSN for the official splits of a tree.

mmaction2: `ucf101_train_split_1_rawframes.txt` and, for flow, `ucf101_flow_train_split_1_rawframes.txt`, with lines
`folder N label`. TSN: `ucf101_rgb_train_split_1.txt` and `ucf101_flow_train_split_1.txt`, with lines `tree/folder N
label`.

N counts what a loader of that list reads, images or flows. Both call the test part of UCF101 and HMDB51 `val`. A
dataset with one official split has `list` in the place of `split_1`, as in `kinetics400_train_list_rawframes.txt`.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flowprep.config import LIST_STYLES
from flowprep.errors import MissingDataError, SettingsError, StoreError
from flowprep.stores import Store, open_store
from flowprep.stores.places import SPLITS

_KINETICS = (400, 600, 700)


@dataclass(frozen=True, slots=True, kw_only=True)
class WrittenList:
    """A list that was written, and how many videos of its part are in it and have no data."""

    path: Path
    num_videos: int
    num_absent: int

    def to_json(self) -> dict[str, Any]:
        """A JSON object."""
        return {"path": str(self.path), "num_videos": self.num_videos, "num_absent": self.num_absent}


def write_lists(path: Path, folder: Path, style: str = "mmaction2") -> list[WrittenList]:
    """Write the lists of the store `path` into `folder`, which is made; older ones are replaced.

    Videos without data, without a label, or whose folder has a blank in its name (which ends a field of these lists)
    are left out and counted.

    Raises:
        SettingsError: the store has no folder a video, or no official splits.
        MissingDataError: `folder` cannot be written.
        StoreError: the store is damaged.
    """
    if style not in LIST_STYLES:
        raise SettingsError(f"`style` must be one of {', '.join(LIST_STYLES)}, got {style!r}")
    with open_store(path) as store:
        _check_form(path, store)
        splits = _read_splits(path)
        if not any(splits["splits"].values()):
            raise SettingsError(
                f"{path} has no official splits, of which lists are made; it needs to be extracted or adopted with "
                "--dataset and --splits"
            )
        written = []
        try:
            folder.mkdir(parents=True, exist_ok=True)
            for split, part, ids in _parts(splits["splits"]):
                for name, unit in _names(style, _dataset_name(splits), store.settings.streams, split, part):
                    lines = [line for video_id in ids if (line := _line(store, video_id, unit, style))]
                    _write(folder / name, lines)
                    num_absent = len(ids) - len(lines)
                    written.append(WrittenList(path=folder / name, num_videos=len(lines), num_absent=num_absent))
        except OSError as error:
            if isinstance(error, MissingDataError):
                raise
            raise MissingDataError(f"{error.filename or folder} cannot be written: {error.strerror}") from error
    return written


def _check_form(path: Path, store: Store) -> None:
    settings = store.settings.store
    if settings.format == "hdf5" or settings.layout == "feichtenhofer":
        form = "shards" if settings.format == "hdf5" else "layout feichtenhofer"
        raise SettingsError(
            f"{path} has {form}, and a line of these lists names the folder of a video; make a tree of it first: "
            f"flowprep convert {path} OUT --format jpeg --layout mmaction2"
        )


def _read_splits(path: Path) -> dict[str, Any]:
    try:
        splits = json.loads((path / SPLITS).read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise StoreError(f"{path / SPLITS} cannot be read: {error}; restore it") from error
    if isinstance(splits, dict) and {"dataset", "classes", "splits"} <= splits.keys():
        return splits
    raise StoreError(f"{path / SPLITS} is not one that flowprep has written; restore it")


def _parts(splits: Mapping[str, Mapping[str, Sequence[str]]]) -> Iterator[tuple[str, str, Sequence[str]]]:
    """Split, part and ids, with the names that the lists give them."""
    for split, parts in splits.items():
        for part in sorted(parts, key=("train", "val", "test").index):
            yield split, "val" if part == "test" and split != "official" else part, parts[part]


def _dataset_name(splits: Mapping[str, Any]) -> str:
    """The name of the dataset in mmaction2, which tells the sizes of Kinetics apart."""
    name, num_classes = str(splits["dataset"]), len(splits["classes"])
    if name == "kinetics" and num_classes in _KINETICS:
        return f"kinetics{num_classes}"
    return "sthv2" if name == "ssv2" else name


def _names(style: str, dataset: str, streams: Sequence[str], split: str, part: str) -> Iterator[tuple[str, str]]:
    """File name and unit, images or flows, of the lists of one part."""
    place = f"{part}_list" if split == "official" else f"{part}_split_{split}"
    for stream, unit in (("rgb", "rgb"), ("flow_x", "flow")):
        if stream not in streams:
            continue
        if style == "tsn":
            yield f"{dataset}_{unit}_{place}.txt", unit
        else:
            yield f"{dataset}_{'flow_' if unit == 'flow' else ''}{place}_rawframes.txt", unit


def _line(store: Store, video_id: str, unit: str, style: str) -> str:
    """The line of a video, "" where it cannot be in a list."""
    position = store.position(video_id)
    if position is None or (row := store.rows[position]).label < 0:
        return ""
    num = row.frames if unit == "rgb" else row.flows
    folder = row.location if style == "mmaction2" else os.path.join(store.path, row.location)
    return f"{folder} {num} {row.label}" if num and not any(map(str.isspace, folder)) else ""


def _write(path: Path, lines: Sequence[str]) -> None:
    """Replace a file as a whole."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        temporary.write_bytes(b"".join(os.fsencode(line) + b"\n" for line in lines))
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)

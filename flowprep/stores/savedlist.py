"""`.flowprep/list.jsonl`: the list that a store is made from, as all that touch the store later need it.

A resumed run compares it with its own list; parts of a run share it, so that a thousand of them do not read a slow disk
a thousand times and cannot disagree; `merge` and `verify` know from it what should be there. The first line is
`{"format": 1, "kind": "flowprep-list", ...}` with what `Listing` says about all videos, then there is a line a video.
"""

from __future__ import annotations

import dataclasses
import itertools
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flowprep.errors import MissingDataError, StoreError
from flowprep.records import Listing, Reason, Segment, Video, canonical_json

FORMAT = 1
KIND = "flowprep-list"

_NAMES = {"id", "class", "label", "times", "path", "segment", "problem", "bytes"}


@dataclass(frozen=True, slots=True, kw_only=True)
class SavedList:
    """A listing, and where it came from.

    `videos` and `splits` are the folders as they were given; `videos` is None where a store was made from another store
    or an adopted tree whose videos nobody has named. `num_bytes` has the size of each video's file, 0 for one that
    fails by the list alone; None where no run has measured them.
    """

    listing: Listing
    videos: Path | None
    splits: Path | None = None
    skip_bad_lines: bool = False
    num_bytes: Sequence[int] | None = None


def list_path(out: Path) -> Path:
    """Where a store keeps its list."""
    return out / ".flowprep" / "list.jsonl"


def list_lines(saved: SavedList) -> Iterator[str]:
    """The lines of the file."""
    listing = saved.listing
    yield canonical_json(
        {
            "format": FORMAT,
            "kind": KIND,
            "dataset": listing.dataset,
            "classes": listing.classes,
            "splits": listing.splits,
            "unlisted": listing.unlisted,
            "notes": listing.notes,
            "num_duplicates": listing.num_duplicates,
            "num_videos": len(listing.videos),
            "videos_folder": None if saved.videos is None else str(saved.videos),
            "splits_folder": None if saved.splits is None else str(saved.splits),
            "skip_bad_lines": saved.skip_bad_lines,
        }
    )
    sizes = itertools.repeat(None) if saved.num_bytes is None else saved.num_bytes
    for video, num_bytes in zip(listing.videos, sizes, strict=saved.num_bytes is not None):
        yield canonical_json(
            {
                **identity(video),
                "path": video.path,
                "segment": None if video.segment is None else dataclasses.astuple(video.segment),
                "problem": None if video.problem is None else dataclasses.astuple(video.problem),
                "bytes": num_bytes,
            }
        )


def identity(video: Video) -> dict[str, Any]:
    """What must stay the same of a list entry while its store lives.

    The path is left out: a missing file may turn up under another one.
    """
    segment = video.segment
    times = [segment.start_seconds, segment.end_seconds] if segment is not None and segment.certain else None
    return {"id": video.id, "class": video.class_name, "label": video.label, "times": times}


def read_identities(out: Path) -> Iterator[dict[str, Any]]:
    """The `identity` of each entry, one by one. Raises MissingDataError or StoreError, see `read_list`."""
    for data in _entries(list_path(out)):
        yield {name: data[name] for name in ("id", "class", "label", "times")}


def read_list(out: Path) -> SavedList:
    """The list of a store.

    Raises:
        MissingDataError: the store has none.
        StoreError: the list is damaged or of another version.
    """
    path = list_path(out)
    header = _header(path)
    try:
        entries = list(_entries(path))
        listing = Listing(
            dataset=header["dataset"],
            videos=tuple(_video(data) for data in entries),
            classes=tuple(header["classes"]),
            splits={
                split: {part: tuple(ids) for part, ids in parts.items()} for split, parts in header["splits"].items()
            },
            unlisted=tuple(header["unlisted"]),
            notes=tuple(header["notes"]),
            num_duplicates=header["num_duplicates"],
        )
        sizes = [data["bytes"] for data in entries]
        return SavedList(
            listing=listing,
            videos=None if header["videos_folder"] is None else Path(header["videos_folder"]),
            splits=None if header["splits_folder"] is None else Path(header["splits_folder"]),
            skip_bad_lines=header["skip_bad_lines"],
            num_bytes=None if None in sizes else sizes,
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        if isinstance(error, StoreError):
            raise
        raise _damaged(path, error) from error


def _video(data: dict[str, Any]) -> Video:
    segment, problem = data["segment"], data["problem"]
    return Video(
        id=data["id"],
        path=data["path"],
        class_name=data["class"],
        label=data["label"],
        segment=None
        if segment is None
        else Segment(start_seconds=segment[0], end_seconds=segment[1], certain=segment[2]),
        problem=None if problem is None else Reason(*problem),
    )


def _header(path: Path) -> dict[str, Any]:
    try:
        with path.open(encoding="utf-8") as file:
            header = json.loads(file.readline())
        if (header["kind"], header["format"]) != (KIND, FORMAT):
            raise StoreError(f"{path} is not a list of this version; run `flowprep extract` again")
    except FileNotFoundError as error:
        raise MissingDataError(f"there is no {path}: {path.parents[1]} is no store, or no run has begun it") from error
    except (OSError, ValueError, KeyError, TypeError) as error:
        if isinstance(error, StoreError):
            raise
        raise _damaged(path, error) from error
    assert isinstance(header, dict)
    return header


def _entries(path: Path) -> Iterator[dict[str, Any]]:
    num_videos = _header(path)["num_videos"]
    count = 0
    try:
        with path.open(encoding="utf-8") as file:
            file.readline()
            for line in file:
                count += 1
                data = json.loads(line)
                if not isinstance(data, dict) or not data.keys() >= _NAMES:
                    raise _damaged(path, f"entry {count} is none")
                yield data
    except (OSError, ValueError) as error:
        if isinstance(error, StoreError):
            raise
        raise _damaged(path, error) from error
    if count != num_videos:
        raise _damaged(path, f"it has {count} entries instead of {num_videos}")


def _damaged(path: Path, error: object) -> StoreError:
    return StoreError(f"{path} is damaged: {error}; use --overwrite, or delete it and run `flowprep extract` again")

"""`.flowprep/list.jsonl`: the list that a store is made from, as all that touch the store later need it.

A resumed run compares it with its own list; parts of a run share it, so that a thousand of them do not read a slow disk
a thousand times and cannot disagree; `merge` and `verify` know from it what should be there. The first line is
`{"format": 1, "kind": "flowprep-list", ...}` with what `Listing` says about all videos, then there is a line a video,
and at the end `{"sha256": "..."}` of all lines before, since no other file tells what the list must be.
"""

from __future__ import annotations

import hashlib
import itertools
import json
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flowprep.errors import MissingDataError, StoreError
from flowprep.records import Listing, Video, canonical_json
from flowprep.stores.replaced import MAX_TRIES, is_stale, lost, read_current

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
    digest = hashlib.sha256()
    for line in _lines(saved):
        digest.update(f"{line}\n".encode())
        yield line
    yield canonical_json({"sha256": digest.hexdigest()})


def _lines(saved: SavedList) -> Iterator[str]:
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
            "problems": Counter(video.problem.code for video in listing.videos if video.problem is not None),
            "videos_folder": None if saved.videos is None else str(saved.videos),
            "splits_folder": None if saved.splits is None else str(saved.splits),
            "skip_bad_lines": saved.skip_bad_lines,
        }
    )
    sizes = itertools.repeat(None) if saved.num_bytes is None else saved.num_bytes
    for video, num_bytes in zip(listing.videos, sizes, strict=saved.num_bytes is not None):
        yield canonical_json({**video.to_json(), **identity(video), "bytes": num_bytes})


def identity(video: Video) -> dict[str, Any]:
    """What must stay the same of a list entry while its store lives.

    The path is left out: a missing file may turn up under another one.
    """
    segment = video.segment
    times = [segment.start_seconds, segment.end_seconds] if segment is not None and segment.certain else None
    return {"id": video.id, "class": video.class_name, "label": video.label, "times": times}


def read_identities(out: Path) -> Iterator[dict[str, Any]]:
    """The `identity` of each entry, one by one. Raises MissingDataError or StoreError, see `read_list`."""
    for data in _entries_now(out):
        yield {name: data[name] for name in ("id", "class", "label", "times")}


def _entries_now(out: Path) -> Iterator[dict[str, Any]]:
    """The entries, one by one, also where another machine replaces the file meanwhile."""
    path, num_read = list_path(out), 0
    for _ in range(MAX_TRIES):
        try:
            for data in itertools.islice(_entries(path), num_read, None):
                num_read += 1
                yield data
        except OSError as error:
            if not is_stale(error):
                raise
        else:
            return
    raise lost(path)


def read_list(out: Path) -> SavedList:
    """The list of a store.

    Raises:
        MissingDataError: the store has none.
        StoreError: the list is damaged or of another version.
    """
    return read_current(list_path(out), _read_list)


def _read_list(path: Path) -> SavedList:
    header = _header(path)
    try:
        entries = list(_entries(path))
        listing = Listing(
            dataset=header["dataset"],
            videos=tuple(Video.from_json(data) for data in entries),
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


def read_problems(out: Path) -> Iterator[tuple[str, str]]:
    """The id of each entry, and the code word with which it fails by the list alone, "" where it does not.

    Raises MissingDataError or StoreError, see `read_list`.
    """
    for data in _entries_now(out):
        yield data["id"], data["problem"][0] if data["problem"] else ""


def _header(path: Path) -> dict[str, Any]:
    try:
        with path.open(encoding="utf-8") as file:
            header = json.loads(file.readline())
        if (header["kind"], header["format"]) != (KIND, FORMAT):
            raise StoreError(f"{path} is not a list of this version; run `flowprep extract` again")
    except FileNotFoundError as error:
        raise MissingDataError(f"there is no {path}: {path.parents[1]} is no store, or no run has begun it") from error
    except (OSError, ValueError, KeyError, TypeError) as error:
        if isinstance(error, StoreError) or is_stale(error):
            raise
        raise _damaged(path, error) from error
    assert isinstance(header, dict)
    return header


def _entries(path: Path) -> Iterator[dict[str, Any]]:
    num_videos = _header(path)["num_videos"]
    count, checksum = 0, None
    try:
        with path.open("rb") as file:
            line = file.readline()
            digest = hashlib.sha256(line)
            for line in file:
                data = json.loads(line)
                if isinstance(data, dict) and data.keys() == {"sha256"}:
                    checksum = data["sha256"]
                    break
                count += 1
                if not isinstance(data, dict) or not data.keys() >= _NAMES:
                    raise _damaged(path, f"entry {count} is none")
                digest.update(line)
                yield data
            if checksum != digest.hexdigest() or not line.endswith(b"\n") or file.read(1):
                raise _damaged(path, "its checksum is not that of its lines")
    except (OSError, ValueError) as error:
        if isinstance(error, StoreError) or is_stale(error):
            raise
        raise _damaged(path, error) from error
    if count != num_videos:
        raise _damaged(path, f"it has {count} entries instead of {num_videos}")


def _damaged(path: Path, error: object) -> StoreError:
    return StoreError(f"{path} is damaged: {error}; use --overwrite, or delete it and run `flowprep extract` again")

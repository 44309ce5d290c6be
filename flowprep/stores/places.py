"""Where things lie inside a store, and the names that may not be used for anything else."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

from flowprep.datasets.ids import raw_bytes
from flowprep.errors import StoreError

MANIFEST = "manifest.jsonl"
SPLITS = "splits.json"
TIMING = "timing.h5"
CHECKSUMS = "SHA256SUMS"
SHARDS = "shards"
RESERVED = frozenset({".flowprep", MANIFEST, SPLITS, TIMING, CHECKSUMS, "run.json"})
"""Names at the top of a store that no video folder may take."""

_SHARD = re.compile(r"shards/[0-9]{5,}\.h5")


def staging_folder(out: Path) -> Path:
    """Everything unfinished is written below this folder, on the file system of the store."""
    return out / ".flowprep" / "staging"


def aside_folder(out: Path) -> Path:
    """A folder a video for what lay under its final names and cannot be trusted, until it has an outcome; unread."""
    return out / ".flowprep" / "aside"


def adopted_mark(out: Path) -> Path:
    """The file that tells a tree which was adopted where it lies from one that flowprep has written."""
    return out / ".flowprep" / "adopted"


def id_hash(video_id: str) -> str:
    """64 hex digits that name a video in `.flowprep`, whatever characters its id has."""
    return hashlib.sha256(raw_bytes(video_id)).hexdigest()


def row_path(out: Path, video_id: str) -> Path:
    """The row file: of every video of a tree, and of the videos of a shard that are not stored."""
    return Path(unpacked_paths(out, video_id)[1])


def clip_path(out: Path, video_id: str) -> Path:
    """The commit of a stored video until its shard is packed."""
    return Path(unpacked_paths(out, video_id)[0])


def unpacked_paths(out: Path, video_id: str) -> tuple[str, str]:
    """Commit and row file of a video, as text: for a long list, making Path objects takes longer than the disk."""
    name = id_hash(video_id)
    return f"{out}/.flowprep/commits/{name[:2]}/{name}.clip", f"{out}/.flowprep/rows/{name[:2]}/{name}.json"


def packed_path(out: Path, shard: int) -> Path:
    """Rows of a packed shard."""
    return Path(f"{out}/.flowprep/packed/{shard:05d}.jsonl")


def next_packed_path(out: Path, shard: int) -> Path:
    """Rows of a shard that is about to be published, see `stores.packed`."""
    return Path(f"{out}/.flowprep/packed/{shard:05d}.next.jsonl")


def shard_location(shard: int) -> str:
    """A shard's file, relative to the store."""
    return f"{SHARDS}/{shard:05d}.h5"


def checked_location(location: str, *, shard: bool) -> str:
    """`location` if it can only be inside the store. Raises StoreError on any other."""
    parts = location.split("/")
    if shard:
        safe = _SHARD.fullmatch(location) is not None
    else:
        safe = not any(part in ("", ".", "..") for part in parts) and parts[0] not in RESERVED
    if not safe or "\0" in location:
        raise StoreError(f"{location!r} is not a place inside a store; the manifest was not written by flowprep")
    return location

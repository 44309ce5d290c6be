"""What is flushed to the disk before its name appears: each file by itself, told by its path in the staging folder."""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest
from contracts.store import failed_row, make_listing, open_publisher, pack_all, without_flushes, write_video

from flowprep import commit, resume
from flowprep.config import ExtractSettings, StoreSettings
from flowprep.stores.finish import finish
from flowprep.stores.savedlist import SavedList

TREE = ExtractSettings(store=StoreSettings(format="jpeg"))
THREE_FOLDERS = ExtractSettings(store=StoreSettings(format="jpeg", layout="feichtenhofer"))
SHARDS = ExtractSettings(store=StoreSettings(shard_videos=1))
FORMATS = pytest.mark.parametrize("settings", [TREE, THREE_FOLDERS, SHARDS], ids=["tree", "three_folders", "shards"])


class Change(NamedTuple):
    """One change of the disk: the primitive, what it was done to, and for a new name that and the files that get it."""

    name: str
    path: Path
    target: Path | None = None
    files: tuple[Path, ...] = ()


@pytest.fixture
def changes(monkeypatch: pytest.MonkeyPatch) -> list[Change]:
    """Every write, flush and new name, in order; no flush reaches the disk."""
    without_flushes(monkeypatch)
    seen: list[Change] = []

    def spy(name: str, real: Callable[..., None]) -> Callable[..., None]:
        def call(file: int | Path, *rest: object) -> None:
            path = Path(os.readlink(f"/proc/self/fd/{file}")) if isinstance(file, int) else file
            named = name in ("rename", "link")
            files = (path, *path.rglob("*")) if named else ()
            seen.append(Change(name, path, Path(str(rest[-1])) if named else None, files))
            real(file, *rest)

        return call

    for name in ("write", "write_at", "fsync", "sync_file_system", "rename", "link"):
        monkeypatch.setattr(commit, name, spy(name, getattr(commit, name)))
    return seen


def whole_run(out: Path, settings: ExtractSettings, durability: str) -> None:
    """Settings and list, a video that is stored and one that fails, packing, and the files at the top."""
    listing = make_listing(2)
    publisher = open_publisher(out, settings, durability=durability)
    resume.begin(out, settings, SavedList(listing=listing, videos=None), checked=None)
    write_video(publisher, listing.videos[0], 0)
    publisher.publish_row(failed_row(listing.videos[1]), 1)
    pack_all(out, settings, listing.videos)
    finish(out, settings, listing, [publisher.read_row(video, k) for k, video in enumerate(listing.videos)])


def is_flushed(before: list[Change], file: Path) -> bool:
    """Whether a file was flushed, by itself or with its whole file system, after the last write to it."""
    unwritten = itertools.takewhile(
        lambda change: change.path != file or not change.name.startswith("write"), reversed(before)
    )
    return any(
        change.name == "sync_file_system" or (change.name == "fsync" and change.path == file) for change in unwritten
    )


@FORMATS
@pytest.mark.parametrize("durability", ["video", "strict"])
def test_each_file_is_flushed_after_its_last_write_and_before_its_name_appears(
    tmp_path: Path, settings: ExtractSettings, durability: str, changes: list[Change]
) -> None:
    whole_run(tmp_path, settings, durability)
    names = []
    for k, change in enumerate(changes):
        if change.target is None:
            continue
        names.append(str(change.target.relative_to(tmp_path)))
        for file in change.files if "staging" in change.path.parts else ():  # what has a name already was flushed then
            assert is_flushed(changes[:k], file), f"{file.name} of {names[-1]}"
        following = itertools.takewhile(lambda later: later.target is None, changes[k + 1 :])
        flushed = [later.path for later in following if later.name == "fsync"]
        assert change.target.parent in flushed, f"the folder of {names[-1]}"
    suffixes = {Path(name).suffix for name in names if name.startswith((".flowprep/rows", ".flowprep/commits"))}
    top = {"splits.json", "manifest.jsonl", "SHA256SUMS", ".flowprep/settings.json", ".flowprep/list.jsonl"}
    if settings.store.format == "hdf5":
        assert suffixes == {".json", ".clip"}
        top |= {"shards/00000.h5", ".flowprep/packed/00000.jsonl"}
    else:
        assert suffixes == {".json"}
        top.add("timing.h5")
        moved = [len(change.files) for change in changes if change.target and "v_a_g01" in change.target.name]
        assert sum(moved) - len(moved) == 4 + 3 + 3, "JPEGs"
    assert top <= set(names)


@FORMATS
def test_a_video_costs_few_flushes_and_none_where_speed_counts(
    tmp_path: Path, settings: ExtractSettings, changes: list[Change]
) -> None:
    video = make_listing(1).videos[0]
    counts = {}
    for durability in ("fast", "video", "strict"):
        publisher = open_publisher(tmp_path / durability, settings, durability=durability)
        changes.clear()
        write_video(publisher, video, 0)
        data = [
            change for change in changes if change.name == "fsync" and change.path.suffix in (".clip", ".jpg", ".json")
        ]
        counts[durability] = (len(data), sum(change.name == "sync_file_system" for change in changes))
        if durability == "fast":
            assert {change.name for change in changes} <= {"write", "rename"}
    if settings.store.format == "hdf5":
        assert counts == {"fast": (0, 0), "video": (1, 0), "strict": (1, 0)}
    else:
        assert counts == {"fast": (0, 0), "video": (1, 1), "strict": (11, 0)}, "the row, and ten JPEGs"

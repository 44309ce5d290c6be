"""Files that another machine removes or replaces while they are read: on NFS that gives ESTALE, and nothing is lost."""

from __future__ import annotations

import errno
import functools
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from contracts.store import (
    failed_row,
    finish_all,
    make_listing,
    open_publisher,
    published,
    without_flushes,
    write_video,
)

from flowprep.config import ExtractSettings, StoreSettings
from flowprep.errors import RunStoppedError, StoreError
from flowprep.stores import clipfile, pack, packed, rowfile, savedlist
from flowprep.stores.finals import find_unpacked
from flowprep.stores.pack import pack_shard
from flowprep.stores.packed import PackedRows
from flowprep.stores.savedlist import SavedList, list_lines, list_path, read_identities, read_list, read_problems

SHARDS = ExtractSettings(store=StoreSettings(shard_videos=2))
LISTING = make_listing(2)
STALE = OSError(errno.ESTALE, os.strerror(errno.ESTALE))


@pytest.fixture(autouse=True)
def _no_flushes(monkeypatch: pytest.MonkeyPatch) -> None:
    without_flushes(monkeypatch)


class Stale:
    """Fails with ESTALE in calls `first` to `last`, from 1; else it is `real`."""

    def __init__(self, real: Callable[..., Any], first: int = 1, last: int = 1) -> None:
        functools.update_wrapper(self, real)
        self.real, self.first, self.last, self.num_calls = real, first, last, 0

    def __call__(self, *args: Any, **keywords: Any) -> Any:
        self.num_calls += 1
        if self.first <= self.num_calls <= self.last:
            raise STALE
        return self.real(*args, **keywords)


def unpacked(out: Path) -> None:
    publisher = open_publisher(out, SHARDS)
    write_video(publisher, LISTING.videos[0], 0)
    publisher.publish_row(failed_row(LISTING.videos[1]), 1)


@pytest.mark.parametrize(
    ("module", "name", "video"), [(clipfile, "parse_entry", 0), (rowfile, "parse_entry", 1)], ids=["commit", "row"]
)
def test_a_record_that_is_replaced_while_it_is_read_is_read_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, module: Any, name: str, video: int
) -> None:
    unpacked(tmp_path)
    found = find_unpacked(tmp_path, LISTING.videos[video].id)
    assert found is not None
    stale = Stale(getattr(module, name))
    monkeypatch.setattr(module, name, stale)
    assert find_unpacked(tmp_path, LISTING.videos[video].id) == found
    assert stale.num_calls == 2
    monkeypatch.setattr(module, name, Stale(stale.real, last=99))
    assert find_unpacked(tmp_path, LISTING.videos[video].id) is None  # gone, as far as anybody can tell


def test_packed_rows_that_are_replaced_while_they_are_read_are_read_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    unpacked(tmp_path)
    assert pack_shard(tmp_path, SHARDS, LISTING.videos, 0)
    rows = PackedRows(tmp_path).of(0)
    assert rows is not None
    real = packed.read_current
    monkeypatch.setattr(packed, "read_current", lambda path, read: real(path, Stale(read)))  # each file once
    assert PackedRows(tmp_path).of(0) == rows
    assert packed.packed_sha256(tmp_path, 0) == rows.file_sha256 == packed.file_sha256(tmp_path / "shards/00000.h5")


def test_a_packer_whose_commits_another_one_takes_away_is_done(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two parts that end at the same time both pack the shard in which they meet."""
    unpacked(tmp_path / "alone")
    finish_all(tmp_path / "alone", SHARDS, LISTING)
    unpacked(tmp_path / "out")
    real, num_others = pack._clip_blocks, 0

    def blocks(path: Path, places: Any) -> Any:
        nonlocal num_others
        if num_others == 0:
            num_others = 1
            assert pack_shard(tmp_path / "out", SHARDS, LISTING.videos, 0, attempt="other")
            raise STALE
        return real(path, places)

    monkeypatch.setattr(pack, "_clip_blocks", blocks)
    assert pack_shard(tmp_path / "out", SHARDS, LISTING.videos, 0)
    finish_all(tmp_path / "out", SHARDS, LISTING)
    assert published(tmp_path / "out") == published(tmp_path / "alone")


def test_a_disk_that_has_lost_the_commits_for_good_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    unpacked(tmp_path)
    monkeypatch.setattr(pack, "_clip_blocks", Stale(pack._clip_blocks, last=99))
    with pytest.raises(RunStoppedError, match="run again when the disk works"):
        pack_shard(tmp_path, SHARDS, LISTING.videos, 0)


@pytest.mark.parametrize("call", range(1, 6))
def test_a_list_that_is_replaced_while_it_is_read_is_read_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: int
) -> None:
    saved = SavedList(listing=LISTING, videos=None)
    list_path(tmp_path).parent.mkdir()
    list_path(tmp_path).write_text("".join(f"{line}\n" for line in list_lines(saved)))
    identities = list(read_identities(tmp_path))
    for read, whole in ((read_list, saved), (lambda out: list(read_identities(out)), identities)):
        monkeypatch.setattr("flowprep.stores.savedlist.json.loads", Stale(savedlist.json.loads, call, call))
        assert read(tmp_path) == whole
        monkeypatch.undo()
    monkeypatch.setattr("flowprep.stores.savedlist.json.loads", Stale(savedlist.json.loads, call, 99))
    for read in (read_list, lambda out: list(read_identities(out)), lambda out: list(read_problems(out))):
        with pytest.raises(StoreError, match="stale file handle, several times; look at its disk"):
            read(tmp_path)

"""Cases 72 to 76 of shards: packers that die or meet, records that are torn, files that others have made."""

from __future__ import annotations

import contextlib
import itertools
import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest
from contracts.store import (
    failed_row,
    finish_all,
    make_listing,
    num_frames_of,
    open_publisher,
    pack_all,
    pts_of,
    published,
    staged,
    stored_row,
    without_flushes,
    write_store,
    write_video,
)

from flowprep import commit
from flowprep.config import ExtractSettings, FlowSettings, StoreSettings
from flowprep.errors import StoreError
from flowprep.publisher import Publisher
from flowprep.records import State, Video
from flowprep.stores import finals, open_store, pack, packed
from flowprep.stores.pack import pack_ready, pack_shard
from flowprep.stores.places import clip_path, packed_path
from flowprep.stores.shardfile import read_index


def shards(shard_videos: int = 2, *, step: int = 1, backward: bool = False, **store: bool) -> ExtractSettings:
    return ExtractSettings(
        flow=FlowSettings(step=step, backward=backward), store=StoreSettings(shard_videos=shard_videos, **store)
    )


@pytest.fixture(autouse=True)
def _no_flushes(monkeypatch: pytest.MonkeyPatch) -> None:
    without_flushes(monkeypatch)


def test_case_74_a_packer_that_died_before_the_rows_is_made_good(tmp_path: Path) -> None:
    settings, videos = shards(2), make_listing(2).videos
    publisher = open_publisher(tmp_path, settings)
    for k, video in enumerate(videos):
        write_video(publisher, video, k)
    kept = tmp_path / "kept"
    shutil.copytree(tmp_path / ".flowprep" / "commits", kept)
    pack_all(tmp_path, settings, videos)
    shard = tmp_path / "shards" / "00000.h5"
    expected = shard.read_bytes(), packed_path(tmp_path, 0).read_bytes()
    for rows_published in (False, True):  # killed between shard and rows, and between rows and deletion
        shutil.copytree(kept, tmp_path / ".flowprep" / "commits", dirs_exist_ok=True)
        if not rows_published:
            packed_path(tmp_path, 0).unlink()
        assert pack_ready(tmp_path, settings, videos, 0)
        assert pack_shard(tmp_path, settings, videos, 0)
        assert (shard.read_bytes(), packed_path(tmp_path, 0).read_bytes()) == expected
        assert not list((tmp_path / ".flowprep" / "commits").rglob("*.clip"))


def test_case_74_two_packers_at_once_are_harmless(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings, videos = shards(2), make_listing(2).videos
    publisher = open_publisher(tmp_path, settings)
    for k, video in enumerate(videos):
        write_video(publisher, video, k)
    build, others = pack._build, [1]

    def overtaken(*args: object, **keywords: object) -> object:
        result = build(*args, **keywords)
        if others.pop() if others else 0:
            assert pack_shard(tmp_path, settings, videos, 0)
        return result

    monkeypatch.setattr(pack, "_build", overtaken)
    assert pack_shard(tmp_path, settings, videos, 0)
    assert others == []
    assert [publisher.read_row(video, k) is not None for k, video in enumerate(videos)] == [True, True]
    monkeypatch.undo()
    finish_all(tmp_path, settings, make_listing(2))
    write_store(tmp_path / "expected", settings, make_listing(2))
    assert published(tmp_path / "expected").items() <= published(tmp_path).items()
    assert staged(tmp_path) == []


def _write_plain(publisher: Publisher, video: Video, list_index: int, version: int) -> None:
    """A video whose size does not depend on its content; packing does not look into JPEGs."""
    with publisher.begin(video, list_index, attempt="a1") as writer:
        for stream in ("rgb", "rgb", "flow_x", "flow_y"):
            writer.add(stream, f"{version:5000d}".encode())
        writer.commit(stored_row(publisher, video, 2, version), pts_of(2))


class _Killed(BaseException):
    """Nothing more happens, also no cleaning up."""


def _kill(monkeypatch: pytest.MonkeyPatch, nth: int) -> Counter[str]:
    """Make the n-th change of the disk, and every one after it, not happen; gives the number of changes."""
    calls = Counter[str]()

    def dying(real: Callable[..., object]) -> Callable[..., object]:
        def call(*args: object) -> object:
            calls["all"] += 1
            if calls["all"] >= nth:
                raise _Killed
            return real(*args)

        return call

    for name in ("open_new", "open_existing", "write", "write_at", "close", "rename", "make_folder", "unlink"):
        monkeypatch.setattr(commit, name, dying(getattr(commit, name)))
    monkeypatch.setattr(commit, "remove_tree", lambda path: None)
    return calls


@pytest.mark.parametrize("commit_stays", [True, False], ids=["commit_stays", "commit_lost"])
@pytest.mark.parametrize("before", ["failed", "stored"])
def test_case_74_a_packer_that_is_killed_anywhere_loses_no_video(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, before: str, commit_stays: bool
) -> None:
    """A packed shard is packed anew since a video of it was done again; no source can be read any more."""
    settings, listing = shards(2), make_listing(2)
    videos = listing.videos

    def first(out: Path) -> Publisher:
        publisher = open_publisher(out, settings)
        _write_plain(publisher, videos[0], 0, 1)
        if before == "stored":
            _write_plain(publisher, videos[1], 1, 1)
        else:
            publisher.publish_row(failed_row(videos[1]), 1)
        finish_all(out, settings, listing)
        return publisher

    publisher = first(tmp_path / "expected")
    old = published(tmp_path / "expected")
    _write_plain(publisher, videos[1], 1, 2)
    finish_all(tmp_path / "expected", settings, listing)
    new = published(tmp_path / "expected")
    same_size = len(old["shards/00000.h5"]) == len(new["shards/00000.h5"])
    assert same_size == (before == "stored")
    assert old["shards/00000.h5"] != new["shards/00000.h5"]

    for nth in itertools.count(1):
        out = tmp_path / f"out{nth}"
        _write_plain(first(out), videos[1], 1, 2)
        with monkeypatch.context() as patch:
            calls = _kill(patch, nth)
            with contextlib.suppress(_Killed):
                pack_shard(out, settings, videos, 0)
        if not commit_stays:
            clip_path(out, videos[1].id).unlink(missing_ok=True)
        publisher = open_publisher(out, settings)
        rows = [publisher.read_row(video, k) for k, video in enumerate(videos)]
        assert rows[0] is not None, f"killed at change {nth}"
        assert rows[0].state is State.OK
        assert rows[1] is not None
        finish_all(out, settings, listing)
        assert published(out) in ([new] if commit_stays else [old, new]), f"killed at change {nth}"
        assert (published(out) == new) == (rows[1].source_bytes == 1002)
        if calls["all"] < nth:
            break
    assert nth > 20


def test_case_74_rows_of_a_dead_packer_are_cleaned_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings, listing = shards(2), make_listing(2)
    write_store(tmp_path, settings, listing, failing={1})
    write_video(open_publisher(tmp_path, settings), listing.videos[1], 1)
    with monkeypatch.context() as patch:
        _kill(patch, 10_000)
        patch.setattr(pack, "_promote", lambda *_, **__: None)
        patch.setattr(pack, "_delete_commits", _raise_killed)
        with contextlib.suppress(_Killed):
            pack_shard(tmp_path, settings, listing.videos, 0)
    assert len(list((tmp_path / ".flowprep" / "packed").iterdir())) == 2
    clip_path(tmp_path, listing.videos[1].id).unlink()
    finish_all(tmp_path, settings, listing)
    assert [path.name for path in (tmp_path / ".flowprep" / "packed").iterdir()] == ["00000.jsonl"]
    write_store(tmp_path / "expected", settings, listing)
    expected = published(tmp_path / "expected")
    assert {key: data for key, data in published(tmp_path).items() if key in expected} == expected


def _raise_killed(*_: object) -> None:
    raise _Killed


@pytest.mark.parametrize("look", ["read_clip_entry", "read_row_file", "read_packed"])
def test_case_74_a_row_is_found_while_another_process_packs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, look: str
) -> None:
    settings, listing = shards(2), make_listing(2)
    publisher = open_publisher(tmp_path, settings)
    write_video(publisher, listing.videos[0], 0)
    if look == "read_packed":  # so that there are rows to read, of the shard as it was
        write_video(publisher, listing.videos[1], 1)
        finish_all(tmp_path, settings, listing)
        write_video(publisher, listing.videos[1], 1, version=1)
    else:
        publisher.publish_row(failed_row(listing.videos[1]), 1)
    assert publisher.read_row(listing.videos[0], 0) is not None
    module = packed if look == "read_packed" else finals
    real = getattr(module, look)

    def late(path: Path) -> object:
        monkeypatch.setattr(module, look, real)
        assert pack_shard(tmp_path, settings, listing.videos, 0)
        return real(path)

    monkeypatch.setattr(module, look, late)
    sought = 1 if look == "read_row_file" else 0
    row = open_publisher(tmp_path, settings).read_row(listing.videos[sought], sought)
    assert row is not None
    assert row.state is (State.FAILED if sought else State.OK)
    assert getattr(module, look) is real, "the other process really packed meanwhile"


@pytest.mark.parametrize("keep", [0.0, 0.3, 0.99, 1.0])
def test_case_72_a_torn_commit_is_pending(tmp_path: Path, keep: float) -> None:
    settings, video = shards(1), make_listing(1).videos[0]
    publisher = open_publisher(tmp_path, settings)
    row = write_video(publisher, video, 0)
    path = clip_path(tmp_path, video.id)
    data = path.read_bytes()
    cut = data[: int(keep * len(data))] if keep < 1 else data[:-20] + bytes([data[-20] ^ 1]) + data[-19:]
    path.write_bytes(cut)
    assert publisher.read_row(video, 0) is None
    assert not pack_shard(tmp_path, settings, [video], 0)
    assert write_video(publisher, video, 0) == row
    assert pack_shard(tmp_path, settings, [video], 0)


@pytest.mark.parametrize("where", ["jpeg", "index"])
def test_case_72_a_commit_with_a_flipped_bit_is_never_packed(tmp_path: Path, where: str) -> None:
    settings, video = shards(1), make_listing(1).videos[0]
    publisher = open_publisher(tmp_path, settings)
    write_video(publisher, video, 0)
    path = clip_path(tmp_path, video.id)
    data = bytearray(path.read_bytes())
    at = 200 if where == "jpeg" else data.index(b'{"format"') - 60
    data[at] ^= 4
    path.write_bytes(data)
    assert not pack_shard(tmp_path, settings, [video], 0)
    assert publisher.read_row(video, 0) is None, "the video is pending again"
    assert not (tmp_path / "shards").exists()
    assert len(list((tmp_path / ".flowprep" / "aside").iterdir())) == 1
    assert staged(tmp_path) == []
    publisher.publish_row(failed_row(video), 0)
    assert not list((tmp_path / ".flowprep" / "aside").iterdir()), "the video has an outcome now"


def test_case_73_a_damaged_old_shard_is_not_copied(tmp_path: Path) -> None:
    settings = shards(5)
    listing = write_store(tmp_path, settings)
    path = tmp_path / "shards" / "00000.h5"
    data = bytearray(path.read_bytes())
    data[read_index(path).streams["flow_x"].blob.offset + 50] ^= 1
    path.write_bytes(data)
    write_video(open_publisher(tmp_path, settings), listing.videos[4], 4, version=3)
    with pytest.raises(StoreError, match=r"shards/00000.h5: flow_x of 'v_a_g01' is damaged"):
        pack_shard(tmp_path, settings, listing.videos, 0)
    assert path.read_bytes() == data


@pytest.mark.parametrize("lost", ["shard", "rows", "rows_torn"])
def test_case_73_videos_of_a_lost_shard_are_pending(tmp_path: Path, lost: str) -> None:
    settings = shards()
    listing = write_store(tmp_path, settings)
    if lost == "shard":
        (tmp_path / "shards" / "00000.h5").unlink()
    elif lost == "rows":
        packed_path(tmp_path, 0).unlink()
    else:
        path = packed_path(tmp_path, 0)
        path.write_bytes(path.read_bytes()[:-100])
    publisher = open_publisher(tmp_path, settings)
    found = [publisher.read_row(video, k) is not None for k, video in enumerate(listing.videos)]
    assert found == [False, False, True, True, True]


def test_case_73_a_shard_of_another_store_is_refused(tmp_path: Path) -> None:
    write_store(tmp_path / "a", shards())
    write_store(tmp_path / "b", shards(), make_listing(5), failing={0})
    write_store(tmp_path / "c", shards(3))
    for name, message in (("b", "has no video 'v_a_g01'"), ("c", "made with other settings")):
        shutil.copy(tmp_path / name / "shards" / "00000.h5", tmp_path / "a" / "shards" / "00000.h5")
        with open_store(tmp_path / "a") as store, pytest.raises(StoreError, match=message):
            store.jpeg("v_a_g01", "rgb", 0)


def _replace(file: h5py.File, name: str, make: Callable[[h5py.Group, str], object]) -> None:
    parent, _, leaf = name.rpartition("/")
    group = file[parent] if parent else file
    del group[leaf]
    make(group, leaf)


def _external_storage(group: h5py.Group, leaf: str) -> None:
    group.create_dataset(leaf, (100,), "u1", external=[("/etc/passwd", 0, 100)])


def _virtual(group: h5py.Group, leaf: str) -> None:
    layout = h5py.VirtualLayout(shape=(100,), dtype="u1")
    layout[:] = h5py.VirtualSource("/etc/passwd", "data", shape=(100,))
    group.create_virtual_dataset(leaf, layout)


def _unallocated(group: h5py.Group, leaf: str) -> None:
    group.create_dataset(leaf, (8 << 30,), "u1")  # 8 GiB announced, none there


EVIL = {
    "external link": ("rgb/blob", lambda g, n: g.__setitem__(n, h5py.ExternalLink("/etc/passwd", "/x")), "is a link"),
    "soft link": ("rgb/blob", lambda g, n: g.__setitem__(n, h5py.SoftLink("/flow_x/blob")), "is a link"),
    "linked group": ("rgb", lambda g, n: g.__setitem__(n, h5py.SoftLink("/flow_x")), "is a link"),
    "external storage": ("rgb/blob", _external_storage, "bytes in another file"),
    "virtual": ("rgb/blob", _virtual, "contiguous and unfiltered"),
    "chunked": ("rgb/blob", lambda g, n: g.create_dataset(n, (100,), "u1", chunks=(10,)), "contiguous and unfiltered"),
    "gzip": (
        "videos/label",
        lambda g, n: g.create_dataset(n, (2,), "i4", chunks=(2,), compression="gzip"),
        "contiguous and unfiltered",
    ),
    "beyond the file": ("rgb/blob", _unallocated, "announces 8589934592 elements"),
    "type": ("rgb/blob", lambda g, n: g.create_dataset(n, data=np.zeros(100, "<u2")), "must have type uint8"),
    "dimensions": ("rgb/blob", lambda g, n: g.create_dataset(n, data=np.zeros((10, 10), "u1")), "one dimension"),
    "short offsets": ("rgb/offsets", lambda g, n: g.create_dataset(n, data=np.zeros(3, "<u8")), "for 10 JPEGs"),
    "offsets beyond": (
        "rgb/offsets",
        lambda g, n: g.create_dataset(n, data=np.linspace(0, 1 << 40, 11).astype("<u8")),
        "do not fit its blob",
    ),
    "offsets back": (
        "rgb/offsets",
        lambda g, n: g.create_dataset(n, data=np.array([0, 900, 5, *range(6, 14)], "<u8")),
        "do not fit its blob",
    ),
    "counts": (
        "videos/rgb_num",
        lambda g, n: g.create_dataset(n, data=np.array([-1, 11])),
        "do not follow one another",
    ),
    "column": ("videos/fps", lambda g, n: g.create_dataset(n, data=np.zeros(7)), "differ in length"),
    "no texts": ("videos/id", lambda g, n: g.create_dataset(n, data=np.zeros(2)), "must hold texts"),
    "missing": ("pts_seconds", lambda g, n: None, "is missing"),
    "group as dataset": ("rgb/blob", lambda g, n: g.create_group(n), "must be a dataset"),
    "extra": ("pts_seconds", lambda g, n: g.create_dataset("more", data=np.zeros(10)), "not part of the format"),
}


@pytest.mark.parametrize("case", EVIL)
def test_case_76_shards_from_others_are_refused(tmp_path: Path, case: str) -> None:
    write_store(tmp_path, shards())
    name, make, message = EVIL[case]
    with h5py.File(tmp_path / "shards" / "00000.h5", "r+") as file:
        _replace(file, name, make)
    with open_store(tmp_path) as store, pytest.raises(StoreError, match=message):
        store.jpeg("v_a_g01", "rgb", 0)


@pytest.mark.parametrize("damage", ["cut", "empty", "link", "text", "other format"])
def test_case_75_and_76_files_that_are_no_whole_shards_are_refused(tmp_path: Path, damage: str) -> None:
    write_store(tmp_path, shards())
    path = tmp_path / "shards" / "00000.h5"
    data = path.read_bytes()
    if damage == "other format":
        with h5py.File(path, "r+") as file:
            file.attrs["format"] = 2
    else:
        path.unlink()
        if damage == "link":
            (tmp_path / "elsewhere").write_bytes(data)
            path.symlink_to(tmp_path / "elsewhere")
        else:
            path.write_bytes({"cut": data[: len(data) * 2 // 3], "empty": b"", "text": b"text" * 1000}[damage])
    message = {"link": "regular file", "other format": "shard format 2"}.get(damage, "not a whole HDF5 file")
    with open_store(tmp_path) as store, pytest.raises(StoreError, match=message):
        store.jpeg("v_a_g01", "rgb", 0)


def test_case_73_flipped_bytes_anywhere_in_a_shard_never_crash_a_reader(tmp_path: Path) -> None:
    listing = write_store(tmp_path, shards(5))
    path = tmp_path / "shards" / "00000.h5"
    data = path.read_bytes()
    generator = np.random.default_rng(0)
    for at in generator.integers(0, len(data), 30):
        broken = bytearray(data)
        broken[at] ^= 1 << int(generator.integers(8))
        path.write_bytes(broken)
        with open_store(tmp_path) as store:
            for k, video in enumerate(listing.videos):
                for index in range(num_frames_of(k)):
                    try:
                        store.image(video.id, "rgb", index)
                    except StoreError:
                        continue

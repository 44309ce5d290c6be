"""Cases 65 to 70, publishing under faults: an error at every change of the disk, lost replies, short writes."""

from __future__ import annotations

import contextlib
import errno
import itertools
import os
import platform
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from contracts.store import (
    failed_row,
    finish_all,
    jpeg,
    make_listing,
    open_publisher,
    pack_all,
    published,
    staged,
    without_flushes,
    write_store,
    write_video,
)

from flowprep import commit, ownership, resume
from flowprep.config import ExtractSettings, StoreSettings
from flowprep.driver import Driver, holders
from flowprep.errors import FlowprepError, RunStoppedError, SettingsError, StoreError, VideoError
from flowprep.records import State
from flowprep.stores import open_store
from flowprep.stores.finish import finish
from flowprep.stores.pack import pack_shard
from flowprep.stores.savedlist import SavedList

PRIMITIVES = (
    "open_new",
    "open_existing",
    "write",
    "write_at",
    "fsync",
    "sync_file_system",
    "close",
    "rename",
    "link",
    "make_folder",
    "unlink",
)
TREE = ExtractSettings(store=StoreSettings(format="jpeg"))
THREE_FOLDERS = ExtractSettings(store=StoreSettings(format="jpeg", layout="feichtenhofer"))
SHARDS = ExtractSettings(store=StoreSettings(shard_videos=1))
FORMATS = pytest.mark.parametrize("settings", [TREE, THREE_FOLDERS, SHARDS], ids=["tree", "three_folders", "shards"])


@pytest.fixture(autouse=True)
def _no_flushes(monkeypatch: pytest.MonkeyPatch) -> None:
    without_flushes(monkeypatch)


class Fault:
    """Makes the n-th call of one primitive fail; the last bytes of a failing write are lost, as on a full disk."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, name: str, nth: int, number: int) -> None:
        self.calls = 0
        self.name, self.nth, self.number = name, nth, number
        self.real: Callable[..., object] = getattr(commit, name)
        monkeypatch.setattr(commit, name, self)

    def __call__(self, *args: object) -> object:
        self.calls += 1
        if self.calls != self.nth:
            return self.real(*args)
        if self.name in ("write", "write_at"):
            fd, data, *offset = args
            self.real(fd, bytes(data)[: len(data) // 2], *offset)
        if self.name == "close":
            self.real(*args)
        raise OSError(self.number, os.strerror(self.number), "injected")

    @property
    def happened(self) -> bool:
        return self.calls >= self.nth


def whole_run(out: Path, settings: ExtractSettings) -> None:
    """Settings and list, one video of four frames, one that fails, packing and the manifest."""
    listing = make_listing(2)
    publisher = open_publisher(out, settings)
    resume.begin(out, settings, SavedList(listing=listing, videos=None), checked=None)
    write_video(publisher, listing.videos[0], 0)
    publisher.publish_row(failed_row(listing.videos[1]), 1)
    pack_all(out, settings, listing.videos)
    finish(out, settings, listing, [publisher.read_row(video, k) for k, video in enumerate(listing.videos)])


@pytest.mark.parametrize(
    ("settings", "name"),
    [
        *((TREE, name) for name in PRIMITIVES if name not in ("open_existing", "write_at")),
        *((THREE_FOLDERS, name) for name in ("rename", "make_folder")),
        *((SHARDS, name) for name in PRIMITIVES if name != "sync_file_system"),
    ],
    ids=lambda value: value if isinstance(value, str) else f"{value.store.format}-{value.store.layout}",
)
def test_case_65_and_70_an_error_at_every_change_of_the_disk(
    tmp_path: Path, settings: ExtractSettings, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole_run(tmp_path / "expected", settings)
    expected = published(tmp_path / "expected")
    video = make_listing(2).videos[0]
    for nth in itertools.count(1):
        assert nth <= 60
        out = tmp_path / f"out{nth}"
        number = (errno.EIO, errno.ENOSPC, errno.EDQUOT)[nth % 3]
        with monkeypatch.context() as patch:
            fault = Fault(patch, name, nth, number)
            error = error_of(lambda out=out: whole_run(out, settings))
        if number != errno.EIO:
            assert error is None or isinstance(error, RunStoppedError)
        wrong = {key for key, data in published(out).items() if expected.get(key) != data}
        assert wrong == set(), f"error at call {nth} of {name}"
        row = open_publisher(out, settings).read_row(video, 0)
        assert staged(out) == []
        if row is not None and settings.store.format == "jpeg":
            assert {key for key in expected if key.endswith(".jpg")} <= published(out).keys()
        whole_run(out, settings)
        assert published(out) == expected
        if not fault.happened:
            break
    assert nth > 1, "the fault was really injected"


def error_of(run: Callable[[], None]) -> FlowprepError | None:
    try:
        run()
    except FlowprepError as error:
        return error
    return None


@FORMATS
def test_case_65_an_error_while_a_video_is_redone_never_leaves_a_mixture(
    tmp_path: Path, settings: ExtractSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    listing = make_listing(1)
    for version in (0, 7):
        write_video(open_publisher(tmp_path / f"{version}", settings), listing.videos[0], 0, version)
        finish_all(tmp_path / f"{version}", settings, listing)
    old, new = published(tmp_path / "0"), published(tmp_path / "7")
    for name, nth in itertools.product(("rename", "unlink", "fsync", "make_folder"), range(1, 9)):
        out = tmp_path / f"{name}{nth}"
        write_video(open_publisher(out, settings), listing.videos[0], 0)
        with monkeypatch.context() as patch:
            Fault(patch, name, nth, errno.EIO)
            with contextlib.suppress(VideoError, SettingsError):
                write_video(open_publisher(out, settings), listing.videos[0], 0, 7)
        row = open_publisher(out, settings).read_row(listing.videos[0], 0)
        found = published(out)
        if row is None:
            write_video(open_publisher(out, settings), listing.videos[0], 0, 7)
        else:
            wanted = {1000: old, 1007: new}[row.source_bytes]
            assert all(wanted[key] == data for key, data in found.items())
            write_video(open_publisher(out, settings), listing.videos[0], 0, 7)
        finish_all(out, settings, listing)
        assert published(out) == new


def test_case_65_a_full_disk_stops_the_run_and_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    publisher = open_publisher(tmp_path, SHARDS)
    Fault(monkeypatch, "write", 5, errno.ENOSPC)
    with pytest.raises(RunStoppedError, match=r"the disk of .* is full \(\d+\.\d\d GB free\).*run again") as caught:
        write_video(publisher, make_listing(1).videos[0], 0)
    assert caught.value.exit_code == 3
    assert staged(tmp_path) == []


def test_case_65_another_error_of_the_disk_costs_one_video(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    listing = make_listing(2)
    publisher = open_publisher(tmp_path, TREE)
    Fault(monkeypatch, "write", 5, errno.EIO)
    with pytest.raises(VideoError, match="writing injected failed: Input/output error") as caught:
        write_video(publisher, listing.videos[0], 0)
    assert caught.value.code == "io"
    assert write_video(publisher, listing.videos[1], 1).state is State.OK


@FORMATS
@pytest.mark.parametrize("name", ["write", "rename", "close", "make_folder"])
def test_case_65_an_outcome_that_cannot_be_recorded_stops_the_run(
    tmp_path: Path, settings: ExtractSettings, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    publisher = open_publisher(tmp_path, settings)
    video = make_listing(1).videos[0]
    with monkeypatch.context() as patch:
        Fault(patch, name, 1, errno.EIO)
        with pytest.raises(RunStoppedError, match="run again when the disk works"):
            publisher.publish_row(failed_row(video), 0)
    assert staged(tmp_path) == []
    assert publisher.read_row(video, 0) is None


@FORMATS
def test_case_67_a_rename_whose_reply_was_lost_has_happened(
    tmp_path: Path, settings: ExtractSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_store(tmp_path / "expected", settings)
    real = commit.rename

    def rename(source: Path, target: Path) -> None:
        real(source, target)
        raise OSError(errno.EIO, "the reply was lost")

    monkeypatch.setattr(commit, "rename", rename)
    write_store(tmp_path / "out", settings)
    assert published(tmp_path / "out") == published(tmp_path / "expected")


@FORMATS
def test_case_66_short_writes_change_no_byte(
    tmp_path: Path, settings: ExtractSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_store(tmp_path / "expected", settings)
    write, pwrite = os.write, os.pwrite
    monkeypatch.setattr(os, "write", lambda fd, data: write(fd, data[: 1 + len(data) // 3]))
    monkeypatch.setattr(os, "pwrite", lambda fd, data, offset: pwrite(fd, data[: 1 + len(data) // 3], offset))
    write_store(tmp_path / "out", settings)
    monkeypatch.undo()
    assert published(tmp_path / "out") == published(tmp_path / "expected")


@FORMATS
def test_case_66_signals_that_interrupt_calls_change_no_byte(tmp_path: Path, settings: ExtractSettings) -> None:
    """A signal with a handler every half millisecond: calls end with EINTR, and are made again."""
    write_store(tmp_path / "expected", settings)
    num_signals = 0

    def count(*_: object) -> None:
        nonlocal num_signals
        num_signals += 1

    before = signal.signal(signal.SIGALRM, count)
    signal.setitimer(signal.ITIMER_REAL, 0.0005, 0.0005)
    try:
        write_store(tmp_path / "out", settings)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert num_signals > 10
    assert published(tmp_path / "out") == published(tmp_path / "expected")


@FORMATS
@pytest.mark.parametrize(
    ("name", "number"),
    [("rename", errno.ENOENT), ("link", errno.EEXIST), ("make_folder", errno.EEXIST), ("unlink", errno.ENOENT)],
)
def test_case_67_any_change_whose_reply_was_lost_has_happened(
    tmp_path: Path, settings: ExtractSettings, name: str, number: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An NFS client asks again, and the server says what it finds: the source is gone, or the target there."""
    whole_run(tmp_path / "expected", settings)
    real = getattr(commit, name)
    num_lost = 0

    def change(*paths: Path) -> None:
        nonlocal num_lost
        real(*paths)
        num_lost += 1
        raise OSError(number, os.strerror(number), str(paths[-1]))

    monkeypatch.setattr(commit, name, change)
    whole_run(tmp_path / "out", settings)
    assert num_lost > 0 or (name == "unlink" and settings.store.format == "jpeg")
    monkeypatch.undo()
    assert published(tmp_path / "out") == published(tmp_path / "expected")
    assert staged(tmp_path / "out") == []


def test_case_67_a_link_that_another_has_made_is_not_taken_for_ours(tmp_path: Path) -> None:
    path = tmp_path / ".flowprep" / "drivers" / "run.json"
    assert commit.create_file(tmp_path, path, b"first")
    assert not commit.create_file(tmp_path, path, b"second")
    assert path.read_bytes() == b"first"


def test_case_67_a_file_that_was_lost_before_its_link_is_not_taken_for_done(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def link(source: Path, target: Path) -> None:
        source.unlink()
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(target))

    monkeypatch.setattr(commit, "link", link)
    with pytest.raises(RunStoppedError):
        commit.create_file(tmp_path, tmp_path / ".flowprep" / "settings.json", b"first")


def test_case_67_a_driver_whose_link_had_no_reply_is_the_driver(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It would else refuse itself, as the file that it finds beats."""
    real = commit.link

    def link(source: Path, target: Path) -> None:
        real(source, target)
        raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(target))

    monkeypatch.setattr(commit, "link", link)
    with Driver(tmp_path, None):
        (holder,) = holders(tmp_path)
        assert holder.pid == os.getpid()


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, object]]:
    """Every primitive with its last argument, in order."""
    seen: list[tuple[str, object]] = []

    def spy(name: str, real: Callable[..., object]) -> Callable[..., object]:
        def call(*args: object) -> object:
            seen.append((name, args[-1]))
            return real(*args)

        return call

    for name in PRIMITIVES:
        monkeypatch.setattr(commit, name, spy(name, getattr(commit, name)))
    return seen


@FORMATS
def test_the_record_appears_last(tmp_path: Path, settings: ExtractSettings, calls: list[tuple[str, object]]) -> None:
    publisher = open_publisher(tmp_path, settings)
    write_video(publisher, make_listing(1).videos[0], 0)
    renamed = [str(target) for name, target in calls if name == "rename"]
    assert renamed[-1].endswith(".clip" if settings.store.format == "hdf5" else ".json")
    assert len(renamed) == {"hdf5": 1, "jpeg": 4 if settings is THREE_FOLDERS else 2}[settings.store.format]


def test_a_disk_that_changes_what_is_written_gets_no_shard(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is read back before its name appears, and the commit stays, of which the shard is made on a sound disk."""
    (video,) = videos = make_listing(1).videos
    publisher = open_publisher(tmp_path, SHARDS)
    row = write_video(publisher, video, 0)

    def fsync(fd: int) -> None:
        path = Path(os.readlink(f"/proc/self/fd/{fd}"))
        if path.name == "shard.h5":
            data = path.read_bytes()
            at = data.index(jpeg(video, "flow_y", 1)) + 300
            path.write_bytes(data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :])

    with monkeypatch.context() as patch:
        patch.setattr(commit, "fsync", fsync)
        with pytest.raises(StoreError, match=r"reads back differently in flow_y of 'v_a_g01'; check the disk and run"):
            pack_shard(tmp_path, SHARDS, videos, 0)
    assert not list(tmp_path.glob("shards/*"))
    assert staged(tmp_path) == []
    assert pack_shard(tmp_path, SHARDS, videos, 0)
    assert publisher.read_row(video, 0) == row


def test_a_new_file_takes_the_place_of_no_other(tmp_path: Path) -> None:
    (tmp_path / "there").write_bytes(b"kept")
    with pytest.raises(FileExistsError):
        commit.write_file(tmp_path / "there", [b"lost"], sync=False)
    assert (tmp_path / "there").read_bytes() == b"kept"


def test_attempts_need_safe_names(tmp_path: Path) -> None:
    publisher = open_publisher(tmp_path, SHARDS)
    with pytest.raises(ValueError, match=r"`attempt` must be 1 to 100 letters.*got '../x'"):
        publisher.begin(make_listing(1).videos[0], 0, attempt="../x")


def test_leftovers_of_others_are_removed_when_they_are_old(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    open_publisher(tmp_path, SHARDS)
    with monkeypatch.context() as patch:
        patch.setattr(commit, "owner", lambda: f"{ownership._host()}x-1")
        recent = commit.new_staging(tmp_path, "video", "elsewhere")
        old = commit.new_staging(tmp_path, "video", "elsewhere")
        busy = commit.new_staging(tmp_path, "video", "elsewhere")
    mine = commit.new_staging(tmp_path, "manifest.jsonl", "file")
    foreign = tmp_path / ".flowprep" / "staging" / "something"
    foreign.mkdir()
    week_ago = time.time() - 7 * 24 * 3600 - 60
    for path in (old, busy, foreign):
        (path / "video.clip").write_bytes(b"half")
        os.utime(path / "video.clip", (week_ago, week_ago))
        os.utime(path, (week_ago, week_ago))
    (busy / "video.clip").write_bytes(b"more")
    assert commit.remove_leftovers(tmp_path) == 2
    assert sorted(staged(tmp_path)) == sorted([recent, busy, mine])
    assert commit.remove_leftovers(tmp_path / "no store") == 0


def test_leftovers_are_told_by_the_whole_name_and_start_of_a_machine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """PIDs of `gpu-11-1` say nothing of `gpu-1-11`, of another domain, or of the same machine before its last start."""
    open_publisher(tmp_path, SHARDS)
    monkeypatch.setattr("flowprep.ownership.is_running", lambda _pid: False)
    for name in ("_host", "_machine"):  # they are asked once a process
        monkeypatch.setattr(ownership, name, getattr(ownership, name).__wrapped__)
    spaces = ("boot1-4026531836", "boot2-4026531836", "boot1-4026532000")
    nodes = [(name, spaces[0]) for name in ("gpu-1-11", "gpu-11-1", "gpu-1-11.b", "GPU-1-11")]
    made = {}
    for node, space in [*nodes, *((nodes[0][0], space) for space in spaces[1:])]:
        monkeypatch.setattr("flowprep.ownership.platform.node", lambda node=node: node)
        monkeypatch.setattr("flowprep.ownership.pid_space", lambda space=space: space)
        made[node, space] = commit.new_staging(tmp_path, "video", "attempt")
    old_form = tmp_path / ".flowprep" / "staging" / "video.gpu111-4026531836-17.attempt.0123456789abcdef"
    old_form.mkdir()
    left = {old_form, *made.values()}
    for (node, space), mine in made.items():
        monkeypatch.setattr("flowprep.ownership.platform.node", lambda node=node: node)
        monkeypatch.setattr("flowprep.ownership.pid_space", lambda space=space: space)
        assert commit.remove_leftovers(tmp_path) == 1
        left.remove(mine)
        assert set(staged(tmp_path)) == left


@pytest.mark.parametrize(
    ("space", "seconds", "is_removed"),
    [
        ("boot2-4026531836", 50.0, True),
        ("boot2-4026531836", 200.0, False),  # changed since: a clone of this machine may be at work
        ("boot2-4026532000", 50.0, False),  # a container's machine is not known
        ("boot1-4026531836", 50.0, False),  # the same start: the process runs
    ],
)
def test_leftovers_of_before_a_start_are_those_of_the_dead(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, space: str, seconds: float, is_removed: bool
) -> None:
    open_publisher(tmp_path, SHARDS)
    (tmp_path / "machine-id").write_text("0123\n")
    monkeypatch.setattr(ownership, "_MACHINE_ID", tmp_path / "machine-id")
    monkeypatch.setattr("flowprep.ownership.is_running", lambda _pid: True)
    monkeypatch.setattr(commit, "seconds_since_start", lambda: seconds)
    for name in ("_host", "_machine"):
        monkeypatch.setattr(ownership, name, getattr(ownership, name).__wrapped__)
    monkeypatch.setattr("flowprep.ownership.pid_space", lambda: "boot1-4026531836")
    mine, node = commit.new_staging(tmp_path, "shard-00000", "pack"), platform.node
    monkeypatch.setattr("flowprep.ownership.platform.node", lambda: "another machine")
    foreign = commit.new_staging(tmp_path, "shard-00000", "pack")
    monkeypatch.setattr("flowprep.ownership.platform.node", node)
    for path in (mine, foreign):
        (path / "shard.h5").write_bytes(b"half")
        for part in (path / "shard.h5", path):
            os.utime(part, (time.time() - 100, time.time() - 100))
    monkeypatch.setattr("flowprep.ownership.pid_space", lambda: space)
    assert commit.remove_leftovers(tmp_path) == is_removed
    assert set(staged(tmp_path)) == ({foreign} if is_removed else {mine, foreign})


def test_staging_names_say_whose_they_are(tmp_path: Path, calls: list[tuple[str, object]]) -> None:
    whole_run(tmp_path, SHARDS)
    places = {Path(str(path)).relative_to(tmp_path) for name, path in calls if name in ("open_new", "make_folder")}
    names = {path.parts[2] for path in places if path.parts[:2] == (".flowprep", "staging") and len(path.parts) > 2}
    assert len(names) > 4
    assert all(f".{ownership.owner()}." in name for name in names)


@pytest.mark.parametrize("name", ["staging", "commits", "rows", "packed", "shards"])
def test_case_69_a_store_on_two_file_systems_is_refused(
    tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_store(tmp_path, SHARDS, failing={1})
    mounted = tmp_path / name if name == "shards" else tmp_path / ".flowprep" / name
    real = os.stat

    def stat(path: object, **keywords: object) -> os.stat_result:
        status = real(path, **keywords)
        return os.stat_result((*status[:2], status.st_dev + 1, *status[3:10])) if path == mounted else status

    open_publisher(tmp_path, SHARDS)
    monkeypatch.setattr(os, "stat", stat)
    with pytest.raises(SettingsError, match=f"{name} must be on the same file system as .*; unmount it"):
        open_publisher(tmp_path, SHARDS)


def test_a_store_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(SettingsError, match=r"cannot be written: .*; give another --out"):
        open_publisher(tmp_path / "file" / "out", SHARDS)
    with pytest.raises(SettingsError, match="`durability` must be one of video, strict, fast, got 'slow'"):
        open_publisher(tmp_path / "out", SHARDS, durability="slow")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / ".flowprep").symlink_to(tmp_path)
    with pytest.raises(StoreError, match="flowprep must be a folder, but is a link"):
        open_publisher(tmp_path / "out", SHARDS)


def test_files_at_the_top_are_replaced_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / ".flowprep" / "list.jsonl"
    commit.write_lines(path, (f"line {k}" for k in range(200_000)))
    assert path.read_text().splitlines() == [f"line {k}" for k in range(200_000)]
    Fault(monkeypatch, "write", 1, errno.EIO)
    with pytest.raises(RunStoppedError, match="run again when the disk works"):
        commit.write_json(path, {"a": 1})
    assert path.read_text().startswith("line 0\n")
    commit.write_json(tmp_path / "run.json", {"b": [1.5, None]})
    assert (tmp_path / "run.json").read_text() == '{"b":[1.5,null]}\n'
    assert staged(tmp_path) == []


@FORMATS
def test_case_68_two_attempts_that_commit_at_the_same_time(
    tmp_path: Path, settings: ExtractSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    listing = make_listing(1)
    video = listing.videos[0]
    real, others = commit.rename, [1]

    def rename(source: Path, target: Path) -> None:
        if others and "staging" in str(source):
            others.pop()
            write_video(open_publisher(tmp_path / "out", settings), video, 0)
        real(source, target)

    monkeypatch.setattr(commit, "rename", rename)
    row = write_video(open_publisher(tmp_path / "out", settings), video, 0)
    assert others == []
    assert open_publisher(tmp_path / "out", settings).read_row(video, 0) == row
    finish_all(tmp_path / "out", settings, listing)
    write_store(tmp_path / "expected", settings, listing)
    assert published(tmp_path / "out") == published(tmp_path / "expected")


@FORMATS
def test_case_68_a_failure_that_overlaps_a_success_undoes_nothing(
    tmp_path: Path, settings: ExtractSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    listing = make_listing(1)
    video = listing.videos[0]
    publisher, other = open_publisher(tmp_path, settings), open_publisher(tmp_path, settings)
    write_file = commit.write_file

    def overtaken(path: Path, pieces: list[bytes], *, sync: bool) -> None:
        monkeypatch.setattr(commit, "write_file", write_file)
        write_video(other, video, 0)
        write_file(path, pieces, sync=sync)

    monkeypatch.setattr(commit, "write_file", overtaken)
    publisher.publish_row(failed_row(video), 0)
    if settings.store.format == "hdf5":
        assert other.read_row(video, 0).state is State.OK, "both are there, and the stored one counts"
    else:
        assert write_video(other, video, 0).state is State.OK, "the failure came last; a retry finds nothing in its way"
    finish_all(tmp_path, settings, listing)
    with open_store(tmp_path) as store:
        assert list(store.ids) == [video.id]

"""The disk of the output, tried out: what a run relies on, in a folder that is removed again."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import mmap
import os
import secrets
import shutil
import statistics
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from flowprep import machine
from flowprep.doctor.finding import Finding
from flowprep.doctor.mounts import Mount, find_mount

_MOUNTINFO = Path("/proc/self/mountinfo")
_LITTLE_BYTES, _FEW_INODES = 5_000_000_000, 100_000
_NUM_RENAMES, _NUM_FLUSHES = 100, 5


def examine_disk(out: Path, mountinfo: str | None = None) -> Iterator[Finding]:
    """Findings on the disk of `out`, where a store would go; `out` need not exist. Leaves nothing behind."""
    folder = machine.existing_folder(out)
    mount = mount_of(folder, mountinfo)
    yield _file_system(out, folder, mount)
    yield _space(folder)
    try:
        place = Path(tempfile.mkdtemp(prefix=".flowprep-doctor-", dir=folder))
    except OSError as error:
        yield Finding(
            topic="disk",
            name="writing",
            state="problem",
            text=f"{folder} cannot be written: {error.strerror}",
            cure="give another folder with --out, or mend its permissions",
            blocks=True,
        )
        return
    try:
        for name, attempt in _ATTEMPTS.items():
            try:
                yield attempt(place)
            except OSError as error:  # what should not fail on any file system
                yield _broken(name, f"{error.strerror or error}")
    finally:
        shutil.rmtree(place, ignore_errors=True)


def examine_videos(videos: Path, out: Path, mountinfo: str | None = None) -> Iterator[Finding]:
    """Findings on the folder of videos."""
    facts = {"folder": str(videos)}
    try:
        with os.scandir(videos) as entries:
            empty = next(entries, None) is None
    except OSError as error:
        cure = "give the folder of videos with --videos"
        text = f"{videos} cannot be read: {error.strerror}"
        yield Finding(topic="disk", name="videos", state="problem", text=text, cure=cure, blocks=True, facts=facts)
        return
    mount = mount_of(videos, mountinfo)
    text = f"{videos}: {mount.type} on {mount.source}" if mount else f"{videos}"
    if empty:
        text, cure = f"{videos} is empty", "put the videos there"
        yield Finding(topic="disk", name="videos", state="problem", text=text, cure=cure, blocks=True, facts=facts)
    elif out.resolve().is_relative_to(videos.resolve()):
        text, cure = f"the store {out} would lie inside of the folder of videos", "give another folder with --out"
        yield Finding(topic="disk", name="videos", state="problem", text=text, cure=cure, blocks=True, facts=facts)
    else:
        yield Finding(topic="disk", name="videos", state="ok", text=text, facts=facts)


def mount_of(folder: Path, mountinfo: str | None = None) -> Mount | None:
    """The mount that holds a folder; `mountinfo` stands for the kernel's text."""
    if mountinfo is None:
        try:
            mountinfo = _MOUNTINFO.read_text(encoding="utf-8", errors="surrogateescape")
        except OSError:
            return None
    return find_mount(folder.resolve(), mountinfo)


def _file_system(out: Path, folder: Path, mount: Mount | None) -> Finding:
    where = f"{out.absolute()}" + ("" if folder == out.absolute() else " (not there yet)")
    if mount is None:
        text = f"{where}: unknown file system, since there is no /proc/self/mountinfo"
        return Finding(topic="disk", name="file system", state="note", text=text)
    facts = {"type": mount.type, "kind": mount.kind, "point": mount.point, "source": mount.source}
    text = f"{where}: {mount.type} ({mount.kind}) at {mount.point}: {mount.follows}"
    if mount.read_only:
        text, cure = f"{where}: {mount.type} at {mount.point} is mounted read-only", "give another folder with --out"
        return Finding(
            topic="disk", name="file system", state="problem", text=text, cure=cure, blocks=True, facts=facts
        )  # fmt: skip
    if mount.kind == "object store":
        cure = "give a local disk with --out"
        return Finding(topic="disk", name="file system", state="problem", text=text, cure=cure, facts=facts)
    state = "ok" if mount.kind in ("local", "network") else "note"
    return Finding(topic="disk", name="file system", state=state, text=text, facts=facts)  # type: ignore[arg-type]


def _space(folder: Path) -> Finding:
    status = os.statvfs(folder)
    free = status.f_bavail * status.f_frsize
    num_inodes = status.f_favail if status.f_files else None  # btrfs and others count none
    facts = {"free_bytes": free, "free_inodes": num_inodes}
    inodes = "" if num_inodes is None else f", room for {num_inodes:,} files"
    text = f"{free / 1e9:.1f} GB free{inodes}"
    if free < _LITTLE_BYTES:
        cure = "free some, or give another folder with --out; `flowprep extract --dry-run` says how much it takes"
        return Finding(topic="disk", name="space", state="note", text=f"{text}: that is little", cure=cure, facts=facts)
    if num_inodes is not None and num_inodes < _FEW_INODES:
        text += ": a tree of JPEG files needs two or three a frame"
        cure = "extract to shards (--format hdf5)"
        return Finding(topic="disk", name="space", state="note", text=text, cure=cure, facts=facts)
    return Finding(topic="disk", name="space", state="ok", text=text, facts=facts)


def _broken(name: str, text: str) -> Finding:
    return Finding(
        topic="disk",
        name=name,
        state="problem",
        text=f"{text}; a run relies on that",
        cure="give a folder on another disk with --out",
        blocks=True,
    )


def _flush(place: Path) -> Finding:
    """Write and flush a file and its folder, several times."""
    seconds = []
    for _ in range(_NUM_FLUSHES):
        start = time.perf_counter()
        path = place / secrets.token_hex(8)
        with path.open("wb") as file:
            file.write(bytes(6000))
            file.flush()
            os.fsync(file.fileno())
        folder = os.open(place, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(folder)
        except OSError as error:
            if error.errno != errno.EINVAL:  # this file system flushes folders by itself, or not at all
                raise
        finally:
            os.close(folder)
        seconds.append(time.perf_counter() - start)
    median_ms = 1000 * statistics.median(seconds)
    text = f"a file is flushed in {median_ms:.1f} ms: once a video, with --durability strict once an image"
    return Finding(topic="disk", name="flushing", state="ok", text=text, facts={"median_ms": median_ms})


def _rename(place: Path) -> Finding:
    """Replace a file many times, while a thread looks whether its name is ever gone; then what folders do."""
    target, num_gone, done = place / "target", 0, threading.Event()
    target.write_bytes(b"0")

    def watch() -> None:
        nonlocal num_gone
        while not done.is_set():
            num_gone += not target.exists()

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        for k in range(_NUM_RENAMES):
            (place / "source").write_bytes(str(k).encode())
            (place / "source").replace(target)
    finally:
        done.set()
        watcher.join()
    if num_gone or target.read_bytes() != str(_NUM_RENAMES - 1).encode():
        return _broken("renaming", "a file that is replaced is gone in between")
    for name in ("full", "other"):
        (place / name).mkdir()
        (place / name / "x").write_bytes(b"")
    with contextlib.suppress(OSError):
        (place / "other").rename(place / "full")
        return _broken("renaming", "a folder that is not empty is replaced by another")
    return Finding(topic="disk", name="renaming", state="ok", text="files and folders appear whole under their names")


def _link(place: Path) -> Finding:
    (place / "one").write_bytes(b"")
    try:
        os.link(place / "one", place / "two")
    except OSError as error:
        text = f"a file cannot have two names ({error.strerror}); adopted trees would have to be copied"
        return Finding(topic="disk", name="hard links", state="note", text=text)
    return Finding(topic="disk", name="hard links", state="ok", text="a file may have two names")


def _locks(place: Path) -> Finding:
    failed = []
    with (place / "lock").open("wb") as file:
        for name, lock in (("flock", fcntl.flock), ("fcntl", fcntl.lockf)):
            try:
                lock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                lock(file, fcntl.LOCK_UN)
            except OSError as error:
                failed.append(f"{name} ({error.strerror})")
    facts = {"failed": failed}
    if failed:
        text = f"no {' and no '.join(failed)}; flowprep needs none, but other programs that open shards by HDF5 want "
        text += "HDF5_USE_FILE_LOCKING=FALSE here"
        return Finding(topic="disk", name="locks", state="note", text=text, facts=facts)
    text = "flock and fcntl work; flowprep needs neither, shards are read without"
    return Finding(topic="disk", name="locks", state="ok", text=text, facts=facts)


def _mapping(place: Path) -> Finding:
    path = place / "mapped"
    path.write_bytes(bytes(8192))
    try:
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
            assert mapped[5000] == 0
    except OSError as error:
        text = f"files cannot be mapped into memory ({error.strerror}), so that shards cannot be read here"
        return Finding(topic="disk", name="mapping", state="problem", text=text, cure="read stores from another disk")
    return Finding(topic="disk", name="mapping", state="ok", text="shards can be mapped into memory")


def _names(place: Path) -> Finding:
    """Long names, names that are not UTF-8, and names that differ in case alone."""
    lacks = []
    for what, name in (("names of 255 bytes", b"n" * 255), ("names that are not UTF-8", b"\xff\xfe")):
        try:
            (place / os.fsdecode(name)).write_bytes(b"")
        except OSError:
            lacks.append(f"no {what}")
    (place / "case").write_bytes(b"")
    if (place / "CASE").exists():
        lacks.append("no difference between A and a")
    facts = {"lacks": lacks}
    if lacks:
        text = f"{', '.join(lacks)}; names in stores keep clear of that, in the folder of videos it may matter"
        return Finding(topic="disk", name="names", state="note", text=text, facts=facts)
    text = "long ones, such as are not UTF-8, and A beside a are allowed"
    return Finding(topic="disk", name="names", state="ok", text=text, facts=facts)


_ATTEMPTS: dict[str, Callable[[Path], Finding]] = {
    "flushing": _flush,
    "renaming": _rename,
    "hard links": _link,
    "locks": _locks,
    "mapping": _mapping,
    "names": _names,
}

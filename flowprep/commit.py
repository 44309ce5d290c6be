"""The only module that changes what is published: primitives, staging, renames and flushes.

Rules that everything here and in `flowprep.publisher` keeps:

- What is unfinished lies below `<out>/.flowprep/staging` under a name that is used once; a final name appears by
  rename, whole.
- A video's record (its row file or commit) appears last, and what it describes is there by then.
- Where an outcome is replaced its record goes first: between two outcomes a video is pending, never wrong.
- Every change of the disk is one of the primitives below, so that a test can make each of them fail.

Note [what failed may have happened]: on NFS the reply to a change that was done can be lost, and the client, which asks
again, is told that the source is gone or the target there. So the target of a rename or link is compared with the
source before the error counts, and a folder of a name that is ours alone may be there already. A failed fsync is never
repeated: Linux reports it only once.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import re
import secrets
import shutil
import stat
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from flowprep.errors import DiskFullError, FlowprepError, RunStoppedError, StoreError, VideoError
from flowprep.machine import file_system_seconds, seconds_since_start
from flowprep.ownership import is_dead, is_of_another_start, owner
from flowprep.records import canonical_json
from flowprep.stores.places import aside_folder, staging_folder

DISK_FULL = frozenset({errno.ENOSPC, errno.EDQUOT})
"""Errors that stop the run: every other video would fail in the same way."""

_ABANDONED_SECONDS = 7 * 24 * 3600.0
_LIBC = ctypes.CDLL(None, use_errno=True)


# Primitives: every change of the disk is one of these.


def open_new(path: Path) -> int:
    """Descriptor of a new file for writing; an existing one is an error."""
    return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)


def open_existing(path: Path) -> int:
    """Descriptor of an existing file for writing at given offsets."""
    return os.open(path, os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC)


def write(fd: int, data: bytes | memoryview) -> None:
    """Write all of `data`, however many calls that takes."""
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]


def write_at(fd: int, data: bytes | memoryview, offset: int) -> None:
    """Write all of `data` at a byte offset."""
    view = memoryview(data)
    while view:
        num_bytes = os.pwrite(fd, view, offset)
        view, offset = view[num_bytes:], offset + num_bytes


def fsync(fd: int) -> None:
    """Flush a file or folder to the disk."""
    os.fsync(fd)


def sync_file_system(fd: int) -> None:
    """Flush everything written to the file system that `fd` is on: one call for many files (syncfs, Linux)."""
    if _LIBC.syncfs(fd) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def close(fd: int) -> None:
    """Close a descriptor; some file systems report a failed write only here."""
    os.close(fd)


def rename(source: Path, target: Path) -> None:
    """Give a file or folder another name, in one step."""
    os.rename(source, target)


def link(source: Path, target: Path) -> None:
    """Give a file a second name, unless there is one already: then FileExistsError."""
    os.link(source, target)


def make_folder(path: Path) -> None:
    """Make one folder."""
    path.mkdir()


def unlink(path: Path) -> None:
    """Remove a file."""
    path.unlink()


# Steps made of primitives.


def write_file(path: Path, pieces: Iterable[bytes | memoryview], *, sync: bool) -> None:
    """Write a new file, flushed if `sync`."""
    fd = open_new(path)
    try:
        for piece in pieces:
            write(fd, piece)
        if sync:
            fsync(fd)
    except BaseException:
        abandon(fd)
        raise
    close(fd)


def abandon(fd: int) -> None:
    """Close a file that has failed already."""
    with contextlib.suppress(OSError):
        os.close(fd)


def sync_file(path: Path) -> None:
    """Flush a file that is written already."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        fsync(fd)
    finally:
        os.close(fd)


def sync_folder(folder: Path) -> None:
    """Flush the names in a folder. File systems that cannot do that (EINVAL) are left to their own devices."""
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fsync(fd)
    except OSError as error:
        if error.errno != errno.EINVAL:
            raise
    finally:
        os.close(fd)


def sync_tree(folder: Path) -> None:
    """Flush all files and folders below `folder`: by one syncfs where there is one, else one by one."""
    if hasattr(_LIBC, "syncfs"):
        fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            sync_file_system(fd)
        finally:
            os.close(fd)
        return
    for parent, _, names in os.walk(folder):
        for name in names:
            sync_file(Path(parent, name))
        sync_folder(Path(parent))


def publish(source: Path, target: Path) -> None:
    """Rename a finished file or folder to its final name, see Note [what failed may have happened]."""
    inode = _inode(source)
    try:
        rename(source, target)
    except OSError:
        if inode is None or _inode(target) != inode:
            raise


def publish_into(root: Path, source: Path, target: Path, *, sync: bool) -> None:
    """Rename a finished, flushed file or folder to `target` below `root`, making the folders above it."""
    ensure_folder(root, target.parent, sync=sync)
    publish(source, target)
    if sync:
        sync_folder(target.parent)


def remove_file(path: Path, *, sync: bool) -> bool:
    """Remove a file, durably if `sync`; False if there was none."""
    try:
        unlink(path)
    except FileNotFoundError:
        return False
    if sync:
        sync_folder(path.parent)
    return True


def ensure_folder(root: Path, folder: Path, *, sync: bool) -> None:
    """Make `folder` and those above it below `root`. Raises StoreError if one of them is a link or a file."""
    path = root
    for part in folder.relative_to(root).parts:
        parent, path = path, path / part
        try:
            make_folder(path)
        except FileExistsError:
            if not stat.S_ISDIR(path.lstat().st_mode):
                raise StoreError(f"{path} must be a folder, but is a link or a file; remove it and run again") from None
        else:
            if sync:
                sync_folder(parent)


def remove_tree(path: Path) -> None:
    """Remove a staging folder as far as that goes: files that a network disk still holds (`.nfs*`) do no harm there."""
    shutil.rmtree(path, ignore_errors=True)


def remove_leftovers(root: Path) -> int:
    """Remove what dead attempts left in the staging folder, and count it; others may be at work meanwhile.

    Dead is a process of this start of this machine that does not run any more, one of an earlier start of it, and
    whatever has not changed for a week, see Note [what a name proves].
    """
    with output_errors(root, video=False):
        try:
            found = list(staging_folder(root).iterdir())
        except FileNotFoundError:
            return 0
        leftovers = [path for path in found if is_dead(_owner_of(path))]
        for path in leftovers:  # first, since what comes next needs room on the disk
            remove_tree(path)
        if others := [path for path in found if path not in leftovers]:
            # The clock of this machine may be days off, and take all for old.
            now = file_system_seconds(staging_folder(root))
            abandoned = [path for path in others if _is_abandoned(path, now)]
            for path in abandoned:
                remove_tree(path)
            leftovers += abandoned
    return len(leftovers)


def _owner_of(path: Path) -> str:
    """Who has made a staging folder, "" if its name does not say."""
    return path.name.rsplit(".", 3)[1] if path.name.count(".") >= 3 else ""


def _is_abandoned(path: Path, now: float) -> bool:
    """True if nothing in a staging folder has changed for long. `now` is by the clock of its file system."""
    try:
        changed = max(part.lstat().st_mtime for part in (path, *path.iterdir()))
    except OSError:
        return False  # its owner, or another run, has just removed it
    long = _ABANDONED_SECONDS
    if is_of_another_start(_owner_of(path)):
        long = min(long, seconds_since_start())
    return now - changed > long


@contextlib.contextmanager
def staged(root: Path, name: str, attempt: str) -> Iterator[Path]:
    """A staging folder that is removed at the end."""
    folder = new_staging(root, name, attempt)
    try:
        yield folder
    finally:
        remove_tree(folder)


def new_staging(root: Path, name: str, attempt: str) -> Path:
    """A new folder for one attempt's unfinished files; its name carries owner and attempt and is used once."""
    if re.fullmatch(r"[A-Za-z0-9_-]{1,100}", attempt) is None:
        raise ValueError(f"`attempt` must be 1 to 100 letters, digits, _ or -, got {attempt!r}")
    folder = staging_folder(root) / f"{name}.{owner()}.{attempt}.{secrets.token_hex(8)}"
    with contextlib.suppress(FileExistsError):  # see Note [what failed may have happened]
        make_folder(folder)
    return folder


def move_aside(root: Path, path: Path, video: str) -> Path:
    """Move what lies under a final name and cannot be trusted to where nothing reads it; gives its new place.

    `video` is the `id_hash` of the video. What is aside stays, for people to look at, until the video has an outcome;
    then `drop_aside` deletes it.
    """
    place = aside_folder(root) / video / f"{path.name[:48]}.{secrets.token_hex(4)}"
    ensure_folder(root, place.parent, sync=False)
    publish(path, place)
    return place


def names_aside(root: Path) -> frozenset[str]:
    """The `id_hash` of each video of which something is aside."""
    try:
        return frozenset(path.name for path in aside_folder(root).iterdir())
    except FileNotFoundError:
        return frozenset()


def drop_aside(root: Path, video: str) -> None:
    """Delete what was moved aside of a video; for when its outcome is published and the copies are worth nothing."""
    remove_tree(aside_folder(root) / video)


@contextlib.contextmanager
def output_errors(out: Path, *, video: bool) -> Iterator[None]:
    """Turn errors of the output disk into ours.

    Raises:
        RunStoppedError: the disk or quota is full (DiskFullError); or, unless `video`, any other error.
        VideoError: `io` (or `name_too_long`): as far as one can tell, the error concerns this video alone.
    """
    try:
        yield
    except FlowprepError:
        raise
    except OSError as error:
        reason, number = error.strerror or str(error), error.errno
        if number in DISK_FULL:
            raise DiskFullError(
                f"the disk of {out} is full ({_free_text(out)} free): {reason}; free some space and run again, "
                "what is finished is kept"
            ) from error
        where = error.filename or out
        if not video:
            raise RunStoppedError(
                f"{where}: {reason}; run again when the disk works, what is finished is kept"
            ) from error
        code = "name_too_long" if number == errno.ENAMETOOLONG else "io"
        raise VideoError(code, f"writing {where} failed: {reason}") from error


# Files of the store as a whole.


def write_lines(path: Path, lines: Iterable[str], *, sync: bool = True) -> None:
    """Publish a text file at the top of a store or in its `.flowprep`, a line at a time; replaces an older one.

    Raises RunStoppedError if the disk fails.
    """
    root = path.parent.parent if path.parent.name == ".flowprep" else path.parent
    with output_errors(root, video=False):
        root.mkdir(parents=True, exist_ok=True)
        ensure_folder(root, staging_folder(root), sync=False)
        with staged(root, path.name, "file") as staging:
            write_file(staging / path.name, _blocks(lines), sync=sync)
            publish_into(root, staging / path.name, path, sync=sync)


def create_file(root: Path, path: Path, data: bytes) -> bool:
    """Publish a file in the `.flowprep` of the store `root` unless there is one of that name; True if it is ours.

    Raises RunStoppedError if the disk fails.
    """
    with output_errors(root, video=False):
        for folder in (staging_folder(root), path.parent):
            ensure_folder(root, folder, sync=False)
        with staged(root, path.name, "file") as staging:
            staged_file = staging / path.name
            write_file(staged_file, [data], sync=True)
            inode = _inode(staged_file)
            try:
                link(staged_file, path)
            except OSError as error:
                if inode is None or _inode(path) != inode:  # else see Note [what failed may have happened]
                    if isinstance(error, FileExistsError) or path.exists():
                        return False
                    publish_into(root, staged_file, path, sync=True)  # a file system without hard links
            sync_folder(path.parent)
    return True


def write_json(path: Path, data: Any) -> None:
    """Publish a JSON object as a file of one line, see `write_lines`."""
    write_lines(path, [canonical_json(data)])


def _blocks(lines: Iterable[str], num_bytes: int = 1 << 20) -> Iterator[bytes]:
    """The lines with line ends, in blocks of about `num_bytes`."""
    block = bytearray()
    for line in lines:
        block += line.encode() + b"\n"
        if len(block) >= num_bytes:
            yield bytes(block)
            block.clear()
    yield bytes(block)


def _inode(path: Path) -> tuple[int, int] | None:
    try:
        status = path.lstat()
    except FileNotFoundError:
        return None
    return status.st_dev, status.st_ino


def _free_text(out: Path) -> str:
    try:
        return f"{shutil.disk_usage(out).free / 1e9:.2f} GB"
    except OSError:
        return "an unknown amount"

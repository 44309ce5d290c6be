"""`--overwrite`: build a store beside the old one, and put it in its place when it is complete.

Nothing is removed that flowprep did not write: the old folder must be a store of ours, hold nothing else, and not
contain the videos. Until the swap it stays as it was; the swap is one exchange of two names where the system can do
that, and is taken back or finished by the next run where it was interrupted.
"""

from __future__ import annotations

import ctypes
import errno
import glob
import json
import os
import secrets
from pathlib import Path

from flowprep import commit, resume
from flowprep.errors import RunStoppedError, SettingsError, looking
from flowprep.records import Video
from flowprep.stores.layouts import layout_of
from flowprep.stores.places import CHECKSUMS, MANIFEST, SPLITS, TIMING, adopted_mark
from flowprep.stores.savedlist import read_identities

_OWN_FILES = frozenset({MANIFEST, SPLITS, TIMING, CHECKSUMS, "run.json", "shards", ".flowprep"})
_MARK = "overwriting"  # in `.flowprep` of a store that is being built to replace another
_REFUSALS = frozenset({errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EEXIST})  # no failing disk
_AT_FDCWD = -100
_RENAME_EXCHANGE = 2


def build_folder(out: Path) -> Path:
    """Where the store that will replace `out` is built: beside it, so that an interrupted run finds it again."""
    place = out.resolve()
    return place.with_name(f".{place.name}.overwrite")


def check(out: Path) -> None:
    """Refuse to replace what is not, or not only, a store of ours. Raises SettingsError; changes nothing."""
    if not os.path.lexists(out):
        return
    if os.path.ismount(out.resolve()):
        raise SettingsError(
            f"--overwrite cannot replace {out}, which is a mount point; give a folder below it as --out"
        )
    if not out.is_dir():
        raise SettingsError(f"{out} is not a folder; give another --out")
    if not any(out.iterdir()):
        return
    if not (out / ".flowprep" / "settings.json").is_file():
        raise SettingsError(f"{out} is not a flowprep store, so --overwrite does not touch it; give another --out")
    if adopted_mark(out).exists():
        raise SettingsError(f"{out} is a tree of another tool that was adopted, so --overwrite does not touch it")
    foreign = sorted(entry.name for entry in out.iterdir() if entry.name not in _own_names(out))
    if foreign:
        raise SettingsError(
            f"{out} also holds what flowprep did not write ({', '.join(foreign[:3])}), which --overwrite would remove; "
            "move it away"
        )


def _own_names(out: Path) -> set[str]:
    """Names at the top of a store that are its own, from its settings and its list."""
    try:
        settings = resume.read_settings(out)
        names = set(_OWN_FILES)
        if settings.store.format == "jpeg":
            layout = layout_of(settings)
            for entry in read_identities(out):
                location = layout.location(Video(id=entry["id"], path="", class_name=entry["class"]))
                folders = layout.folders(location, settings.streams)
                names.update(folder.split("/")[0] for folder in folders.values())
        return names
    except (OSError, ValueError) as error:  # also ours: StoreError is a ValueError
        raise SettingsError(f"{out} is damaged ({error}); remove it by hand, or give another --out") from error


def begin(out: Path) -> Path:
    """The folder to build in. What an interrupted swap left is finished first; an interrupted build is continued.

    Raises SettingsError where it may not be made there, RunStoppedError where the disk fails or is full.
    """
    folder = build_folder(out)
    with commit.output_errors(folder.parent, video=False):
        try:
            if folder.exists() and not (folder / ".flowprep" / _MARK).exists():
                commit.remove_tree(folder)  # the old store of a swap that was interrupted after the exchange
            (folder / ".flowprep").mkdir(parents=True, exist_ok=True)
            (folder / ".flowprep" / _MARK).touch()
        except OSError as error:
            if error.errno not in _REFUSALS:
                raise
            raise SettingsError(
                f"{folder}, where --overwrite builds the new store, cannot be made: {error.strerror}; allow writing in "
                f"{folder.parent}, or give another --out"
            ) from error
    return folder


def recover(out: Path) -> None:
    """Take back, or finish, a swap that was interrupted between its two renames."""
    place = out.resolve()
    with looking():
        replaced = sorted(place.parent.glob(f".{glob.escape(place.name)}.replaced-*"))
    for old in replaced:
        if os.path.lexists(place):
            commit.remove_tree(old)
        else:
            commit.rename(old, place)


def swap_in(out: Path) -> None:
    """Put the complete new store in the place of `out`, and remove what was there.

    Raises RunStoppedError where the disk fails, or where the new store holds fewer videos than the old one although the
    list is as long; then both are kept.
    """
    place, new = out.resolve(), build_folder(out)
    old = place.with_name(f".{place.name}.replaced-{secrets.token_hex(4)}")
    if os.path.lexists(place):
        _check_not_poorer(place, new)
    with commit.output_errors(place, video=False):
        if not os.path.lexists(place):
            commit.publish(new, place)
        elif _exchange(new, place):
            commit.publish(new, old)
        else:
            commit.publish(place, old)
            commit.publish(new, place)
        commit.unlink(place / ".flowprep" / _MARK)
        commit.sync_folder(place.parent)
    commit.remove_tree(old)


def _exchange(first: Path, second: Path) -> bool:
    """Exchange two names in one step (Linux renameat2); False where the system or file system cannot."""
    try:
        renameat2 = ctypes.CDLL(None, use_errno=True).renameat2
    except (OSError, AttributeError):
        return False
    if renameat2(_AT_FDCWD, os.fsencode(first), _AT_FDCWD, os.fsencode(second), _RENAME_EXCHANGE) == 0:
        return True
    number = ctypes.get_errno()
    if number in (errno.ENOSYS, errno.EINVAL, errno.EOPNOTSUPP):
        return False
    raise OSError(number, os.strerror(number), str(second))


def _check_not_poorer(old: Path, new: Path) -> None:
    counts = []
    for folder in (old, new):
        try:
            run = json.loads((folder / "run.json").read_text("utf-8"))
            states = run["states"]
            counts.append((run["num_videos"], states.get("ok", 0) + states.get("flagged", 0)))
        except (OSError, ValueError, KeyError):
            return  # an unfinished or foreign run says nothing
    if counts[0][0] == counts[1][0] and counts[1][1] < counts[0][1]:
        raise RunStoppedError(
            f"the new store holds {counts[1][1]} videos and the old one {counts[0][1]}, so both are kept, the new one "
            f"in {new}; bring the missing sources back and run again, or remove the old one by hand"
        )

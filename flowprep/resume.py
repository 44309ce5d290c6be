"""Whether a store may be continued: the same content settings, and a list that has only grown at its end."""

from __future__ import annotations

import hashlib
import itertools
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeAlias

from flowprep import commit
from flowprep.config import ExtractSettings
from flowprep.errors import MissingDataError, SettingsError, StoreError, looking
from flowprep.records import Listing, Video, canonical_json
from flowprep.settings import differences
from flowprep.stores.savedlist import SavedList, identity, list_lines, list_path, read_identities

ListVersion: TypeAlias = tuple[int, int, int] | None
"""Inode, size and modification time of a store's list; None while there is none."""


@looking()
def check(
    out: Path, settings: ExtractSettings, listing: Listing | None = None, *, target: str = "--out"
) -> ListVersion:
    """Check that the store `out` may be begun or continued; changes nothing.

    `listing` is None where the list is the store's own; `target` is what the command calls `out`. Gives the version of
    the list that was looked at. Raises SettingsError that names each difference where other settings or another list
    made it, or where `out` is a folder with other things in it, and MissingDataError where one may not look into it.
    """
    version = _list_version(out)
    if settings_path(out).exists():
        _check_settings(out, settings, target)
        if listing is not None:
            _check_list(out, listing.videos, target)
    elif out.is_dir() and any(entry.name != ".flowprep" for entry in out.iterdir()):
        raise SettingsError(f"{out} is not a flowprep store and not empty; give another {target}")
    return version


def begin(out: Path, settings: ExtractSettings, saved: SavedList, *, checked: ListVersion) -> None:
    """Record settings and list in the store, after `check` has seen version `checked` of its list.

    Of two runs that begin it together, one with other settings is refused.
    """
    begin_again(out, settings)
    if checked is None or _list_version(out) != checked:  # reading a long list takes a while: once is enough
        _check_list(out, saved.listing.videos)
    commit.write_lines(list_path(out), list_lines(saved))


def begin_part(out: Path, settings: ExtractSettings, saved: SavedList) -> bool:
    """Record settings and list, each unless it is there; False if the list is there: then that one counts.

    Of parts that begin together each may have made a list, and all have to go by the first one's.
    """
    begin_again(out, settings)
    lines = "".join(f"{line}\n" for line in list_lines(saved))
    return commit.create_file(out, list_path(out), lines.encode())


def begin_again(out: Path, settings: ExtractSettings) -> None:
    """Record settings in a store that has its list."""
    if not commit.create_file(out, settings_path(out), encode_settings(settings)):
        _check_settings(out, settings)


def settings_path(out: Path) -> Path:
    """Where a store keeps its content settings from its beginning."""
    return out / ".flowprep" / "settings.json"


def encode_settings(settings: ExtractSettings) -> bytes:
    """Bytes of that file: the settings, and in a second line their SHA-256."""
    line = canonical_json(settings.to_json()).encode() + b"\n"
    return line + _checksum_line(line)


def parse_settings(data: bytes) -> tuple[Any, bool]:
    """The JSON of a settings file, and whether a checksum proves it: stores of before there was one have none.

    Raises ValueError where the file is torn or altered.
    """
    line, end, checksum = data.partition(b"\n")
    if checksum and checksum != _checksum_line(line + end):
        raise ValueError("its checksum is not that of its settings")
    return json.loads(line), bool(checksum)


def _checksum_line(line: bytes) -> bytes:
    return canonical_json({"sha256": hashlib.sha256(line).hexdigest()}).encode() + b"\n"


_CURE = "`flowprep verify --repair` mends what can be proven, --overwrite begins anew"


def read_settings(out: Path) -> ExtractSettings:
    """The content settings that a store was begun with.

    Raises:
        MissingDataError: `out` is no store, or one may not look into it.
        StoreError: the file is damaged or of another version.
    """
    try:
        return ExtractSettings.from_json(parse_settings(settings_path(out).read_bytes())[0])
    except (FileNotFoundError, NotADirectoryError) as error:
        raise MissingDataError(f"{out} is not a flowprep store; `flowprep extract` makes one") from error
    except PermissionError:
        with looking():
            raise
    except OSError as error:
        raise StoreError(f"{settings_path(out)} cannot be read: {error}; mend the disk") from error
    except (ValueError, KeyError, TypeError) as error:
        raise StoreError(f"{settings_path(out)} is damaged: {error}; {_CURE}") from error


def refuse_adopted(out: Path, settings: ExtractSettings) -> None:
    """Raise SettingsError for a store of images that another tool has made: its settings cannot make more of them."""
    if settings.store.adopted:
        raise SettingsError(
            f"{out} holds images of another tool that were adopted, and no settings are known with which videos could "
            "be extracted into it; give another --out"
        )


def refuse_changed_stages(out: Path, settings: ExtractSettings) -> None:
    """Raise SettingsError for a store to which this version would add videos that are made in another way."""
    if settings.changed_stages:
        raise SettingsError(
            f"{out} was made by another version of flowprep, with other bytes from its stages "
            f"({settings.changed_stages}), so nothing is added to it; extract anew, to another --out or by --overwrite"
        )


def _check_settings(out: Path, settings: ExtractSettings, target: str = "--out") -> None:
    path = settings_path(out)
    try:
        there, _ = parse_settings(path.read_bytes())
    except ValueError as error:
        raise StoreError(f"{path} is damaged: {error}; {_CURE}") from error
    found = differences(there, settings.to_json())
    if found:
        raise SettingsError(
            f"the store {out} was made with other settings ({'; '.join(found)}); use the same, {_anew(target)}"
        )


def _anew(target: str) -> str:
    """Where another store may be made: `--overwrite` is an option of `extract` alone, as is `--out`."""
    return "another --out, or --overwrite" if target == "--out" else f"or another {target}"


def _cure_of_list(target: str) -> str:
    if target != "--out":
        return f"give another {target}"
    return (
        "to keep what is done, put the list back as it was, and extract what is new to another --out, from a folder or "
        f"list of its own; to make all anew, give {_anew(target)}"
    )


def _check_list(out: Path, videos: Sequence[Video], target: str = "--out") -> None:
    """The list in the store must be the beginning of the list now, or shard places and labels would move."""
    try:
        for number, (there, video) in enumerate(itertools.zip_longest(read_identities(out), videos), 1):
            if there is None:
                return
            if video is None or there != identity(video):
                what = "is gone" if video is None else _what_is_now(there, identity(video))
                raise SettingsError(
                    f"the list has changed: entry {number}, {there['id']} in the store {out}, {what}; "
                    f"a list may only grow at its end: {_cure_of_list(target)}"
                )
    except MissingDataError:
        return  # a run that was killed between settings and list


def _what_is_now(there: dict[str, Any], here: dict[str, Any]) -> str:
    """What has become of an entry: another id, or other facts of the same."""
    if there["id"] != here["id"]:
        return f"is now {here['id']}"
    changed = [f"{name} {here[name]!r} instead of {there[name]!r}" for name in here if here[name] != there[name]]
    return f"now has {' and '.join(changed)} (a new class may have moved the others)"


def _list_version(out: Path) -> ListVersion:
    try:
        status = os.stat(list_path(out))
    except (FileNotFoundError, NotADirectoryError):
        return None
    return status.st_ino, status.st_size, status.st_mtime_ns

"""Whether a store may be continued: the same content settings, and a list that has only grown at its end."""

from __future__ import annotations

import itertools
import json
from collections.abc import Sequence
from pathlib import Path

from flowprep import commit
from flowprep.config import ExtractSettings, differences
from flowprep.errors import MissingDataError, SettingsError, StoreError
from flowprep.records import Listing, Video, canonical_json
from flowprep.stores.savedlist import SavedList, identity, list_lines, list_path, read_identities


def check(out: Path, settings: ExtractSettings, listing: Listing) -> None:
    """Check that the store `out` may be begun or continued; changes nothing.

    Raises SettingsError that names each difference where other settings or another list made it, or where `out` is a
    folder with other things in it.
    """
    if settings_path(out).exists():
        _check_settings(out, settings)
        _check_list(out, listing.videos)
    elif out.is_dir() and any(entry.name != ".flowprep" for entry in out.iterdir()):
        raise SettingsError(f"{out} is not a flowprep store and not empty; give another --out")


def begin(out: Path, settings: ExtractSettings, saved: SavedList) -> None:
    """Record settings and list in the store. Of two runs that begin it together, one with other settings is refused."""
    if not commit.create_file(settings_path(out), canonical_json(settings.to_json()).encode()):
        _check_settings(out, settings)
    _check_list(out, saved.listing.videos)
    commit.write_lines(list_path(out), list_lines(saved))


def settings_path(out: Path) -> Path:
    """Where a store keeps its content settings from its beginning."""
    return out / ".flowprep" / "settings.json"


def read_settings(out: Path) -> ExtractSettings:
    """The content settings that a store was begun with.

    Raises:
        MissingDataError: `out` is no store.
        StoreError: the file is damaged or of another version.
    """
    try:
        return ExtractSettings.from_json(json.loads(settings_path(out).read_text("utf-8")))
    except FileNotFoundError as error:
        raise MissingDataError(f"{out} is not a flowprep store; `flowprep extract` makes one") from error
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise StoreError(f"{settings_path(out)} is damaged: {error}; use --overwrite") from error


def _check_settings(out: Path, settings: ExtractSettings) -> None:
    path = settings_path(out)
    try:
        there = json.loads(path.read_text("utf-8"))
    except ValueError as error:
        raise StoreError(f"{path} is damaged: {error}; use --overwrite") from error
    found = differences(there, settings.to_json())
    if found:
        raise SettingsError(
            f"the store {out} was made with other settings ({'; '.join(found)}); "
            "use the same, another --out, or --overwrite"
        )


def _check_list(out: Path, videos: Sequence[Video]) -> None:
    """The list in the store must be the beginning of the list now, or shard places and labels would move."""
    try:
        for number, (there, video) in enumerate(itertools.zip_longest(read_identities(out), videos), 1):
            if there is None:
                return
            if video is None or there != identity(video):
                what = "is gone" if video is None else f"is now {video.id}"
                raise SettingsError(
                    f"the list has changed: entry {number}, {there['id']} in the store {out}, {what}; "
                    "a list may only grow at its end: give another --out, or --overwrite"
                )
    except MissingDataError:
        return  # a run that was killed between settings and list

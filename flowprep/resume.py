"""Whether a store may be continued: the same content settings, and a list that has only grown at its end."""

from __future__ import annotations

import itertools
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from flowprep import commit
from flowprep.config import ExtractSettings, differences
from flowprep.errors import SettingsError, StoreError
from flowprep.records import Listing, Video, canonical_json


def check(out: Path, settings: ExtractSettings, listing: Listing) -> None:
    """Check that the store `out` may be begun or continued; changes nothing.

    Raises SettingsError that names each difference where other settings or another list made it, or where `out` is a
    folder with other things in it.
    """
    if _settings_file(out).exists():
        _check_settings(_settings_file(out), settings)
        if _list_file(out).exists():
            _check_list(_list_file(out), listing.videos)
    elif out.is_dir() and any(entry.name != ".flowprep" for entry in out.iterdir()):
        raise SettingsError(f"{out} is not a flowprep store and not empty; give another --out")


def begin(out: Path, settings: ExtractSettings, listing: Listing) -> None:
    """Record settings and list in the store. Of two runs that begin it together, one with other settings is refused."""
    if not commit.create_file(_settings_file(out), canonical_json(settings.to_json()).encode()):
        _check_settings(_settings_file(out), settings)
    if _list_file(out).exists():
        _check_list(_list_file(out), listing.videos)
    commit.write_lines(_list_file(out), (canonical_json(_entry(video)) for video in listing.videos))


def _settings_file(out: Path) -> Path:
    return out / ".flowprep" / "settings.json"


def _list_file(out: Path) -> Path:
    return out / ".flowprep" / "list.jsonl"


def _check_settings(path: Path, settings: ExtractSettings) -> None:
    try:
        there = json.loads(path.read_text("utf-8"))
    except ValueError as error:
        raise StoreError(f"{path} is damaged: {error}; use --overwrite") from error
    found = differences(there, settings.to_json())
    if found:
        raise SettingsError(
            f"the store {path.parents[1]} was made with other settings ({'; '.join(found)}); "
            "use the same, another --out, or --overwrite"
        )


def _check_list(path: Path, videos: Sequence[Video]) -> None:
    """The list in the store must be the beginning of the list now, or shard places and labels would move."""
    try:
        with path.open(encoding="utf-8") as lines:
            for number, (line, video) in enumerate(itertools.zip_longest(lines, videos), 1):
                if line is None:
                    return
                if video is None or json.loads(line) != _entry(video):
                    what = "is gone" if video is None else f"is now {video.id}"
                    raise SettingsError(
                        f"the list has changed: entry {number}, {json.loads(line)['id']} in the store "
                        f"{path.parents[1]}, {what}; a list may only grow at its end: "
                        "give another --out, or --overwrite"
                    )
    except (OSError, ValueError) as error:
        if isinstance(error, SettingsError):
            raise
        raise StoreError(f"{path} is damaged: {error}; use --overwrite") from error


def _entry(video: Video) -> dict[str, Any]:
    """What must stay the same of a list entry. The path is left out: a missing file may turn up under another one."""
    segment = video.segment
    times = [segment.start_seconds, segment.end_seconds] if segment is not None and segment.certain else None
    return {"id": video.id, "class": video.class_name, "label": video.label, "segment": times}

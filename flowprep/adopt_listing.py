"""The list of an adopted tree: official lists, or its folders, where folders stand for video files."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping, Sequence, Set
from pathlib import Path

from flowprep.config import ExtractSettings
from flowprep.datasets import list_videos
from flowprep.datasets.scan import Scan
from flowprep.errors import SettingsError
from flowprep.records import Listing, Reason, Video
from flowprep.stores.inventory import FoundVideo

_PSEUDO_EXTENSION = ".avi"  # listings match files by their names without extension


def list_tree(root: Path, dataset: str, splits: Path | None, videos: Sequence[FoundVideo]) -> Listing:
    """The videos of the tree, or of the official lists, in the order in which they would be extracted."""
    locations = {f"{found.location}{_PSEUDO_EXTENSION}": found.location for found in videos}
    scan = Scan(paths=tuple(sorted(locations, key=os.fsencode)), problems={})
    listing = list_videos(dataset, root, splits=splits, found=scan)
    found = frozenset(locations.values())
    listed = tuple(_as_found(video, locations, found) for video in listing.videos)
    unlisted = tuple(locations[path] for path in listing.unlisted)
    return dataclasses.replace(listing, videos=listed, unlisted=unlisted)


def _as_found(video: Video, locations: Mapping[str, str], found: Set[str]) -> Video:
    """The entry with the place of its images. Where there is but its video file, they are missing."""
    if video.path in locations:
        return dataclasses.replace(video, path=locations[video.path], segment=None)
    if video.problem is not None or video.path in found:
        return video
    return dataclasses.replace(video, problem=Reason("missing", f"{video.path} is no folder with images of the layout"))


def check_classes(root: Path, settings: ExtractSettings, listing: Listing) -> None:
    """Raise SettingsError where neither folders nor lists say the class of a video."""
    if settings.store.layout != "feichtenhofer":
        return
    without = next((video for video in listing.videos if not video.class_name), None)
    if without is not None:
        raise SettingsError(
            f"layout feichtenhofer has no class folders, so the classes of {root} (of {without.id!r}, for one) are not "
            "known; give --dataset and --splits"
        )

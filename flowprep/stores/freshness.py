"""Looking at a folder so that a network disk does not answer from memory."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable
from pathlib import Path

from flowprep.stores.places import SHARDS, packed_path, unpacked_paths


def open_folder(folder: Path) -> None:
    """Open a folder, if it is there: then NFS asks whether it has changed."""
    with contextlib.suppress(OSError, ValueError):
        os.close(os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC))


def open_folders_of(out: Path, video_ids: Iterable[str]) -> None:
    """Open each folder of a store in which outcomes of these videos may have appeared, those above first."""
    places = {Path(path).parent for video_id in video_ids for path in unpacked_paths(out, video_id)}
    folders = {*places, *(place.parent for place in places), packed_path(out, 0).parent, out / SHARDS}
    for folder in sorted(folders, key=lambda path: len(path.parts)):
        open_folder(folder)

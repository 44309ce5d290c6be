"""Which videos are seen from here: a file that one worker misses may be missing on its node alone.

A node on which the disk of the videos is not mounted often has the folder all the same, its mount point, and in it
nothing. So workers that join are shown some videos that are there, and a file that one misses is looked for here.
"""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Sequence
from pathlib import Path
from typing import Any, final

from flowprep import source
from flowprep.childprocess import Task
from flowprep.errors import VideoError
from flowprep.records import Row
from flowprep.stores.freshness import open_folder

NUM_CANDIDATES = 100
_NUM_SHOWN = 3


@final
class Sightings:
    """Videos below `folder`, of which the first tasks of a run are those that workers are shown."""

    def __init__(self, folder: Path, candidates: Sequence[Task]) -> None:
        self._folder, self._candidates = folder, candidates

    def shown(self, first: Task | None = None) -> list[dict[str, Any]]:
        """Path and bytes of some videos that are seen now, and of a certain one `first`."""
        found: list[dict[str, Any]] = []
        for task in (*([] if first is None else [first]), *self._candidates):
            if len(found) < _NUM_SHOWN and (num_bytes := _num_bytes(self._folder / task.video.path)):
                found.append({"path": task.video.path, "bytes": num_bytes})
        return found

    def contradict(self, task: Task, row: Row) -> bool:
        """True if a video is called missing that can be opened here. A mere status may be one that is remembered."""
        if "missing" not in {reason.code for reason in row.reasons}:
            return False
        with contextlib.suppress(VideoError), source.opened(self._folder / task.video.path):
            return True
        return False


def not_seen(folder: Path, shown: Sequence[dict[str, Any]]) -> str:
    """What of the videos that the driver has shown is not the same here, "" if all are.

    More bytes are the same: a file may grow while workers join.
    """
    for video in shown:
        path = folder / video["path"]
        open_folder(path.parent)
        if (num_bytes := _num_bytes(path)) == 0:
            return f"{path} is not there"
        if num_bytes < video["bytes"]:
            return f"{path} has {num_bytes} bytes there and {video['bytes']} for the run"
    return ""


def _num_bytes(path: Path) -> int:
    """Bytes of a regular file, 0 where there is none."""
    with contextlib.suppress(OSError, ValueError):
        status = os.stat(path)
        return status.st_size if stat.S_ISREG(status.st_mode) else 0
    return 0

"""What lies below a video folder: one walk, links followed, loops not."""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from flowprep.errors import DatasetError, MissingDataError
from flowprep.records import Reason
from flowprep.source import failure_of

# fmt: off
VIDEO_EXTENSIONS = frozenset((
    "3g2", "3gp", "asf", "avi", "divx", "f4v", "flv", "m2ts", "m4v", "mkv", "mov", "mp4", "mpe", "mpeg", "mpg", "mts",
    "mxf", "ogm", "ogv", "ts", "vob", "webm", "wmv",
))
"""Extensions, in lower case, by which a file beside a list counts as a video."""

FOLDER_EXTENSIONS = VIDEO_EXTENSIONS | frozenset((
    "264", "265", "gif", "h264", "h265", "hevc", "ivf", "m1v", "m2v", "mjpeg", "mjpg", "obu", "y4m",
))
"""Those by which a file counts where the folder itself is the list: raw streams and animations too."""
# fmt: on


@dataclass(frozen=True, slots=True, kw_only=True)
class Scan:
    """All entries below a folder that are not folders and not hidden.

    `paths` are relative, with `/` between parts, sorted by their bytes; FIFOs and the like are among them, since a
    listed one must end in a state too. `problems` holds the links of `paths` that lead nowhere. `notes` names the
    folders that could not be read.
    """

    paths: tuple[str, ...]
    problems: Mapping[str, Reason]
    notes: tuple[str, ...] = ()

    def with_extension(self, extensions: frozenset[str]) -> tuple[str, ...]:
        """Those of `paths` that have one of these extensions, whatever its case."""
        return tuple(path for path in self.paths if extension(path) in extensions)


def scan(videos: Path) -> Scan:
    """Walk `videos`. Names that begin with a dot are left out.

    Links to files and folders are followed. Each folder is entered once, by its own name before any link to it, so
    that loops of links end and the result depends on nothing but the disk's content.

    Raises DatasetError if `videos` itself cannot be read; folders below that cannot be read become notes.
    """
    root = os.fspath(videos)
    paths: list[str] = []
    problems: dict[str, Reason] = {}
    notes: list[str] = []
    entered: set[tuple[int, int]] = set()
    folders, linked_folders = [""], list[str]()
    while folders or linked_folders:
        if folders:
            folder = folders.pop()
        else:
            linked_folders.sort(key=os.fsencode, reverse=True)
            folder = linked_folders.pop()
        try:
            identity = os.stat(os.path.join(root, folder))
            if (identity.st_dev, identity.st_ino) in entered:
                continue
            entered.add((identity.st_dev, identity.st_ino))
            with os.scandir(os.path.join(root, folder)) as found:
                entries = [entry for entry in found if not entry.name.startswith(".")]
        except OSError as error:
            if not folder:
                kind = MissingDataError if isinstance(error, FileNotFoundError) else DatasetError
                raise kind(f"the video folder {root} cannot be read: {error.strerror}") from error
            notes.append(f"The folder {folder} cannot be read and was left out: {error.strerror}.")
            continue
        for entry in entries:
            path = f"{folder}/{entry.name}" if folder else entry.name
            if entry.is_dir(follow_symlinks=False):
                folders.append(path)
            elif not entry.is_symlink():
                paths.append(path)
            elif (problem := probe(root, path)) is not None:
                paths.append(path)
                problems[path] = problem
            elif stat.S_ISDIR(os.stat(os.path.join(root, path)).st_mode):
                linked_folders.append(path)
            else:
                paths.append(path)
    return Scan(paths=tuple(sorted(paths, key=os.fsencode)), problems=problems, notes=tuple(sorted(notes)))


def probe(videos: str | os.PathLike[str], path: str) -> Reason | None:
    """None if `path` below `videos` leads to something, else why it does not. Links are followed."""
    try:
        os.stat(os.path.join(videos, path))
    except OSError as error:
        failure = failure_of(error)
        return Reason(failure.code, f"{failure.detail}: looked for {path}")
    return None


def extension(path: str) -> str:
    """The extension of a file in lower case, without its dot."""
    return os.path.splitext(path)[1][1:].lower()


def stem(path: str) -> str:
    """The file name of a path without its extension."""
    return os.path.splitext(path.rpartition("/")[2])[0]


def parent_name(path: str) -> str:
    """The name of the folder that a path lies in, "" at the top."""
    return path.rpartition("/")[0].rpartition("/")[2]

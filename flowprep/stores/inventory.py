"""What lies in a tree of JPEG files of another tool, by the names of its files alone.

A folder with at least one file that the layout would name is the folder of a video. Only first and last number and the
count of each stream are kept, so that a hundred million names need little memory.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeAlias

from flowprep.errors import MissingDataError, SettingsError, StoreError
from flowprep.stores.places import RESERVED

Series: TypeAlias = tuple[str, int]
"""Stream and step of a row of files; the step is 1 where the names do not say it."""

_NUMBER = r"([1-9][0-9]{%d,}|[0-9]{%d})"
_DIGITS = {"feichtenhofer": 6}
_PATTERNS: Mapping[str, str] = {
    "flowprep": r"(img|flow_x|flow_y|back_x|back_y)()_",
    "denseflow": r"(img|flow_x|flow_y)(?:_([pm][1-9][0-9]*))?_",
    "mmaction2": r"(img|x|y)()_",
    "tsn": r"(img|flow_x|flow_y)()_",
    "feichtenhofer": r"(frame)()",
}
_STREAM_OF_PREFIX = {"img": "rgb", "x": "flow_x", "y": "flow_y"}
_ROOTS: Mapping[str, Mapping[str, str]] = {
    "feichtenhofer": {"jpegs_256": "rgb", "tvl1_flow/u": "flow_x", "tvl1_flow/v": "flow_y"}
}
_MAX_NAMED = 3


@dataclass(slots=True)
class Span:
    """The files of one series: smallest and largest number, and how many there are."""

    first: int
    last: int
    num: int = 1

    def add(self, number: int) -> None:
        """Take in one more file."""
        self.first, self.last, self.num = min(self.first, number), max(self.last, number), self.num + 1


@dataclass(slots=True)
class FoundVideo:
    """The folder (or three folders) of one video: its files by series, and those that belong to none."""

    location: str
    spans: dict[Series, Span] = field(default_factory=dict)
    num_others: int = 0
    others: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Inventory:
    """All videos of a tree by the bytes of their location, and what is outside of their folders.

    `linked` are links to folders, which are not followed.
    """

    videos: tuple[FoundVideo, ...]
    num_strays: int
    strays: tuple[str, ...]
    linked: tuple[str, ...]


def take_inventory(root: Path, layout: str) -> Inventory:
    """Look through a tree. Hidden files and folders are left out, as are the books of a store.

    Raises:
        MissingDataError: there is no such folder.
        SettingsError: it holds no video of the layout, or is itself the folder of one.
        StoreError: a folder cannot be read.
    """
    if not root.is_dir():
        raise MissingDataError(f"there is no folder {root}")
    pattern = _pattern(layout)
    videos: dict[str, FoundVideo] = {}
    strays: list[str] = []
    linked: list[str] = []
    num_strays = 0
    for base, stream in _ROOTS.get(layout, {"": ""}).items():
        for folder, names in _folders(root, base, linked):
            found = FoundVideo(folder)
            others = []
            for name in names:
                match = pattern.fullmatch(name)
                if match is None:
                    others.append(name)
                    continue
                series, number = (stream, 1) if stream else _series(match), int(match[3])
                if span := found.spans.get(series):
                    span.add(number)
                else:
                    found.spans[series] = Span(number, number)
            if not found.spans:
                num_strays += len(others)
                strays += [f"{folder}/{name}".lstrip("/") for name in others[: _MAX_NAMED - len(strays)]]
                continue
            if not folder:
                raise SettingsError(f"{root} is itself the folder of one video; name the folder that holds it")
            video = videos.setdefault(folder, FoundVideo(folder))
            video.spans.update(found.spans)
            video.num_others += len(others)
            video.others += sorted(others)[: _MAX_NAMED - len(video.others)]
    if not videos:
        raise SettingsError(f"{root} holds no video of layout {layout}{_other_layouts(root, layout)}")
    ordered = sorted(videos.values(), key=lambda video: os.fsencode(video.location))
    return Inventory(tuple(ordered), num_strays, tuple(strays), tuple(sorted(linked)))


def layouts_of_file(name: str) -> list[str]:
    """The layouts with one folder a video that may name a file so."""
    return [layout for layout in _PATTERNS if layout not in _ROOTS and _pattern(layout).fullmatch(name)]


def _pattern(layout: str) -> re.Pattern[str]:
    digits = _DIGITS.get(layout, 5)
    return re.compile(_PATTERNS[layout] + _NUMBER % (digits, digits) + r"\.jpg")


def _series(match: re.Match[str]) -> Series:
    """The step is in denseflow's names: `p3` or, for flow from the later image to the earlier one, `m3`."""
    prefix, infix = match[1], match[2]
    if not infix:
        return _STREAM_OF_PREFIX.get(prefix, prefix), 1
    direction = "flow" if infix[0] == "p" else "back"
    return f"{direction}_{prefix[-1]}", int(infix[1:])


def _folders(root: Path, base: str, linked: list[str]) -> Iterator[tuple[str, list[str]]]:
    """Each folder below `root/base`, relative to it, with the names of its files; links to folders go to `linked`."""
    waiting = [""]
    while waiting:
        folder = waiting.pop()
        path = os.path.join(root, base, folder)
        names = []
        try:
            with os.scandir(path) as entries:
                for entry in entries:
                    if entry.name.startswith(".") or (not folder and not base and entry.name in RESERVED):
                        continue
                    place = f"{folder}/{entry.name}" if folder else entry.name
                    if entry.is_dir(follow_symlinks=False):
                        waiting.append(place)
                    elif entry.is_dir():
                        linked.append(f"{base}/{place}" if base else place)
                    else:
                        names.append(entry.name)
        except FileNotFoundError:
            if folder:
                raise
            return  # a tree without images, or without flow
        except OSError as error:
            raise StoreError(f"{path} cannot be read: {error.strerror}") from error
        yield folder, names


def _other_layouts(root: Path, layout: str) -> str:
    """What else the tree may be, from the first folders with JPEG files."""
    if any((root / base).is_dir() for base in _ROOTS["feichtenhofer"]):
        return "; its folders are those of layout feichtenhofer"
    for _, names in _folders(root, "", []):
        jpegs = [name for name in names if name.endswith((".jpg", ".jpeg", ".png"))]
        if jpegs:
            fitting = [other for other in layouts_of_file(min(jpegs)) if other != layout]
            hint = f", which are named as in layout {' or '.join(fitting)}" if fitting else ""
            return f"; there are files such as {min(jpegs)}{hint}"
    return ": there are no JPEG files"

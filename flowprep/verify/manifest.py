"""The lines of a manifest against the list: each video's line once, in order."""

from __future__ import annotations

import itertools
import json
import os
from array import array
from collections.abc import Mapping
from typing import Any, final

from flowprep.config import ExtractSettings
from flowprep.records import Row
from flowprep.stores.manifest import header_line, row_line
from flowprep.stores.places import MANIFEST
from flowprep.verify.files import UNTRUSTED, Files, open_regular
from flowprep.verify.findings import Finding, Remedy


@final
class ManifestLines:
    """Where each video's line is. `problems` are all that is wrong with the lines but their content.

    `position` has the place in the list by id. `num_videos` counts the lines, which are fewer where the list has grown.
    """

    def __init__(self, files: Files, settings: ExtractSettings, position: Mapping[str, int]) -> None:
        self._settings = settings
        self._fd = open_regular(f"{files.out}/{MANIFEST}")
        self._offsets = array("q", itertools.repeat(-1, len(position)))
        self._numbers = array("q", itertools.repeat(0, len(position)))
        self.num_videos = 0
        self.problems: list[Finding] = []
        self._scan(files, position)
        self.problems += [
            manifest_finding("missing", "has no line of this video", video)
            for video, index in position.items()
            if self._offsets[index] < 0
        ]

    def __del__(self) -> None:
        if (fd := getattr(self, "_fd", -1)) >= 0:
            os.close(fd)

    def _scan(self, files: Files, position: Mapping[str, int]) -> None:
        latest = -1

        def wrong(kind: str, text: str, video: str = "") -> None:
            self.problems.append(manifest_finding(kind, text, video))

        with files.path(MANIFEST).open("rb") as file:
            first = file.readline()
            offset = len(first)
            for number, line in enumerate(file, 2):
                self.num_videos += 1
                video = _id_of(line)
                index = None if video is None else position.get(video)
                if video is None or not line.endswith(b"\n"):
                    wrong("damaged", f"line {number} is not the row of a video")
                elif index is None:
                    wrong("added", f"line {number} is of a video that is not in the list", video)
                elif self._offsets[index] >= 0:
                    wrong("added", f"lines {self._numbers[index]} and {number} are of one video", video)
                else:
                    self._offsets[index], self._numbers[index] = offset, number
                    if index < latest:
                        wrong("disagrees", f"line {number} is not at its place in the list", video)
                    latest = max(latest, index)
                offset += len(line)
        if first != f"{header_line(self._settings, self.num_videos)}\n".encode():
            wrong("damaged", "line 1 is not the header of this store and of so many videos")

    def compare(self, index: int, row: Row) -> Finding | None:
        """What is wrong with a video's line where its row is this one. A missing line is among the `problems`."""
        line, expected = self._line(index), row_line(row, self._settings).encode() + b"\n"
        if line in (b"", expected):
            return None
        there, here = json.loads(line), json.loads(expected)
        names = ", ".join(sorted(name for name in {*there, *here} if there.get(name) != here.get(name)))
        text = f"line {self._numbers[index]} is not the row of its video" + (f": {names} differ" if names else "")
        return manifest_finding("disagrees", text, row.id)

    def row(self, index: int) -> Row | None:
        """The row of a video's line; None where there is none that can be read."""
        try:
            data = json.loads(self._line(index))
            data["location"] = data.pop("folder" if self._settings.store.format == "jpeg" else "shard")
            return Row.from_json(data)
        except UNTRUSTED:
            return None

    def _line(self, index: int) -> bytes:
        """Bytes of a video's line; none where it has no line."""
        offset, size = self._offsets[index], 4096
        while offset >= 0:
            line, end, _ = os.pread(self._fd, size, offset).partition(b"\n")
            if end or len(line) < size:
                return line + end
            size *= 4
        return b""


def manifest_finding(kind: str, text: str, video: str = "") -> Finding:
    """Something that is wrong with the manifest."""
    return Finding(kind=kind, path=MANIFEST, text=text, video=video, remedy=Remedy.TOP)


def _id_of(line: bytes) -> str | None:
    try:
        data: Any = json.loads(line)
        return data["id"] if isinstance(data["id"], str) else None
    except UNTRUSTED:
        return None

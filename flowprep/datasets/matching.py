"""Which file on disk is meant by `<class>/<file>` of an official list."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

from flowprep.datasets.ids import fold
from flowprep.datasets.scan import VIDEO_EXTENSIONS, Scan, probe
from flowprep.records import Reason


@dataclass(frozen=True, slots=True, kw_only=True)
class Match:
    """The relative path of a listed video, why it cannot be used if so, and all files that it could be."""

    path: str
    problem: Reason | None
    candidates: tuple[str, ...] = ()


class FileIndex:
    """The video files of a folder by class folder and name, without case, Unicode form and extension.

    A listed `Class/a.avi` is the first of these that exists: that path; one file of that name in a folder of that name
    (at any depth, since archives unpack into one more folder); one with another extension there (a transcoded copy);
    the same two at the top of the video folder. Several at one step are ambiguous.
    """

    def __init__(self, videos: Path, found: Scan) -> None:
        self._videos = videos
        self._problems = found.problems
        self._by_key: dict[str, list[str]] = defaultdict(list)
        for path in found.with_extension(VIDEO_EXTENSIONS):
            self._by_key[_key(path)].append(path)

    def find(self, listed: str) -> Match:
        """The file that `listed`, a path `<class>/<file>`, stands for."""
        name = listed.rpartition("/")[2]
        for wanted in (listed, name):
            paths = self._by_key.get(_key(wanted), [])
            if wanted in paths:
                paths = [wanted]
            elif len(paths) > 1:
                paths = [path for path in paths if fold(path.rpartition("/")[2]) == fold(name)] or paths
            if len(paths) == 1:
                return Match(path=paths[0], problem=self._problems.get(paths[0]), candidates=(paths[0],))
            if paths:
                detail = f"{listed} may be any of {', '.join(paths)}; keep one of them"
                return Match(path=listed, problem=Reason("ambiguous", detail), candidates=tuple(paths))
        return Match(path=listed, problem=probe(self._videos, listed))


def _key(path: str) -> str:
    """The last folder's name and the file name without extension, folded."""
    folder, _, name = path.rpartition("/")
    folder = folder.rpartition("/")[2]
    stem = name.rpartition(".")[0] or name
    return fold(f"{folder}/{stem}" if folder else stem)

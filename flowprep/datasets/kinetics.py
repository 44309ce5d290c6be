"""Kinetics-400, -600 and -700 with their official CSV lists.

Columns `label, youtube_id, time_start, time_end, split` in any order, others ignored; lists for testing have no label.
A clip is the part of a video between two whole seconds; downloaders name it `<id>_<start:06d>_<end:06d>` or `<id>`.
"""

from __future__ import annotations

import csv
import os
import re
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from flowprep.datasets.folder import list_unsplit
from flowprep.datasets.ids import fold
from flowprep.datasets.listing import PARTS, check_has_videos, class_labels, finish_listing
from flowprep.datasets.scan import VIDEO_EXTENSIONS, Scan, parent_name, probe, scan, stem
from flowprep.datasets.text import read_text
from flowprep.errors import DatasetError, MissingDataError
from flowprep.records import Listing, Reason, Segment, Video

_SECONDS = re.compile(r"([0-9]{1,6})(?:\.0*)?")
_ID = re.compile(r"[A-Za-z0-9_-]+")
_COLUMNS = ("youtube_id", "time_start", "time_end")


@dataclass(frozen=True, slots=True)
class _Clip:
    """One row of a CSV: a part of a YouTube video, in whole seconds. Equal rows are one clip."""

    youtube_id: str
    start: int
    end: int

    @property
    def name(self) -> str:
        return f"{self.youtube_id}_{self.start:06d}_{self.end:06d}"


def list_kinetics(videos: Path, splits: Path | None, found: Scan | None = None) -> Listing:
    """All clips of the CSV files in `splits` (or of one, if it is a file), training lists first, in list order.

    The part (train, val, test of the one split "official") is in the column `split`, else in the CSV's name. Videos lie
    in class folders, written with blanks or underscores, or anywhere else below `videos`. A file that is named with
    times is that clip; one that is named by id alone may be cut or whole (`Segment.certain` is False), and is taken
    only where a single clip has that id: otherwise these clips are `ambiguous`. Without `splits` all video files are
    taken, with their folder as class.

    Raises MissingDataError where lists are missing, DatasetError with file and line where they are malformed.
    """
    if splits is None:
        return list_unsplit("kinetics", videos, class_of=parent_name, id_of=stem, found=found)
    clips: dict[_Clip, str] = {}  # clip: class, in list order
    positions: dict[_Clip, int] = {}
    parts: dict[str, dict[int, None]] = {}
    num_duplicates = num_relabelled = 0
    for part, clip, class_name in _rows(splits):
        position = positions.setdefault(clip, len(positions))
        if clip in clips:
            num_duplicates += 1
            num_relabelled += bool(class_name and clips[clip] and class_name != clips[clip])
            class_name = clips[clip] or class_name
        clips[clip] = class_name
        parts.setdefault(part, {})[position] = None
    notes = []
    if num_relabelled:
        notes.append(f"{num_relabelled} clips are listed under several classes; the class listed first holds.")
    if parts.pop("", None):
        notes.append("Some clips are in no part: neither their CSV's `split` column nor its name says which.")
    labels = class_labels(clips.values())
    found = found or scan(videos)
    check_has_videos("kinetics", videos, found)
    files = _Files(videos, found, clips)
    return finish_listing(
        "kinetics",
        [files.video(clip, class_name, labels.get(class_name, -1)) for clip, class_name in clips.items()],
        found=found,
        classes=labels,
        parts={"official": {part: list(chosen) for part, chosen in parts.items()}},
        also_listed=files.also_listed,
        notes=notes,
        num_duplicates=num_duplicates,
    )


class _Files:
    """The video files by what their names say, and which clip each one is."""

    def __init__(self, videos: Path, found: Scan, clips: dict[_Clip, str]) -> None:
        self._videos = videos
        self._problems = found.problems
        self._num_clips = Counter(clip.youtube_id for clip in clips)
        self._by_stem: dict[str, list[str]] = defaultdict(list)
        for path in found.with_extension(VIDEO_EXTENSIONS):
            self._by_stem[stem(path)].append(path)
        self.also_listed: list[str] = []

    def video(self, clip: _Clip, class_name: str, label: int) -> Video:
        """The entry of one clip."""
        expected = f"{class_name.replace('/', '_')}/{clip.name}.mp4" if class_name else f"{clip.name}.mp4"
        path, segment, problem = expected, None, None
        timed = self._in_class(self._by_stem.get(clip.name, []), class_name)
        bare = self._in_class(self._by_stem.get(clip.youtube_id, []), class_name)
        candidates = timed or bare
        if not candidates:
            problem = probe(self._videos, expected)
        elif len(candidates) > 1:
            problem = Reason("ambiguous", f"{clip.name} may be any of {', '.join(candidates)}; keep one of them")
        elif not timed and self._num_clips[clip.youtube_id] > 1:
            problem = Reason(
                "ambiguous",
                f"{bare[0]} may be any of {self._num_clips[clip.youtube_id]} listed clips of {clip.youtube_id}; "
                f"name it {clip.name}",
            )
        else:
            path = candidates[0]
            problem = self._problems.get(path)
        if not timed and candidates:
            segment = Segment(start_seconds=float(clip.start), end_seconds=float(clip.end), certain=False)
        self.also_listed += candidates
        return Video(id=clip.name, path=path, class_name=class_name, label=label, segment=segment, problem=problem)

    @staticmethod
    def _in_class(paths: list[str], class_name: str) -> list[str]:
        """Those in the class folder where there are several files of one name."""
        if len(paths) < 2:
            return paths
        return [path for path in paths if _spelling(parent_name(path)) == _spelling(class_name)] or paths


def _spelling(class_name: str) -> str:
    return fold(class_name).replace("_", " ")


def _csv_files(splits: Path) -> list[Path]:
    """The CSV files, those for training first, then validation and testing, then by name."""
    if not splits.is_dir():
        return [splits]
    # Not the hidden `._` files that macOS puts beside others.
    files = [path for path in splits.iterdir() if path.suffix.lower() == ".csv" and not path.name.startswith(".")]
    if not files:
        raise MissingDataError(
            f"the folder {splits} holds no CSV file; put the official lists there (train.csv, val.csv, test.csv)"
        )
    order = {"train": 0, "val": 1, "test": 2, "": 3}
    return sorted(files, key=lambda path: (order[_part(path.stem)], os.fsencode(path.name)))


def _part(text: str) -> str:
    """train, val, test, or "" for the content of a split column or a file name."""
    words = re.split(r"[^a-z]+", text.lower())
    return next((part for part in PARTS if any(word.startswith(part) for word in words)), "")


def _rows(splits: Path) -> Iterator[tuple[str, _Clip, str]]:
    """(part, clip, class) of every row of every CSV."""
    for path in _csv_files(splits):
        reader = csv.reader(read_text(path).split("\n"), strict=True)
        try:
            header = [name.strip().lower() for name in next(reader, [])]
            missing = [name for name in _COLUMNS if name not in header]
            if missing:
                raise DatasetError(
                    f"{path}, line 1: the column {missing[0]} is missing; a Kinetics list has the header "
                    "label,youtube_id,time_start,time_end,split"
                )
            places = [header.index(name) for name in _COLUMNS]
            label_place = header.index("label") if "label" in header else -1
            part_place = header.index("split") if "split" in header else -1
            part_of_name = _part(path.stem)
            for row in reader:
                if not any(field.strip() for field in row):
                    continue
                where = f"{path}, line {reader.line_num}"
                if len(row) != len(header):
                    raise DatasetError(f"{where}: expected {len(header)} columns as in the header, got {len(row)}")
                clip = _clip(where, *(row[place].strip() for place in places))
                part = _part(row[part_place]) if part_place >= 0 else part_of_name
                yield part, clip, row[label_place].strip() if label_place >= 0 else ""
        except csv.Error as error:
            raise DatasetError(f"{path}, line {reader.line_num}: not a row of a CSV file: {error}") from error


def _clip(where: str, youtube_id: str, start: str, end: str) -> _Clip:
    if not _ID.fullmatch(youtube_id):
        raise DatasetError(f"{where}: {youtube_id!r} is not a YouTube id")
    times = [int(match[1]) for text in (start, end) if (match := _SECONDS.fullmatch(text))]
    if len(times) != 2 or times[0] >= times[1]:
        raise DatasetError(f"{where}: start and end must be whole seconds, start first, got {start!r} and {end!r}")
    return _Clip(youtube_id, *times)

"""From entries to a `Listing`, and what is missing in one."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from itertools import combinations
from pathlib import Path

from flowprep.datasets.ids import finish_ids, raw_bytes
from flowprep.datasets.places import how_to_obtain
from flowprep.datasets.scan import VIDEO_EXTENSIONS, Scan
from flowprep.errors import DatasetError, MissingDataError
from flowprep.records import Listing, Video

PARTS = ("train", "val", "test")


def class_labels(names: Iterable[str]) -> dict[str, int]:
    """Labels from 0 of the class names, sorted by their bytes; the empty name, which is no class, has none."""
    return {name: label for label, name in enumerate(sorted(set(names) - {""}, key=raw_bytes))}


def finish_listing(
    dataset: str,
    videos: Sequence[Video],
    *,
    found: Scan,
    classes: Iterable[str] = (),
    parts: Mapping[str, Mapping[str, Sequence[int]]] | None = None,
    also_listed: Iterable[str] = (),
    notes: Iterable[str] = (),
    num_duplicates: int = 0,
) -> Listing:
    """The listing of `videos`, with final ids and the video files that nothing names.

    `parts` maps split to part to indices into `videos`. `also_listed` are files that an entry means without having
    taken them (ambiguous ones).

    Raises DatasetError if there is no video.
    """
    if not videos:
        raise DatasetError(f"the {dataset} listing has no video: nothing to do; check --videos and --splits")
    finished = finish_ids(videos)
    parts = parts or {}
    listed = {video.path for video in videos}.union(also_listed)
    return Listing(
        dataset=dataset,
        videos=finished,
        classes=tuple(classes),
        splits={
            split: {part: tuple(finished[index].id for index in by_part[part]) for part in PARTS if part in by_part}
            for split, by_part in parts.items()
        },
        unlisted=tuple(path for path in found.with_extension(VIDEO_EXTENSIONS) if path not in listed),
        notes=(*found.notes, *notes, *_overlaps(parts)),
        num_duplicates=num_duplicates,
    )


def _overlaps(parts: Mapping[str, Mapping[str, Sequence[int]]]) -> list[str]:
    """A note for each two parts of a split that share videos, which no official split does."""
    return [
        f"In split {split} the parts {one} and {other} share {num_shared} of their videos."
        for split, by_part in parts.items()
        for one, other in combinations(sorted(by_part), 2)
        if (num_shared := len({*by_part[one]} & {*by_part[other]}))
    ]


def check_has_videos(dataset: str, videos: Path, found: Scan) -> None:
    """Raises MissingDataError if there is no video file at all below `videos`: then it is not the dataset's folder."""
    if not found.with_extension(VIDEO_EXTENSIONS):
        raise MissingDataError(
            f"the folder {videos} holds no video file, so it is not the video folder of {dataset}. "
            f"{how_to_obtain(dataset, videos)}"
        )


def missing_by_class_and_split(listing: Listing) -> list[tuple[str, str, int]]:
    """How many listed videos are missing on disk: (class, split and part such as "1 train", count), sorted.

    A video counts once for each split that it is in; one that no split uses counts under "".
    """
    missing = {
        video.id: video.class_name
        for video in listing.videos
        if video.problem is not None and video.problem.code == "missing"
    }
    places: dict[str, list[str]] = defaultdict(list)
    for split, parts in listing.splits.items():
        for part, ids in parts.items():
            for video_id in ids:
                if video_id in missing:
                    places[video_id].append(f"{split} {part}")
    counts = Counter(
        (class_name, place) for video_id, class_name in missing.items() for place in places.get(video_id, [""])
    )
    return sorted((class_name, place, count) for (class_name, place), count in counts.items())

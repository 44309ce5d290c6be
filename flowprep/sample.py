"""Pairs of frames spread over videos, made exactly as `extract` makes them: what a benchmark computes flow of."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from flowprep.config import DecodeSettings, ResizeSettings
from flowprep.datasets.folder import list_folder
from flowprep.decode import VideoReader
from flowprep.errors import DatasetError, VideoError, looking
from flowprep.records import Video
from flowprep.resize import grey, resize, target_size

_SPAN_FRAMES = 2000
"""Pairs are spread over this many frames of a video at most: those before a pair must be decoded to reach it."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class FramePair:
    """Frames `index` and `index + 1` of a video in the stored size, grey uint8 (2, H, W)."""

    video: str
    index: int
    frames: npt.NDArray[np.uint8]


@dataclass(frozen=True, slots=True, kw_only=True)
class Unreadable:
    """A video that gave no pair, and why, in one sentence."""

    video: str
    why: str


def sample_pairs(videos: Path, num_pairs: int, resize_settings: ResizeSettings) -> Iterator[FramePair | Unreadable]:
    """Up to `num_pairs` pairs of a video file, or of the videos of a folder as `--dataset folder` finds them.

    The choice depends on names and lengths alone: videos at equal distances in the list, pairs at equal distances in
    each. A video that cannot be read costs its share of the pairs. Raises MissingDataError or DatasetError where there
    is no such file, or no video in the folder.
    """
    folder, listed = listed_videos(videos)
    num_videos = min(num_pairs, len(listed))
    for k, place in enumerate(spread(num_videos, len(listed))):
        video = listed[place]
        share = num_pairs * (k + 1) // num_videos - num_pairs * k // num_videos
        if video.problem is not None:
            yield Unreadable(video=video.path, why=video.problem.detail)
            continue
        try:
            yield from _pairs_of(video, folder, share, resize_settings)
        except VideoError as error:
            yield Unreadable(video=video.path, why=error.detail)


@looking()
def listed_videos(videos: Path) -> tuple[Path, list[Video]]:
    """A folder and its videos: those of a folder as `--dataset folder` finds them, or the one of a video file."""
    if videos.is_file():
        return videos.parent, [Video(id=videos.stem, path=videos.name)]
    try:
        return videos, list(list_folder(videos).videos)
    except DatasetError as error:
        raise DatasetError(f"the folder {videos} holds no video file; name another one, or a video file") from error


def spread(num_chosen: int, num_all: int) -> list[int]:
    """`num_chosen` of the numbers below `num_all`, rising, each in the middle of an equal share; fewer if too many."""
    return sorted({(2 * k + 1) * num_all // (2 * num_chosen) for k in range(num_chosen)})


def _pairs_of(video: Video, folder: Path, num_pairs: int, settings: ResizeSettings) -> Iterator[FramePair]:
    with VideoReader(folder / video.path, DecodeSettings(), video.segment) as reader:
        expected = min(reader.expected_frames or num_pairs + 1, _SPAN_FRAMES)
        wanted = spread(num_pairs, max(expected - 1, 1))
        earlier: npt.NDArray[np.uint8] | None = None
        for index, rgb in enumerate(reader.frames()):
            if index not in wanted and earlier is None:
                continue
            size = target_size(rgb.shape[1], rgb.shape[0], settings)
            image = grey(resize(rgb, size))
            if earlier is not None:
                yield FramePair(video=video.path, index=index - 1, frames=np.stack([earlier, image]))
            if index > wanted[-1]:
                return
            earlier = image if index in wanted else None
    raise VideoError("too_short", f"the video ends before frame {wanted[-1] + 1}")

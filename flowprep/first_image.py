"""The first image of a video, which layout tsn does not store, made from the video as `extract` would make it."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import final

from flowprep import source
from flowprep.config import ExtractSettings, ResizeSettings
from flowprep.datasets.matching import FileIndex
from flowprep.datasets.scan import scan
from flowprep.decode import VideoReader
from flowprep.encode import encode_rgb
from flowprep.errors import SettingsError, VideoError
from flowprep.records import Row, Video
from flowprep.resize import resize, target_size

_ANY_EXTENSION = ".avi"  # files are matched by their names without it


@final
class FirstImages:
    """Makes first images from the videos below a folder.

    Of a tree of another tool, whose JPEG settings nobody knows, `quality` must be given; its images are made in the
    size of the stored ones, and its videos found by class and name.
    """

    def __init__(self, videos: Path, settings: ExtractSettings, quality: int | None = None) -> None:
        if settings.store.adopted:
            if quality is None:
                raise SettingsError(
                    "the first image of each video has to be made, and the JPEG quality of this tree is not known; "
                    "give --quality (denseflow, dense_flow and gpu_flow use OpenCV's default, 95)"
                )
            settings = dataclasses.replace(settings, jpeg=dataclasses.replace(settings.jpeg, quality=quality))
        elif settings.changed_stages:
            raise SettingsError(
                "the first image of each video has to be made, and another version of flowprep has made the others "
                f"({settings.changed_stages}); extract anew with --layout"
            )
        elif quality not in (None, settings.jpeg.quality):
            raise SettingsError(
                f"the store has JPEG quality {settings.jpeg.quality}, not {quality}; leave --quality out"
            )
        self._videos, self._settings = videos, settings
        self._index = FileIndex(videos, scan(videos)) if settings.store.adopted else None

    def make(self, video: Video, row: Row) -> tuple[bytes, float]:
        """The JPEG and its time in seconds.

        Raises VideoError where the video is not there, cannot be decoded, or is not the one that the store was made of.
        """
        path = self._videos / self._path(video)
        if row.source_sha256:
            with source.opened(path) as file:
                version = source.fingerprint(file)
            if version.num_bytes != row.source_bytes or source.sha256_of(path, version) != row.source_sha256:
                raise VideoError("changed", f"{path} is not the file that the store was made of, by its SHA-256")
        with VideoReader(path, self._settings.decode, video.segment) as reader:
            frame = next(reader.frames(), None)
            if frame is None:
                raise VideoError("no_video", f"{path}: no frame can be decoded")
            height, width = frame.shape[:2]
            size = target_size(width, height, self._size(row))
            if (row.width, row.height) not in (size, (0, 0)):
                raise VideoError(
                    "size_change",
                    f"{path} gives images of {size[0]}x{size[1]} pixels where {row.width}x{row.height} are stored",
                )
            return encode_rgb(resize(frame, size), self._settings.jpeg), reader.pts_seconds[0]

    def _size(self, row: Row) -> ResizeSettings:
        if self._settings.store.adopted:
            return ResizeSettings(short_side=None, width=row.width, height=row.height)
        return self._settings.resize

    def _path(self, video: Video) -> str:
        if self._index is None:
            return video.path
        match = self._index.find(f"{video.path}{_ANY_EXTENSION}")
        if match.problem is not None:
            raise VideoError(match.problem.code, match.problem.detail)
        return match.path

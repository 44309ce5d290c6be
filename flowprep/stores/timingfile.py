"""timing.h5: the time of every image of a JPEG tree, since a tree of JPEGs has no place for it.

`id` (texts, in list order), `first` and `num` (int64, by video), `pts_seconds` (float64, by image). All contiguous.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from pathlib import Path

import h5py
import numpy as np
from numpy.typing import NDArray

from flowprep.datasets.ids import raw_bytes
from flowprep.errors import StoreError
from flowprep.stores.safe_h5 import disk_errors, opened

_BLOCK = 1 << 16  # images whose times are held at a time


def write_timing(path: Path, ids: Sequence[str], num: Sequence[int], times: Iterable[Sequence[float]]) -> None:
    """Write a new file. `times` gives for each id its `num` times in seconds, and is read one by one."""
    with disk_errors(path), h5py.File(path, "w-", libver=("v108", "v108"), locking=False, track_times=False) as file:
        data = np.array([raw_bytes(video_id) for video_id in ids], dtype=object)
        file.create_dataset("id", data=data, dtype=h5py.string_dtype("utf-8"), track_times=False)
        first = np.array([0, *itertools.accumulate(num)], dtype="<i8")
        file.create_dataset("first", data=first[:-1], track_times=False)
        file.create_dataset("num", data=np.array(num, dtype="<i8"), track_times=False)
        pts_seconds = file.create_dataset("pts_seconds", (int(first[-1]),), "<f8", track_times=False)
        block: list[float] = []
        done = 0
        for index, values in enumerate(times):
            assert len(values) == num[index], "a row and its times are written together"
            block += values
            if len(block) >= _BLOCK or index == len(ids) - 1:
                pts_seconds[done : done + len(block)] = block
                done += len(block)
                block.clear()


class Timing:
    """Times of the images of a tree. Raises StoreError if the file is missing, damaged or of another form."""

    def __init__(self, path: Path) -> None:
        with opened(path) as root:
            root.check_members({"id", "first", "num", "pts_seconds"})
            self._first, self._num = root.numbers("first", "<i8"), root.numbers("num", "<i8")
            self._pts_seconds: NDArray[np.float64] = root.numbers("pts_seconds", "<f8")
            ids = root.texts("id")
        ends = self._first + self._num
        if not len(ids) == len(self._first) == len(self._num) or (len(ids) and ends.max() > len(self._pts_seconds)):
            raise StoreError(f"{path}: its arrays do not fit each other; the file is damaged")
        self._positions = {video_id: k for k, video_id in enumerate(ids)}
        self._path = path

    def pts_seconds(self, video_id: str) -> NDArray[np.float64]:
        """Time of each image of a video in seconds, float64 (frames,)."""
        position = self._positions.get(raw_bytes(video_id))
        if position is None:
            raise StoreError(f"{self._path} has no times of {video_id!r}; it is not of this manifest")
        first = int(self._first[position])
        return self._pts_seconds[first : first + int(self._num[position])].copy()

"""HDF5 files from others, opened so that nothing outside the file is read and no size is believed.

HDF5 follows external links, external raw storage and virtual datasets without asking, and a file of a kilobyte may
announce a dataset of gigabytes. Here every member must be a hard link, every array contiguous, unfiltered and inside
the file; its bytes are then read by offset, without HDF5.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import DTypeLike, NDArray

from flowprep.errors import StoreError


@dataclass(frozen=True, slots=True)
class ArrayPlace:
    """A one-dimensional array inside a file: byte offset of its first element, and number of elements."""

    offset: int
    size: int


@contextlib.contextmanager
def opened(path: Path) -> Iterator[SafeGroup]:
    """The root of an HDF5 file. Raises StoreError if it is missing, no regular file, or not readable as HDF5."""
    try:
        status = path.lstat()
    except OSError as error:
        raise StoreError(f"{path} cannot be read: {error.strerror}") from error
    if not stat.S_ISREG(status.st_mode):
        raise StoreError(f"{path} must be a regular file; links are not followed")
    try:
        # A published file never changes, so that it needs no lock; shared disks often have none.
        file = h5py.File(path, "r", locking=False)
    except OSError as error:
        raise StoreError(f"{path} is not a whole HDF5 file: {error}") from error
    with file:
        try:
            yield SafeGroup(path, file, status.st_size, "")
        except StoreError:
            raise
        except (OSError, RuntimeError, KeyError, TypeError, ValueError) as error:
            raise StoreError(f"{path} is damaged: {error}") from error


@dataclass(frozen=True, slots=True)
class SafeGroup:
    """A group, its name for messages, and the size of the file that everything must lie in."""

    path: Path
    group: Any
    file_bytes: int
    name: str

    def check_members(self, allowed: set[str]) -> None:
        """Raises StoreError if there is a member that the format does not have."""
        for name in self.group:
            if name not in allowed:
                raise self.error(name, "is not part of the format")

    def subgroup(self, name: str) -> SafeGroup:
        """A group inside this one."""
        group = self._member(name)
        if not isinstance(group, h5py.Group):
            raise self.error(name, "must be a group")
        return SafeGroup(self.path, group, self.file_bytes, f"{self.name}/{name}")

    def has(self, name: str) -> bool:
        """True if there is a member of this name."""
        return name in self.group

    def place(self, name: str, dtype: DTypeLike) -> ArrayPlace:
        """Where the elements of a dataset lie."""
        dataset = self._dataset(name)
        if dataset.dtype != np.dtype(dtype):
            raise self.error(name, f"must have type {np.dtype(dtype)}, has {dataset.dtype}")
        return self._place(name, dataset, np.dtype(dtype).itemsize)

    def numbers(self, name: str, dtype: DTypeLike) -> NDArray[Any]:
        """The elements of a small dataset."""
        self.place(name, dtype)
        return np.asarray(self.group[name][:])

    def texts(self, name: str) -> list[bytes]:
        """The elements of a dataset of texts, as the bytes that were written."""
        dataset = self._dataset(name)
        if h5py.check_string_dtype(dataset.dtype) is None:
            raise self.error(name, "must hold texts")
        self._place(name, dataset, dataset.id.get_type().get_size())
        return [bytes(text) for text in dataset[:]]

    def text_attribute(self, name: str) -> str:
        """A text stored with the group."""
        value = self.group.attrs.get(name)
        if not isinstance(value, str):
            raise StoreError(f"{self.path}: attribute {name} must be a text")
        return value

    def number_attribute(self, name: str) -> int:
        """A whole number stored with the group."""
        value = self.group.attrs.get(name)
        if not isinstance(value, np.integer):
            raise StoreError(f"{self.path}: attribute {name} must be a whole number")
        return int(value)

    def error(self, name: str, problem: str) -> StoreError:
        """A StoreError about a member."""
        return StoreError(
            f"{self.path}: {self.name}/{name} {problem}; the file was not written by flowprep or is damaged"
        )

    def _member(self, name: str) -> Any:
        link = self.group.get(name, getlink=True)
        if link is None:
            raise self.error(name, "is missing")
        if not isinstance(link, h5py.HardLink):
            raise self.error(name, "is a link, which is refused")
        return self.group[name]

    def _dataset(self, name: str) -> Any:
        dataset = self._member(name)
        if not isinstance(dataset, h5py.Dataset):
            raise self.error(name, "must be a dataset")
        creation = dataset.id.get_create_plist()
        if creation.get_layout() != h5py.h5d.CONTIGUOUS or creation.get_nfilters():
            raise self.error(name, "must be contiguous and unfiltered")
        if creation.get_external_count():
            raise self.error(name, "has its bytes in another file, which is refused")
        if dataset.ndim != 1:
            raise self.error(name, f"must have one dimension, has {dataset.ndim}")
        return dataset

    def _place(self, name: str, dataset: Any, item_bytes: int) -> ArrayPlace:
        size = int(dataset.shape[0])
        if size == 0:
            return ArrayPlace(0, 0)
        offset = dataset.id.get_offset()
        if offset is None or offset + size * item_bytes > self.file_bytes:
            raise self.error(name, f"announces {size} elements, which are not in the file's {self.file_bytes} bytes")
        return ArrayPlace(int(offset), size)


@contextlib.contextmanager
def disk_errors(path: Path) -> Iterator[None]:
    """Give errors of the disk while HDF5 writes `path` their number, which is sometimes only in the text."""
    try:
        yield
    except (OSError, RuntimeError) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise
        number = re.search(r"errno = (\d+)", str(error))
        code = int(number[1]) if number else errno.EIO
        raise OSError(code, os.strerror(code), str(path)) from error

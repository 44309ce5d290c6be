"""Rows of numbers that are too many for memory, written by several processes and read by the first.

Note [a file a process]: processes of several machines do not write into one file here, not even into different rows. A
network disk writes back whole pages, and one that holds the border of two rows would lose one of them. Rows are
written, not mapped: on a full disk a mapped file ends its process without a word.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from types import TracebackType
from typing import Self, final

import numpy as np
from numpy.typing import NDArray

from flowprep.errors import RunStoppedError
from fusion_train.outage import writing


@final
class RowFile:
    """float32 rows (D,) at their places, in a file made `anew` or one that is there; what is not written is a hole."""

    def __init__(self, path: Path, num_columns: int, *, anew: bool = True) -> None:
        """Raises RunStoppedError or MissingDataError where the file cannot be written, as `write` does."""
        self.path = path
        self.num_columns = num_columns
        with writing(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file = path.open("wb" if anew else "r+b")

    def write(self, place: int, row: NDArray[np.float32]) -> None:
        """Write a row (D,)."""
        assert row.shape == (self.num_columns,)
        with writing(self.path):
            self._file.seek(place * row.nbytes)
            self._file.write(np.ascontiguousarray(row, np.float32).data)

    def take(self, path: Path, places: Iterable[int]) -> None:
        """Copy rows of another process's file, which is closed.

        Raises:
            RunStoppedError: It cannot be seen from here.
        """
        try:
            with path.open("rb") as file:
                for place in places:
                    file.seek(place * self.num_columns * 4)
                    row = np.frombuffer(file.read(self.num_columns * 4), np.float32)
                    if len(row) < self.num_columns:
                        raise EOFError("it ends too early")
                    self.write(place, row)
        except RunStoppedError:
            raise
        except (OSError, EOFError, ValueError) as error:
            raise RunStoppedError(
                f"the features of another process in {path} cannot be read ({error}); the folder of the results must "
                "lie on a disk that all machines see"
            ) from error

    def close(self) -> None:
        """Have all rows on the disk, as far as other machines are concerned."""
        with writing(self.path):
            self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def mapped_rows(path: Path, shape: tuple[int, int]) -> NDArray[np.float32]:
    """All rows (N, D) of a file that is closed, read where they are looked at; changes do not reach the file."""
    return np.memmap(path, np.float32, "c", shape=shape)

"""Rows of several processes, each in a file of its own, come together in the first one's."""

from __future__ import annotations

import contextlib
import resource
from pathlib import Path

import numpy as np
import pytest

from flowprep.errors import MissingDataError, RunStoppedError
from fusion_train.rowfile import RowFile, mapped_rows

ROWS = np.random.default_rng(0).standard_normal((7, 33)).astype(np.float32)  # rows of 132 bytes end inside pages


def write(path: Path, places: list[int]) -> Path:
    with RowFile(path, ROWS.shape[1]) as rows:
        for place in places:
            rows.write(place, ROWS[place])
    return path


def test_rows_of_all_processes_are_at_their_places(tmp_path: Path) -> None:
    own = write(tmp_path / "0", [6, 0, 3])
    others = {write(tmp_path / "1", [4, 1]): [4, 1], write(tmp_path / "2", [2, 5]): [2, 5]}
    with RowFile(own, ROWS.shape[1], anew=False) as rows:
        for path, places in others.items():
            rows.take(path, places)
    found = mapped_rows(own, ROWS.shape)
    np.testing.assert_array_equal(found, ROWS)
    found[0] = 0
    np.testing.assert_array_equal(mapped_rows(own, ROWS.shape), ROWS)


def test_a_file_begins_anew(tmp_path: Path) -> None:
    write(tmp_path / "0", list(range(7)))
    assert write(tmp_path / "0", [0]).stat().st_size == ROWS[0].nbytes


@pytest.mark.parametrize("content", [None, b"", ROWS.tobytes()[:-1]])
def test_a_file_of_another_machine_that_is_not_seen_whole_is_said(tmp_path: Path, content: bytes | None) -> None:
    if content is not None:
        (tmp_path / "1").write_bytes(content)
    with (
        RowFile(tmp_path / "0", ROWS.shape[1]) as rows,
        pytest.raises(RunStoppedError, match=r"in .*/1 cannot be read \(.+\); the folder of the results must lie on a"),
    ):
        rows.take(tmp_path / "1", [6])


def test_a_full_disk_is_said(tmp_path: Path) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    with contextlib.ExitStack() as stack:
        stack.callback(resource.setrlimit, resource.RLIMIT_FSIZE, (soft, hard))
        resource.setrlimit(resource.RLIMIT_FSIZE, (200, hard))
        with pytest.raises(RunStoppedError, match=r"/0 cannot be written: File too large"):
            write(tmp_path / "0", [0, 1, 2])
    with pytest.raises(MissingDataError, match=r"/0/1 cannot be written"):
        write(tmp_path / "0" / "1", [0])

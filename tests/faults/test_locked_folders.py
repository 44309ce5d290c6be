"""Videos, lists and stores below a folder that may not be entered, as another user's: one sentence, no traceback."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from flowprep import machine, overwrite, resume
from flowprep.config import ExtractSettings, SynthSettings
from flowprep.convert import _check_places
from flowprep.datasets import find_places, list_videos
from flowprep.datasets.synthetic import make_synthetic
from flowprep.errors import MissingDataError, looking
from flowprep.sample import listed_videos
from flowprep.stores import open_store
from flowprep.verify import verify


@pytest.fixture
def inner(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder below a locked one. Permissions do not stop root, which tests may run as."""
    real = os.stat

    def stat(path: Any, *arguments: Any, **options: Any) -> os.stat_result:
        if not isinstance(path, int) and "locked/" in os.fspath(path):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), os.fspath(path))
        return real(path, *arguments, **options)

    (tmp_path / "locked" / "inner").mkdir(parents=True)
    monkeypatch.setattr(os, "stat", stat)
    return tmp_path / "locked" / "inner"


@pytest.mark.parametrize(
    "look",
    [
        lambda inner: find_places("ucf101", videos=inner),
        lambda inner: find_places("ucf101", videos=inner.parents[1], splits=inner),
        lambda inner: open_store(inner),
        lambda inner: verify(inner),
        lambda inner: listed_videos(inner),
        lambda inner: make_synthetic(inner, SynthSettings()),
        lambda inner: overwrite.recover(inner / "out"),
        lambda inner: resume.check(inner, ExtractSettings()),
        lambda inner: _check_places(inner.parents[1] / "store", inner / "out"),
    ],
)
def test_places_that_cannot_be_looked_at_are_said(inner: Path, look: Callable[[Path], object]) -> None:
    with pytest.raises(MissingDataError, match=r"locked/inner.* cannot be looked at: Permission denied; see that"):
        look(inner)


def test_lists_that_cannot_be_read_are_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def listdir(path: Any) -> list[str]:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), os.fspath(path))

    monkeypatch.setattr(os, "listdir", listdir)
    for name in ("ucf101", "hmdb51", "kinetics"):
        with pytest.raises(MissingDataError, match="cannot be looked at: Permission denied"):
            list_videos(name, tmp_path, splits=tmp_path)


def test_settings_that_may_not_be_read_are_no_damage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def read_bytes(path: Path) -> bytes:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), os.fspath(path))

    monkeypatch.setattr(Path, "read_bytes", read_bytes)
    with pytest.raises(MissingDataError, match=r"settings.json cannot be looked at: Permission denied"):
        resume.read_settings(tmp_path)


def test_an_error_without_a_file_says_itself() -> None:
    with pytest.raises(MissingDataError, match=r"^\[Errno 5\] no name cannot be looked at"), looking():
        raise OSError(errno.EIO, "no name")


def test_the_disk_of_a_place_that_cannot_be_seen_is_that_of_the_folder_above(inner: Path) -> None:
    assert machine.existing_folder(inner / "out") == inner.parent

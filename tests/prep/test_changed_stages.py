"""Stores whose stages gave other bytes: nothing is added to them, and what they hold is not called wrong."""

from __future__ import annotations

from pathlib import Path

import pytest
from helpers.command import store_bytes
from helpers.damage import IDS, cheap_settings, flip, in_blob, make_store, make_videos
from helpers.in_process import be_quick

from flowprep.config import ALGORITHMS, ExtractSettings, RunSettings, StoreSettings, VerifySettings
from flowprep.convert import convert
from flowprep.errors import SettingsError
from flowprep.run import resume_store
from flowprep.verify import repair, verify

OLD = {**ALGORITHMS, "decode": ALGORITHMS["decode"] - 1}
CHANGED = f"decode {OLD['decode']}, now {ALGORITHMS['decode']}"


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_videos(tmp_path_factory.mktemp("sources"))


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    be_quick(monkeypatch)


def test_what_has_changed_is_said() -> None:
    assert ExtractSettings().changed_stages == ""
    assert ExtractSettings(algorithms=OLD).changed_stages == CHANGED
    assert ExtractSettings(algorithms={**ALGORITHMS, "mix": 3}).changed_stages == "mix 3, now None"


def test_it_is_not_resumed(videos: Path, tmp_path: Path) -> None:
    store = make_store(tmp_path / "store", videos, cheap_settings(algorithms=OLD), part="1/2")
    before = store_bytes(store)
    with pytest.raises(SettingsError, match=rf"another version of flowprep.*\({CHANGED}\).*--overwrite"):
        resume_store(store, videos=videos, run=RunSettings(jobs=1))
    assert store_bytes(store) == before


def test_it_is_not_compared(videos: Path, tmp_path: Path) -> None:
    store = make_store(tmp_path / "store", videos, cheap_settings(algorithms=OLD))
    report = verify(store, videos=videos, settings=VerifySettings(deep=True, num_pairs=2))
    assert (report.findings, report.exit_code) == ((), 0)
    assert report.notes == (f"nothing was computed again: another version of flowprep has made it ({CHANGED})",)


@pytest.mark.parametrize("format", ["jpeg", "hdf5"])
def test_it_is_not_mended_with_what_is_made_in_another_way(format: str, videos: Path, tmp_path: Path) -> None:
    store = make_store(tmp_path / "store", videos, cheap_settings(format, algorithms=OLD))
    damage = flip(f"Archery/{IDS[0]}/img_00002.jpg") if format == "jpeg" else in_blob("shards/00000.h5", "rgb", 0.05)
    damage(store)
    before = store_bytes(store)
    mended = repair(store, videos=videos)
    assert (mended.exit_code, mended.redone) == (4, ())
    assert CHANGED in mended.unmended[0]
    assert store_bytes(store) == before


def test_its_first_images_are_not_made(videos: Path, tmp_path: Path) -> None:
    settings = cheap_settings(store=StoreSettings(format="jpeg", layout="tsn"), algorithms=OLD)
    store = make_store(tmp_path / "store", videos, settings)
    with pytest.raises(SettingsError, match=CHANGED):
        convert(store, tmp_path / "shards", format="hdf5", videos=videos)

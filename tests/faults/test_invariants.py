"""The helper that all fault tests rely on sees what it is there to see."""

from __future__ import annotations

import subprocess
import time
from pathlib import Path

import pytest
from helpers import invariants
from helpers.command import store_bytes
from helpers.in_process import be_quick
from helpers.invariants import Invariants
from helpers.media import moving_frames, write_video
from helpers.processes import eventually

import flowprep
from flowprep.config import ExtractSettings, FlowSettings, ResizeSettings


@pytest.fixture
def watched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Invariants:
    """A sound store."""
    monkeypatch.setattr(invariants, "_SECONDS_UNTIL_GONE", 0.1)
    be_quick(monkeypatch)
    (tmp_path / "videos" / "a").mkdir(parents=True)
    write_video(tmp_path / "videos" / "a" / "video.avi", moving_frames(4, 48, 32))
    settings = ExtractSettings(flow=FlowSettings(backend="dis"), resize=ResizeSettings(short_side=None))
    flowprep.extract(videos=tmp_path / "videos", out=tmp_path / "out", settings=settings)
    return Invariants(tmp_path, tmp_path / "out")


def test_a_sound_store_passes(watched: Invariants) -> None:
    with watched:
        pass
    watched.check_bytes(store_bytes(watched.out))
    watched.check_states()
    watched.check_sound()
    watched.check_outside()
    watched.check_gone()
    assert watched.partial == []


def test_other_bytes_are_seen(watched: Invariants) -> None:
    whole = store_bytes(watched.out)
    watched.check_bytes(whole)
    with pytest.raises(AssertionError):
        watched.check_bytes({**whole, "manifest.jsonl": b""})
    with pytest.raises(AssertionError):
        watched.check_bytes({**whole, "shards/00001.h5": b""})


def test_a_damaged_store_is_seen(watched: Invariants) -> None:
    with (watched.out / "manifest.jsonl").open("ab") as file:
        file.write(b"{}\n")
    with pytest.raises(AssertionError):
        watched.check_sound()


def test_changes_around_the_store_are_seen(watched: Invariants) -> None:
    with watched:
        (watched.outside / "videos" / "a" / "video.avi").write_bytes(b"another source")
    with pytest.raises(AssertionError, match=r"video\.avi"):
        watched.check_outside()


@pytest.mark.parametrize("name", [".flowprep/commits/aa/half.clip", ".flowprep/rows/aa/half.json", "shards/00009.h5"])
def test_half_a_file_under_a_final_name_is_seen(watched: Invariants, name: str) -> None:
    with watched:
        path = watched.out / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"half of it")
        assert eventually(lambda: watched.partial != [])


def test_files_that_replace_each_other_are_not_one_that_grows(watched: Invariants) -> None:
    """File systems give the inode of a file that was removed to the next one."""
    path, following = watched.out / "manifest.jsonl", watched.out / ".flowprep" / "next"
    text = path.read_bytes()
    with watched:
        for turn in range(1, 6):
            time.sleep(0.1)  # it is seen
            path.unlink()
            following.write_bytes(text + b" " * turn)
            following.rename(path)
        time.sleep(0.1)
    assert watched.partial == []


def test_a_folder_that_fills_under_its_final_name_is_seen(watched: Invariants) -> None:
    folder = watched.out / "a" / "video"
    with watched:
        folder.mkdir(parents=True)
        (folder / "img_00001.jpg").write_bytes(b"one")
        assert not eventually(lambda: watched.partial != [], seconds=0.3)
        (folder / "img_00002.jpg").write_bytes(b"two")
        assert eventually(lambda: watched.partial != [])


def test_what_is_left_is_seen(watched: Invariants) -> None:
    with subprocess.Popen(["sleep", "60"], env=watched.environment) as process:
        with pytest.raises(AssertionError, match="sleep"):
            watched.check_gone()
        watched.check_gone(survivors=[process.pid])
        process.kill()
    (watched.out / ".flowprep" / "staging" / "of-somebody").mkdir(parents=True)
    with pytest.raises(AssertionError, match="of-somebody"):
        watched.check_gone()

"""`status` reads the journals of runs that are at work, done, stopped or lost."""

from __future__ import annotations

import datetime as dt
import json
import os
import platform
from pathlib import Path
from typing import Any

import pytest
from helpers.command import flowprep
from helpers.media import moving_frames, write_video

import flowprep as library
from flowprep import commit, journal, resume
from flowprep.config import ExtractSettings, FlowSettings, ResizeSettings, RunSettings
from flowprep.driver import Driver
from flowprep.errors import MissingDataError
from flowprep.journal import Journal, journal_folder
from flowprep.records import Listing, Reason, Video
from flowprep.status import status
from flowprep.stores.savedlist import SavedList, list_lines, list_path

CHEAP = ExtractSettings(flow=FlowSettings(backend="dis"), resize=ResizeSettings(short_side=None))


class Clock:
    """Stands in for `datetime` in the journal; its time is ours to set, and that of no other machine."""

    now_seconds = 1000.0

    @classmethod
    def now(cls, zone: dt.tzinfo) -> dt.datetime:
        return dt.datetime.fromtimestamp(cls.now_seconds, zone)


@pytest.fixture
def out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A store of 10 listed videos, one of them missing, on which nobody has worked."""
    videos = tuple(Video(id=f"v{k}", path=f"v{k}.avi") for k in range(9))
    missing = Video(id="v9", path="v9.avi", problem=Reason("missing", "it is not there"))
    listing = Listing(dataset="folder", videos=(*videos, missing))
    (tmp_path / ".flowprep").mkdir()
    (tmp_path / ".flowprep" / "settings.json").write_text(json.dumps(ExtractSettings().to_json()))
    commit.write_lines(list_path(tmp_path), list_lines(SavedList(listing=listing, videos=tmp_path)))
    fake = type("fake", (), {"datetime": Clock, "UTC": dt.UTC})
    monkeypatch.setattr(journal, "dt", fake)
    return tmp_path


def begin(record: Journal, part: str | None = None, num_todo: int = 4, num_bytes: int = 4000) -> None:
    record.begin(part=part, num_todo=num_todo, num_bytes=num_bytes, num_videos=num_todo)


def video(record: Journal, name: str, state: str = "ok", *codes: str, at: float, tries: int = 1, **more: Any) -> None:
    Clock.now_seconds = at
    event = {"seconds": 2.0, "frames": 50, "flows": 49, "bytes": 1000, "build": ""} | more
    attempts = [{"worker": "w", "seconds": 1.0, "outcome": state}] * tries
    record.append("video", id=name, state=state, reasons=codes, attempts=attempts, **event)


def test_a_run_at_work(out: Path) -> None:
    with Journal(journal_folder(out)) as record, Driver(out, "1/2"):
        Clock.now_seconds = 1000.0
        begin(record, "1/2")
        video(record, "v0", at=1060.0, seconds=7.0)
        video(record, "v1", "failed", "truncated", at=1080.0)
        video(record, "v2", "quarantined", "crash", at=1100.0, tries=2, frames=0)
        with record.path.open("a") as torn:
            torn.write('{"event":"video","id":"v3"')
        found = status(out)
    assert found.states == {"ok": 1, "failed": 2, "quarantined": 1, "pending": 6}
    assert found.reasons == {"missing": 1, "truncated": 1, "crash": 1}
    assert not found.is_finished
    (worker,) = found.workers
    assert (worker.host, worker.pid, worker.part) == (platform.node(), os.getpid(), "1/2")
    assert (worker.state, worker.num_videos, worker.num_todo, worker.num_frames) == ("working", 3, 4, 100)
    # 3 videos and 100 frames in the 100 s of the journal's own clock, whatever ours says.
    assert found.videos_per_second == pytest.approx(0.03, rel=0.02)
    assert found.frames_per_second == pytest.approx(1.0, rel=0.02)
    assert found.eta_seconds == pytest.approx(100 / 3, rel=0.02)  # 1000 bytes are left at 3000 bytes in 100 s
    assert (found.slowest[0].id, found.slowest[0].seconds) == ("v0", 7.0)
    assert (found.num_retried, [(one.id, one.num_attempts) for one in found.retried]) == (1, [("v2", 2)])


def test_the_rate_is_that_of_the_last_minutes(out: Path) -> None:
    with Journal(journal_folder(out)) as record, Driver(out, None):
        Clock.now_seconds = 0.0
        begin(record, num_todo=100, num_bytes=100_000)
        for k in range(9):
            video(record, f"v{k}", at=1.0 + k)
        video(record, "v0", at=10_000.0)
        found = status(out)
    assert found.videos_per_second == pytest.approx(1 / 300, rel=0.02)


def test_parts_lost_and_done(out: Path) -> None:
    Clock.now_seconds = 100.0
    with Journal(journal_folder(out)) as lost:
        begin(lost, "1/2")
        video(lost, "v0", "failed", "io", at=120.0)
    Clock.now_seconds = 200.0
    with Journal(journal_folder(out)) as done:
        begin(done, "1/2")
        video(done, "v0", at=220.0)  # what was done again counts as it ended last
        video(done, "v1", "flagged", "interlaced", at=230.0)
        done.append("end", seconds=30.0, states={}, interrupted=False, error="")
    Clock.now_seconds = 300.0
    with Journal(journal_folder(out)) as stopped:
        begin(stopped, "2/2")
        stopped.append("end", seconds=1.0, states={}, interrupted=True, error="the disk is full")
    found = status(out)
    assert [(worker.part, worker.state, worker.error) for worker in found.workers] == [
        ("1/2", "lost", ""),
        ("1/2", "done", ""),
        ("2/2", "stopped", "the disk is full"),
    ]
    assert found.states == {"ok": 1, "flagged": 1, "failed": 1, "pending": 7}
    assert found.reasons == {"interlaced": 1, "missing": 1}
    assert found.eta_seconds is None


def test_lines_of_other_versions_are_left_out(out: Path) -> None:
    with Journal(journal_folder(out)) as record:
        record.append("start", num_todo=3)
        record.append("video", id="v0", state="ok", attempts=1)
        record.append("something", new=True)
        video(record, "v1", at=1.0)
    assert status(out).states == {"ok": 1, "failed": 1, "pending": 8}


def test_the_command_on_a_store_that_was_made(tmp_path: Path) -> None:
    (tmp_path / "videos").mkdir()
    for index in range(2):
        write_video(tmp_path / "videos" / f"{index}.avi", moving_frames(3, 32, 32))
    out, run = tmp_path / "out", RunSettings(jobs=1, durability="fast")
    library.extract(videos=tmp_path / "videos", out=out, settings=CHEAP, run=run)
    found = json.loads(flowprep("status", out, "--json").stdout)
    assert (found["is_finished"], found["states"], found["num_videos"]) == (True, {"ok": 2}, 2)
    assert found["workers"][0]["state"] == "done"
    shown = flowprep("status", out).stdout
    assert "2: 2 ok" in shown
    assert "finished" in shown
    assert f"{platform.node()} {found['workers'][0]['pid']}" in shown
    assert resume.read_settings(out).flow.backend == "dis"
    with pytest.raises(MissingDataError):
        status(tmp_path)
    flowprep("status", tmp_path / "videos", expect=2)


def test_why_a_process_stopped_stands_below_the_table(out: Path) -> None:
    with Journal(journal_folder(out)) as stopped:
        begin(stopped, None)
        stopped.append("end", seconds=1.0, states={}, interrupted=True, error="the disk is full")
    shown = flowprep("status", out).stdout
    *_, row, last = shown.splitlines()
    assert row.split()[2:4] == ["all", "stopped"]
    assert last.endswith(" stopped: the disk is full")


def test_videos_that_are_in_the_list_no_more_do_not_count(out: Path) -> None:
    """As after a second `adopt` of a tree in which folders were renamed."""
    with Journal(journal_folder(out)) as record:
        begin(record)
        for name in ("v0", "renamed", "v9"):
            video(record, name, at=1060.0)
        video(record, "gone", "failed", "truncated", at=1060.0)
    found = status(out)
    assert found.states == {"ok": 1, "failed": 1, "pending": 8}
    assert found.reasons == {"missing": 1}

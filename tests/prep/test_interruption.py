"""A run in somebody else's process: signals are given back, and a thread can stop a run too."""

from __future__ import annotations

import os
import signal
import threading
from pathlib import Path

import pytest
from helpers import slow
from helpers.command import store_bytes
from helpers.media import moving_frames, write_video
from helpers.processes import eventually

import flowprep
from flowprep import child
from flowprep.config import ExtractSettings, FlowSettings, ResizeSettings, RunSettings
from flowprep.interruption import Interruption
from flowprep.listener import Quiet
from flowprep.summary import Summary
from flowprep.supervisor import Done

CHEAP = ExtractSettings(flow=FlowSettings(backend="dis"), resize=ResizeSettings(short_side=None))
ONE = RunSettings(jobs=1, durability="fast")


class Signals(Quiet):
    """Sends this process a signal when the first video has ended."""

    def __init__(self, number: signal.Signals) -> None:
        self.number, self.notes, self.done = number, list[str](), 0

    def finished(self, done: Done) -> None:
        self.done += 1
        if self.done == 1:
            os.kill(os.getpid(), self.number)

    def note(self, text: str) -> None:
        self.notes.append(text)


@pytest.fixture
def videos(tmp_path: Path) -> Path:
    (tmp_path / "videos").mkdir()
    for index in range(5):
        write_video(tmp_path / "videos" / f"{index}.avi", moving_frames(3, 32, 32, seed=index))
    return tmp_path / "videos"


def extract(videos: Path, out: Path, **more: object) -> Summary:
    return flowprep.extract(videos=videos, out=out, settings=CHEAP, run=ONE, **more)  # type: ignore[arg-type]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_script_that_is_interrupted_drains_and_then_ends(
    videos: Path, tmp_path: Path, number: signal.Signals, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(child, "COMMAND", slow.COMMAND)
    monkeypatch.setenv("SLOW_SECONDS", "0.2")
    before = {one: signal.getsignal(one) for one in (signal.SIGINT, signal.SIGTERM)}
    listener, out = Signals(number), tmp_path / "out"
    with pytest.raises(KeyboardInterrupt, match="run again to resume"):
        extract(videos, out, listener=listener)
    assert {one: signal.getsignal(one) for one in before} == before
    assert 1 <= listener.done < 5
    assert sum("no further video begins" in note for note in listener.notes) == 1
    assert extract(videos, out).num_done_now == 5 - listener.done


def test_a_signal_that_is_ignored_stays_ignored(videos: Path, tmp_path: Path) -> None:
    """As for a command that a shell has put into the background."""
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        listener = Signals(signal.SIGINT)
        assert extract(videos, tmp_path / "out", listener=listener).exit_code == 0
        assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, before)


def test_a_run_in_a_thread_can_be_stopped(videos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(child, "COMMAND", slow.COMMAND)
    monkeypatch.setenv("SLOW_SECONDS", "0.2")
    stop, found = threading.Event(), list[Summary]()
    thread = threading.Thread(target=lambda: found.append(extract(videos, tmp_path / "out", stop=stop)))
    thread.start()
    try:
        assert eventually(lambda: any(videos.glob("*.begun")), seconds=120)
    finally:
        stop.set()
        thread.join(120)
    (summary,) = found
    assert (summary.interrupted, summary.exit_code) == (True, 3)
    assert 1 <= summary.num_done_now < 5
    assert extract(videos, tmp_path / "out").states == {"ok": 5}


def test_a_store_that_grows_keeps_its_manifest_until_the_new_one_is_there(videos: Path, tmp_path: Path) -> None:
    out, stop = tmp_path / "out", threading.Event()
    extract(videos, out)
    before = store_bytes(out)
    write_video(videos / "9.avi", moving_frames(3, 32, 32, seed=9))
    stop.set()
    assert extract(videos, out, stop=stop).interrupted
    assert store_bytes(out) == before
    with flowprep.open_store(out) as store:
        assert len(store.ids) == 5
    assert extract(videos, out).states == {"ok": 6}


def test_the_second_signal_raises() -> None:
    interruption, told = Interruption(), list[str]()
    with interruption.watched(told.append):
        os.kill(os.getpid(), signal.SIGTERM)
        assert interruption.stop.wait(1)
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
    assert len(told) == 1
    assert "SIGTERM" in told[0]


def test_a_closed_terminal_is_heard_once() -> None:
    """Its kernel and its shell each send SIGHUP, and videos in work are finished all the same."""
    interruption, notes = Interruption(), list[str]()
    old = signal.getsignal(signal.SIGHUP)
    with interruption.watched(notes.append):
        os.kill(os.getpid(), signal.SIGHUP)
        os.kill(os.getpid(), signal.SIGHUP)
    assert interruption.signalled
    assert interruption.stop.is_set()
    assert notes == ["SIGHUP: no further video begins, those in work are finished; a SIGTERM stops at once"]
    assert signal.getsignal(signal.SIGHUP) == old

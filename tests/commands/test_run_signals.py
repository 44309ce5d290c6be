"""Ctrl-C and SIGTERM: the first one drains, the second stops at once, and either can be resumed to the same bytes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import pytest
from helpers.command import flowprep, store_bytes
from helpers.media import moving_frames, write_video
from helpers.processes import eventually

from flowprep.journal import journals, read_journal
from flowprep.machine import is_running

SLOW = Path(__file__).parents[1] / "helpers" / "slow.py"
NUM_VIDEOS = 8
PATIENCE = 120  # seconds, of a machine that may be busy


def wait_for(condition: Callable[[], bool]) -> None:
    assert eventually(condition, seconds=PATIENCE)


@pytest.fixture
def videos(tmp_path: Path) -> Path:
    for index in range(NUM_VIDEOS):
        (tmp_path / "videos" / "a").mkdir(parents=True, exist_ok=True)
        write_video(tmp_path / "videos" / "a" / f"{index}.avi", moving_frames(4, 48, 32, seed=index))
    return tmp_path / "videos"


def arguments(videos: Path, out: Path) -> list[str]:
    cheap = ["--backend", "dis", "--keep-size", "--jobs", "2", "--shard-videos", "3", "--durability", "fast", "--json"]
    return ["extract", "--dataset", "folder", "--videos", str(videos), "--out", str(out), *cheap]


@contextmanager
def slow_run(
    videos: Path, out: Path, seconds: float, *, stderr: int | IO[str] = subprocess.PIPE
) -> Iterator[subprocess.Popen[str]]:
    """A run whose videos take so long."""
    run = subprocess.Popen(
        [sys.executable, str(SLOW), *arguments(videos, out)],
        stdout=subprocess.PIPE,
        stderr=stderr,
        text=True,
        env={**os.environ, "SLOW_SECONDS": str(seconds)},
    )
    try:
        yield run
    finally:
        run.kill()
        run.communicate()


def begun(videos: Path) -> int:
    return len(list(videos.glob("*/*.begun")))


def events(out: Path) -> list[dict[str, object]]:
    return [event for path in journals(out) for event in read_journal(path)]


def check_nothing_is_left(out: Path) -> None:
    assert not (out / "manifest.jsonl").exists()
    for name in ("drivers", "staging"):
        assert list((out / ".flowprep" / name).iterdir()) == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_first_signal_lets_videos_in_work_finish(videos: Path, tmp_path: Path, number: signal.Signals) -> None:
    out, whole = tmp_path / "out", tmp_path / "whole"
    with slow_run(videos, out, 0.5) as run:
        wait_for(lambda: begun(videos) >= 3)
        run.send_signal(number)
        stdout, stderr = run.communicate(timeout=PATIENCE)
    assert run.returncode == 3, stderr
    name = "Ctrl-C" if number == signal.SIGINT else "SIGTERM"
    assert f"Note: {name}: no further video begins, those in work are finished; a second {name} stops at once" in stderr
    assert "run the same again to resume" in stderr
    assert "Traceback" not in stderr
    summary = json.loads(stdout)
    num_begun = begun(videos)
    assert 3 <= num_begun < NUM_VIDEOS
    assert (summary["interrupted"], summary["num_done_now"], summary["exit_code"]) == (True, num_begun, 3)
    assert summary["states"] == {"ok": num_begun, "pending": NUM_VIDEOS - num_begun}
    last = events(out)[-1]
    assert (last["event"], last["interrupted"], last["states"]) == ("end", True, summary["states"])
    check_nothing_is_left(out)
    assert [path.name for path in (out / "shards").iterdir()] == ["00000.h5"]  # what was complete is packed
    resumed = json.loads(flowprep(*arguments(videos, out)).stdout)
    assert resumed["num_done_now"] == NUM_VIDEOS - num_begun
    flowprep(*arguments(videos, whole))
    assert store_bytes(out) == store_bytes(whole)


def test_the_second_signal_stops_at_once(videos: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    said = tmp_path / "stderr"
    with said.open("w") as file, slow_run(videos, out, 100 * PATIENCE, stderr=file) as run:
        wait_for(lambda: begun(videos) == 2)
        children = Path(f"/proc/{run.pid}/task/{run.pid}/children")
        threads = children.parents[1].glob("*/children")
        pids = [pid for path in threads for pid in path.read_text().split()]
        assert len(pids) >= 2
        run.send_signal(signal.SIGINT)
        wait_for(lambda: "a second Ctrl-C stops at once" in said.read_text())
        assert run.poll() is None
        run.send_signal(signal.SIGINT)
        stdout, _ = run.communicate(timeout=PATIENCE)
    stderr = said.read_text()
    assert run.returncode == 3, stderr
    assert "Traceback" not in stderr
    summary = json.loads(stdout)
    assert (summary["interrupted"], summary["states"]) == (True, {"pending": NUM_VIDEOS})
    assert events(out)[-1]["interrupted"] is True
    wait_for(lambda: not any(is_running(int(pid)) for pid in pids))
    assert not (out / "manifest.jsonl").exists()
    flowprep(*arguments(videos, out))
    check = json.loads((out / "run.json").read_text())
    assert check["states"] == {"ok": NUM_VIDEOS}


def is_read(pipe: Path) -> bool:
    """True if somebody has opened a pipe for reading; from then on it stays open."""
    try:
        os.open(pipe, os.O_WRONLY | os.O_NONBLOCK)
    except OSError:
        return False
    return True


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_before_the_work_ends_it_with_the_same_code(tmp_path: Path, number: signal.Signals) -> None:
    (tmp_path / "videos").mkdir()
    write_video(tmp_path / "videos" / "a.avi", moving_frames(4, 48, 32))
    os.mkfifo(tmp_path / "list.txt")  # reading it waits for ever
    command = [sys.executable, str(SLOW), "extract", "--dataset", "list", "--splits", str(tmp_path / "list.txt")]
    run = subprocess.Popen(
        [*command, "--videos", str(tmp_path / "videos"), "--out", str(tmp_path / "out"), "--backend", "dis"],
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        wait_for(lambda: is_read(tmp_path / "list.txt"))
        run.send_signal(number)
        _, stderr = run.communicate(timeout=PATIENCE)
    finally:
        run.kill()
        run.wait()
    assert run.returncode == 3, stderr
    assert "Stopped." in stderr
    assert "Traceback" not in stderr
    assert not (tmp_path / "out").exists()

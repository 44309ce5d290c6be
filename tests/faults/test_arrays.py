"""Case 64: an array of jobs whose elements die, are requeued, come twice and are submitted again."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from pathlib import Path

import pytest
from helpers.command import FLOWPREP, flowprep, store_bytes
from helpers.media import moving_frames, write_video

NUM_VIDEOS, NUM_PARTS = 12, 3
OPTIONS = ("--dataset", "folder", "--backend", "dis", "--keep-size", "--jobs", "1", "--durability", "fast")


class FakeArray:
    """Starts `flowprep extract` as SLURM starts the elements of an array, with what it tells them."""

    def __init__(self, videos: Path, out: Path, job: int, part: str, indices: list[int]) -> None:
        self._command = [str(FLOWPREP), "extract", "--videos", str(videos), "--out", str(out), "--part", part, *OPTIONS]
        self._job, self._indices = job, indices

    def start(self, index: int, restarts: int = 0) -> subprocess.Popen[str]:
        told = {
            "SLURM_JOB_ID": str(self._job + index),
            "SLURM_ARRAY_JOB_ID": str(self._job),
            "SLURM_ARRAY_TASK_ID": str(index),
            "SLURM_ARRAY_TASK_MIN": str(min(self._indices)),
            "SLURM_ARRAY_TASK_MAX": str(max(self._indices)),
            "SLURM_ARRAY_TASK_COUNT": str(len(self._indices)),
            **({"SLURM_RESTART_COUNT": str(restarts)} if restarts else {}),
        }
        return subprocess.Popen(
            self._command,
            env={**os.environ, **told},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )


def end(process: subprocess.Popen[str]) -> tuple[int, str]:
    said, _ = process.communicate(timeout=120)
    return process.returncode, said


@pytest.fixture
def videos(tmp_path: Path) -> Path:
    folder = tmp_path / "videos" / "c"
    folder.mkdir(parents=True)
    for index in range(NUM_VIDEOS):
        write_video(folder / f"{index:02d}.avi", moving_frames(40, 128, 96, seed=index))
    return folder.parent


def test_case_64_slurm_array(videos: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    array = FakeArray(videos, out, 100, "slurm", [1, 2, 3])
    first = array.start(1)  # the node dies in the middle of its part
    committed = out / ".flowprep" / "commits"
    deadline = time.monotonic() + 60
    while not list(committed.glob("*/*.clip")) and first.poll() is None and time.monotonic() < deadline:
        time.sleep(0.01)
    first.kill()
    first.communicate()
    assert first.returncode == -signal.SIGKILL, "it had ended by itself; the videos are too short for this test"
    assert 1 <= len(list(committed.glob("*/*.clip"))) < NUM_VIDEOS // NUM_PARTS
    again, twin = array.start(1, restarts=1), FakeArray(videos, out, 200, "slurm", [1, 2, 3]).start(1)
    second = array.start(2)
    ends = [end(process) for process in (again, twin)]
    # Whoever comes second is refused while the first is at work, or finds all done.
    assert sorted(code for code, _ in ends) in ([0, 0], [0, 2]), ends
    assert end(second)[0] == 0

    missing = flowprep("merge", out, expect=3)  # element 3 was never started
    assert "part 3/3: 4 of 4 videos are missing; nobody is at work on it" in missing.stderr
    code, said = end(FakeArray(videos, out, 300, "slurm", [3, 5]).start(3))
    assert (code, "write slurm/N" in said) == (2, True)
    assert end(FakeArray(videos, out, 300, f"slurm/{NUM_PARTS}", [3]).start(3))[0] == 0
    flowprep("merge", out)
    flowprep("extract", "--videos", videos, "--out", tmp_path / "serial", *OPTIONS)
    assert store_bytes(out) == store_bytes(tmp_path / "serial")

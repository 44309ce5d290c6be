"""Case 64: an array of jobs whose elements die, are requeued, come twice and are submitted again."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest
from helpers import slow
from helpers.command import flowprep, store_bytes
from helpers.holding import Holding
from helpers.invariants import Invariants
from helpers.media import moving_frames, write_video
from helpers.processes import eventually

NUM_VIDEOS, NUM_PARTS = 12, 3
OPTIONS = ("--dataset", "folder", "--backend", "dis", "--keep-size", "--jobs", "1", "--durability", "fast")
PATIENCE = 120.0


class FakeArray:
    """Starts `flowprep extract` as SLURM starts the elements of an array, with what it tells them."""

    def __init__(
        self, videos: Path, out: Path, environment: dict[str, str], job: int, part: str, indices: list[int]
    ) -> None:
        places = ["--videos", str(videos), "--out", str(out), "--part", part]
        self._command = [sys.executable, slow.__file__, "extract", *places, *OPTIONS]
        self._environment, self._job, self._indices = environment, job, indices

    def start(self, index: int, *options: str, restarts: int = 0) -> subprocess.Popen[str]:
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
            [*self._command, *options],
            env={**self._environment, **told},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )


def end(process: subprocess.Popen[str]) -> tuple[int, str]:
    said, _ = process.communicate(timeout=PATIENCE)
    return process.returncode, said


@pytest.fixture
def videos(tmp_path: Path) -> Path:
    folder = tmp_path / "videos" / "c"
    folder.mkdir(parents=True)
    for index in range(NUM_VIDEOS):
        write_video(folder / f"{index:02d}.avi", moving_frames(10, 128, 96, seed=index))
    return folder.parent


def test_case_64_slurm_array(videos: Path, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Each element is at work when what happens to it does: its video is held meanwhile."""
    out, folder = tmp_path / "out", tmp_path_factory.mktemp("folder")
    holding = Holding(folder / "hold")
    with Invariants(tmp_path, out) as invariants:
        environment = {**invariants.environment, **holding.environment}
        array = FakeArray(videos, out, environment, 100, "slurm", [1, 2, 3])
        first = array.start(1)  # the node dies in the middle of its part
        with holding:
            begun = holding.wait_for(1, seconds=PATIENCE)
        with holding:
            assert eventually(lambda: {*holding.held().values()} - {*begun.values()} != set(), seconds=PATIENCE)
            first.kill()
            first.communicate()
            assert first.returncode == -signal.SIGKILL
        assert len([*(out / ".flowprep" / "commits").glob("*/*.clip")]) == 1 < NUM_VIDEOS // NUM_PARTS

        other = FakeArray(videos, out, environment, 200, "slurm", [1, 2, 3])
        with holding:
            again, second = array.start(1, restarts=1), array.start(2)
            holding.wait_for(2, seconds=PATIENCE)
            code, said = end(other.start(1))  # the same index at once: refused while the first is at work
            assert (code, "is being made by" in said) == (2, True), said
            twin = other.start(2, "--takeover")  # the same, and it insists: both do the same work
            held = [*holding.wait_for(3, seconds=PATIENCE).values()]
            assert len({*held}) == 2, held  # one of them twice
        assert [end(process)[0] for process in (again, second, twin)] == [0, 0, 0]
        assert end(other.start(1))[0] == 0  # all is done

        missing = flowprep("merge", out, expect=3)  # element 3 was never started
        assert "part 3/3: 4 of 4 videos are missing; nobody is at work on it" in missing.stderr
        late = FakeArray(videos, out, environment, 300, "slurm", [3, 5])
        code, said = end(late.start(3))
        assert (code, "write slurm/N" in said) == (2, True)
        late = FakeArray(videos, out, environment, 300, f"slurm/{NUM_PARTS}", [3])
        assert end(late.start(3))[0] == 0
        flowprep("merge", out)
    flowprep("extract", "--videos", videos, "--out", folder / "serial", *OPTIONS)
    invariants.check(store_bytes(folder / "serial"))

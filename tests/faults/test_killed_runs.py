"""Cases 45 to 48 on one machine: SIGKILL at every step of publishing and at any moment, then a resumed run."""

from __future__ import annotations

import concurrent.futures
import contextlib
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeAlias

import pytest
from helpers.command import FLOWPREP, flowprep, store_bytes
from helpers.invariants import Invariants
from helpers.media import moving_frames, write_video
from helpers.processes import children_of, eventually

from flowprep.journal import journals, read_journal

DOOMED = Path(__file__).parents[1] / "helpers" / "doomed.py"
NUM_KILLS = 20
NUM_GOOD = 10
FORMATS = pytest.mark.parametrize("form", ["hdf5", "jpeg"])
Files: TypeAlias = dict[str, bytes]

BEGINNING = (
    "run link drivers/run.json",
    "run write staging/.*/settings.json",
    "run link .flowprep/settings.json",
    "run write staging/.*/list.jsonl",
    "run rename .flowprep/list.jsonl",
    "run fsync .flowprep$",
)
EXTRACTING = {
    "hdf5": (
        "child make_folder staging/[^/]*$",
        "child open_new video.clip",
        "child write video.clip",
        "child fsync video.clip",
        "child make_folder commits/..$",
        "child rename commits/../.*clip",
        "child fsync commits/..$",
    ),
    "jpeg": (
        "child make_folder staging/.*/new",
        "child write img_00001.jpg",
        "child open_new flow_x_00003.jpg",
        "child write flow_y_00004.jpg",
        "child fsync staging/.*/new$",
        "child rename out/./[0-9]$",
        "child fsync out/.$",
        "child write row.json",
        "child rename rows/../.*json",
        "child fsync rows/..$",
    ),
}
PACKING = (
    "run write_at shard.h5",
    "run fsync shard.h5",
    "run write packed.jsonl",
    "run rename packed/[0-9]*.next.jsonl",
    "run rename shards/[0-9]*.h5",
    "run fsync shards$",
    "run rename packed/[0-9]*.jsonl",
    "run unlink commits/.*clip",
    "run unlink rows/.*json",
)
ENDING = (
    "run write splits.json",
    "run rename out/splits.json",
    "run write manifest.jsonl",
    "run rename out/manifest.jsonl",
    "run write SHA256SUMS",
    "run rename SHA256SUMS",
    "run open_new staging/.*/run.json",
    "run rename out/run.json",
)


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Videos of two classes, and a file that is none."""
    folder = tmp_path_factory.mktemp("data") / "videos"
    for index in range(NUM_GOOD):
        path = folder / "ab"[index % 2] / f"{index}.avi"
        path.parent.mkdir(parents=True, exist_ok=True)
        write_video(path, moving_frames(5, 112, 84, seed=index))
    (folder / "b" / "none.avi").write_bytes(b"RIFF but no video")
    return folder


def arguments(videos: Path, out: Path, form: str, jobs: int = 1) -> list[str]:
    cheap = ["--backend", "dis", "--size", "112x84", "--shard-videos", "2", "--durability", "strict"]
    places = ["--dataset", "folder", "--videos", str(videos), "--out", str(out)]
    return ["extract", *places, "--format", form, "--jobs", str(jobs), *cheap]


@pytest.fixture(scope="module")
def wholes(videos: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Files]:
    """What an uninterrupted run of one worker writes, by format."""
    found = {}
    for form in ("hdf5", "jpeg"):
        out = tmp_path_factory.mktemp("whole") / "out"
        flowprep(*arguments(videos, out, form), expect=1)
        found[form] = store_bytes(out)
    return found


def doomed(
    steps: Sequence[str], marks: Path, victims: str, command: Sequence[str], promises: Invariants
) -> subprocess.CompletedProcess[str]:
    """Run the command in processes that die at each of the steps once, see `helpers.doomed`."""
    marks.mkdir()
    doom = {"DOOM_STEPS": "\n".join(steps), "DOOM_MARKS": str(marks), "DOOM_VICTIMS": victims}
    return subprocess.run(
        [sys.executable, str(DOOMED), *command],
        capture_output=True,
        text=True,
        env={**promises.environment, **doom},
        timeout=60,
        check=False,
    )


def die_at_each(steps: Sequence[str], tmp_path: Path, command: Sequence[str], promises: Invariants) -> None:
    """Begin or resume the run again and again; each time it gets as far as the next step."""
    for number, step in enumerate(steps):
        died = doomed([step], tmp_path / f"marks-{number}", "both", command, promises)
        assert died.returncode == -signal.SIGKILL, f"it did not come to «{step}»\n{died.stderr}"


# -- the same bytes ----------------------------------------------------------------------------------------------------


@FORMATS
def test_two_workers_make_the_bytes_of_one(videos: Path, tmp_path: Path, wholes: dict[str, Files], form: str) -> None:
    with watched(tmp_path) as promises:
        flowprep(*arguments(videos, promises.out, form, jobs=2), expect=1)
    promises.check(wholes[form])


def watched(folder: Path) -> Invariants:
    """A store in a folder of its own, in which nothing else may change."""
    (folder / "data").mkdir(parents=True)
    return Invariants(folder / "data", folder / "data" / "out")


def for_each_format(work: Callable[[str, Path], None], tmp_path: Path) -> None:
    """Both formats at the same time, each in a folder of its own: each process alone leaves a core idle."""
    with concurrent.futures.ThreadPoolExecutor() as threads:
        running = []
        for form in ("hdf5", "jpeg"):
            (tmp_path / form).mkdir()
            running.append(threads.submit(work, form, tmp_path / form))
        for done in running:
            done.result()


def test_case_47_killed_at_each_step_of_publishing(videos: Path, tmp_path: Path, wholes: dict[str, Files]) -> None:
    def check(form: str, folder: Path) -> None:
        middle = PACKING if form == "hdf5" else ("run rename out/timing.h5",)
        with watched(folder) as promises:
            command = arguments(videos, promises.out, form)
            die_at_each((*BEGINNING, *EXTRACTING[form], *middle, *ENDING), folder, command, promises)
            flowprep(*command, expect=1)
        promises.check(wholes[form])

    for_each_format(check, tmp_path)


def test_case_47_killed_at_each_step_of_replacing_an_outcome(videos: Path, tmp_path: Path) -> None:
    def check(form: str, folder: Path) -> None:
        mine, promises = folder / "videos", watched(folder)
        shutil.copytree(videos, mine)
        command = arguments(mine, promises.out, form)
        flowprep(*command, expect=1)
        write_video(mine / "b" / "1.avi", moving_frames(6, 112, 84, seed=99))
        if form == "hdf5":  # the row that failed is in the other row file of its shard by now
            steps = [step for step in PACKING if "unlink rows" not in step]
        else:
            steps = ["child unlink rows/", *(step for step in EXTRACTING[form] if " out/" in step or " rows/" in step)]
        with promises:
            die_at_each((*steps, "run unlink SHA256SUMS", *ENDING), folder, command, promises)
            flowprep(*command, expect=1)
        flowprep(*arguments(mine, folder / "whole", form), expect=1)
        promises.check(store_bytes(folder / "whole"))

    for_each_format(check, tmp_path)


@FORMATS
def test_case_46_a_child_killed_at_each_step_costs_no_video(
    videos: Path, tmp_path: Path, wholes: dict[str, Files], form: str
) -> None:
    """One run, whose child is killed over and over: each video has its second try, and none a third."""
    steps = EXTRACTING[form]
    with watched(tmp_path) as promises:
        done = doomed(steps, tmp_path / "marks", "child", arguments(videos, promises.out, form), promises)
    assert done.returncode == 1, done.stderr
    assert len(list((tmp_path / "marks").iterdir())) == len(steps) <= NUM_GOOD
    promises.check(wholes[form])
    events = [event for path in journals(promises.out) for event in read_journal(path) if event["event"] == "video"]
    assert len(events) == NUM_GOOD + 1
    assert 1 < sum(len(event["attempts"]) for event in events) - NUM_GOOD <= len(steps)


def test_case_45_killed_at_random_moments(videos: Path, tmp_path: Path, wholes: dict[str, Files]) -> None:
    """Runs of two workers, in turns into shards and trees; each store is resumed until it is finished."""
    start, others = time.monotonic(), children_of(os.getpid())
    flowprep(*arguments(videos, tmp_path / "out", "hdf5", jobs=2), expect=1)
    seconds = time.monotonic() - start
    moments, num_kills, num_stores = random.Random(4), 0, 0
    while num_kills < NUM_KILLS:
        form = ("hdf5", "jpeg")[num_stores % 2]
        is_done = False
        with watched(tmp_path / f"{num_stores}") as promises:
            command = [FLOWPREP, *arguments(videos, promises.out, form, jobs=2)]
            while not is_done:
                run = subprocess.Popen(command, stderr=subprocess.DEVNULL, env=promises.environment)
                if num_kills < NUM_KILLS:
                    time.sleep(seconds * moments.uniform(0.1, 1.0))
                    run.kill()
                is_done = run.wait(120) == 1
                assert is_done or run.returncode == -signal.SIGKILL
                num_kills += not is_done
        num_stores += 1
        promises.check(wholes[form])
    assert eventually(lambda: set(children_of(os.getpid())) <= set(others))


def test_case_48_a_child_is_killed_all_the_time(videos: Path, tmp_path: Path, wholes: dict[str, Files]) -> None:
    """For as long as the run goes on. Who is killed twice over one video cannot be told from one that is to blame:
    the video is given up for want of memory, as the system kills for that, and a plain run heals it."""
    moments, num_kills = random.Random(8), 0
    with watched(tmp_path) as promises:
        for _ in range(3):  # with 10 short videos a run is over after a few kills
            command = [FLOWPREP, *arguments(videos, promises.out, "hdf5", jobs=2)]
            run = subprocess.Popen(command, stderr=subprocess.DEVNULL, env=promises.environment)
            while run.poll() is None:
                time.sleep(moments.uniform(0.3, 0.6))
                for child in children_of(run.pid)[:1]:
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(child, signal.SIGKILL)
                        num_kills += 1
            assert run.returncode in (1, 3), "finished with a failed video, or no child came so far as to begin"
        assert num_kills >= 2
        done = subprocess.run(command, capture_output=True, text=True, env=promises.environment, check=False)
        assert done.returncode == 1, done.stderr
    promises.check(wholes["hdf5"])

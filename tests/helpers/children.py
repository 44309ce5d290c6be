"""Runs in which children misbehave as the names of their videos say, see `helpers.faulty_child`."""

from __future__ import annotations

import contextlib
import os
import sys
import threading
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest
from helpers.media import moving_frames, write_video
from helpers.processes import children_of, eventually

from flowprep import child, executors
from flowprep.childprocess import Task, Work
from flowprep.config import ExtractSettings, FlowSettings, ResizeSettings
from flowprep.datasets import list_videos
from flowprep.records import Reason
from flowprep.supervisor import Done

SETTINGS = ExtractSettings(flow=FlowSettings(backend="dis"), resize=ResizeSettings(short_side=None))
FAULTY = Path(__file__).parent / "faulty_child.py"

NO_MEMORY = Reason("memory", "there is not enough memory; raise --memory")
NO_PROGRESS = Reason("timeout", "it made no progress, or took longer than the limit")
BAD = {
    "crash": Reason("crash", "its process was killed by signal 11 (SIGSEGV)"),
    "abort": Reason("crash", "its process was killed by signal 6 (SIGABRT)"),
    "exit": Reason("crash", "its process ended with exit code 7"),
    "kill": Reason("memory", "its process was killed (SIGKILL), as the system does for want of memory"),
    "sleep": NO_PROGRESS,
    "hold": NO_PROGRESS,
    "grow": NO_MEMORY,
    "burst": NO_MEMORY,
    "opencv": NO_MEMORY,
}
"""What misbehaves, and why it is quarantined."""


@contextlib.contextmanager
def faulty_work(folder: Path, patch: pytest.MonkeyPatch) -> Iterator[Work]:
    """An empty folder of videos, and children that are faulty. Nothing of a run is left when it has ended."""
    patch.setattr(child, "COMMAND", (sys.executable, str(FAULTY)))
    (folder / "videos").mkdir()
    threads, children = set(threading.enumerate()), children_of(os.getpid())
    yield Work(
        videos=folder / "videos",
        out=folder / "out",
        settings=SETTINGS,
        durability="fast",
        memory_bytes=256 << 20,
    )
    assert eventually(lambda: set(children_of(os.getpid())) <= set(children))
    assert eventually(lambda: {thread.name for thread in {*threading.enumerate()} - threads} <= {"start-children"})
    staging = folder / "out" / ".flowprep" / "staging"
    assert not staging.exists() or list(staging.iterdir()) == []


def videos_named(work: Work, names: Iterable[str]) -> list[Task]:
    """A task for a sound video under each of these names."""
    frames = moving_frames(6, 48, 32)
    data = write_video(work.videos.parent / "sound.avi", frames).read_bytes()
    for name in names:
        (work.videos / f"{name}.avi").write_bytes(data)
    return [Task(list_index=k, video=video) for k, video in enumerate(list_videos("folder", work.videos).videos)]


def outcomes(work: Work, tasks: Iterable[Task], jobs: int = 1) -> dict[str, Done]:
    """What became of each task, by the id of its video."""
    return {done.row.id: done for done in executors.run_tasks(work, tasks, jobs)}

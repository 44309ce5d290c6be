"""Who does the work: this process, or several. The only module that imports a scheduler."""

from __future__ import annotations

import functools
import itertools
import json
import os
import platform
import threading
import time
import uuid
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2

from flowprep.config import ExtractSettings
from flowprep.errors import RunStoppedError
from flowprep.flow.backend import FlowBackend
from flowprep.pipeline import extract_video, open_backend
from flowprep.publisher import Publisher, open_publisher
from flowprep.records import Row, Video

_RETRIED_AT_ONCE = frozenset({"io", "changed"})
_BACK_OFF_SECONDS = 1.0
_WATCH_SECONDS = 2.0
_attempts = itertools.count()


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """What all tasks of a run share. Hashable, so that a worker builds its backend and publisher once."""

    videos: Path
    out: Path
    settings_json: str
    durability: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """One video and its place in the list."""

    list_index: int
    video: Video


@dataclass(frozen=True, slots=True, kw_only=True)
class Done:
    """What became of a task, and at what cost."""

    list_index: int
    row: Row
    seconds: float
    num_attempts: int
    worker: str
    build: str


def run_tasks(work: Work, tasks: Iterable[Task], jobs: int) -> Iterator[Done]:
    """Do the tasks with `jobs` processes (1: in this one) and yield each as it ends, in any order.

    Raises RunStoppedError if a worker process dies or the store cannot be written.
    """
    if jobs == 1:
        num_threads = cv2.getNumThreads()
        try:
            yield from (perform(work, task) for task in tasks)
        finally:
            cv2.setNumThreads(num_threads)
        return
    import joblib
    from joblib.externals.loky.process_executor import TerminatedWorkerError

    parallel = joblib.Parallel(n_jobs=jobs, return_as="generator_unordered", batch_size=1)
    try:
        yield from parallel(joblib.delayed(_perform_in_child)(work, task, os.getpid()) for task in tasks)
    except TerminatedWorkerError as error:
        raise RunStoppedError(
            "a worker process died, by a crash or for want of memory; what was committed is kept: run the same command "
            "again to resume, with --jobs 1 if it happens again"
        ) from error


def _perform_in_child(work: Work, task: Task, parent: int) -> Done:
    _watch(parent)
    return perform(work, task)


@functools.lru_cache(maxsize=1)
def _watch(parent: int) -> None:
    """Leave when the run's process has died: a pool's workers would wait minutes for work that never comes."""

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(_WATCH_SECONDS)
        os._exit(3)

    threading.Thread(target=watch, name="watch-parent", daemon=True).start()


def perform(work: Work, task: Task) -> Done:
    """Extract one video; errors of the file system and files that changed meanwhile get a second try."""
    cv2.setNumThreads(1)  # work is parallel over videos; threads inside one video would only compete
    backend, publisher, settings = _equipment(work)
    start = time.perf_counter()
    for attempt in (1, 2):
        row = extract_video(
            task.video, task.list_index, work.videos, settings, backend, publisher, attempt=_attempt_name()
        )
        if attempt == 2 or not any(reason.code in _RETRIED_AT_ONCE for reason in row.reasons) or row.state.stored:
            break
        time.sleep(_BACK_OFF_SECONDS)
    return Done(
        list_index=task.list_index,
        row=row,
        seconds=time.perf_counter() - start,
        num_attempts=attempt,
        worker=f"{platform.node()}-{os.getpid()}",
        build=backend.build if backend is not None and row.flows else "",
    )


def _attempt_name() -> str:
    """A name that no other attempt anywhere has."""
    return f"{next(_attempts)}-{uuid.uuid4().hex[:12]}"


@functools.lru_cache(maxsize=1)
def _equipment(work: Work) -> tuple[FlowBackend | None, Publisher, ExtractSettings]:
    settings = ExtractSettings.from_json(json.loads(work.settings_json))
    return open_backend(settings), open_publisher(work.out, settings, durability=work.durability), settings

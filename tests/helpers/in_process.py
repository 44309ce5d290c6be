"""Tasks of a run done in this process, for tests that are not about children: starting one takes a second."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Iterator
from typing import Any

import pytest

from flowprep import commit, executors
from flowprep.childprocess import Task, Work
from flowprep.flowstage import LocalFlow
from flowprep.pipeline import extract_video, open_backend
from flowprep.publisher import open_publisher
from flowprep.supervisor import Attempt, Done


def run_tasks(work: Work, tasks: Iterable[Task], jobs: int, **_: Any) -> Iterator[Done]:
    """In place of `executors.run_tasks`."""
    backend, publisher = open_backend(work.settings), open_publisher(work.out, work.settings)
    open_flow = None if backend is None else functools.partial(LocalFlow, backend, work.settings)
    for task in tasks:
        row = extract_video(
            task.video, task.list_index, work.videos, work.settings, open_flow, publisher, attempt="in-process"
        )
        attempt = Attempt(worker="in-process", seconds=0.0, outcome=str(row.state))
        yield Done(list_index=task.list_index, row=row, seconds=0.0, attempts=(attempt,), build="")


def be_quick(patch: pytest.MonkeyPatch) -> None:
    """No child processes, and nothing is flushed to the disk."""
    patch.setattr(executors, "run_tasks", run_tasks)
    patch.setattr(commit, "fsync", lambda _fd: None)
    patch.setattr(commit, "sync_file_system", lambda _fd: None)

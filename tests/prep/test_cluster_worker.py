"""The processes that a worker of a cluster keeps for a run: they are few, and what cannot begin is said."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from helpers.processes import eventually

from flowprep import __version__
from flowprep.childprocess import Task, Work
from flowprep.cluster import worker
from flowprep.cluster.orders import decode, encode, task_order, work_to_json
from flowprep.config import ALGORITHMS, ExtractSettings, FlowSettings
from flowprep.errors import RunStoppedError, SettingsError
from flowprep.journal import versions
from flowprep.publisher import open_publisher
from flowprep.records import Video
from flowprep.supervisor import SetAsideError

TOKEN = "token"


@pytest.fixture
def said(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[dict[str, Any]]]:
    """What the worker tells the driver."""
    messages: list[dict[str, Any]] = []

    def teller(_token: str) -> Callable[[dict[str, Any]], None]:
        return messages.append

    monkeypatch.setattr(worker, "_teller", teller)
    monkeypatch.setattr(worker, "_leave_sigterm_to_the_nanny", lambda: None)
    yield messages
    worker.leave(TOKEN, at_once=True)


@pytest.fixture
def order(tmp_path: Path) -> str:
    settings = ExtractSettings(flow=FlowSettings(backend="dis"))
    work = Work(videos=tmp_path, out=tmp_path / "out", settings=settings, durability="fast")
    open_publisher(work.out, settings, durability="fast")
    task = Task(list_index=0, video=Video(id="v", path="v.avi"))
    common = {"token": TOKEN, "number": 7, "work": work_to_json(work), "idle_seconds": 60.0, "sign_seconds": 10.0}
    return encode({**common, **task_order(task, None)})


@pytest.mark.parametrize(
    ("changed", "obstacle"),
    [
        ({}, ""),
        ({"version": "0.0.9"}, f"it has flowprep {__version__}, the run 0.0.9; install the same there"),
        (
            {"algorithms": {**ALGORITHMS, "decode": 0}},
            "its flowprep has other stages, although its version is the same; install the same there",
        ),
        *(
            (
                {"versions": {**versions(), name: "0.0.1"}},
                f"it has {name} {versions()[name]}, the run 0.0.1: bytes may differ; install the same there",
            )
            for name in ("opencv", "pyav", "ffmpeg_libavcodec")
        ),
        ({"versions": {**versions(), "python": "2.7", "machine": "vax", "h5py": "0"}}, ""),
    ],
    ids=["same", "version", "stages", "opencv", "pyav", "ffmpeg", "what changes no byte"],
)
def test_case_61_only_who_makes_the_same_bytes_may_join(
    said: list[dict[str, Any]], order: str, tmp_path: Path, changed: dict[str, Any], obstacle: str
) -> None:
    probe = tmp_path / "probe"
    probe.write_text("secret")
    introduction = {
        "version": __version__,
        "algorithms": dict(ALGORITHMS),
        "versions": versions(),
        "probe": str(probe),
        "secret": "secret",
        "visible_seconds": 0.1,
        "shown": [],
    }
    worker.join(encode({**decode(order), **introduction, **changed}))
    assert said == [{"event": "joined", "number": 7, "obstacle": obstacle}]


def threads(name: str) -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name.startswith(name)]


def timers() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if isinstance(thread, threading.Timer)]


@pytest.mark.parametrize("error", [RunStoppedError("the disk is full"), SettingsError("the disk is another one")])
def test_a_disk_that_lets_no_process_begin_is_said_and_leaves_nothing(
    said: list[dict[str, Any]], order: str, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def refuse(*_: object) -> None:
        raise error

    monkeypatch.setattr(worker, "Supervisor", refuse)
    worker.perform(order)
    assert [message["event"] for message in said] == ["begun", "error"]
    assert (said[-1]["kind"], said[-1]["error"]) == (type(error).__name__, str(error))
    worker.leave(TOKEN)
    assert eventually(lambda: not threads("leave-run"), seconds=20)


def test_a_worker_waits_for_more_work_in_one_thread(
    said: list[dict[str, Any]], order: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def set_aside(*_: object, **__: object) -> None:
        raise SetAsideError(worker.Attempt(worker="w", seconds=0.0, outcome="gpu_crash"))

    monkeypatch.setattr(worker.Supervisor, "perform", set_aside)
    before = len(timers())
    for _ in range(20):
        worker.perform(order)
    assert len([message for message in said if message["event"] == "aside"]) == 20
    assert eventually(lambda: len(timers()) == before + 1, seconds=20)
    worker.leave(TOKEN)
    assert eventually(lambda: len(timers()) == before, seconds=20)

"""What the driver of a cluster hears and looks for: events without number, signs of life, videos not seen yet."""

from __future__ import annotations

import dataclasses
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from helpers.played_cluster import WAITS, Course, Played, all_of

from flowprep import child
from flowprep.childprocess import Work
from flowprep.cluster import worker
from flowprep.cluster.flights import Flight
from flowprep.cluster.orders import encode
from flowprep.cluster.verdicts import Verdicts
from flowprep.config import ExtractSettings, FlowSettings
from flowprep.records import Reason, State
from flowprep.stores import freshness
from flowprep.supervisor import Done

HANGING = """
import sys, time
from flowprep import wire
def say(**message):
    sys.stdout.buffer.write(wire.encode(message))
    sys.stdout.buffer.flush()
wire.read(sys.stdin.buffer)
say(event="ready", build="none")
while wire.read(sys.stdin.buffer):
    say(event="begun")
    time.sleep(60)
"""
"""A child that begins each video, and then does nothing."""


@pytest.fixture
def work(tmp_path: Path) -> Work:
    settings = ExtractSettings(flow=FlowSettings(backend="dis"))
    return Work(videos=tmp_path / "videos", out=tmp_path / "out", settings=settings, durability="fast")


def test_no_event_is_lost_however_many_wait(work: Work) -> None:
    """Each of these ends is heard or the run stands still: they come where a driver takes a break in its listening."""
    played = Played(work)

    def act(cluster: Played, worker: str, order: dict[str, Any]) -> None:
        for _ in range(998 - cluster.events.qsize()):
            cluster.say(event="frames", num=1)
        cluster.do(worker, order)

    played.act = act
    course = Course(work, played, 6)
    assert (course.error, course.ids, course.notes) == (None, all_of(6), [])
    assert played.num_connections == 1
    assert WAITS.silence_seconds < 1, "what is lost is found out soon"


@pytest.fixture
def on_real_workers(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[Played, str, dict[str, Any]], None]]:
    """What has a played cluster do its videos as a worker does them, with children that hang."""
    monkeypatch.setattr(child, "COMMAND", (sys.executable, "-c", HANGING))
    cluster: list[Played] = []
    threads: list[threading.Thread] = []
    tokens: set[str] = set()

    def teller(_token: str) -> Callable[[dict[str, Any]], None]:
        return lambda message: cluster[0].say(**message)

    def act(played: Played, _worker: str, order: dict[str, Any]) -> None:
        def perform() -> None:
            worker.perform(encode(order))
            played.end(order["number"])

        cluster[:] = [played]
        tokens.add(order["token"])
        threads.append(threading.Thread(target=perform))
        threads[-1].start()

    monkeypatch.setattr(worker, "_teller", teller)
    yield act
    for token in tokens:
        worker.leave(token, at_once=True)
    for thread in threads:
        thread.join()


def test_a_video_that_hangs_at_the_end_is_no_stuck_cluster(
    work: Work, on_real_workers: Callable[[Played, str, dict[str, Any]], None]
) -> None:
    """Both of its tries take several times as long as a cluster may be silent, and longer than that together."""
    stalling = dataclasses.replace(work, stall_seconds=2.0)
    played = Played(work)
    played.act = on_real_workers
    progress: list[int] = []
    course = Course(
        stalling, played, 1, waits=dataclasses.replace(WAITS, silence_seconds=1.9), progress=progress.append
    )
    assert (course.error, course.notes, played.num_connections) == (None, [], 1)
    (done,) = course.done
    assert done.row.state is State.QUARANTINED
    assert done.row.reasons == (Reason("timeout", "it made no progress, or took longer than the limit"),)
    assert progress == [], "a sign of life is no frame"


def test_a_worker_that_is_frozen_gives_no_sign_of_life(work: Work) -> None:
    """One sign more or less does not keep a cluster that does nothing from being taken for stuck."""
    played = Played(work)

    def act(cluster: Played, _worker: str, order: dict[str, Any]) -> None:
        cluster.say(event="begun", number=order["number"])
        cluster.say(event="alive")

    played.act = act
    course = Course(work, played, 1)
    assert "has done nothing for" in str(course.error)
    assert played.num_connections == 4


def test_what_is_not_seen_yet_is_looked_for_at_each_poll_alone(work: Work, monkeypatch: pytest.MonkeyPatch) -> None:
    """However much is reported meanwhile: many workers do so a thousand times a second, and each look goes to the disk.

    Each folder is opened for it, without which a network disk goes on to say what it said before.
    """
    played = Played(work)
    opened: list[Path] = []
    looks: Counter[int] = Counter()
    num_polls, num_late = 0, 5
    confirm, over = Verdicts.confirm, threading.Event()

    def seen_late(self: Verdicts, flight: Flight, done: Done) -> bool:
        looks[flight.number] += 1
        is_seen = flight.task.list_index >= num_late or flight.seconds > 0.4
        return is_seen and confirm(self, flight, done)

    def polled() -> dict[str, int]:
        nonlocal num_polls
        num_polls += 1
        return dict(played.threads)

    def act(cluster: Played, worker: str, order: dict[str, Any]) -> None:
        cluster.do(worker, order)
        if order["task"]["list_index"] == 0:
            crowd.start()

    def talk() -> None:
        while not over.wait(0.0005):
            played.say(event="frames", num=1)

    crowd = threading.Thread(target=talk)
    monkeypatch.setattr(Verdicts, "confirm", seen_late)
    monkeypatch.setattr(freshness, "open_folder", opened.append)
    monkeypatch.setattr(played, "threads_of_workers", polled)
    played.act = act
    course = Course(work, played, 20, waits=dataclasses.replace(WAITS, poll_seconds=0.1, visible_seconds=20))
    over.set()
    crowd.join()
    assert (course.error, course.ids, course.notes) == (None, all_of(20), [])
    assert max(looks.values()) > 1
    assert looks.total() <= 20 + num_late * num_polls
    assert work.out / ".flowprep" / "commits" in opened

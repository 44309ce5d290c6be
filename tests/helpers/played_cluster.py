"""A cluster that is played in the thread of its driver, and what a run on it comes to."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

from flowprep.childprocess import Task, Work
from flowprep.cluster.engine import Engine, Events
from flowprep.cluster.orders import decode, done_to_json, encode, task_from_json
from flowprep.cluster.waits import Waits
from flowprep.publisher import open_publisher
from flowprep.records import Reason, Row, State, Video
from flowprep.supervisor import Attempt, Done

WAITS = Waits(
    poll_seconds=0.02,
    connect_seconds=0.2,
    workers_seconds=0.5,
    silence_seconds=0.3,
    visible_seconds=0.1,
    move_seconds=0.05,
    witness_seconds=0.1,
    num_restarts=3,
)


def tasks_of(num: int) -> list[Task]:
    return [Task(list_index=k, video=Video(id=f"v{k}", path=f"v{k}.avi")) for k in range(num)]


class Played:
    """A cluster in this thread. `act` is asked what becomes of each video; the default is that it is done."""

    def __init__(self, work: Work, *, threads: dict[str, int] | None = None) -> None:
        self.publisher = open_publisher(work.out, work.settings, durability="fast")
        self.threads = {"w1": 1, "w2": 1} if threads is None else threads
        self.refusals: dict[str, str] = {}
        self.absent: list[str] = []
        self.act: Callable[[Played, str, dict[str, Any]], None] = Played.do
        self.performed: list[tuple[str, str]] = []
        self.dropped: list[object] = []
        self.num_connections = 0
        self.largest: dict[str, int] = {}
        self.held: dict[str, set[object]] = {}
        self.name = "the played cluster"
        self.num_expected = 0
        self.left: set[str] = set()
        self.joined: list[str] = []
        self.missed: dict[str, set[str]] = {}  # files that workers do not see

    def connect(self, token: str, events: Events) -> Played:
        self.events, self.held = events, {}
        self.num_connections += 1
        return self

    def threads_of_workers(self) -> dict[str, int]:
        return dict(self.threads)

    def has_left(self, worker: str) -> bool:
        return worker in self.left

    def obstacles(self) -> list[str]:
        return self.absent

    def submit(self, function: str, order: str, worker: str, number: int) -> object:
        message = decode(order)
        if function == "join":
            self.joined.append(worker)
            missed = [video["path"] for video in message["shown"] if video["path"] in self.missed.get(worker, ())]
            obstacle = f"it does not see {missed[0]}" if missed else self.refusals.get(worker, "")
            self.say(event="joined", number=number, obstacle=obstacle)
            return number
        self.held.setdefault(worker, set()).add(number)
        self.largest[worker] = max(self.largest.get(worker, 0), len(self.held[worker]))
        self.performed.append((worker, message["task"]["video"]["id"]))
        self.act(self, worker, message)
        return number

    def drop(self, handle: object) -> None:
        self.dropped.append(handle)
        for numbers in self.held.values():
            numbers.discard(handle)

    def dump(self) -> str:
        return "nothing"

    def close(self, *, at_once: bool) -> None:
        pass

    def say(self, **message: Any) -> None:
        self.events.put(("report", encode(message)))

    def end(self, number: int, error: str = "") -> None:
        self.events.put(("ended", number, error))

    def do(self, worker: str, order: dict[str, Any], *, publish: bool = True, report: bool = True) -> None:
        """What a worker does: it begins, publishes, reports."""
        task = task_from_json(order["task"])
        self.say(event="begun", number=order["number"])
        is_missed = task.video.path in self.missed.get(worker, ())
        row = Row.unstored(task.video, State.FAILED, Reason("missing" if is_missed else "empty"))
        if publish:
            row = self.publisher.publish_row(row, task.list_index)
        if report:
            attempt = Attempt(worker=worker, seconds=0.1, outcome="failed")
            done = Done(list_index=task.list_index, row=row, seconds=0.1, attempts=(attempt,), build="")
            self.say(event="done", number=order["number"], done=done_to_json(done))
        self.end(order["number"])


def losing_workers_at(
    video: str, *, has_left: bool = False, error: str = ""
) -> Callable[[Played, str, dict[str, Any]], None]:
    """A worker that begins the video is gone at once, and another one comes; `error` is what Dask says of it."""

    def act(cluster: Played, worker: str, order: dict[str, Any]) -> None:
        if order["task"]["video"]["id"] != video:
            cluster.do(worker, order)
            return
        cluster.say(event="begun", number=order["number"])
        if has_left:
            cluster.left.add(worker)
        del cluster.threads[worker]
        if error:
            cluster.end(order["number"], error)
        cluster.threads[f"w{len(cluster.performed) + 10}"] = 1

    return act


class Course:
    """What a run on a played cluster came to."""

    def __init__(
        self,
        work: Work,
        played: Played,
        num: int,
        *,
        waits: Waits = WAITS,
        stop: threading.Event | None = None,
        progress: Callable[[int], None] = lambda _num: None,
    ) -> None:
        self.notes: list[str] = []
        self.done: list[Done] = []
        self.error: Exception | None = None
        engine = Engine(
            work,
            open_publisher(work.out, work.settings, durability="fast"),
            played.connect,
            waits,
            {},
            stop=stop or threading.Event(),
            abort=threading.Event(),
            progress=progress,
            note=self.notes.append,
        )
        try:
            self.done.extend(engine.run(tasks_of(num)))
        except Exception as error:  # noqa: BLE001 - the tests say which they expect
            self.error = error

    @property
    def ids(self) -> list[str]:
        return sorted(done.row.id for done in self.done)


def all_of(num: int) -> list[str]:
    return sorted(f"v{k}" for k in range(num))

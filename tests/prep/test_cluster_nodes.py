"""Nodes of a cluster that do not see what the driver sees, or cannot write: they cost no video anything."""

from __future__ import annotations

import dataclasses
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
from helpers.media import moving_frames, write_video
from helpers.played_cluster import WAITS, Course, Played, all_of

from flowprep import __version__, child, journal
from flowprep.childprocess import Task, Work
from flowprep.cluster import worker
from flowprep.cluster.orders import decode, encode
from flowprep.cluster.sightings import not_seen
from flowprep.config import ALGORITHMS, ExtractSettings, FlowSettings, RunSettings
from flowprep.errors import DiskFullError, RunStoppedError
from flowprep.publisher import open_publisher
from flowprep.records import Video
from flowprep.request import Request
from flowprep.run import execute, record_list
from flowprep.supervisor import Supervisor

FAULTY_CHILD = Path(__file__).parents[1] / "helpers" / "faulty_child.py"
PATIENT = dataclasses.replace(WAITS, workers_seconds=60, silence_seconds=20)


@pytest.fixture
def work(tmp_path: Path) -> Work:
    """Four videos, v0 to v3, are there."""
    videos = tmp_path / "videos"
    videos.mkdir()
    for number in range(4):
        (videos / f"v{number}.avi").write_bytes(bytes(100 + number))
    settings = ExtractSettings(flow=FlowSettings(backend="dis"))
    return Work(videos=videos, out=tmp_path / "out", settings=settings, durability="fast")


def paths(*numbers: int) -> set[str]:
    return {f"v{number}.avi" for number in numbers}


def reasons_of(course: Course) -> dict[str, str]:
    return {done.row.id: done.row.reasons[0].code for done in course.done}


def test_a_node_without_the_videos_is_refused_before_it_gets_one(work: Work) -> None:
    played = Played(work)
    played.missed = {"w1": paths(0, 1, 2, 3)}
    course = Course(work, played, 4, waits=PATIENT)
    assert (course.error, course.ids) == (None, all_of(4))
    assert course.notes == ["worker w1 is not used: it does not see v0.avi"]
    assert {worker for worker, _ in played.performed} == {"w2"}


def test_what_one_node_misses_another_one_does(work: Work) -> None:
    """Its disk is gone in the middle of the run, or it lacks one of several."""
    played = Played(work)
    played.missed = {"w2": paths(3)}  # which it gets, and was not among the first that it is shown
    course = Course(work, played, 4, waits=PATIENT)
    assert (course.error, course.ids) == (None, all_of(4))
    assert reasons_of(course) == dict.fromkeys(all_of(4), "empty")
    assert course.notes == ["worker w2 is not used: it does not see v3.avi"]
    (late,) = [done for done in course.done if done.row.id == "v3"]
    assert [attempt.outcome for attempt in late.attempts] == ["missing", "failed"]


def test_what_two_nodes_miss_is_missing_and_both_go_on(work: Work) -> None:
    """A file that only the driver sees, as by a link into its home, costs no worker its place."""
    played = Played(work, threads={"w1": 1, "w2": 1, "w3": 1})
    played.missed = dict.fromkeys(("w1", "w2", "w3"), paths(3))
    course = Course(work, played, 40, waits=PATIENT)
    assert (course.error, course.ids) == (None, all_of(40))
    assert reasons_of(course)["v3"] == "missing"
    (first,) = [note for note in course.notes if "is not used" in note]
    refused = first.split()[1]
    asked_again = played.joined.count(refused)
    assert asked_again == 3


def test_a_video_that_is_missing_indeed_is_missing_at_once(work: Work) -> None:
    played = Played(work)
    played.missed = dict.fromkeys(("w1", "w2"), paths(7, 8))
    course = Course(work, played, 9)
    assert (course.error, course.ids, course.notes) == (None, all_of(9), [])
    assert [video for video, code in reasons_of(course).items() if code == "missing"] in (["v7", "v8"], ["v8", "v7"])
    assert len(played.performed) == 9


def test_a_cluster_of_which_no_node_sees_a_video_ends_with_that(work: Work) -> None:
    played = Played(work, threads={"w1": 1})
    played.missed = {"w1": paths(2, 3)}
    course = Course(work, played, 4, waits=PATIENT)
    assert isinstance(course.error, RunStoppedError)
    assert "w1 is refused: it does not see v2.avi" in str(course.error)
    assert played.performed == []


def test_an_empty_mount_point_is_no_folder_of_videos(
    work: Work, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[dict[str, Any]] = []
    monkeypatch.setattr(worker, "_teller", lambda _token: said.append)
    monkeypatch.setattr(worker, "_leave_sigterm_to_the_nanny", lambda: None)
    orders: list[str] = []

    class Asking(Played):
        def submit(self, function: str, order: str, worker: str, number: int) -> object:
            if function == "join":
                orders.append(order)
            return super().submit(function, order, worker, number)

    probe = tmp_path / "probe"
    probe.write_text("secret")
    Course(work, Asking(work, threads={"w1": 1}), 4)
    order = decode(orders[0]) | {
        "version": __version__,
        "algorithms": dict(ALGORITHMS),
        "versions": journal.versions(),
        "probe": str(probe),
        "secret": "secret",
        "visible_seconds": 0.1,
    }
    worker.join(encode(order))
    assert said[-1]["obstacle"] == ""
    for path in work.videos.iterdir():
        path.unlink()
    worker.join(encode(order))
    folder = work.videos
    assert said[-1]["obstacle"] == (
        f"it does not see the videos {folder}: {folder}/v0.avi is not there; mount the same disk there"
    )


def test_an_older_copy_of_the_videos_is_noticed(work: Work) -> None:
    shown = [{"path": "v0.avi", "bytes": 100}, {"path": "v1.avi", "bytes": 101}]
    assert not_seen(work.videos, shown) == ""
    (work.videos / "v0.avi").write_bytes(bytes(200))  # is still being written
    assert not_seen(work.videos, shown) == ""
    (work.videos / "v1.avi").write_bytes(bytes(3))
    assert not_seen(work.videos, shown) == f"{work.videos}/v1.avi has 3 bytes there and 101 for the run"


def failing_on(*workers: str, video: str = "", text: str = "Stale file handle") -> Any:
    """Workers that cannot write, or none that has a certain video can."""

    def act(cluster: Played, worker: str, order: dict[str, Any]) -> None:
        if worker in workers or order["task"]["video"]["id"] == video:
            cluster.say(event="begun", number=order["number"])
            cluster.say(event="error", number=order["number"], kind="RunStoppedError", error=f"/store: {text}")
            cluster.end(order["number"])
        else:
            cluster.do(worker, order)

    return act


def test_a_node_that_cannot_write_is_not_used_and_costs_nothing_else(work: Work) -> None:
    played = Played(work, threads={f"w{number}": 1 for number in range(20)})
    played.act = failing_on("w7")
    course = Course(work, played, 60)
    assert (course.error, course.ids) == (None, all_of(60))
    assert course.notes == ["worker w7 is not used: /store: Stale file handle"]
    assert len([None for worker, _ in played.performed if worker == "w7"]) == 2  # what it had got at first
    assert sorted({attempt.outcome for done in course.done for attempt in done.attempts}) == ["failed", "worker_failed"]


def test_where_all_nodes_cannot_write_the_run_ends_at_once(work: Work) -> None:
    played = Played(work, threads={f"w{number}": 1 for number in range(8)})
    played.act = failing_on(*played.threads)
    course = Course(work, played, 60, waits=PATIENT)
    assert (type(course.error), str(course.error)) == (RunStoppedError, "/store: Stale file handle")
    assert len({note for note in course.notes if "is not used" in note}) == 1


def test_where_both_of_two_nodes_cannot_write_the_run_ends_with_their_words(work: Work) -> None:
    played = Played(work)
    played.act = failing_on("w1", "w2")
    course = Course(work, played, 9, waits=PATIENT)
    assert isinstance(course.error, RunStoppedError)
    assert "w2 is refused: /store: Stale file handle" in str(course.error)


def test_a_video_that_nobody_can_store_costs_three_workers_their_place_at_most(work: Work) -> None:
    """As where the disk fails at the place of that one: the run says so, as one on a single machine does."""
    played = Played(work, threads={f"w{number}": 1 for number in range(20)})
    played.act = failing_on(video="v5", text="Input/output error")
    course = Course(work, played, 60)
    assert str(course.error) == "/store: Input/output error"
    assert len({worker for worker, video in played.performed if video == "v5"}) == 3


def test_a_part_stops_on_a_node_where_nothing_is_mounted(work: Work) -> None:
    """By what the list of all parts knows of sizes. No video is called missing."""
    request = Request(videos=work.videos, out=work.out, settings=work.settings)
    record_list(request)
    for path in work.videos.iterdir():
        path.unlink()
    part = dataclasses.replace(request, run=RunSettings(part="2/2", jobs=1))
    said = r"videos has no files on .*, but the list has v2.avi in it \(102 bytes\); mount the disk"
    with pytest.raises(RunStoppedError, match=said):
        execute(part)
    work.videos.rmdir()
    with pytest.raises(RunStoppedError, match=said):
        execute(part)
    assert [*(work.out / ".flowprep").glob("commits/*/*")] == []


def test_a_disk_that_a_child_finds_full_is_called_full(
    work: Work, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """All workers write to the same disk, so that this one ends the run."""
    write_video(work.videos / "full.avi", moving_frames(3, 64, 48))
    monkeypatch.setattr(child, "COMMAND", (sys.executable, str(FAULTY_CHILD)))
    open_publisher(work.out, work.settings, durability="fast")
    supervisor = Supervisor(work, threading.Event(), lambda _num: None)
    with pytest.raises(DiskFullError, match=r"the disk of .* is full"):
        supervisor.perform(Task(list_index=0, video=Video(id="full", path="full.avi")))
    assert issubclass(DiskFullError, RunStoppedError)

"""The driver of a cluster against one that is played: stuck, lost, lying, full, interrupted (case 60 and others)."""

from __future__ import annotations

import dataclasses
import json
import os
import queue
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from helpers.played_cluster import WAITS, Course, Played, all_of, losing_workers_at, tasks_of

from flowprep import commit, ownership
from flowprep.childprocess import Task, Work
from flowprep.cluster import tasks
from flowprep.cluster.flights import EngineLostError
from flowprep.cluster.orders import encode, task_from_json, task_to_json, work_from_json
from flowprep.cluster.orders import work_to_json as to_json
from flowprep.config import ExtractSettings, FlowSettings
from flowprep.errors import DiskFullError, RunStoppedError, StoreError
from flowprep.publisher import open_publisher
from flowprep.records import Reason, Segment, State, Video
from flowprep.supervisor import Done


@pytest.fixture
def work(tmp_path: Path) -> Work:
    settings = ExtractSettings(flow=FlowSettings(backend="dis"))
    return Work(videos=tmp_path / "videos", out=tmp_path / "out", settings=settings, durability="fast")


def test_every_video_is_done_once_and_two_a_thread_are_sent(work: Work) -> None:
    played = Played(work, threads={"w1": 1, "w2": 3})
    course = Course(work, played, 20)
    assert (course.error, course.ids, course.notes) == (None, all_of(20), [])
    assert sorted(video for _, video in played.performed) == all_of(20)
    assert played.largest["w1"] <= 2
    assert played.largest["w2"] <= 6
    assert len(played.dropped) >= 20  # no future is kept


def test_case_60_a_cluster_that_is_stuck_is_begun_anew_three_times_and_then_given_up(work: Work) -> None:
    played = Played(work)
    played.act = lambda *_: None
    course = Course(work, played, 5)
    assert isinstance(course.error, RunStoppedError)
    assert "has done nothing for" in str(course.error)
    assert "4 times in a row" in str(course.error)
    assert played.num_connections == 4
    assert len(course.notes) == 3


def test_case_60_a_cluster_that_is_stuck_once_loses_nothing(work: Work) -> None:
    played = Played(work)

    def act(cluster: Played, worker: str, order: dict[str, Any]) -> None:
        if cluster.num_connections > 1 or len(cluster.performed) < 4:
            cluster.do(worker, order)

    played.act = act
    course = Course(work, played, 8)
    assert (course.error, course.ids, played.num_connections) == (None, all_of(8), 2)


def test_frames_are_a_sign_of_life(work: Work) -> None:
    """A long video is no stuck cluster: the limit is several times shorter than it."""
    played = Played(work)

    def act(cluster: Played, worker: str, order: dict[str, Any]) -> None:
        cluster.say(event="begun", number=order["number"])
        for beat in range(1, 10):
            threading.Timer(0.1 * beat, cluster.say, kwargs={"event": "frames", "num": 5}).start()
        threading.Timer(1.0, cluster.do, [worker, order]).start()

    played.act = act
    course = Course(work, played, 1)
    assert (course.error, course.ids, played.num_connections) == (None, all_of(1), 1)


def test_a_scheduler_that_never_answers_ends_the_run_at_once(work: Work) -> None:
    def refuse(_token: str, _events: queue.SimpleQueue[tuple[Any, ...]]) -> Played:
        raise EngineLostError("no Dask scheduler answers at tcp://x")

    played = Played(work)
    played.connect = refuse  # type: ignore[method-assign]
    course = Course(work, played, 1)
    assert isinstance(course.error, RunStoppedError)
    assert "run the same command again when one does" in str(course.error)


def test_a_report_that_the_disk_does_not_confirm_is_not_believed(work: Work) -> None:
    played, liars = Played(work), {"v1"}

    def act(cluster: Played, worker: str, order: dict[str, Any]) -> None:
        video = order["task"]["video"]["id"]
        cluster.do(worker, order, publish=video not in liars)
        liars.discard(video)

    played.act = act
    course = Course(work, played, 4)
    assert (course.error, course.ids) == (None, all_of(4))
    assert [note for note in course.notes if "v1: its worker has published it, but it is not there" in note]
    assert [attempt.outcome for done in course.done if done.row.id == "v1" for attempt in done.attempts] == [
        "not_seen",
        "failed",
    ]


def test_what_is_on_the_disk_counts_where_its_report_was_lost(work: Work) -> None:
    played = Played(work)
    played.act = lambda cluster, worker, order: cluster.do(worker, order, report=False)
    course = Course(work, played, 6)
    assert (course.error, course.ids, len(played.performed)) == (None, all_of(6), 6)


def test_what_a_worker_that_vanishes_had_published_is_not_done_again(work: Work) -> None:
    played = Played(work)

    def act(cluster: Played, worker: str, order: dict[str, Any]) -> None:
        cluster.do(worker, order)
        if worker == "w2":
            cluster.events.get()  # its words are lost with it
            cluster.threads.pop("w2", None)

    played.act = act
    course = Course(work, played, 9)
    assert (course.error, course.ids) == (None, all_of(9))
    assert sorted(video for _, video in played.performed) == all_of(9)


def test_dask_errors_are_not_the_video_s_fault(work: Work) -> None:
    """A worker that cannot even run our code gets nothing more; one that was killed too often for Dask does."""
    played, killed = Played(work), {"v3", "v4"}

    def act(cluster: Played, worker: str, order: dict[str, Any]) -> None:
        if worker == "w1":
            cluster.end(order["number"], "ModuleNotFoundError: No module named 'flowprep'")
        elif (video := order["task"]["video"]["id"]) in killed:
            killed.discard(video)
            cluster.end(order["number"], "KilledWorker: ...")
        else:
            cluster.do(worker, order)

    played.act = act
    course = Course(work, played, 8)
    assert (course.error, course.ids) == (None, all_of(8))
    assert [note for note in course.notes if "w1 is not used: ModuleNotFoundError" in note]
    assert {len(done.attempts) for done in course.done} == {1}


def test_when_all_workers_are_refused_the_run_ends_with_the_reason(work: Work) -> None:
    played = Played(work)
    played.refusals = {"w1": "it has no disk", "w2": "it has no disk"}
    course = Course(work, played, 2, waits=dataclasses.replace(WAITS, workers_seconds=60))
    assert isinstance(course.error, RunStoppedError)
    assert "it has no disk" in str(course.error)
    assert [note for note in course.notes if "is not used" in note] == ["worker w1 is not used: it has no disk"]


def test_what_is_known_of_workers_that_do_not_come_is_said(work: Work) -> None:
    played = Played(work, threads={})
    played.absent = ["no worker of jobs 7, 8 has joined"]
    course = Course(work, played, 2)
    assert course.notes == [
        "the played cluster has no worker that can work; waiting for one (no worker of jobs 7, 8 has joined)"
    ]
    assert isinstance(course.error, RunStoppedError)
    assert ": no worker of jobs 7, 8 has joined; what is finished is kept" in str(course.error)


@pytest.mark.parametrize(("kind", "expected"), [("DiskFullError", DiskFullError), ("StoreError", StoreError)])
def test_what_concerns_the_whole_run_ends_it(work: Work, kind: str, expected: type[Exception]) -> None:
    played = Played(work)

    def act(cluster: Played, worker: str, order: dict[str, Any]) -> None:
        cluster.say(event="error", number=order["number"], kind=kind, error="the disk is full")
        cluster.end(order["number"])

    played.act = act
    course = Course(work, played, 3)
    assert (type(course.error), str(course.error)) == (expected, "the disk is full")


def test_what_was_set_aside_comes_last_and_alone(work: Work) -> None:
    played, set_aside = Played(work), {"v0"}
    attempt = {"worker": "w", "seconds": 1.0, "outcome": "gpu_crash", "stderr": ""}

    def act(cluster: Played, worker: str, order: dict[str, Any]) -> None:
        if (video := order["task"]["video"]["id"]) in set_aside:
            set_aside.discard(video)
            cluster.say(event="aside", number=order["number"], attempt=attempt)
            cluster.end(order["number"])
            return
        if video == "v0":
            assert order["aside"] == attempt
            assert sum(map(len, cluster.held.values())) == 1
        cluster.do(worker, order)

    played.act = act
    course = Course(work, played, 6)
    assert (course.error, course.ids) == (None, all_of(6))
    assert played.performed[-1][1] == "v0"


def test_a_video_that_three_workers_die_with_alone_is_quarantined_and_no_other(work: Work) -> None:
    played = Played(work)
    played.act = losing_workers_at("v2")
    course = Course(work, played, 6)
    assert (course.error, course.ids) == (None, all_of(6))
    (bad,) = [done for done in course.done if done.row.state is State.QUARANTINED]
    assert bad.row.reasons == (Reason("crash", "the worker that had it alone died 3 times"),)
    assert [attempt.outcome for attempt in bad.attempts] == ["worker_lost"] * 6
    assert {len(done.attempts) for done in course.done if done is not bad} == {1}


def test_where_all_workers_die_no_video_is_to_blame(work: Work) -> None:
    """A power cut of the room while a suspect is alone says nothing about it."""
    played = Played(work)
    num_cuts = 0

    def act(cluster: Played, worker: str, order: dict[str, Any]) -> None:
        nonlocal num_cuts
        if order["task"]["video"]["id"] == "v0" and num_cuts < 8:
            num_cuts += 1
            cluster.say(event="begun", number=order["number"])
            cluster.threads = {f"room{num_cuts}a": 1, f"room{num_cuts}b": 1}
        else:
            cluster.do(worker, order)

    played.act = act
    course = Course(work, played, 3)
    assert (course.error, course.ids) == (None, all_of(3))
    assert {done.row.state for done in course.done} == {State.FAILED}


def test_a_worker_that_leaves_of_itself_blames_no_video(work: Work) -> None:
    """Jobs that are shorter than a video, or preempted: it is pending, and whatever lives longer may do it."""
    played, num_left = Played(work), 7

    def act(cluster: Played, worker: str, order: dict[str, Any]) -> None:
        nonlocal num_left
        if order["task"]["video"]["id"] != "v2" or not num_left:
            cluster.do(worker, order)
            return
        num_left -= 1
        cluster.say(event="begun", number=order["number"])
        cluster.left.add(worker)
        del cluster.threads[worker]
        cluster.threads[f"w{len(cluster.performed) + 10}"] = 1

    played.act = act
    course = Course(work, played, 6)
    assert (course.error, course.ids) == (None, all_of(6))
    assert {done.row.state for done in course.done} == {State.FAILED}
    (long,) = [done for done in course.done if done.row.id == "v2"]
    assert [attempt.outcome for attempt in long.attempts] == ["worker_left"] * 7 + ["failed"]


def test_a_video_that_is_longer_than_all_workers_is_left_for_another_run(work: Work) -> None:
    played = Played(work)
    played.act = losing_workers_at("v2", has_left=True)
    course = Course(work, played, 4)
    assert (course.error, course.ids) == (None, ["v0", "v1", "v3"])
    assert [note for note in course.notes if note.startswith("v2: 20 workers have died or left before it was done")]


@pytest.mark.parametrize("others", [[], ["w2"]], ids=["one worker", "two workers"])
def test_only_where_another_worker_lives_is_a_death_to_blame_on_a_video(work: Work, others: list[str]) -> None:
    played = Played(work, threads=dict.fromkeys(["w1", *others], 1))
    played.act = losing_workers_at("v1")
    course = Course(work, played, 3)
    assert course.error is None
    assert course.ids == (all_of(3) if others else ["v0", "v2"])
    assert bool([note for note in course.notes if note.startswith("v1: 20 workers have died")]) is not bool(others)


def test_workers_that_dask_gives_up_at_once_are_counted_as_lost(work: Work) -> None:
    """A scheduler that allows no failures says that a video has killed a worker before anybody misses the worker."""
    played = Played(work)
    played.act = losing_workers_at("v2", error="KilledWorker: ...")
    course = Course(work, played, 4, waits=dataclasses.replace(WAITS, poll_seconds=0.1))
    assert (course.error, course.ids) == (None, all_of(4))
    (bad,) = [done for done in course.done if done.row.state is State.QUARANTINED]
    assert [attempt.outcome for attempt in bad.attempts] == ["worker_lost"] * 6


def test_one_bad_node_does_not_end_a_run_whose_jobs_wait_in_the_queue(work: Work) -> None:
    played = Played(work, threads={})
    played.num_expected, played.refusals = 3, {"w1": "it has no disk"}
    threading.Timer(0.3, played.threads.update, [{"w1": 1}]).start()  # later than a refused one is waited for
    threading.Timer(0.7, played.threads.update, [{"w2": 1}]).start()
    course = Course(work, played, 3, waits=dataclasses.replace(WAITS, workers_seconds=60))
    assert (course.error, course.ids) == (None, all_of(3))
    assert {worker for worker, _ in played.performed} == {"w2"}


def test_one_bad_node_does_not_end_a_run_when_the_others_are_replaced(work: Work) -> None:
    played = Played(work, threads={"w1": 1, "w2": 1})
    played.refusals = {"w1": "it has no disk"}

    def act(cluster: Played, worker: str, order: dict[str, Any]) -> None:
        cluster.do(worker, order)
        if worker == "w2" and len(cluster.performed) > 2:
            cluster.left.add(worker)
            cluster.threads.pop(worker, None)
            threading.Timer(0.6, cluster.threads.update, [{"w3": 1}]).start()

    played.act = act
    course = Course(work, played, 9, waits=dataclasses.replace(WAITS, workers_seconds=60))
    assert (course.error, course.ids) == (None, all_of(9))


def test_a_full_cluster_of_refused_workers_is_not_waited_for(work: Work) -> None:
    played = Played(work, threads={})
    played.num_expected, played.refusals = 2, {"w1": "it has no disk", "w2": "it has no disk"}
    threading.Timer(0.3, played.threads.update, [{"w1": 1, "w2": 1}]).start()
    course = Course(work, played, 3, waits=dataclasses.replace(WAITS, workers_seconds=60))
    assert isinstance(course.error, RunStoppedError)
    assert "it has no disk" in str(course.error)


def test_a_stop_takes_back_what_has_not_begun(work: Work) -> None:
    played, stop = Played(work), threading.Event()

    def act(cluster: Played, worker: str, order: dict[str, Any]) -> None:
        if len(cluster.held[worker]) == 1:  # the other one waits
            cluster.say(event="begun", number=order["number"])
            threading.Timer(0.2, cluster.do, [worker, order]).start()
        if len(cluster.performed) == 4:
            stop.set()

    played.act = act
    course = Course(work, played, 20, stop=stop)
    assert (course.error, course.ids) == (None, ["v0", "v1"])


def in_thread(work: Work, played: Played, num: int) -> Iterator[Done]:
    return tasks.in_thread(work, tasks_of(num), played.connect, WAITS, {})


def test_a_caller_that_is_slower_than_the_cluster_holds_it_back(work: Work, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tasks, "_MAX_RESULTS", 3)
    played = Played(work)
    results = in_thread(work, played, 60)
    found = [next(results)]
    time.sleep(0.4)  # in which a cluster that is not held back does all of them
    assert len(played.performed) < 20
    found += results
    assert sorted(done.row.id for done in found) == all_of(60)


def test_a_caller_that_gives_up_is_not_waited_for(work: Work, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tasks, "_MAX_RESULTS", 3)
    results = in_thread(work, Played(work), 60)
    next(results)
    results.close()  # type: ignore[attr-defined]
    assert not [thread for thread in threading.enumerate() if thread.name == "cluster"]


def test_the_folder_with_the_certificates_of_a_long_run_is_not_left_over(
    work: Work, monkeypatch: pytest.MonkeyPatch
) -> None:
    open_publisher(work.out, work.settings, durability="fast")
    with commit.staged(work.out, "cluster", "probe") as folder:
        commit.write_file(folder / "probe", [b"secret"], sync=False)
        for path in (folder / "probe", folder):
            os.utime(path, (1e9, 1e9))
        with tasks._kept(folder, 0.05):
            deadline = time.monotonic() + 20
            while folder.stat().st_mtime < 1.1e9 and time.monotonic() < deadline:
                time.sleep(0.01)
        monkeypatch.setattr(ownership, "_host", lambda: "another")
        assert commit.remove_leftovers(work.out) == 0
        os.utime(folder, (1e9, 1e9))
        assert commit.remove_leftovers(work.out) == 1


def test_orders_come_back_as_they_were(work: Work) -> None:
    video = Video(id="a/\udcff", path="a/\udcff.avi", segment=Segment(start_seconds=0.5, end_seconds=2.0))
    task = Task(list_index=3, video=video)
    assert task_from_json(json.loads(encode(task_to_json(task)))) == task
    work = dataclasses.replace(work, devices=("cuda:0",), stall_seconds=4.0)
    assert work_from_json(json.loads(encode(to_json(work)))) == work

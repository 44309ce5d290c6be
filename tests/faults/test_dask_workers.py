"""Workers of a cluster are killed, stopped, frozen, cut off and added, cases 45 to 59: no video is lost or blamed.

Each test compares the store with that of an undisturbed run of one process, and checks the six invariants.
"""

from __future__ import annotations

import json
import os
import queue
import random
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from helpers.command import flowprep, store_bytes
from helpers.dask_cluster import (
    PATIENCE,
    TTL_SECONDS,
    DaskCluster,
    arguments,
    attempts_of,
    end_run,
    freeze,
    kill,
    make_videos,
    start_run,
    thaw,
    undisturbed,
    workers_of,
    write_config,
)
from helpers.invariants import Invariants
from helpers.processes import children_of, eventually, parent_of

from flowprep.cluster.connection import DaskConnection
from flowprep.cluster.waits import Waits
from flowprep.machine import is_running

NUM_VIDEOS = 16


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, bytes]]:
    """Videos, and the store of an undisturbed run."""
    return undisturbed(tmp_path_factory.mktemp("data"), NUM_VIDEOS)


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DaskCluster]:
    """Two slow workers that all tests of this file share: whoever kills one sees its nanny start another."""
    with DaskCluster(tmp_path_factory.mktemp("cluster") / "dask", slow_seconds=0.3) as cluster:
        yield cluster


class Disturbed:
    """A run on the cluster, watched."""

    def __init__(
        self,
        data: tuple[Path, dict[str, bytes]],
        cluster: DaskCluster,
        tmp_path: Path,
        *,
        num_workers: int = 2,
        **waits: float,
    ):
        videos, self.whole = data
        self.cluster, self.out = cluster, tmp_path / "out"
        cluster.forget()
        assert eventually(lambda: len(cluster.workers()) >= num_workers, seconds=PATIENCE)
        # What waits behind another video stays there, and is not begun twice because the report of that is late.
        config = write_config(tmp_path / "config.toml", **{"move_seconds": PATIENCE, **waits})
        self.invariants = Invariants(tmp_path, self.out, also=[videos])
        self.invariants.__enter__()
        self.run = start_run(arguments(videos, self.out, cluster, config), self.invariants.environment)

    def end(self) -> str:
        said = end_run(self.run, 0)
        self.invariants.__exit__(None, None, None)
        self.invariants.check(self.whole)
        assert eventually(lambda: self.cluster.children() == [], seconds=30)
        return said


KILLS = (
    ("worker", signal.SIGKILL),
    ("child", signal.SIGKILL),
    ("worker", signal.SIGSEGV),
    ("child", signal.SIGSEGV),
    ("worker", signal.SIGABRT),
    ("child", signal.SIGABRT),
)


def test_case_45_whoever_is_killed_in_mid_video_costs_one_more_attempt(
    data: tuple[Path, dict[str, bytes]], cluster: DaskCluster, tmp_path: Path
) -> None:
    """Workers and children, by several signals; each of them has a video in work that nobody else has died with."""
    disturbed = Disturbed(data, cluster, tmp_path)
    draw, expected = random.Random(45), {}

    def victims() -> list[tuple[int, str]]:
        return sorted((pid, stem) for pid, stem in cluster.holding.held().items() if stem not in expected)

    for who, how in KILLS:
        while not victims():  # those that are held may all have died before, and go on
            cluster.holding.release()
            cluster.holding.folder.mkdir()
            eventually(lambda: victims() != [] or len(cluster.holding.held()) == 2, seconds=PATIENCE)
        child, stem = draw.choice(victims())
        time.sleep(0.5)  # the driver hears that it has begun
        os.kill(child if who == "child" else parent_of(child), how)
        expected[stem] = "worker_lost" if who == "worker" else "memory" if how == signal.SIGKILL else "crash"
        assert eventually(lambda gone=child: not is_running(gone), seconds=PATIENCE)
    cluster.holding.release()
    disturbed.end()
    attempts = attempts_of(disturbed.out)
    assert {stem: attempts[f"a/{stem}"] for stem in expected} == {
        stem: [outcome, "ok"] for stem, outcome in expected.items()
    }
    assert {tuple(attempts[name]) for name in attempts if name[2:] not in expected} == {("ok",)}
    assert cluster.starts().total() == NUM_VIDEOS + len(KILLS)


def test_case_46_nanny_and_worker_killed_and_a_child_alone(
    data: tuple[Path, dict[str, bytes]], cluster: DaskCluster, tmp_path: Path
) -> None:
    """All have a video in work. The child alone is its worker's affair, and nobody else gets the video."""
    extra = cluster.add_worker()
    cluster.nannies.append(extra)
    assert eventually(lambda: len(cluster.workers()) == 3, seconds=PATIENCE)
    disturbed = Disturbed(data, cluster, tmp_path)
    with cluster.holding as holding:
        held = holding.wait_for(3, seconds=PATIENCE)
        time.sleep(0.5)  # the driver hears that they have begun
        (worker,) = children_of(extra.pid)
        (orphan,) = children_of(worker)
        kill(extra.pid, worker)
        extra.wait()
        cluster.nannies.remove(extra)
        assert eventually(lambda: not is_running(orphan), seconds=PATIENCE), "children live on without their worker"
        alone = next(pid for pid in held if pid != orphan)
        supervisor = parent_of(alone)
        kill(alone)
        assert eventually(lambda: alone not in children_of(supervisor), seconds=PATIENCE)
    disturbed.end()
    attempts = attempts_of(disturbed.out)
    assert attempts[f"a/{held[orphan]}"] == ["worker_lost", "ok"]
    assert attempts[f"a/{held[alone]}"] == ["memory", "ok"]  # as the system kills for want of memory
    assert len({*workers_of(disturbed.out, f"a/{held[alone]}")}) == 2, "a child cannot do a video after its death"
    assert is_running(supervisor)
    assert cluster.starts().total() == NUM_VIDEOS + 2


def test_case_48_a_worker_is_killed_every_second_of_the_run(
    data: tuple[Path, dict[str, bytes]], cluster: DaskCluster, tmp_path: Path
) -> None:
    disturbed = Disturbed(data, cluster, tmp_path, workers_seconds=PATIENCE)
    over, num_kills, draw = threading.Event(), 0, random.Random(48)

    def murder() -> None:
        nonlocal num_kills
        while not over.wait(0.8) and num_kills < 12:  # a nanny takes that long to start a worker where cores are busy
            if workers := cluster.workers():
                kill(draw.choice(workers))
                num_kills += 1

    murderer = threading.Thread(target=murder)
    cluster.wait_for_starts(1)
    murderer.start()
    disturbed.run.wait(2 * PATIENCE)
    over.set()
    murderer.join()
    disturbed.end()
    assert num_kills >= 1


def test_case_50_a_preempted_worker_counts_against_no_video(
    data: tuple[Path, dict[str, bytes]], cluster: DaskCluster, tmp_path: Path
) -> None:
    """SIGTERM to all its processes, and SIGKILL for whoever is still there when the scheduler has been told.

    It has left, and was not lost: only the latter is held against a video, so that the outcome of the attempt tells
    both apart.
    """
    extra = cluster.add_worker()
    cluster.nannies.append(extra)
    assert eventually(lambda: len(cluster.workers()) == 3, seconds=PATIENCE)
    disturbed = Disturbed(data, cluster, tmp_path)
    with cluster.holding as holding, cluster.seen() as connection:
        held = holding.wait_for(3, seconds=PATIENCE)
        (worker,) = children_of(extra.pid)
        (child,) = children_of(worker)
        for pid in (child, worker, extra.pid):
            os.kill(pid, signal.SIGTERM)
        assert eventually(lambda: len(connection.threads_of_workers()) == 2, seconds=PATIENCE)
        kill(worker, extra.pid)
        extra.wait()
        cluster.nannies.remove(extra)
        assert eventually(lambda: not is_running(child), seconds=PATIENCE)
    disturbed.end()
    attempts = attempts_of(disturbed.out)
    assert attempts.pop(f"a/{held[child]}") == ["worker_left", "ok"]
    assert {tuple(outcomes) for outcomes in attempts.values()} == {("ok",)}  # what waited there had not begun
    assert cluster.starts().total() == NUM_VIDEOS + 1


def test_a_worker_that_goes_of_itself_is_told_from_one_that_dies(cluster: DaskCluster) -> None:
    assert eventually(lambda: len(cluster.workers()) >= 2, seconds=PATIENCE)
    address = json.loads(cluster.file.read_text())["address"]
    connection = DaskConnection(address, None, Waits(), "told", queue.SimpleQueue())
    try:
        assert eventually(lambda: len(connection.threads_of_workers()) == 2, seconds=PATIENCE)
        old = set(connection.threads_of_workers())
        extra = cluster.add_worker()
        assert eventually(lambda: len(connection.threads_of_workers()) == 3, seconds=PATIENCE)
        (new,) = set(connection.threads_of_workers()) - old
        extra.terminate()
        assert eventually(lambda: new not in connection.threads_of_workers(), seconds=PATIENCE)
        assert connection.has_left(new)
        extra.wait(PATIENCE)
        kill(cluster.workers()[0])
        assert eventually(lambda: not old <= set(connection.threads_of_workers()), seconds=PATIENCE)
        (dead,) = old - set(connection.threads_of_workers())
        assert not connection.has_left(dead)
    finally:
        connection.close(at_once=True)


def test_case_51_and_53_lifetimes_that_end_under_load_and_workers_that_come_late(
    data: tuple[Path, dict[str, bytes]], tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """All workers end within the same moment, with a video each in work. Those that come then get work at once, and
    those that come while others are at work too, before any of these has finished a video."""
    with DaskCluster(tmp_path_factory.mktemp("cluster") / "dask", 0) as cluster:
        disturbed = Disturbed(data, cluster, tmp_path, num_workers=0)
        lifetime, held = 3, {}
        with cluster.holding as holding:
            while len(held) < 2:  # where all is slow they end before they have begun a video
                lifetime *= 2
                assert lifetime < PATIENCE
                cluster.nannies = [cluster.add_worker("--lifetime", f"{lifetime}s") for _ in range(2)]
                while any(nanny.poll() is None for nanny in cluster.nannies):
                    held = max(held, holding.held(), key=len)
                    time.sleep(0.05)
            assert holding.held() == {}, "children live on without their worker"
            cluster.nannies = [cluster.add_worker()]
            first = holding.wait_for(1, seconds=PATIENCE)
            cluster.nannies.append(cluster.add_worker())
            assert holding.wait_for(2, seconds=PATIENCE).items() > first.items()
        disturbed.end()
        attempts = attempts_of(disturbed.out)
        left = {name for name, outcomes in attempts.items() if "worker_left" in outcomes}
        assert left >= {f"a/{stem}" for stem in held.values()}
        assert {tuple(attempts[name][-2:]) for name in left} == {("worker_left", "ok")}
        assert {tuple(attempts[name]) for name in attempts.keys() - left} == {("ok",)}
        assert cluster.starts().total() == sum(map(len, attempts.values()))


def test_case_54_a_frozen_node_that_thaws_does_no_harm(
    data: tuple[Path, dict[str, bytes]], tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Nanny, worker and child are frozen; when the video has been done elsewhere, they thaw and publish it again."""
    folder = tmp_path_factory.mktemp("cluster") / "dask"
    with DaskCluster(folder, 3, slow_seconds=0.3, ttl_seconds=TTL_SECONDS) as cluster:
        extra = cluster.nannies[2]
        disturbed = Disturbed(data, cluster, tmp_path, num_workers=3)
        assert eventually(lambda: len(cluster.children()) == 3, seconds=PATIENCE)
        cluster.wait_for_starts(3)
        (worker,) = children_of(extra.pid)
        (child,) = children_of(worker)
        # It has looked whether the video is done. Frozen before that, it would take the other's outcome for one that is
        # to be replaced, and leave a commit that the next packing takes in.
        clips = f"*-{child}.*/video.clip"
        assert eventually(lambda: [*(disturbed.out / ".flowprep" / "staging").glob(clips)], seconds=PATIENCE)
        freeze(extra.pid, worker, child)
        assert disturbed.run.wait(2 * PATIENCE) == 0  # without the frozen ones
        thaw(extra.pid, worker, child)
        assert eventually(lambda: child not in cluster.children(), seconds=30)
        disturbed.end()
        lost = {name for name, outcomes in attempts_of(disturbed.out).items() if "worker_lost" in outcomes}
        assert len(lost) <= 1
        for name in lost:
            assert attempts_of(disturbed.out)[name][-1] == "ok"


def test_case_59_nobody_waits_for_a_straggler(tmp_path: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    """One video takes fifty times as long; what waits behind it goes to the other worker."""
    with DaskCluster(tmp_path_factory.mktemp("cluster") / "dask", slow_seconds=0.15) as cluster:
        folder = tmp_path_factory.mktemp("data")
        videos = make_videos(folder / "videos", ["long", *(f"v{number}" for number in range(5))])
        flowprep(*arguments(videos, folder / "whole", None, None))
        disturbed = Disturbed((videos, store_bytes(folder / "whole")), cluster, tmp_path, move_seconds=2)
        disturbed.end()
        attempts = attempts_of(disturbed.out)  # in the order of their ends
        assert [*attempts][-1] == "a/long"
        assert {tuple(outcomes) for outcomes in attempts.values()} == {("ok",)}
        assert set(cluster.starts().values()) == {1}

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
    write_config,
)
from helpers.invariants import Invariants
from helpers.processes import children_of, eventually

from flowprep.cluster.connection import DaskConnection
from flowprep.cluster.waits import Waits
from flowprep.machine import is_running

NUM_VIDEOS = 12


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

    def __init__(self, data: tuple[Path, dict[str, bytes]], cluster: DaskCluster, tmp_path: Path, **waits: float):
        videos, self.whole = data
        self.cluster, self.out = cluster, tmp_path / "out"
        cluster.forget()
        assert eventually(lambda: len(cluster.workers()) >= 2, seconds=PATIENCE)
        config = write_config(tmp_path / "config.toml", **waits)
        self.invariants = Invariants(tmp_path, self.out)
        self.invariants.__enter__()
        self.run = start_run(arguments(videos, self.out, cluster, config), self.invariants.environment)

    def end(self) -> str:
        said = end_run(self.run, 0)
        self.invariants.__exit__(None, None, None)
        self.invariants.check(self.whole)
        assert eventually(lambda: self.cluster.children() == [], seconds=30)
        return said


def test_45_workers_killed_in_mid_video_cost_one_more_attempt_each(
    data: tuple[Path, dict[str, bytes]], cluster: DaskCluster, tmp_path: Path
) -> None:
    disturbed = Disturbed(data, cluster, tmp_path)
    num_kills = 3
    for number in range(num_kills):
        cluster.wait_for_starts(2 + 3 * number)
        kill(random.Random(number).choice(cluster.workers()))
    disturbed.end()
    assert NUM_VIDEOS <= cluster.starts().total() <= NUM_VIDEOS + num_kills
    lost = [outcome for outcomes in attempts_of(disturbed.out).values() for outcome in outcomes if outcome != "ok"]
    assert set(lost) <= {"worker_lost"}


def test_46_nanny_and_worker_killed_and_a_child_alone(
    data: tuple[Path, dict[str, bytes]], cluster: DaskCluster, tmp_path: Path
) -> None:
    extra = cluster.add_worker()
    cluster.nannies.append(extra)
    assert eventually(lambda: len(cluster.workers()) == 3, seconds=PATIENCE)
    disturbed = Disturbed(data, cluster, tmp_path)
    cluster.wait_for_starts(3)
    (worker,) = children_of(extra.pid)
    children = children_of(worker)
    kill(extra.pid, worker)
    extra.wait()
    cluster.nannies.remove(extra)
    assert eventually(lambda: not any(map(is_running, children)), seconds=PATIENCE)
    cluster.wait_for_starts(6)
    assert eventually(lambda: cluster.children() != [], seconds=20)
    kill(cluster.children()[0])
    disturbed.end()
    assert cluster.starts().total() <= NUM_VIDEOS + 2


def test_48_a_worker_is_killed_every_second_of_the_run(
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


def test_50_a_preempted_worker_counts_against_no_video(
    data: tuple[Path, dict[str, bytes]], cluster: DaskCluster, tmp_path: Path
) -> None:
    extra = cluster.add_worker()
    cluster.nannies.append(extra)
    assert eventually(lambda: len(cluster.workers()) == 3, seconds=PATIENCE)
    disturbed = Disturbed(data, cluster, tmp_path)
    cluster.wait_for_starts(4)
    (worker,) = children_of(extra.pid)
    extra.send_signal(signal.SIGTERM)
    os.kill(worker, signal.SIGTERM)
    time.sleep(0.5)
    kill(worker, extra.pid)
    extra.wait()
    cluster.nannies.remove(extra)
    disturbed.end()
    assert cluster.starts().total() <= NUM_VIDEOS + 2  # what it had in work, and what waited there


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


def test_51_lifetimes_that_end_under_load_and_53_workers_that_come_late(
    data: tuple[Path, dict[str, bytes]], tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """All workers end within the same moment; those that come then get work at once."""
    with DaskCluster(tmp_path_factory.mktemp("cluster") / "dask", 0, slow_seconds=0.3) as cluster:
        short = [cluster.add_worker("--lifetime", "4s") for _ in range(2)]
        cluster.nannies += short
        disturbed = Disturbed(data, cluster, tmp_path)
        cluster.wait_for_starts(2)
        for nanny in short:
            nanny.wait(PATIENCE)
        cluster.nannies = [cluster.add_worker(), cluster.add_worker()]
        disturbed.end()
        assert cluster.starts().total() <= NUM_VIDEOS + 2
        lost = {outcome for outcomes in attempts_of(disturbed.out).values() for outcome in outcomes}
        assert lost <= {"ok", "worker_left"}


def test_54_a_frozen_node_that_thaws_does_no_harm(
    data: tuple[Path, dict[str, bytes]], cluster: DaskCluster, tmp_path: Path
) -> None:
    """Nanny, worker and child are frozen; when the video has been done elsewhere, they thaw and publish it again."""
    extra = cluster.add_worker()
    cluster.nannies.append(extra)
    assert eventually(lambda: len(cluster.workers()) == 3, seconds=PATIENCE)
    disturbed = Disturbed(data, cluster, tmp_path)
    assert eventually(lambda: len(cluster.children()) == 3, seconds=PATIENCE)
    cluster.wait_for_starts(3)
    (worker,) = children_of(extra.pid)
    (child,) = children_of(worker)
    # It has looked whether the video is done. Frozen before that, it would take the other's outcome for one that is to
    # be replaced, and leave a commit that the next packing takes in.
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
    extra.terminate()
    extra.wait(30)
    cluster.nannies.remove(extra)


def test_59_nobody_waits_for_a_straggler(tmp_path: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    """One video takes ten times as long; what waits behind it goes to the other worker."""
    with DaskCluster(tmp_path_factory.mktemp("cluster") / "dask", slow_seconds=0.5) as cluster:
        folder = tmp_path_factory.mktemp("data")
        videos = make_videos(folder / "videos", ["long", *(f"v{number}" for number in range(5))])
        flowprep(*arguments(videos, folder / "whole", None, None))
        disturbed = Disturbed((videos, store_bytes(folder / "whole")), cluster, tmp_path)
        disturbed.end()
        ends = [name for name, outcomes in attempts_of(disturbed.out).items() if outcomes == ["ok"]]
        assert ends[-1] == "a/long"
        assert set(cluster.starts().values()) == {1}

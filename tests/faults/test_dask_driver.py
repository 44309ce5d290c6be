"""Drivers and schedulers that are killed, frozen, doubled and interrupted, cases 52 and 55 to 57: nothing hangs."""

from __future__ import annotations

import signal
import subprocess
import time
from pathlib import Path

import pytest
from helpers.dask_cluster import (
    PATIENCE,
    DaskCluster,
    arguments,
    end_run,
    freeze,
    kill,
    start_run,
    thaw,
    undisturbed,
    write_config,
)
from helpers.invariants import Invariants
from helpers.processes import eventually

from flowprep.journal import journals, read_journal

NUM_VIDEOS = 10
NOTICED_SECONDS = 60
"""In which a run has to end whose scheduler is lost. It waits 5 s for a reply and 10 s for another scheduler."""


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, bytes]]:
    return undisturbed(tmp_path_factory.mktemp("data"), NUM_VIDEOS)


@pytest.mark.parametrize("frozen", [False, True], ids=["killed", "frozen"])
def test_case_55_a_lost_scheduler_ends_the_run_with_a_sentence_and_a_resume_does_the_rest(
    data: tuple[Path, dict[str, bytes]], tmp_path: Path, tmp_path_factory: pytest.TempPathFactory, frozen: bool
) -> None:
    videos, whole = data
    out, config = tmp_path / "out", write_config(tmp_path / "config.toml", connect_seconds=5, reply_seconds=5)
    with (
        DaskCluster(tmp_path_factory.mktemp("cluster") / "dask", slow_seconds=0.3) as cluster,
        Invariants(tmp_path, out, also=[videos]) as invariants,
    ):
        run = start_run(arguments(videos, out, cluster, config), invariants.environment)
        cluster.wait_for_starts(4)
        freeze(cluster.scheduler.pid) if frozen else kill(cluster.scheduler.pid)
        said = end_run(run, 3, seconds=NOTICED_SECONDS)
        (sentence,) = [line for line in said.splitlines() if line.startswith("Error: ")]
        assert "no Dask scheduler answers at tcp://127.0.0.1:" in sentence
        assert sentence.endswith("run the same command again when one does")
        thaw(cluster.scheduler.pid)
        kill(cluster.scheduler.pid)
        cluster.scheduler.wait()
        for nanny in cluster.nannies:  # without a scheduler they end, and their children with them
            nanny.wait(PATIENCE)
        num_before = cluster.starts().total()
        num_done = len(list(out.glob(".flowprep/commits/*/*.clip"))) + 4 * len(list(out.glob("shards/*.h5")))
        assert num_done > 0
        cluster.scheduler = cluster.start_scheduler()
        cluster.nannies = [cluster.add_worker(), cluster.add_worker()]
        end_run(start_run(arguments(videos, out, cluster, config), invariants.environment), 0)
        assert cluster.starts().total() - num_before <= NUM_VIDEOS - num_done
    invariants.check(whole)


def test_case_56_a_driver_that_is_killed_leaves_a_cluster_that_falls_idle(
    data: tuple[Path, dict[str, bytes]], tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Killed; then interrupted, which drains; then interrupted twice, which does not wait."""
    videos, whole = data
    out, config = tmp_path / "out", write_config(tmp_path / "config.toml")
    with (
        DaskCluster(tmp_path_factory.mktemp("cluster") / "dask", slow_seconds=0.5) as cluster,
        Invariants(tmp_path, out, also=[videos]) as invariants,
    ):
        command = arguments(videos, out, cluster, config)
        run = start_run(command, invariants.environment)
        cluster.wait_for_starts(3)
        run.kill()
        run.communicate()
        assert eventually(lambda: cluster.children() == [], seconds=30)  # after its idle time
        num_after_kill = cluster.starts().total()

        run = start_run(command, invariants.environment)
        cluster.wait_for_starts(num_after_kill + 2)
        run.send_signal(signal.SIGINT)
        end_run(run, 3)
        assert eventually(lambda: cluster.children() == [], seconds=30)
        num_begun = cluster.starts().total()
        done = {path.stem for path in out.glob(".flowprep/commits/*/*.clip")}
        assert 4 * len(list(out.glob("shards/*.h5"))) + len(done) >= num_begun - 2  # only the killed run lost some

        run = start_run(command, invariants.environment)
        cluster.wait_for_starts(num_begun + 1)
        run.send_signal(signal.SIGINT)
        time.sleep(0.1)
        run.send_signal(signal.SIGINT)
        end_run(run, 3, seconds=30)
        assert eventually(lambda: cluster.children() == [], seconds=10)
        end_run(start_run(command, invariants.environment), 0)
    invariants.check(whole)


def test_case_57_two_drivers_at_once(
    data: tuple[Path, dict[str, bytes]], tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """The second is refused; when it insists, both make the same store, on the same workers."""
    videos, whole = data
    out, config = tmp_path / "out", write_config(tmp_path / "config.toml")
    with (
        DaskCluster(tmp_path_factory.mktemp("cluster") / "dask", slow_seconds=0.5) as cluster,
        Invariants(tmp_path, out, also=[videos]) as invariants,
    ):
        command = arguments(videos, out, cluster, config)
        first = start_run(command, invariants.environment)
        with cluster.holding as holding:
            holding.wait_for(2, seconds=PATIENCE)
            refused = end_run(start_run(command, invariants.environment), 2)
            assert "is being made by process" in refused
            second = start_run([*command, "--takeover"], invariants.environment)
            assert eventually(lambda: len(cluster.runs()) == 2, seconds=PATIENCE), cluster.runs()
            assert (first.poll(), second.poll()) == (None, None)
        end_run(first, 0)
        end_run(second, 0)
    invariants.check(whole)
    videos_done = [sum(event["event"] == "video" for event in read_journal(path)) for path in journals(out)]
    assert len([num for num in videos_done if num]) == 2, videos_done
    assert sum(videos_done) > NUM_VIDEOS, "they had no video in common"


def test_case_52_without_workers_the_driver_says_so_and_waits(
    data: tuple[Path, dict[str, bytes]], tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """All workers go; new ones come later, and once too late."""
    videos, whole = data
    out = tmp_path / "out"
    config = write_config(tmp_path / "config.toml", workers_seconds=3)
    patient = write_config(tmp_path / "patient.toml", workers_seconds=PATIENCE)
    with (
        DaskCluster(tmp_path_factory.mktemp("cluster") / "dask", 0, slow_seconds=0.3) as cluster,
        Invariants(tmp_path, out, also=[videos]) as invariants,
    ):
        said = end_run(start_run(arguments(videos, out, cluster, config), invariants.environment), 3, seconds=PATIENCE)
        assert "has no worker that can work; waiting for one" in said
        assert "has had no worker that can work for 3 s" in said

        cluster.nannies = [cluster.add_worker()]
        run = start_run(arguments(videos, out, cluster, patient), invariants.environment)
        cluster.wait_for_starts(2)
        kill(*(pid for nanny in cluster.nannies for pid in (nanny.pid, *cluster.workers())))
        for nanny in cluster.nannies:
            nanny.wait()
        with pytest.raises(subprocess.TimeoutExpired):
            run.wait(4)
        cluster.nannies = [cluster.add_worker(), cluster.add_worker()]
        end_run(run, 0)
    invariants.check(whole)

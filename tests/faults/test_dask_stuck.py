"""Case 60: a cluster that has workers, and does nothing. Its scheduler and workers are real, and live."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from helpers.dask_cluster import PATIENCE, DaskCluster, arguments, end_run, kill, start_run, undisturbed, write_config
from helpers.invariants import Invariants
from helpers.processes import eventually

NUM_VIDEOS = 6


def test_case_60_a_cluster_that_is_stuck_is_begun_anew_and_then_given_up(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """What each worker had is said every time. A run during which it wakes up ends as if nothing had been."""
    folder, out = tmp_path_factory.mktemp("data"), tmp_path / "out"
    videos, whole = undisturbed(folder, NUM_VIDEOS)
    impatient = write_config(folder / "impatient.toml", silence_seconds=3, num_restarts=1)
    patient = write_config(folder / "patient.toml", silence_seconds=4, num_restarts=50)
    log = folder / "driver.log"
    with DaskCluster(folder / "dask") as cluster, Invariants(tmp_path, out, also=[videos]) as invariants:
        cluster.stuck.touch()
        command = arguments(videos, out, cluster, impatient)
        said = end_run(start_run(command, invariants.environment), 3, seconds=PATIENCE)
        assert cluster.starts().total() == 0
        assert len(re.findall("has done nothing for [0-9]+ s; beginning anew with it", said)) == 1
        assert re.search("Error: .* has done nothing for [0-9]+ s; that was the case 2 times in a row;", said)
        dumps = re.findall("is stuck: (.*)", said)
        assert len(dumps) == 2
        for dump in dumps:
            had = dict(one.split(" has ") for one in dump.split("; "))
            assert all(re.match("tcp://127[.]0[.]0[.]1:[0-9]+", address) for address in had)
            assert any(re.fullmatch("flowprep-[0-9a-f]{16}-[0-9]+(, .*)?", keys) for keys in had.values()), dump

        run = start_run(arguments(videos, out, cluster, patient), invariants.environment, log=log)
        assert eventually(lambda: "beginning anew with it" in log.read_text(), seconds=PATIENCE), log.read_text()
        assert cluster.starts().total() == 0
        cluster.stuck.unlink()
        assert run.wait(2 * PATIENCE) == 0, log.read_text()
        run.communicate()
        assert "Traceback" not in log.read_text()
        assert eventually(lambda: cluster.children() == [], seconds=PATIENCE)
        with cluster.seen(reply_seconds=2) as connection:
            assert re.fullmatch("tcp://.* has nothing; tcp://.* has nothing", connection.dump())
            kill(cluster.scheduler.pid)
            assert re.match(r"the scheduler does not say anything \(\w+\)", connection.dump())
    invariants.check(whole)

"""A worker of several threads shares one process that owns its GPU, here DIS: its death blames no innocent video."""

from __future__ import annotations

import contextlib
from pathlib import Path

import numpy as np
import pytest
from helpers.command import flowprep, store_bytes
from helpers.dask_cluster import HELPERS, PATIENCE, DaskCluster, end_run, start_run, write_config
from helpers.invariants import Invariants
from helpers.media import moving_frames, write_video
from helpers.processes import children_of, eventually

from flowprep.childprocess import Task, Work
from flowprep.cluster.configfile import read_config
from flowprep.cluster.settings import ClusterSettings
from flowprep.cluster.tasks import run_tasks
from flowprep.config import ExtractSettings, FlowSettings, ResizeSettings
from flowprep.datasets import list_videos
from flowprep.publisher import open_publisher
from flowprep.records import Reason, State

POISON_LEVEL = 60
pytestmark = pytest.mark.filterwarnings("default")  # those of Dask are not ours


def test_one_owner_a_device_and_its_death_is_the_fault_of_who_causes_it_alone(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """A later run, on a machine that gets along with all videos, ends the store as if nothing had been."""
    videos, folder = tmp_path / "videos", tmp_path_factory.mktemp("cluster")
    videos.mkdir()
    for index in range(8):
        write_video(videos / f"{index}.avi", moving_frames(20, 48, 32, seed=index))
    write_video(videos / "2poison.avi", np.full((20, 32, 48, 3), POISON_LEVEL, np.uint8))
    settings = ExtractSettings(flow=FlowSettings(backend="dis"), resize=ResizeSettings(short_side=None))
    work = Work(videos=videos, out=tmp_path / "out", settings=settings, durability="fast", devices=("cuda:0",))
    open_publisher(work.out, settings)
    tasks = [Task(list_index=k, video=video) for k, video in enumerate(list_videos("folder", videos).videos)]
    device = {
        "DEVICE_SCRIPT": str(HELPERS / "faulty_device.py"),
        "FAULTS": f"crash={POISON_LEVEL}",
        "FAULT_MARK": str(folder / "mark"),
    }
    config = read_config(write_config(folder / "config.toml"))
    alone = ["extract", "--dataset", "folder", "--videos", str(videos), "--backend", "dis", "--keep-size"]
    flowprep(*alone, "--out", folder / "whole")
    most_owners, outcomes = 0, {}
    with Invariants(tmp_path, work.out) as invariants:
        environment = invariants.environment
        with DaskCluster(folder / "dask", 0, environment=environment, num_threads=3, slow_seconds=0.2) as cluster:
            cluster.nannies = [cluster.add_worker(environment=device)]
            for done in run_tasks(work, tasks, ClusterSettings(dask=str(cluster.file)), config):
                outcomes[done.row.id] = done
                most_owners = max(most_owners, sum("faulty_device" in command_of(pid) for pid in cluster.children()))
            assert eventually(
                lambda: [pid for one in cluster.workers() for pid in children_of(one)] == [], seconds=PATIENCE
            )
        invariants.check_gone()
        end_run(start_run([*alone, "--out", str(work.out), "--retry", "all"], environment), 0)
    invariants.check(store_bytes(folder / "whole"))
    poison = outcomes.pop("2poison")
    died = "the process that owns the device died"
    assert poison.row.state is State.QUARANTINED
    assert poison.row.reasons[0].code == "gpu_crash"
    assert poison.row.reasons[0] != Reason("gpu_crash", died)  # it says by which signal
    assert {str(done.row.state) for done in outcomes.values()} == {"ok"}
    assert {done.num_attempts for done in outcomes.values()} <= {1, 2}
    assert len(outcomes) == 8
    assert most_owners == 1


def command_of(pid: int) -> str:
    """Of a process that may just end."""
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_text()
    return ""

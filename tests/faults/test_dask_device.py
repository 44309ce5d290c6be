"""A worker of several threads shares one process that owns its GPU, here DIS: its death blames no innocent video."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from helpers.dask_cluster import HELPERS, PATIENCE, DaskCluster, write_config
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


def test_one_owner_a_device_and_its_death_is_the_fault_of_who_causes_it_alone(tmp_path: Path) -> None:
    videos, mark = tmp_path / "videos", tmp_path / "mark"
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
        "FAULT_MARK": str(mark),
    }
    config = read_config(write_config(tmp_path / "config.toml"))
    most_owners = 0
    with DaskCluster(tmp_path / "dask", 0, num_threads=3, slow_seconds=0.2) as cluster:
        cluster.nannies = [cluster.add_worker(environment=device)]
        outcomes = {}
        for done in run_tasks(work, tasks, ClusterSettings(dask=str(cluster.file)), config):
            outcomes[done.row.id] = done
            commands = [Path(f"/proc/{pid}/cmdline") for pid in cluster.children()]
            most_owners = max(
                most_owners, sum(b"faulty_device" in one.read_bytes() for one in commands if one.exists())
            )
        assert eventually(
            lambda: [pid for one in cluster.workers() for pid in children_of(one)] == [], seconds=PATIENCE
        )
    poison = outcomes.pop("2poison")
    died = "the process that owns the device died"
    assert poison.row.state is State.QUARANTINED
    assert poison.row.reasons[0].code == "gpu_crash"
    assert poison.row.reasons[0] != Reason("gpu_crash", died)  # it says by which signal
    assert {str(done.row.state) for done in outcomes.values()} == {"ok"}
    assert len(outcomes) == 8
    assert most_owners == 1

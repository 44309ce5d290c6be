"""Case 49, and 24 to 26 on a cluster: bad videos are found out, and no innocent pays. Workers have resources set."""

from __future__ import annotations

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
    make_videos,
    start_run,
    states_of,
    write_config,
)
from helpers.invariants import Invariants
from helpers.processes import eventually

NUM_VIDEOS = 200
TREE, SHARDS = ("--format", "jpeg"), ("--shard-videos", "50")


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DaskCluster]:
    with DaskCluster(tmp_path_factory.mktemp("cluster") / "dask", 0) as cluster:
        cluster.nannies = [cluster.add_worker("--resources", "GPU=1") for _ in range(2)]
        yield cluster


class Outcome:
    """A run on the cluster over a list with `bad` videos, of which there are `num` in all; `states` and `attempts`.

    All six invariants hold after it. A second run on the cluster changes nothing, as videos that were given up are not
    tried again of itself; one that is told to, on a machine that gets along with them, ends in the bytes of an
    undisturbed one.
    """

    def __init__(self, cluster: DaskCluster, folder: Path, bad: list[str], num: int, *options: str) -> None:
        self.good = [f"v{number:03d}" for number in range(num - len(bad))]
        videos = make_videos(folder / "videos", [*self.good, *bad])
        out, config, whole = (
            folder / "data" / "out",
            write_config(folder / "config.toml", move_seconds=PATIENCE),
            folder / "whole",
        )
        out.parent.mkdir()
        flowprep(*arguments(videos, whole, None, None), *options)
        cluster.forget()
        command = [*arguments(videos, out, cluster, config), *options]
        with Invariants(folder, out) as invariants:
            end_run(start_run(command, invariants.environment), 1)
            self.states, self.attempts, self.starts = states_of(out), attempts_of(out), cluster.starts()
            given_up = store_bytes(out)
            end_run(start_run(command, invariants.environment), 1)
            assert cluster.starts() == self.starts
            invariants.check(given_up)
            alone = [*arguments(videos, out, None, None), *options, "--retry", "all"]
            end_run(start_run(alone, invariants.environment), 0)
        invariants.check(store_bytes(whole))
        assert eventually(lambda: cluster.children() == [], seconds=30)


@pytest.mark.parametrize(
    ("bad", "form"), [(["crash"], SHARDS), (["crash", "exit-2", "sleep-3"], TREE)], ids=["one", "three"]
)
def test_case_49_exactly_the_poison_is_quarantined_after_two_tries(
    cluster: DaskCluster, tmp_path: Path, bad: list[str], form: tuple[str, ...]
) -> None:
    found = Outcome(cluster, tmp_path, bad, NUM_VIDEOS, "--stall", "4", *form)
    assert {name for name, state in found.states.items() if state != "ok"} == {f"a/{name}" for name in bad}
    for name in bad:
        assert found.states[f"a/{name}"] == "quarantined"
        assert len(found.attempts[f"a/{name}"]) == 2
    assert len(found.states) == NUM_VIDEOS
    assert {len(found.attempts[f"a/{name}"]) for name in found.good} == {1}
    assert {found.starts[name] for name in found.good} == {1}


def test_who_ends_the_worker_itself_is_found_out_when_it_is_alone(cluster: DaskCluster, tmp_path: Path) -> None:
    """As where a job has used up its memory. The videos that wait behind it are innocent however often it happens."""
    found = Outcome(cluster, tmp_path, ["parent"], 30, *TREE)
    assert {name for name, state in found.states.items() if state != "ok"} == {"a/parent"}
    assert set(found.attempts["a/parent"]) == {"worker_lost"}
    assert {len(found.attempts[f"a/{name}"]) for name in found.good} <= {1, 2}

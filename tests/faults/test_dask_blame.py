"""Case 49, and 24 to 26 on a cluster: bad videos are found out, and no innocent pays. Workers have resources set."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from helpers.command import flowprep, store_bytes
from helpers.dask_cluster import (
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

GOOD = [f"v{number:02d}" for number in range(40)]


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DaskCluster]:
    with DaskCluster(tmp_path_factory.mktemp("cluster") / "dask", 0) as cluster:
        cluster.nannies = [cluster.add_worker("--resources", "GPU=1") for _ in range(2)]
        yield cluster


def outcome(
    cluster: DaskCluster, tmp_path: Path, bad: list[str], *options: str
) -> tuple[dict[str, str], dict[str, list[str]]]:
    """States of all videos, and all attempts at them. The good ones are stored as if there were no bad ones."""
    videos = make_videos(tmp_path / "videos", [*GOOD, *bad])
    alone = make_videos(tmp_path / "alone" / "videos", GOOD)
    flowprep(*arguments(alone, tmp_path / "alone" / "out", None, None), "--format", "jpeg")
    whole = store_bytes(tmp_path / "alone" / "out")
    cluster.forget()
    out, config = tmp_path / "out", write_config(tmp_path / "config.toml")
    with Invariants(tmp_path, out) as invariants:
        run = start_run(
            [*arguments(videos, out, cluster, config), "--format", "jpeg", *options], invariants.environment
        )
        end_run(run, 1)
    images = {name: data for name, data in store_bytes(out).items() if name.endswith(".jpg")}
    assert images == {name: data for name, data in whole.items() if name.endswith(".jpg")}
    invariants.check_states()
    invariants.check_sound()
    invariants.check_gone()
    assert eventually(lambda: cluster.children() == [], seconds=30)
    return states_of(out), attempts_of(out)


@pytest.mark.parametrize("bad", [["crash"], ["crash", "exit-2", "sleep-3"]], ids=["one", "three"])
def test_49_exactly_the_poison_is_quarantined_after_two_tries(
    cluster: DaskCluster, tmp_path: Path, bad: list[str]
) -> None:
    states, attempts = outcome(cluster, tmp_path, bad, "--stall", "2")
    assert {name for name, state in states.items() if state != "ok"} == {f"a/{name}" for name in bad}
    for name in bad:
        assert states[f"a/{name}"] == "quarantined"
        assert len(attempts[f"a/{name}"]) == 2
    assert {len(attempts[f"a/{name}"]) for name in GOOD} == {1}
    assert {cluster.starts()[name] for name in GOOD} == {1}


def test_who_ends_the_worker_itself_is_found_out_when_it_is_alone(cluster: DaskCluster, tmp_path: Path) -> None:
    """As where a job has used up its memory. The videos that wait behind it are innocent however often it happens."""
    states, attempts = outcome(cluster, tmp_path, ["parent"])
    assert {name for name, state in states.items() if state != "ok"} == {"a/parent"}
    assert set(attempts["a/parent"]) == {"worker_lost"}
    assert {len(attempts[f"a/{name}"]) for name in GOOD} <= {1, 2}

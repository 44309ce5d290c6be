"""Which workers may work for a run, cases 61 and 62, and a worker that is cut off, case 58."""

from __future__ import annotations

import json
import socket
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from helpers.dask_cluster import (
    PATIENCE,
    TTL_SECONDS,
    DaskCluster,
    arguments,
    attempts_of,
    end_run,
    freeze,
    start_run,
    thaw,
    undisturbed,
    write_config,
)
from helpers.invariants import Invariants
from helpers.processes import children_of, eventually

from flowprep import __version__

NUM_VIDEOS = 10


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, bytes]]:
    return undisturbed(tmp_path_factory.mktemp("data"), NUM_VIDEOS)


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DaskCluster]:
    """One worker, to which the tests add others."""
    with DaskCluster(
        tmp_path_factory.mktemp("cluster") / "dask", 1, slow_seconds=0.3, ttl_seconds=TTL_SECONDS
    ) as cluster:
        yield cluster


def test_case_61_a_worker_of_another_version_is_refused(
    data: tuple[Path, dict[str, bytes]], cluster: DaskCluster, tmp_path: Path
) -> None:
    videos, whole = data
    out, config = tmp_path / "out", write_config(tmp_path / "config.toml")
    other = cluster.add_worker(environment={"FAKE_VERSION": "0.0.9"})
    cluster.nannies.append(other)
    assert eventually(lambda: len(cluster.workers()) == 2, seconds=PATIENCE)
    time.sleep(1)  # it registers
    with Invariants(tmp_path, out, also=[videos]) as invariants:
        said = end_run(start_run(arguments(videos, out, cluster, config), invariants.environment), 0)
    assert f"is not used: it has flowprep 0.0.9, the run {__version__}; install the same there" in said
    invariants.check(whole)
    other.terminate()
    other.wait(30)
    cluster.nannies.remove(other)


def test_a_worker_that_does_not_share_the_disk_is_refused(
    data: tuple[Path, dict[str, bytes]], cluster: DaskCluster, tmp_path: Path
) -> None:
    """It is the only one, and the run ends with its sentence instead of waiting for a better one."""
    videos, whole = data
    out, config = tmp_path / "out", write_config(tmp_path / "config.toml", visible_seconds=1)
    hidden = tmp_path / "elsewhere"
    # What the driver shows lies where the worker cannot look: as on a machine without that disk.
    script = tmp_path / "driver.py"
    script.write_text(
        "from flowprep.cluster import orders\n"
        "real = orders.encode\n"
        "from flowprep.cluster import engine\n"
        f"engine.encode = lambda m: real({{**m, 'probe': {str(hidden / 'probe')!r}}} if 'probe' in m else m)\n"
        "from flowprep_cli.main import main\n"
        "main()\n"
    )
    cluster.forget()
    with Invariants(tmp_path, out, also=[videos]) as invariants:
        command = arguments(videos, out, cluster, config)
        said = end_run(start_run(command, invariants.environment, program=(sys.executable, str(script))), 3)
        assert f"does not see the store {out}; mount the shared disk there" in said
        assert "has had no worker that can work" in said
        assert cluster.starts().total() == 0
        end_run(start_run(command, invariants.environment), 0)  # where both see the same
    invariants.check(whole)


def test_case_62_a_clock_that_is_days_off_changes_nothing(
    data: tuple[Path, dict[str, bytes]], tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Nine days ahead on one worker, nine behind on the other: more than the age at which leftovers are removed."""
    videos, whole = data
    out, config = tmp_path / "out", write_config(tmp_path / "config.toml")
    with (
        DaskCluster(tmp_path_factory.mktemp("cluster") / "dask", 0, slow_seconds=0.3) as cluster,
        Invariants(tmp_path, out, also=[videos]) as invariants,
    ):
        cluster.nannies = [cluster.add_worker(environment={"CLOCK_DAYS": days}) for days in ("9", "-9")]
        run = start_run(arguments(videos, out, cluster, config), invariants.environment)
        cluster.wait_for_starts(3)
        run.kill()
        run.communicate()
        end_run(start_run(arguments(videos, out, cluster, config), invariants.environment), 0)
        invariants.check(whole)
        assert cluster.starts().total() <= NUM_VIDEOS + 2
    assert {len(outcomes) for outcomes in attempts_of(out).values()} == {1}


class Proxy:
    """Passes bytes on between workers and the scheduler until it is `cut`."""

    def __init__(self, port: int) -> None:
        self._target = port
        self._door = socket.create_server(("127.0.0.1", 0))
        self.port = self._door.getsockname()[1]
        self._whole = threading.Event()
        self._whole.set()
        threading.Thread(target=self._accept, daemon=True).start()

    def cut(self) -> None:
        self._whole.clear()

    def mend(self) -> None:
        self._whole.set()

    def _accept(self) -> None:
        while True:
            near, _ = self._door.accept()
            far = socket.create_connection(("127.0.0.1", self._target))
            for source, target in ((near, far), (far, near)):
                threading.Thread(target=self._pass, args=(source, target), daemon=True).start()

    def _pass(self, source: socket.socket, target: socket.socket) -> None:
        try:
            while data := source.recv(1 << 16):
                self._whole.wait()
                target.sendall(data)
        except OSError:
            pass
        for end in (source, target):
            end.close()


def test_case_58_a_worker_that_is_cut_off_costs_no_video(
    data: tuple[Path, dict[str, bytes]], cluster: DaskCluster, tmp_path: Path
) -> None:
    """It goes on with its video when somebody else has begun it again, and publishes it too."""
    videos, whole = data
    out, config = tmp_path / "out", write_config(tmp_path / "config.toml")
    cluster.forget()
    proxy = Proxy(int(json.loads(cluster.file.read_text())["address"].rpartition(":")[2]))
    far = cluster.add_worker(address=f"tcp://127.0.0.1:{proxy.port}")
    cluster.nannies.append(far)
    assert eventually(lambda: len(cluster.workers()) == 2, seconds=PATIENCE)
    with Invariants(tmp_path, out, also=[videos]) as invariants:
        run = start_run(arguments(videos, out, cluster, config), invariants.environment)
        with cluster.holding as holding:
            held = holding.wait_for(2, seconds=PATIENCE)
            (worker,) = children_of(far.pid)
            (child,) = children_of(worker)
            proxy.cut()
            freeze(child)
        assert eventually(lambda: cluster.starts()[held[child]] == 2, seconds=PATIENCE), cluster.starts()
        thaw(child)
        end_run(run, 0)
        time.sleep(TTL_SECONDS)
        proxy.mend()
        assert eventually(lambda: cluster.children() == [], seconds=PATIENCE)
        invariants.check(whole)
    attempts = attempts_of(out)
    assert attempts[f"a/{held[child]}"] == ["worker_lost", "ok"]
    assert sum(map(len, attempts.values())) >= NUM_VIDEOS + 1

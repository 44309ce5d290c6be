"""A real Dask cluster on loopback, with workers that can be killed and frozen, and runs that use it."""

from __future__ import annotations

import contextlib
import json
import os
import queue
import re
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from helpers.command import FLOWPREP, flowprep, store_bytes
from helpers.holding import Holding
from helpers.media import moving_frames, write_video
from helpers.processes import children_of, eventually

from flowprep.cluster.connection import DaskConnection
from flowprep.cluster.waits import Waits

HELPERS = Path(__file__).parent
PRELOAD = HELPERS / "cluster_preload.py"
CHEAP = ("--backend", "dis", "--size", "112x84", "--shard-videos", "4", "--durability", "fast")
PATIENCE = 180.0
"""Seconds for what takes a few: a worker starts slowly where many programs want few cores."""
WAITS = {
    "poll_seconds": 0.2,
    "connect_seconds": 10.0,
    "reply_seconds": 60.0,
    "workers_seconds": PATIENCE,
    "silence_seconds": PATIENCE,
    "visible_seconds": 3.0,
    "idle_seconds": 1.0,
    "move_seconds": 0.3,
    "witness_seconds": 20.0,
}
TTL_SECONDS = 4
"""For clusters of which a node is frozen or cut off: a worker that is silent for so long counts as dead."""


def write_config(path: Path, **waits: float) -> Path:
    """A file for `--cluster-config` with short waits."""
    path.write_text("[waits]\n" + "".join(f"{name} = {value}\n" for name, value in {**WAITS, **waits}.items()))
    return path


def make_videos(folder: Path, names: Sequence[str]) -> Path:
    """Small videos of one class, each of other pixels."""
    (folder / "a").mkdir(parents=True, exist_ok=True)
    for seed, name in enumerate(names):
        write_video(folder / "a" / f"{name}.avi", moving_frames(5, 112, 84, seed=seed))
    return folder


class DaskCluster:
    """A scheduler and `num_workers` workers with nannies, below `folder`. A context manager: nothing is left of it."""

    def __init__(
        self,
        folder: Path,
        num_workers: int = 2,
        *,
        environment: Mapping[str, str] | None = None,
        slow_seconds: float = 0.0,
        ttl_seconds: float = 60.0,
        num_threads: int = 1,
        tls: Sequence[str] = (),
    ) -> None:
        self.folder, self.counts = folder, folder / "counts"
        self.counts.mkdir(parents=True)
        (folder / "done").mkdir()
        self.file = folder / "scheduler.json"
        self.num_threads, self.tls = num_threads, list(tls)
        self.holding, self.stuck = Holding(folder / "hold"), folder / "stuck"
        self.environment = {
            **(environment or os.environ),
            "CHILD_SCRIPT": str(HELPERS / "cluster_child.py"),
            "HELPERS": str(HELPERS),
            "COUNT_FOLDER": str(self.counts),
            "DONE_FOLDER": str(folder / "done"),
            **self.holding.environment,
            "STUCK_FILE": str(self.stuck),
            "SLOW_SECONDS": str(slow_seconds),
            "DASK_DISTRIBUTED__SCHEDULER__WORKER_TTL": f"{ttl_seconds}s",
            "DASK_DISTRIBUTED__SCHEDULER__HTTP__ROUTES": "[]",
            "OMP_NUM_THREADS": "1",
        }
        self.scheduler = self.start_scheduler()
        self.nannies = [self.add_worker() for _ in range(num_workers)]

    def __enter__(self) -> DaskCluster:
        return self

    def __exit__(self, *error: object) -> None:
        for process in (*self.nannies, self.scheduler):
            thaw(process.pid, *children_of(process.pid))
            process.send_signal(signal.SIGTERM)
        for process in (*self.nannies, self.scheduler):
            workers = children_of(process.pid)
            try:
                process.wait(8)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            for worker in workers:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(worker, signal.SIGKILL)

    def start_scheduler(self, *options: str) -> subprocess.Popen[bytes]:
        self.file.unlink(missing_ok=True)
        command = [sys.executable, "-m", "distributed.cli.dask_scheduler", "--host", "127.0.0.1", "--port", "0"]
        command += ["--no-dashboard", "--dashboard-address", "127.0.0.1:0", "--scheduler-file", str(self.file)]
        process = self._start([*command, *self.tls, *options], "scheduler", {})
        assert eventually(self.file.exists, seconds=PATIENCE)
        return process

    def add_worker(
        self, *options: str, environment: Mapping[str, str] | None = None, address: str = ""
    ) -> subprocess.Popen[bytes]:
        where = [address] if address else ["--scheduler-file", str(self.file)]
        command = [sys.executable, "-m", "distributed.cli.dask_worker", *where, "--host", "127.0.0.1"]
        command += ["--nthreads", str(self.num_threads), "--memory-limit", "0", "--no-dashboard"]
        command += ["--dashboard-address", "127.0.0.1:0", "--death-timeout", "60", "--preload", str(PRELOAD)]
        command += ["--local-directory", str(self.folder / "dask")]
        return self._start([*command, *self.tls, *options], "worker", environment or {})

    def _start(self, command: list[str], name: str, more: Mapping[str, str]) -> subprocess.Popen[bytes]:
        with (self.folder / f"{name}.log").open("ab") as log:
            return subprocess.Popen(
                command, stdout=log, stderr=subprocess.STDOUT, env={**self.environment, **more}, cwd=self.folder
            )

    def pids(self) -> list[int]:
        """Scheduler, nannies and workers: what is left when a run has ended."""
        roots = [self.scheduler.pid, *(nanny.pid for nanny in self.nannies)]
        helpers = [pid for root in roots for pid in all_children_of(root)]
        return [*roots, *helpers]

    def workers(self) -> list[int]:
        """The worker process of each nanny that has one."""
        return [pid for nanny in self.nannies for pid in children_of(nanny.pid)]

    def children(self) -> list[int]:
        """The supervised children of all workers."""
        return [pid for worker in self.workers() for pid in children_of(worker)]

    def starts(self) -> Counter[str]:
        """How often each video has begun."""
        return Counter(path.name.rpartition(".")[0] for path in self.counts.iterdir())

    @contextlib.contextmanager
    def seen(self, **waits: float) -> Iterator[DaskConnection]:
        """The cluster as a driver sees it."""
        address = json.loads(self.file.read_text())["address"]
        connection = DaskConnection(address, None, Waits(**waits), "seen", queue.SimpleQueue())
        try:
            yield connection
        finally:
            connection.close(at_once=True)

    def runs(self) -> set[str]:
        """The tokens of the runs that have given the cluster something to do."""
        with self.seen() as connection:
            return {*re.findall(r"flowprep-([0-9a-f]+)-\d+", connection.dump())}

    def wait_for_starts(self, num: int) -> None:
        assert eventually(lambda: self.starts().total() >= num, seconds=PATIENCE), self.starts()

    def forget(self) -> None:
        """Count from here."""
        for path in self.counts.iterdir():
            path.unlink()


def undisturbed(folder: Path, num_videos: int) -> tuple[Path, dict[str, bytes]]:
    """Videos, and the store that a run of one process on this machine makes of them."""
    videos = make_videos(folder / "videos", [f"v{number:02d}" for number in range(num_videos)])
    flowprep(*arguments(videos, folder / "whole", None, None))
    return videos, store_bytes(folder / "whole")


def arguments(videos: Path, out: Path, cluster: DaskCluster | str | None, config: Path | None) -> list[str]:
    """A run on a cluster, or one on this machine in one process."""
    where = ["--jobs", "1"]
    if cluster is not None:
        where = ["--dask", str(cluster.file if isinstance(cluster, DaskCluster) else cluster)]
        where += ["--cluster-config", str(config)]
    return ["extract", "--dataset", "folder", "--videos", str(videos), "--out", str(out), *CHEAP, *where]


def start_run(
    command: Sequence[str],
    environment: Mapping[str, str],
    *,
    program: Sequence[str] = (str(FLOWPREP),),
    log: Path | None = None,
) -> subprocess.Popen[str]:
    """Start a run; what it says is for `end_run`, or goes into `log`."""
    with contextlib.ExitStack() as stack:
        stderr = subprocess.PIPE if log is None else stack.enter_context(log.open("wb"))
        return subprocess.Popen(
            [*program, *command], stdout=subprocess.PIPE, stderr=stderr, text=True, env={**environment}
        )


def end_run(run: subprocess.Popen[str], expect: int, *, seconds: float = 2 * PATIENCE) -> str:
    """What a run has said, which ended with that exit code and without a traceback."""
    try:
        _, stderr = run.communicate(timeout=seconds)
    except subprocess.TimeoutExpired:
        run.kill()
        raise AssertionError(f"the run hangs\n{run.communicate()[1]}") from None
    assert run.returncode == expect, f"exit code {run.returncode}, not {expect}\n{stderr}"
    assert "Traceback" not in stderr, stderr
    return stderr


def kill(*pids: int) -> None:
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def freeze(*pids: int) -> None:
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)


def thaw(*pids: int) -> None:
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGCONT)


def all_children_of(parent: int) -> Iterator[int]:
    """Children in any generation, those that Python keeps for itself too."""
    for path in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            pid, rest = int(path.parent.name), path.read_text().rpartition(")")[2].split()
            if int(rest[1]) == parent:
                yield pid
                yield from all_children_of(pid)


def attempts_of(out: Path) -> dict[str, list[str]]:
    """The outcomes of all attempts at each video, by the journals; in the order of their ends."""
    return _attempts(out, "outcome")


def workers_of(out: Path, video: str) -> list[str]:
    """Who has tried a video."""
    return _attempts(out, "worker")[video]


def _attempts(out: Path, what: str) -> dict[str, list[str]]:
    from flowprep.journal import journals, read_journal

    found: dict[str, list[str]] = {}
    for path in journals(out):
        for event in read_journal(path):
            if event["event"] == "video":
                found.setdefault(event["id"], []).extend(attempt[what] for attempt in event["attempts"])
    return found


def states_of(out: Path) -> dict[str, str]:
    """State of each video by the manifest."""
    rows = [json.loads(line) for line in (out / "manifest.jsonl").read_text().splitlines()[1:]]
    return {row["id"]: row["state"] for row in rows}


def sleep_until(moment: float) -> None:
    time.sleep(max(0.0, moment - time.monotonic()))

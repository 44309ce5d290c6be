"""The tasks of a run done by a cluster: what `flowprep.executors.run_tasks` is for one machine."""

from __future__ import annotations

import contextlib
import itertools
import os
import queue
import secrets
import threading
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from flowprep import __version__, commit, journal
from flowprep.childprocess import Task, Work
from flowprep.cluster.configfile import ClusterConfig
from flowprep.cluster.connection import connect_running, quiet_dask, require_dask
from flowprep.cluster.engine import Connect, Engine
from flowprep.cluster.settings import ClusterSettings
from flowprep.cluster.waits import Waits
from flowprep.config import ALGORITHMS
from flowprep.publisher import open_publisher
from flowprep.supervisor import Done

_MAX_RESULTS = 10_000  # that wait while the caller packs: then workers have to wait too, and commits do not pile up
_LOOK_SECONDS = 0.5
_BEAT_SECONDS = 3600.0


def run_tasks(
    work: Work,
    tasks: Iterable[Task],
    settings: ClusterSettings,
    config: ClusterConfig,
    *,
    stop: threading.Event | None = None,
    progress: Callable[[int], None] = lambda _num_frames: None,
    note: Callable[[str], None] = lambda _text: None,
) -> Iterator[Done]:
    """Have a cluster do the tasks, and yield each as it ends, in any order; see `flowprep.executors.run_tasks`.

    Raises:
        SettingsError: the cluster may not be used as it is, or Dask is not installed.
        RunStoppedError: the cluster is lost, has no workers, or cannot write the store.
    """
    first = next(tasks := iter(tasks), None)
    if first is None:
        return  # nobody has to wait for workers
    require_dask()
    tasks = itertools.chain([first], tasks)
    with quiet_dask(), contextlib.ExitStack() as stack:
        with commit.output_errors(work.out, video=False):
            # Which others see, if they share our disk; certificates lie in it, so it is for us alone.
            folder = stack.enter_context(commit.staged(work.out, "cluster", "probe"))
            os.chmod(folder, 0o700)
            probe, secret = folder / "probe", secrets.token_hex(16)
            commit.write_file(probe, [secret.encode()], sync=True)
        stack.enter_context(_kept(folder))
        introduction = {
            "version": __version__,
            "algorithms": dict(ALGORITHMS),
            "versions": journal.versions(),
            "probe": str(probe.absolute()),
            "secret": secret,
            "visible_seconds": config.waits.visible_seconds,
        }
        if settings.system is not None:
            from flowprep.cluster.batch import connect_batch

            connect = connect_batch(settings, config, folder)
        else:
            connect = connect_running(settings, config.waits)
        try:
            yield from in_thread(
                work, tasks, connect, config.waits, introduction, stop=stop, progress=progress, note=note
            )
        finally:
            commit.remove_leftovers(work.out)  # of workers of this machine that were killed; others do so on theirs


@contextlib.contextmanager
def _kept(folder: Path, beat_seconds: float = _BEAT_SECONDS) -> Iterator[None]:
    """Keep a staging folder from being taken for left over, as it is after a week: jobs that begin then read it."""
    end = threading.Event()

    def beat() -> None:
        while not end.wait(beat_seconds):
            with contextlib.suppress(OSError):
                os.utime(folder)

    thread = threading.Thread(target=beat, name="cluster-folder", daemon=True)
    thread.start()
    try:
        yield
    finally:
        end.set()
        thread.join()


def in_thread(
    work: Work,
    tasks: Iterable[Task],
    connect: Connect,
    waits: Waits,
    introduction: dict[str, Any],
    *,
    stop: threading.Event | None = None,
    progress: Callable[[int], None] = lambda _num_frames: None,
    note: Callable[[str], None] = lambda _text: None,
) -> Iterator[Done]:
    """Run an engine in a thread, since packing a shard takes the caller longer than workers should wait for more."""
    abort = threading.Event()
    results: queue.Queue[Done | BaseException | None] = queue.Queue(_MAX_RESULTS)
    engine = Engine(
        work,
        open_publisher(work.out, work.settings, durability=work.durability),
        connect,
        waits,
        introduction,
        stop=stop or threading.Event(),
        abort=abort,
        progress=progress,
        note=note,
    )

    def put(result: Done | BaseException | None) -> None:
        while not abort.is_set():
            with contextlib.suppress(queue.Full):
                results.put(result, timeout=_LOOK_SECONDS)
                return

    def drive() -> None:
        try:
            for done in engine.run(tasks):
                put(done)
            put(None)
        except BaseException as error:  # noqa: BLE001 - it is raised where the results are taken
            put(error)

    thread = threading.Thread(target=drive, name="cluster", daemon=True)
    thread.start()
    try:
        while (result := results.get()) is not None:
            if isinstance(result, BaseException):
                raise result
            yield result
    finally:
        abort.set()
        thread.join()

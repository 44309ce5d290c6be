"""Starts child processes.

Note [one thread starts all children]: the kernel kills a child when the *thread* that started it ends
(PR_SET_PDEATHSIG, see prctl(2)), so this is one that lives as long as the process.
"""

from __future__ import annotations

import os
import queue
import subprocess
import sys
import threading
from collections.abc import Sequence
from concurrent.futures import Future
from pathlib import Path

_requests: queue.SimpleQueue[tuple[list[str], Future[subprocess.Popen[bytes]]]] = queue.SimpleQueue()
_spawner: threading.Thread | None = None
_lock = threading.Lock()


def spawn(command: Sequence[str]) -> subprocess.Popen[bytes]:
    """Start a child with pipes for input, output and errors, in a session of its own: Ctrl-C is for the run alone.

    It finds the modules that this process finds, and its libraries start no threads of their own. Raises OSError.
    """
    global _spawner
    with _lock:
        if _spawner is None or not _spawner.is_alive():  # the latter in a process that was forked from ours
            _spawner = threading.Thread(target=_start_all, name="start-children", daemon=True)
            _spawner.start()
    future: Future[subprocess.Popen[bytes]] = Future()
    _requests.put((list(command), future))
    return future.result()


def _start_all() -> None:
    while True:
        command, future = _requests.get()
        try:
            future.set_result(
                subprocess.Popen(
                    command,
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.PIPE,
                    env=_environment(),
                    start_new_session=True,
                )
            )
        except BaseException as error:  # noqa: BLE001 - it belongs to who asked
            future.set_exception(error)


def _environment() -> dict[str, str]:
    """Ours, with our module path, in which "" means the working folder."""
    threads = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
    path = os.pathsep.join(str(Path(entry).absolute()) for entry in sys.path)
    return {**os.environ, **threads, "PYTHONPATH": path}

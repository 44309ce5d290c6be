"""Who does the work: slots, each with a supervised child. The only module that imports a scheduler."""

from __future__ import annotations

import contextlib
import queue
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence

from flowprep.childprocess import Task, Work
from flowprep.device.load import Load
from flowprep.device.process import Device
from flowprep.process import AbortedError
from flowprep.supervisor import Attempt, Done, SetAsideError, Supervisor


def run_tasks(
    work: Work,
    tasks: Iterable[Task],
    jobs: int,
    *,
    stop: threading.Event | None = None,
    progress: Callable[[int], None] = lambda _num_frames: None,
    loads: dict[str, Load] | None = None,
) -> Iterator[Done]:
    """Do the tasks, `jobs` at a time, each in a child process, and yield each as it ends, in any order.

    Where the work has devices, the children share them. What a device has in work when it dies is set aside and done at
    the end, one video at a time, so that it is seen which one it dies of.

    When `stop` is set no other task begins; those in work end and are yielded. `progress` is called, from any thread,
    with the number of frames done since its last call. `loads` gets how busy each device was.
    When the iterator is closed, or anything is raised, all children are killed; none is left when this returns.

    Raises:
        RunStoppedError: the store cannot be written, or children cannot be started.
        BackendUnavailableError: the flow backend does not run here.
    """
    import joblib

    stopped, abort = stop or threading.Event(), threading.Event()
    free: queue.SimpleQueue[Supervisor] = queue.SimpleQueue()
    devices = [Device(name, work.settings, abort, stall_seconds=work.stall_seconds) for name in work.devices]
    if loads is not None:
        loads.update({device.name: device.load for device in devices})
    for slot in range(jobs):
        free.put(Supervisor(work, abort, progress, devices[slot % len(devices)] if devices else None))
    aside: queue.SimpleQueue[tuple[Task, Attempt]] = queue.SimpleQueue()

    def perform(task: Task) -> Done | None:
        supervisor = None
        while supervisor is None:
            if stopped.is_set() or abort.is_set():
                return None
            with contextlib.suppress(queue.Empty):
                supervisor = free.get(timeout=0.1)  # at once, but for the moment in which all are closed
        try:
            return supervisor.perform(task)
        except SetAsideError as error:
            aside.put((task, error.attempt))
            return None
        except AbortedError:
            return None
        finally:
            free.put(supervisor)

    # Threads, since each only waits for its child: a pool of processes gives up all its work when one of them dies.
    parallel = joblib.Parallel(n_jobs=jobs, backend="threading", return_as="generator_unordered", batch_size=1)
    results = parallel(joblib.delayed(perform)(task) for task in _until((stopped, abort), tasks))
    try:
        for done in results:
            if done is not None:
                yield done
        while not aside.empty() and not stopped.is_set():
            task, attempt = aside.get()
            supervisor = free.get()
            try:
                yield supervisor.perform(task, aside=attempt)
            finally:
                free.put(supervisor)
    except BaseException:
        abort.set()
        raise
    finally:
        # Taking them from the queue waits for the threads that have one.
        _undisturbed(lambda: _close_all([*(free.get() for _ in range(jobs)), *devices]))
        with contextlib.suppress(Exception):  # the first error counts
            for _ in results:  # nothing comes any more; joblib would warn if it were closed before its end
                pass


def _until(ends: tuple[threading.Event, ...], tasks: Iterable[Task]) -> Iterator[Task]:
    """The tasks, taken one by one, for as long as none of the events is set."""
    for task in tasks:
        if any(event.is_set() for event in ends):
            return
        yield task


def _undisturbed(work: Callable[[], None]) -> None:
    """Do what must not be cut short by Ctrl-C, which is raised in the main thread alone and here comes late."""
    thread = threading.Thread(target=work, name="close-children")
    thread.start()
    interrupt = None
    while thread.is_alive():
        try:
            thread.join()
        except KeyboardInterrupt as error:
            interrupt = error
    if interrupt is not None:
        raise interrupt


def _close_all(owners: Sequence[Supervisor | Device]) -> None:
    """Close all processes at the same time: each may take a moment."""
    threads = [threading.Thread(target=owner.close) for owner in owners]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

"""What runs on a worker of the cluster: a look at whether it may join, then videos, each in a supervised child.

The three functions get and give JSON texts. What they have to say goes to the driver as an event of the scheduler and
not as their result: a result stays on the worker until it is fetched, and is lost, or waited for in vain, with it.
Events of a task arrive before the end of the task does.
"""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, final

from flowprep import __version__, commit, journal
from flowprep.childprocess import Work
from flowprep.cluster.orders import decode, done_to_json, encode, task_from_json, work_from_json
from flowprep.cluster.sightings import not_seen
from flowprep.config import ALGORITHMS
from flowprep.device.process import Device
from flowprep.errors import BackendUnavailableError, CannotWorkError, FlowprepError, SettingsError
from flowprep.process import AbortedError
from flowprep.publisher import open_publisher
from flowprep.supervisor import Attempt, SetAsideError, Supervisor

_log = logging.getLogger(__name__)
DECISIVE = ("flowprep", "opencv", "pyav", "ffmpeg_libavcodec")
"""Versions that must be those of the driver: they decide which bytes are stored."""
_TELL_SECONDS = 1.0
_LOOK_SECONDS = 0.25


def topic_of(token: str) -> str:
    """The name under which the workers of a run report."""
    return f"flowprep-{token}"


def join(text: str) -> None:
    """Say whether this worker can work for the run."""
    order = decode(text)
    tell = _teller(order["token"])
    _leave_sigterm_to_the_nanny()
    try:
        obstacle = _obstacle(order)
    except Exception as error:  # noqa: BLE001 - whatever it is, this worker is of no use
        obstacle = f"{type(error).__name__}: {error}"
    tell({"event": "joined", "number": order["number"], "obstacle": obstacle})


def perform(text: str) -> None:
    """Do a video and report."""
    order = decode(text)
    number, tell = order["number"], _teller(order["token"])
    tell({"event": "begun", "number": number})
    slots = _Slots.of(order)
    signs = _Signs(tell, order["sign_seconds"])
    supervisor = None
    aside = None if order["aside"] is None else Attempt(**order["aside"])
    try:
        supervisor = slots.take(signs)
        done = supervisor.perform(task_from_json(order["task"]), aside=aside)
    except SetAsideError as error:
        said: dict[str, Any] = {"event": "aside", "attempt": dataclasses.asdict(error.attempt)}
    except AbortedError:
        said = {"event": "aborted"}
    except (BackendUnavailableError, CannotWorkError) as error:
        said = {"event": "unable", "error": str(error)}
    except FlowprepError as error:
        said = {"event": "error", "kind": type(error).__name__, "error": str(error)}
    else:
        said = {"event": "done", "done": done_to_json(done)}
    finally:
        slots.give_back(supervisor)
    signs.flush()
    tell({"number": number, **said})


def leave(token: str, *, at_once: bool = False) -> None:
    """The run has ended: end its processes, without waiting for videos if `at_once`. Returns before that is done."""
    with _Slots.lock:
        slots = _Slots.all.pop(token, None)
    if slots is not None:
        threading.Thread(target=slots.close, kwargs={"at_once": at_once}, name="leave-run").start()


# -- joining -----------------------------------------------------------------------------------------------------------


def _leave_sigterm_to_the_nanny() -> None:
    """A batch system may end a job with a SIGTERM to all its processes.

    The nanny then tells this process to leave, which says so to the scheduler. Ended by the signal itself it would
    count as lost, and what it had in work would be held against the videos. A handler and not SIG_IGN, which children
    inherit.
    """
    from distributed import get_worker

    worker = get_worker()
    if worker.nanny is not None:
        worker.loop.add_callback(signal.signal, signal.SIGTERM, lambda *_: None)  # only the main thread may do that


def _obstacle(order: dict[str, Any]) -> str:
    """Why this worker cannot work for the run, "" if it can."""
    if order["version"] != __version__:
        return f"it has flowprep {__version__}, the run {order['version']}; install the same there"
    if order["algorithms"] != dict(ALGORITHMS):
        return "its flowprep has other stages, although its version is the same; install the same there"
    here, there = journal.versions(), order["versions"]
    different = [f"{name} {here[name]}, the run {there[name]}" for name in DECISIVE if here[name] != there[name]]
    if different:
        return f"it has {'; '.join(different)}: bytes may differ; install the same there"
    work = work_from_json(order["work"])
    deadline = time.monotonic() + order["visible_seconds"]
    if not _until(deadline, lambda: _has(Path(order["probe"]), order["secret"])):
        return f"it does not see the store {work.out}; mount the shared disk there"
    if not work.videos.is_dir():
        return f"it does not see the videos {work.videos}; mount the shared disk there"
    if not _until(deadline, lambda: not not_seen(work.videos, order["shown"])):
        what = not_seen(work.videos, order["shown"])
        return f"it does not see the videos {work.videos}: {what}; mount the same disk there"
    try:
        open_publisher(work.out, work.settings, durability=work.durability)
    except SettingsError as error:
        return str(error)
    return ""


def _until(deadline: float, look: Callable[[], bool]) -> bool:
    """True if a look succeeds, perhaps only when a network disk has heard of what is looked for."""
    while not look():
        if time.monotonic() > deadline:
            return False
        time.sleep(_LOOK_SECONDS)
    return True


def _has(path: Path, secret: str) -> bool:
    """True if the file has that content."""
    with contextlib.suppress(OSError, ValueError):
        return path.read_text("ascii") == secret
    return False


# -- working -----------------------------------------------------------------------------------------------------------


def _teller(token: str) -> Callable[[dict[str, Any]], None]:
    """What sends a message to the driver. A worker that the scheduler has given up sends to nobody."""
    from distributed import get_worker

    worker = get_worker()

    def tell(message: dict[str, Any]) -> None:
        worker.log_event(topic_of(token), encode({"worker": worker.address, **message}))

    return tell


@final
class _Signs:
    """Reports frames that are done, not more often than a driver needs for its display and to see that work goes on.

    Where there are none for `sign_seconds`, as in a video that hangs, it says that its child is within its limits.
    """

    def __init__(self, tell: Callable[[dict[str, Any]], None], sign_seconds: float) -> None:
        self._tell, self._sign_seconds = tell, sign_seconds
        self._num, self._told = 0, time.monotonic()

    def frames(self, num_frames: int) -> None:
        """So many more are done."""
        self._num += num_frames
        if time.monotonic() - self._told >= _TELL_SECONDS:
            self.flush()

    def waiting(self) -> None:
        """A child is waited for. One that is frozen with us says nothing, since nobody calls this."""
        if time.monotonic() - self._told >= self._sign_seconds:
            if not self._num:
                self._tell({"event": "alive"})
            self.flush()

    def flush(self) -> None:
        """Report what has not been reported."""
        if self._num:
            self._tell({"event": "frames", "num": self._num})
        self._num, self._told = 0, time.monotonic()


@final
class _Slots:
    """The supervised processes of one run on this worker: one child for each of its threads, and the devices.

    They are kept from video to video, and end when there has been no work for a while: a driver that dies says nothing.
    """

    lock = threading.Lock()
    all: dict[str, _Slots] = {}  # noqa: RUF012 - one registry a process, under the lock

    def __init__(self, token: str, work: Work, idle_seconds: float) -> None:
        self._token, self._work, self._idle_seconds = token, work, idle_seconds
        self._abort = threading.Event()
        self._devices = [
            Device(name, work.settings, self._abort, stall_seconds=work.stall_seconds) for name in work.devices
        ]
        self._free: list[Supervisor] = []
        self._num_made = self._num_busy = self._num_tasks = 0
        self._timer: threading.Timer | None = None
        self._is_closed = False

    @classmethod
    def of(cls, order: dict[str, Any]) -> _Slots:
        """Those of the run of an order."""
        with cls.lock:
            slots = cls.all.get(order["token"])
            if slots is None:
                slots = cls.all[order["token"]] = cls(
                    order["token"], work_from_json(order["work"]), order["idle_seconds"]
                )
            slots._num_busy += 1  # so that it is not closed before it is used
            slots._num_tasks += 1
            return slots

    def take(self, signs: _Signs) -> Supervisor:
        """A supervisor that nobody uses."""
        with self.lock:
            if self._free:
                supervisor = self._free.pop()
            else:
                device = self._devices[self._num_made % len(self._devices)] if self._devices else None
                supervisor = Supervisor(self._work, self._abort, signs.frames, device)
                self._num_made += 1
        supervisor.progress, supervisor.waiting = signs.frames, signs.waiting
        return supervisor

    def give_back(self, supervisor: Supervisor | None) -> None:
        """It is free again; None where there was none to be had."""
        with self.lock:
            self._num_busy -= 1
            keep = not self._is_closed
            if keep and supervisor is not None:
                self._free.append(supervisor)
            if keep and self._num_busy == 0:
                self._wait_for_more()
        if supervisor is not None and not keep:
            supervisor.close()

    def _wait_for_more(self) -> None:
        if self._timer is not None:
            self._timer.cancel()  # else there would be a thread for each video of the last minute
        self._timer = threading.Timer(self._idle_seconds, self._close_if_idle, [self._num_tasks])
        self._timer.daemon = True
        self._timer.start()

    def _close_if_idle(self, num_tasks: int) -> None:
        with self.lock:
            if self._num_tasks != num_tasks:
                return
            if self.all.get(self._token) is self:
                del self.all[self._token]
        self.close()

    def close(self, *, at_once: bool = False) -> None:
        """End the processes that are free, and let the others end after their video, or `at_once`."""
        with self.lock:
            self._is_closed = True
            if self._timer is not None:
                self._timer.cancel()
            free, self._free = self._free, []
            num_busy = self._num_busy
        if at_once:
            self._abort.set()
        for supervisor in free:
            supervisor.close()
        while num_busy:  # their device must live as long as they do
            time.sleep(_LOOK_SECONDS)
            with self.lock:
                num_busy = self._num_busy
        for device in self._devices:
            device.close()
        with contextlib.suppress(FlowprepError):
            commit.remove_leftovers(self._work.out)

"""Jobs of a batch system, kept account of: which it has taken, what it says to the others, which are asked for again.

Dask asks for jobs in a loop of its own, and what goes wrong there ends in a log that nobody reads; what has been asked
for once is believed to come.
"""

from __future__ import annotations

import asyncio
import contextlib
import copy
import logging
import os
import shlex
import signal
import subprocess
import threading
import time
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any, final

from flowprep.errors import RunStoppedError

_log = logging.getLogger(__name__)
_NUM_AT_ONCE = 16
"""Commands of the batch system that run at a time."""
_NUM_CANCELLED = 100
"""Jobs that one command cancels."""
_MAX_NAMED = 5
_QUIET_SECONDS = 10.0  # that a batch system may take to answer, before that is said
_LONGEST_PAUSE = 8  # in first pauses
_LEFT_OUT = " 2> /dev/null"  # dask-jobqueue hides what bsub has to say


@dataclass(slots=True, eq=False)
class Asked:
    """A job that is wanted, under the `name` that its worker will have.

    `number` is that of the batch system once it has taken it, `refusal` why it has not, `since` when it was last asked,
    by `time.monotonic`, until it answers.
    """

    name: str = ""
    number: str = ""
    since: float | None = None
    refusal: str = ""


@final
class Jobs:
    """The account of one cluster. Its own loop writes, other threads ask.

    `printed` says where jobs print. A job that is refused is asked for again after `retry_seconds`, then more and more;
    a command that does not end within `answer_seconds` is killed, and has refused.
    """

    def __init__(self, system: str, printed: str, *, retry_seconds: float, answer_seconds: float = 120.0) -> None:
        self.system, self.retry_seconds, self.answer_seconds = system, retry_seconds, answer_seconds
        self.gate = asyncio.Semaphore(_NUM_AT_ONCE)
        self.is_closing = False
        self._printed = printed
        self._lock = threading.Lock()
        self._asked: dict[Asked, None] = {}
        self._was_any_taken = False
        self._told: set[str] = set()

    def add(self, asked: Asked) -> None:
        """A job is wanted."""
        with self._lock:
            self._asked[asked] = None

    def remove(self, asked: Asked) -> None:
        """It is not wanted any more."""
        with self._lock:
            self._asked.pop(asked, None)

    def taken(self, asked: Asked, number: str) -> None:
        """The batch system has taken it."""
        with self._lock:
            asked.number, asked.refusal = number, ""
            self._was_any_taken = True

    def refused(self, asked: Asked, reason: str) -> None:
        """The batch system has not taken it. That is said once for each reason, unless the run ends with it."""
        with self._lock:
            asked.refusal = reason
            is_news = self._was_any_taken and reason not in self._told
            if is_news:
                self._told.add(reason)
        if is_news:
            _log.warning("%s did not take a job: %s", self.system, reason)

    def obstacles(self, joined: Collection[str] = ()) -> list[str]:
        """Why there may be no worker but those of the names `joined`.

        Raises RunStoppedError where the batch system has taken no job at all.
        """
        with self._lock:
            refusals = [asked.refusal for asked in self._asked if asked.refusal]
            numbers = [asked.number for asked in self._asked if asked.number and asked.name not in joined]
            waits = [time.monotonic() - asked.since for asked in self._asked if asked.since is not None]
            num_asked, was_any_taken = len(self._asked), self._was_any_taken
        if refusals and len(refusals) == num_asked and not was_any_taken:
            raise RunStoppedError(
                f"{self.system} takes no job: {refusals[-1]}; what is finished is kept, mend [job] of --cluster-config "
                "or ask whoever runs the batch system, and run the same command again"
            )
        said = []
        if refusals:
            said.append(f"{self.system} has not taken {len(refusals)} of {num_asked} jobs ({refusals[-1]})")
        if waits and (longest := max(waits)) > _QUIET_SECONDS:
            said.append(f"{self.system} has not answered for {longest:.0f} s to what asks it for {len(waits)} jobs")
        if numbers:
            more = f" and {len(numbers) - _MAX_NAMED} more" if len(numbers) > _MAX_NAMED else ""
            said.append(
                f"no worker of jobs {', '.join(numbers[:_MAX_NAMED])}{more} has joined: they are in the queue, or have "
                f"ended before; what they print is {self._printed}"
            )
        return said

    def cancel(self, command: str, seconds: float) -> int:
        """Cancel all jobs that have been taken, and ask for no more. Gives the number of those that may be left."""
        self.is_closing = True
        deadline = time.monotonic() + seconds
        with self._lock:
            taken = [asked for asked in self._asked if asked.number]
        while taken:
            some, taken = taken[:_NUM_CANCELLED], taken[_NUM_CANCELLED:]
            try:
                # It complains of jobs that have ended, and cancels the others.
                subprocess.run(
                    [*shlex.split(command), *(asked.number for asked in some)],
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.DEVNULL,
                    timeout=max(0.1, deadline - time.monotonic()),
                    check=False,
                )
            except (OSError, subprocess.TimeoutExpired):
                return len(some) + len(taken)
            for asked in some:
                asked.number = ""
        return 0


def watched(job_class: Any, jobs: Jobs) -> Any:
    """The class of jobs of dask-jobqueue that keeps `jobs` up to date, and whose certificates may lie in any folder."""

    class WatchedJob(job_class):  # type: ignore[misc]
        def __init__(self, *arguments: Any, security: Any = None, **options: Any) -> None:
            super().__init__(*arguments, security=_quoted(security), **options)
            self._asked, self._is_left = Asked(name=str(self.name)), asyncio.Event()
            self._again: asyncio.Future[None] | None = None

        async def start(self) -> None:
            """Ask for the job; if it is not taken, go on asking and call that started, so that Dask waits for it."""
            from distributed.core import Status

            jobs.add(self._asked)
            if await self._is_to_be_asked_again():
                self._again = asyncio.ensure_future(self._ask_again())
            self.status = Status.running

        async def _ask_again(self) -> None:
            pause = jobs.retry_seconds
            while not self._is_left.is_set():
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._is_left.wait(), pause)
                if self._is_left.is_set() or not await self._is_to_be_asked_again():
                    return
                pause = min(2 * pause, _LONGEST_PAUSE * jobs.retry_seconds)

        async def _is_to_be_asked_again(self) -> bool:
            async with jobs.gate:
                if jobs.is_closing:
                    return False
                self._asked.since = time.monotonic()
                try:
                    await job_class.start(self)
                except (OSError, RuntimeError) as error:
                    jobs.refused(self._asked, reason_of(error))
                    return True
                except ValueError as error:  # it may have been taken, but its number is not known
                    jobs.refused(self._asked, reason_of(error))
                    return False
                finally:
                    self._asked.since = None
                jobs.taken(self._asked, str(self.job_id))
                return False

        async def close(self) -> None:
            self._is_left.set()
            if self._again is not None:
                await self._again  # a job that is just being taken must be cancelled too
            if self._asked.number:
                async with jobs.gate:
                    await super().close()
            jobs.remove(self._asked)

        @staticmethod
        async def _call(cmd: list[str], *, shell: bool = False, **options: Any) -> str:
            """In the place of dask-jobqueue's, which waits for ever."""
            if shell:
                cmd = [one.removesuffix(_LEFT_OUT) for one in cmd]
            make: Any = asyncio.create_subprocess_shell if shell else asyncio.create_subprocess_exec
            pipe = asyncio.subprocess.PIPE
            process = await make(*cmd, stdout=pipe, stderr=pipe, start_new_session=True, **options)
            try:
                async with asyncio.timeout(jobs.answer_seconds):
                    out, err = await process.communicate()
            except TimeoutError:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
                await process.communicate()
                raise RuntimeError(f"{_name(cmd[0])} has not answered for {jobs.answer_seconds:.0f} s") from None
            if process.returncode != 0:
                said = " ".join((err.strip() or out.strip()).decode(errors="replace").split())
                raise RuntimeError(reason_of_command(_name(cmd[0]), process.returncode, said))
            return str(out.decode(errors="replace"))

    return WatchedJob


def _quoted(security: Any) -> Any:
    """The same with certificates named as words of a shell: dask-jobqueue puts them into the script as they are."""
    if security is None:
        return None
    security = copy.copy(security)
    for name in ("tls_ca_file", "tls_worker_cert", "tls_worker_key"):
        setattr(security, name, shlex.quote(getattr(security, name)))
    return security


def _name(command: str) -> str:
    return command.split()[0].rstrip("<")


def reason_of_command(name: str, code: int, said: str) -> str:
    """Why a command of the batch system has failed, by what it has `said`."""
    if not said:
        return f"{name} ends with exit code {code}"
    return said if said.startswith(f"{name}:") else f"{name}: {said}"


def reason_of(error: Exception) -> str:
    """What has kept a job from being taken, in one line."""
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    return " ".join(str(error).split())

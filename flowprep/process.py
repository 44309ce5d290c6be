"""A supervised process as the run sees it: started, spoken with, timed, killed."""

from __future__ import annotations

import collections
import contextlib
import os
import platform
import selectors
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

from flowprep import wire
from flowprep.errors import CannotWorkError
from flowprep.spawn import spawn

START_SECONDS = 600.0  # on a disk that many nodes load Python from at the same time
_GRACE_SECONDS = 5.0
_POLL_SECONDS = 0.2
_PAUSE_SECONDS = 2.0  # between two looks that are never further apart than the above, but on a busy machine
_NUM_STDERR_BYTES = 8000
NONSENSE = "its process sent what is no message"


class AbortedError(Exception):
    """The run ends now; its processes have been killed."""


class LostError(Exception):
    """A process is gone, or has to be killed, while it had work. `code` is a word of `records.REASONS`."""

    def __init__(self, code: str, detail: str, stderr: str) -> None:
        super().__init__(code, detail)
        self.code, self.detail, self.stderr = code, detail, stderr

    def text(self) -> str:
        """Why, with the last line that the process wrote."""
        last_line = self.stderr.strip().rpartition("\n")[2][:500]
        return f"{self.detail}: {last_line}" if last_line else self.detail


class SupervisedProcess:
    """A running process. When `abort` is set, waiting for it raises AbortedError.

    `waiting` is called again and again while it is waited for, which is as long as it is within its limits.
    """

    def __init__(
        self, command: Sequence[str], abort: threading.Event, waiting: Callable[[], None] = lambda: None
    ) -> None:
        self._abort, self._waiting = abort, waiting
        try:
            self._process = spawn([*command, str(os.getpid())])
        except OSError as error:
            raise CannotWorkError(
                f"a worker process cannot start: {error}; mend that and run the same command again"
            ) from error
        assert self._process.stdout is not None, "all three are pipes"
        assert self._process.stderr is not None, "all three are pipes"
        self.name = f"{platform.node()}-{self._process.pid}"
        self._splitter = wire.Splitter()
        self._messages: collections.deque[dict[str, Any]] = collections.deque()
        self._stderr = b""
        self._selector = selectors.DefaultSelector()
        os.set_blocking(self._process.stderr.fileno(), False)
        for stream in (self._process.stdout, self._process.stderr):
            self._selector.register(stream, selectors.EVENT_READ)
        self._lock = threading.Lock()

    def is_alive(self) -> bool:
        """True while it has not ended."""
        return self._process.poll() is None

    def stderr(self) -> str:
        """The last that was written to stderr."""
        self._read_errors()
        return self._stderr.decode(errors="replace")

    def forget_stderr(self) -> None:
        """What was written to stderr so far belongs to earlier work."""
        self._read_errors()
        self._stderr = b""

    def end_input(self) -> None:
        """Close the process's input, upon which it ends."""
        assert self._process.stdin is not None, "a pipe"
        with contextlib.suppress(OSError):
            self._process.stdin.close()

    def close(self) -> None:
        """Let the process end; kill it if it does not."""
        self.end_input()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(_GRACE_SECONDS)
        self.kill()

    def end_at_once(self) -> None:
        """Kill the process and all that it has started; whoever waits for its messages finds that out."""
        with self._lock:
            if self._process.poll() is None:
                with contextlib.suppress(OSError):
                    os.killpg(self._process.pid, signal.SIGKILL)

    def kill(self) -> None:
        """Kill the process and all that it has started, and wait until it is gone."""
        with self._lock:
            if self._process.poll() is None:
                with contextlib.suppress(OSError):
                    os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
            self._selector.close()
            for stream in (self._process.stdin, self._process.stdout, self._process.stderr):
                assert stream is not None, "all three are pipes"
                with contextlib.suppress(OSError):
                    stream.close()

    def send(self, message: dict[str, Any]) -> None:
        """Send a message. That the process is dead is found by reading."""
        assert self._process.stdin is not None, "a pipe"
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.write(wire.encode(message))
            self._process.stdin.flush()

    def receive(self, deadline: float) -> dict[str, Any]:
        """The next message. Raises LostError at the end of the process or at the deadline (of `time.monotonic`).

        The time for which we do not run ourselves, as on a node that is frozen, does not count.
        """
        before = time.monotonic()
        while not self._messages:
            if self._abort.is_set():
                raise AbortedError
            before, pause = time.monotonic(), time.monotonic() - before
            if pause > _PAUSE_SECONDS:
                deadline += pause
            remaining = deadline - before
            if remaining <= 0:
                raise self.lost("timeout", "it made no progress, or took longer than the limit")
            self._waiting()
            for key, _ in self._selector.select(min(remaining, _POLL_SECONDS)):
                if key.fileobj is self._process.stderr:
                    self._read_errors()
                else:
                    self._read_messages()
        return self._messages.popleft()

    def _read_messages(self) -> None:
        """Take what has come; the end of the process's output is its end."""
        assert self._process.stdout is not None, "a pipe"
        data = os.read(self._process.stdout.fileno(), 1 << 16)
        try:
            self._messages.extend(self._splitter.feed(data))
        except wire.WireError:
            self._messages.append({})  # which nobody takes for one; what came before it counts
        if not data and not self._messages:
            raise self._ended()

    def _read_errors(self) -> None:
        """Take what has come on stderr, without waiting, and keep its end."""
        stream = self._process.stderr
        assert stream is not None, "a pipe"
        while True:
            try:
                data = os.read(stream.fileno(), 1 << 16)
            except BlockingIOError:
                return
            if not data:  # closed; without this it would be readable for ever
                with contextlib.suppress(KeyError):
                    self._selector.unregister(stream)
                return
            self._stderr = (self._stderr + data)[-_NUM_STDERR_BYTES:]

    def _ended(self) -> LostError:
        """Why the process has ended. What is said of it here stands in the manifest, so it is the same every time."""
        try:
            code = self._process.wait(_GRACE_SECONDS)
        except subprocess.TimeoutExpired:
            return self.lost("crash", "its process closed its output")
        if code == -signal.SIGKILL:
            return self.lost("memory", "its process was killed (SIGKILL), as the system does for want of memory")
        if code < 0:
            with contextlib.suppress(ValueError):
                return self.lost("crash", f"its process was killed by signal {-code} ({signal.Signals(-code).name})")
        return self.lost("crash", f"its process ended with exit code {code}")

    def lost(self, code: str, detail: str) -> LostError:
        """The error of being lost, with the last that was written to stderr."""
        return LostError(code, detail, self.stderr())

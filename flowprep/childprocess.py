"""A child process as the run sees it: started, spoken with, timed, killed."""

from __future__ import annotations

import collections
import contextlib
import itertools
import os
import platform
import selectors
import signal
import subprocess
import threading
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flowprep import child, wire
from flowprep.config import ExtractSettings
from flowprep.errors import BackendUnavailableError, RunStoppedError, StoreError
from flowprep.limits import Limits
from flowprep.records import Row, Video
from flowprep.spawn import spawn

_START_SECONDS = 600.0  # on a disk that many nodes load Python from at the same time
_GRACE_SECONDS = 5.0
_POLL_SECONDS = 0.2
_NUM_STDERR_BYTES = 8000
_NONSENSE = "its process sent what is no message"
_names = itertools.count()


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """What all videos of a run share. `memory_bytes` is what one may take beyond what a child needs anyway.

    `stall_seconds` is how long a video may make no progress; None: by the size of its frames, see `flowprep.limits`.
    """

    videos: Path
    out: Path
    settings: ExtractSettings
    durability: str
    memory_bytes: int = 3 << 29
    stall_seconds: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """One video and its place in the list."""

    list_index: int
    video: Video


class AbortedError(Exception):
    """The run ends now; its children have been killed."""


class LostError(Exception):
    """The child is gone, or was killed, while it had a video. `code` is a word of `records.REASONS`."""

    def __init__(self, code: str, detail: str, stderr: str) -> None:
        super().__init__(code, detail)
        self.code, self.detail, self.stderr = code, detail, stderr


class IdleDeathError(Exception):
    """The child died before it began the video, which is not to blame."""


class ChildProcess:
    """A running child."""

    def __init__(self, work: Work, abort: threading.Event) -> None:
        self._work, self._abort = work, abort
        try:
            self._process = spawn([*child.COMMAND, str(os.getpid())])
        except OSError as error:
            raise RunStoppedError(
                f"a worker process cannot start: {error}; mend that and run the same command again"
            ) from error
        assert self._process.stdout is not None, "all three are pipes"
        assert self._process.stderr is not None, "all three are pipes"
        self.name = f"{platform.node()}-{self._process.pid}"
        self.build = ""
        self._splitter = wire.Splitter()
        self._messages: collections.deque[dict[str, Any]] = collections.deque()
        self._stderr = b""
        self._selector = selectors.DefaultSelector()
        os.set_blocking(self._process.stderr.fileno(), False)
        for stream in (self._process.stdout, self._process.stderr):
            self._selector.register(stream, selectors.EVENT_READ)
        self._lock = threading.Lock()

    def wait_until_ready(self) -> None:
        """Wait for the child's first message. Raises as `Supervisor.perform`, and IdleDeathError."""
        work = self._work
        hello = {
            "videos": str(work.videos),
            "out": str(work.out),
            "settings": work.settings.to_json(),
            "durability": work.durability,
            "memory_bytes": work.memory_bytes,
        }
        try:
            self._send({"work": hello})
            message = self._receive(time.monotonic() + _START_SECONDS)
        except LostError as error:
            last_line = error.stderr.strip().rpartition("\n")[2][:500]
            raise IdleDeathError(f"{error.detail}: {last_line}" if last_line else error.detail) from error
        match message:
            case {"event": "ready", "build": str(build)}:
                self.build = build
            case {"event": "unusable", "error": str(reason)}:
                raise BackendUnavailableError(reason)
            case _:
                raise IdleDeathError(_NONSENSE)

    def is_alive(self) -> bool:
        """True while it has not ended."""
        return self._process.poll() is None

    def perform(self, task: Task, progress: Callable[[int], None]) -> Row:
        """Have the child do a video. Raises LostError where it is lost over it, IdleDeathError where it was before."""
        attempt = f"{next(_names)}-{uuid.uuid4().hex[:12]}"
        limits = Limits(self._work.stall_seconds)
        self._read_errors()
        self._stderr = b""
        start = last = time.monotonic()
        self._send({"task": {"video": task.video.to_json(), "list_index": task.list_index, "attempt": attempt}})
        try:
            acknowledgement = self._receive(start + _START_SECONDS)
        except LostError as error:
            raise IdleDeathError(error.detail) from error
        if acknowledgement != {"event": "begun"}:
            raise IdleDeathError(_NONSENSE)
        while True:
            message = self._receive(min(last + limits.stall_seconds, start + limits.wall_seconds))
            last = time.monotonic()
            match message:
                case {"event": "opened", "frames": int(num_frames), "pixels": int(num_pixels)}:
                    limits.opened(num_frames, num_pixels)
                case {"event": "frames", "num": int(num_frames)}:
                    limits.done(num_frames)
                    progress(num_frames)
                case {"event": "row", "row": dict(row)}:
                    try:
                        return Row.from_json(row)
                    except (KeyError, TypeError, ValueError) as error:
                        raise self._lost("crash", _NONSENSE) from error
                case {"event": "memory"}:
                    raise self._lost("memory", "there is not enough memory; raise --memory")
                case {"event": "stopped", "error": str(reason)}:
                    raise RunStoppedError(reason)
                case {"event": "damaged", "error": str(reason)}:
                    raise StoreError(reason)
                case _:
                    raise self._lost("crash", _NONSENSE)

    def stderr(self) -> str:
        """The last that the child wrote to stderr since it was given its video."""
        self._read_errors()
        return self._stderr.decode(errors="replace")

    def close(self) -> None:
        """Close the child's input, upon which it ends; kill it if it does not."""
        assert self._process.stdin is not None, "a pipe"
        with contextlib.suppress(OSError):
            self._process.stdin.close()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(_GRACE_SECONDS)
        self.kill()

    def kill(self) -> None:
        """Kill the child and all that it has started, and wait until it is gone."""
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

    def _send(self, message: dict[str, Any]) -> None:
        assert self._process.stdin is not None, "a pipe"
        with contextlib.suppress(BrokenPipeError):  # it is dead, which reading will find
            self._process.stdin.write(wire.encode(message))
            self._process.stdin.flush()

    def _receive(self, deadline: float) -> dict[str, Any]:
        """The next message. Raises LostError at the end of the child or at the deadline (of `time.monotonic`)."""
        while not self._messages:
            if self._abort.is_set():
                raise AbortedError
            remaining = deadline - time.monotonic()
            if remaining <= 0:
                raise self._lost("timeout", "it made no progress, or took longer than the limit")
            for key, _ in self._selector.select(min(remaining, _POLL_SECONDS)):
                if key.fileobj is self._process.stderr:
                    self._read_errors()
                else:
                    self._read_messages()
        return self._messages.popleft()

    def _read_messages(self) -> None:
        """Take what has come; the end of the child's output is its end."""
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
        """Why the child has ended. What is said of it here stands in the manifest, so it is the same every time."""
        try:
            code = self._process.wait(_GRACE_SECONDS)
        except subprocess.TimeoutExpired:
            return self._lost("crash", "its process closed its output")
        if code == -signal.SIGKILL:
            return self._lost("memory", "its process was killed (SIGKILL), as the system does for want of memory")
        if code < 0:
            with contextlib.suppress(ValueError):
                return self._lost("crash", f"its process was killed by signal {-code} ({signal.Signals(-code).name})")
        return self._lost("crash", f"its process ended with exit code {code}")

    def _lost(self, code: str, detail: str) -> LostError:
        return LostError(code, detail, self.stderr())

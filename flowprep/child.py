"""The supervised child: decodes, computes, encodes and commits one video after another, for `flowprep.supervisor`.

A video may crash a decoder, hang it or eat all memory. All of that happens here, in a process that can be killed and
replaced, and that cannot outlive the run. It speaks with the run through its standard input and output:

    run    {"work": ..}                            once
    child  {"event": "ready", "build": ..}         or {"event": "unusable", ..} and ends
    run    {"task": ..}                            with the address of who computes flow, if another process does; then
    child  {"event": "begun"}                      from here on the video is to blame
    child  {"event": "opened", "frames": .., "pixels": ..}
    child  {"event": "frames", "num": ..}          as they get done
    child  {"event": "row", "row": ..}             or "device_lost", or "memory" or {"event": "stopped", "error": ..}
                                                   and ends
"""

from __future__ import annotations

import ctypes
import faulthandler
import os
import resource
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import IO, Any

from flowprep import wire
from flowprep.records import Video

COMMAND: Sequence[str] = (sys.executable, "-P", "-m", "flowprep.child")
"""What the supervisor starts, followed by its own process number.

With -P a `numpy.py` in the working folder is not taken for ours.
"""

_PR_SET_PDEATHSIG = 1
_RESERVE_BYTES = 64 << 20  # for the message that memory has run out


def main(arguments: Sequence[str]) -> None:
    """Work until the run closes our input. `arguments` is the process number of the run."""
    replies = settle_in(int(arguments[0]))
    _Child(sys.stdin.buffer, replies).run()


def settle_in(parent: int) -> IO[bytes]:
    """What a process of a run does first. Gives the stream for its messages to the run, whose number is `parent`."""
    _die_with_parent(parent)
    # A batch system signals all processes; the run decides for us.
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_CORE, (0, resource.getrlimit(resource.RLIMIT_CORE)[1]))
    faulthandler.enable()  # what a crash was in goes to stderr, and from there into the journal
    replies = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # libraries that print do not disturb the messages
    return replies


def _die_with_parent(parent: int) -> None:
    """Have the kernel kill us when the thread that started us ends; on systems without that, end of input must do."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        if os.getppid() != parent:  # it died before the call
            os._exit(3)


class _Child:
    """One backend and one publisher, and what is asked of them."""

    def __init__(self, requests: IO[bytes], replies: IO[bytes]) -> None:
        self._requests, self._replies = requests, replies

    def run(self) -> None:
        hello = wire.read(self._requests)
        if hello is None:
            return
        # Loaded only now: it takes half a second, and who imports us for COMMAND needs none of it.
        import cv2

        from flowprep.config import ExtractSettings
        from flowprep.device.client import DeviceFlow
        from flowprep.errors import (
            BackendUnavailableError,
            DeviceLostError,
            DiskFullError,
            FlowprepError,
            RunStoppedError,
        )
        from flowprep.flowstage import FlowStage, LocalFlow
        from flowprep.pipeline import extract_video, open_backend
        from flowprep.publisher import open_publisher

        work = hello["work"]
        settings = ExtractSettings.from_json(work["settings"])
        videos, out = Path(work["videos"]), Path(work["out"])
        cv2.setNumThreads(1)  # work is parallel over videos; threads inside one video would only compete
        try:
            backend = None if work["on_device"] else open_backend(settings)
            if backend is not None:
                backend.warm_up()
        except BackendUnavailableError as error:
            self._send({"event": "unusable", "error": str(error)})
            return
        publisher = open_publisher(out, settings, durability=work["durability"])
        _limit_memory(work["memory_bytes"])
        self._send({"event": "ready", "build": backend.build if backend is not None else ""})
        while (request := wire.read(self._requests)) is not None:
            task = request["task"]
            address = task["device"]

            def open_flow(address: str = address) -> FlowStage:
                return DeviceFlow(address, settings) if backend is None else LocalFlow(backend, settings)

            self._send({"event": "begun"})
            try:
                row = extract_video(
                    Video.from_json(task["video"]),
                    task["list_index"],
                    videos,
                    settings,
                    open_flow if settings.store.flow else None,
                    publisher,
                    attempt=task["attempt"],
                    opened=lambda frames, pixels: self._send({"event": "opened", "frames": frames, "pixels": pixels}),
                    heartbeat=lambda num: self._send({"event": "frames", "num": num}),
                )
            except DeviceLostError as error:
                self._send({"event": "device_lost", "error": str(error)})
                continue
            except MemoryError:
                _lift_limit()
                self._send({"event": "memory"})
                return  # what is left of the heap is in pieces; the next video deserves a fresh one
            except RunStoppedError as error:
                self._send({"event": "stopped", "error": str(error), "is_full": isinstance(error, DiskFullError)})
                return
            except FlowprepError as error:
                self._send({"event": "damaged", "error": str(error)})
                return
            self._send({"event": "row", "row": row.to_json()})

    def _send(self, message: dict[str, Any]) -> None:
        self._replies.write(wire.encode(message))
        self._replies.flush()


def _limit_memory(num_bytes: int) -> None:
    """Allow `num_bytes` more of address space than is mapped now, libraries and compiled kernels included."""
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[0])
    except (OSError, ValueError, IndexError):
        return  # only Linux says how much is mapped
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    limit = pages * resource.getpagesize() + num_bytes
    if soft == resource.RLIM_INFINITY or limit < soft:  # else the user has set a lower one
        resource.setrlimit(resource.RLIMIT_AS, (limit, hard))


def _lift_limit() -> None:
    """Make room for a last message."""
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    if soft != resource.RLIM_INFINITY:
        more = soft + _RESERVE_BYTES
        resource.setrlimit(resource.RLIMIT_AS, (more if hard == resource.RLIM_INFINITY else min(more, hard), hard))


if __name__ == "__main__":
    main(sys.argv[1:])

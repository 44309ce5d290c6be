"""Whether anybody opens a file or connects to a port: what no input may make a run do."""

from __future__ import annotations

import ctypes
import os
import socket
from pathlib import Path
from typing import Self

_IN_ACCESS, _IN_OPEN = 0x1, 0x20
_LIBC = ctypes.CDLL(None, use_errno=True)


class Canary:
    """Watches a file (by inotify, so that any process counts) and listens on a port of the loopback."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __enter__(self) -> Self:
        self._watch = _LIBC.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
        if self._watch < 0 or _LIBC.inotify_add_watch(self._watch, bytes(self.path), _IN_ACCESS | _IN_OPEN) < 0:
            raise OSError(ctypes.get_errno(), "inotify")
        self._socket = socket.create_server(("127.0.0.1", 0))
        self._socket.setblocking(False)
        self.port = self._socket.getsockname()[1]
        return self

    def __exit__(self, *error: object) -> None:
        os.close(self._watch)
        self._socket.close()

    def was_opened(self) -> bool:
        """True if the file has been opened since the last time that this was asked."""
        try:
            return bool(os.read(self._watch, 1 << 16))
        except BlockingIOError:
            return False

    def was_called(self) -> bool:
        """True if somebody has connected since the last time that this was asked."""
        try:
            self._socket.accept()[0].close()
        except BlockingIOError:
            return False
        return True

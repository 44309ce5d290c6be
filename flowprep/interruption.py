"""How a run ends early: the first signal lets the videos in work finish, the second ends it at once."""

from __future__ import annotations

import contextlib
import queue
import signal
import threading
from collections.abc import Callable, Iterator
from types import FrameType

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Interruption:
    """Whether a run shall end: by a signal, or since somebody has set `stop`."""

    def __init__(self, stop: threading.Event | None = None) -> None:
        self.stop = stop or threading.Event()
        self.signalled = False
        self._received: queue.SimpleQueue[str | None] = queue.SimpleQueue()  # may be filled by a signal handler

    @contextlib.contextmanager
    def watched(self, tell: Callable[[str], None]) -> Iterator[None]:
        """Take over SIGINT, SIGTERM and SIGHUP for as long as this lasts. `tell` is called from another thread.

        The first one sets `stop`, a second one but SIGHUP raises KeyboardInterrupt. A signal that the process ignores
        stays ignored, and outside the main thread, which alone may have handlers, nothing is taken over.
        """
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = {number: signal.getsignal(number) for number in _SIGNALS}
        before = {number: old for number, old in before.items() if old not in (signal.SIG_IGN, None)}
        teller = threading.Thread(target=self._tell, args=(tell,), name="interruption", daemon=True)
        teller.start()
        try:
            for number in before:
                signal.signal(number, self._handle)
            yield
        finally:
            for number, old in before.items():
                signal.signal(number, old)
            self._received.put(None)
            teller.join()

    def _handle(self, number: int, _frame: FrameType | None) -> None:
        if self.signalled:
            if number == signal.SIGHUP:  # a terminal that is closed sends it, and so does its shell
                return
            raise KeyboardInterrupt
        self.signalled = True
        self.stop.set()
        self._received.put("Ctrl-C" if number == signal.SIGINT else signal.Signals(number).name)

    def _tell(self, tell: Callable[[str], None]) -> None:
        """Say what a signal means. Not in its handler, which may have cut into the middle of a line being written."""
        if (name := self._received.get()) is not None:
            again = "SIGTERM" if name == "SIGHUP" else f"second {name}"
            tell(f"{name}: no further video begins, those in work are finished; a {again} stops at once")

"""Standard output and error of a command, such that neither a name nor a reader that has gone can stop its work."""

from __future__ import annotations

import io
import logging
import os
import sys
from collections.abc import Sequence
from typing import Any, TextIO, cast


class _Unheard(io.FileIO):
    """Standard error that may be lost: `2>&1 | tee log` dies of the same Ctrl-C, and a terminal is hung up."""

    def write(self, data: Any) -> int:
        """Write, or take for written what nobody can read any more."""
        try:
            return super().write(data)
        except OSError:  # EPIPE, EIO, a log on a full disk: work that goes well is not for that to stop
            return memoryview(data).nbytes


def prepare_streams(logged: Sequence[str] = ()) -> None:
    """Errors of writing to stderr are no errors, and no name is one that cannot be shown on stdout or stderr.

    Names need not be UTF-8, nor a terminal show what is: such characters are escaped. The loggers named in `logged`
    write to stderr.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    if isinstance(sys.stderr, io.TextIOWrapper) and isinstance(sys.stderr.buffer, io.BufferedWriter | io.FileIO):
        sys.stderr.flush()
        unheard = io.BufferedWriter(cast(io.RawIOBase, _Unheard(sys.stderr.fileno(), "wb", closefd=False)))
        sys.stderr = cast(
            TextIO,
            io.TextIOWrapper(unheard, encoding=sys.stderr.encoding, errors="backslashreplace", line_buffering=True),
        )
    for name in logged:
        logging.getLogger(name).addHandler(logging.StreamHandler())


def say_no_more() -> None:
    """Nobody reads stdout any more, or it is on a full disk: what is left in its buffer goes nowhere."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())

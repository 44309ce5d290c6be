"""The children's side of `helpers.holding`. Imports nothing of the tests, since children run as scripts."""

from __future__ import annotations

import contextlib
import os
import time
from pathlib import Path


def wait_while_held(stem: str) -> None:
    """Wait for as long as the folder `HOLD_FOLDER` is the one that it is now, with a file `<video>.<pid>` in it."""
    path = Path(os.environ["HOLD_FOLDER"])
    with contextlib.suppress(FileNotFoundError):
        folder = os.open(path, os.O_RDONLY)  # there may soon be another one of that name
        try:
            os.close(os.open(f"{stem}.{os.getpid()}", os.O_CREAT | os.O_WRONLY, dir_fd=folder))
            while path.stat().st_ino == os.fstat(folder).st_ino:
                time.sleep(0.02)
        finally:
            os.close(folder)

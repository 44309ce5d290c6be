"""Videos that wait in their children until a test lets them go on: what is in work then is known, however slow it is.

A child that comes to a video while the folder `HOLD_FOLDER` exists waits there, see `helpers.held`.
"""

from __future__ import annotations

import uuid
from pathlib import Path
from typing import Self

from helpers.processes import eventually

from flowprep.machine import is_running


class Holding:
    """Holds back all videos that begin while its context lasts, or until `release`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @property
    def environment(self) -> dict[str, str]:
        """For those who start the children."""
        return {"HOLD_FOLDER": str(self.folder)}

    def __enter__(self) -> Self:
        self.folder.mkdir()
        return self

    def __exit__(self, *error: object) -> None:
        self.release()

    def release(self) -> None:
        """Let all videos go on."""
        if self.folder.exists():  # removing it would race with those who write into it
            self.folder.rename(self.folder.with_name(f"{self.folder.name}-{uuid.uuid4().hex}"))

    def held(self) -> dict[int, str]:
        """The videos that are held, by the process of each that lives."""
        marks = [path.name.rpartition(".") for path in self.folder.glob("*.*")]
        return {int(pid): stem for stem, _, pid in marks if is_running(int(pid))}

    def wait_for(self, num: int, *, seconds: float) -> dict[int, str]:
        """The same, as soon as there are so many."""
        assert eventually(lambda: len(self.held()) >= num, seconds=seconds), self.held()
        return self.held()

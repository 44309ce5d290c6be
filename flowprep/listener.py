"""What a run tells while it goes on."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Protocol

from flowprep.supervisor import Done

_log = logging.getLogger("flowprep.run")


@dataclass(frozen=True, slots=True, kw_only=True)
class Start:
    """What a run is about to do: `num_todo` of the `num_videos` of its list or part, whose files have `num_bytes`.

    `num_classes` are those of the whole list.
    """

    num_videos: int
    num_todo: int
    num_bytes: int
    jobs: int
    part: str | None = None
    num_classes: int = 0


class Listener(Protocol):
    """Hears how a run goes on. `progress` and `note` are called from any thread."""

    def started(self, start: Start) -> None:
        """The list is known, and what is to be done."""

    def progress(self, num_frames: int) -> None:
        """That many more frames have been done, of videos that have not ended yet."""

    def finished(self, done: Done) -> None:
        """One video has ended, well or not."""

    def note(self, text: str) -> None:
        """A sentence for the user."""


class Quiet:
    """Hears nothing but notes, which it logs."""

    def started(self, start: Start) -> None:
        """Ignore it."""

    def progress(self, num_frames: int) -> None:
        """Ignore it."""

    def finished(self, done: Done) -> None:
        """Ignore it."""

    def note(self, text: str) -> None:
        """Log it."""
        _log.info(text)

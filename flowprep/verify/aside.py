"""Where a repair puts what cannot be trusted: `.flowprep/aside/verify-<time>/`, at its place in the store."""

from __future__ import annotations

import datetime as dt
import os
import secrets
from collections.abc import Iterable
from typing import final

from flowprep import commit
from flowprep.stores.places import aside_folder
from flowprep.verify.files import Files


@final
class Aside:
    """Moves files and folders there, and remembers which.

    Unlike what a run moves aside, they are never deleted.
    """

    def __init__(self, files: Files) -> None:
        self._out = files.out
        now = dt.datetime.now(dt.UTC).strftime("%Y%m%dT%H%M%S")
        self._folder = aside_folder(files.out) / f"verify-{now}-{secrets.token_hex(4)}"
        self.moved: dict[str, str] = {}

    def move_all(self, places: Iterable[str]) -> None:
        """Move what is there of some places. What lies behind a link is not the store's, and stays."""
        for place in places:
            self._move(place)

    def _move(self, place: str) -> None:
        files = Files(self._out)  # what it remembers of folders may have been moved
        above = place.rpartition("/")[0]
        if not files.exists(place) or (above and files.problem(above, folder=True) is not None):
            return
        target = self._folder / place
        if os.path.lexists(target):  # something inside it was moved before
            target = target.with_name(f"{target.name}.{secrets.token_hex(4)}")
        with commit.output_errors(self._out, video=False):
            commit.ensure_folder(self._out, target.parent, sync=False)
            commit.publish(files.path(place), target)
            commit.sync_folder(files.path(place).parent)
        self.moved[place] = str(target.relative_to(self._out))

    def give(self, place: str, target: str) -> None:
        """Put what was moved from a place where it belongs."""
        with commit.output_errors(self._out, video=False):
            commit.publish_into(self._out, self._out / self.moved.pop(place), self._out / target, sync=True)

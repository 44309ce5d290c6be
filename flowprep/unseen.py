"""Note [a name that is not seen yet]: clients of a network disk remember for a while that a name was not there.

On NFS for as long as they keep the attributes of its folder (acdirmax, 60 s), unless the folder is opened. So what
another machine may just have published is looked for again before it is called missing. How recent that can be is told
by the journals, whose last lines come to the disk up to 30 s after they were written.
"""

from __future__ import annotations

import contextlib
import os
import platform
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from flowprep import journal
from flowprep.machine import boot_id, file_system_seconds
from flowprep.records import Video
from flowprep.stores.freshness import open_folder, open_folders_of
from flowprep.stores.places import staging_folder

SETTLE_SECONDS = 90.0
_LOOK_SECONDS = 5.0


def look_again(
    out: Path,
    videos: Sequence[Video],
    pending: Sequence[int],
    look: Callable[[Sequence[int]], Sequence[int]],
    *,
    seconds: float = SETTLE_SECONDS,
    note: Callable[[str], None],
) -> Sequence[int]:
    """Look for the outcomes of pending videos until all are seen, or nothing that was published can be unseen.

    `pending` are places in the list, and so is what is given back: those that are missing indeed. `look` gives those of
    its argument that are pending. Takes no time where no other machine has worked here in the last `seconds`.
    """
    end = time.monotonic() + _seconds_left(out, seconds)
    if pending and (left := end - time.monotonic()) > 0:
        note(
            f"{out}: {len(pending)} videos have no outcome that is seen here; others have just worked on the store, so "
            f"they are looked for again for up to {left:.0f} s"
        )
    while pending and (now := time.monotonic()) < end:
        time.sleep(min(_LOOK_SECONDS, end - now))
        open_folders_of(out, [videos[index].id for index in pending])
        pending = look(pending)
    return pending


def _seconds_left(out: Path, seconds: float) -> float:
    """For how long something that another machine has published may be unseen, by the clock of the file system."""
    open_folder(journal.journal_folder(out))
    last = [_last_change(path) for path in journal.journals(out)]
    return max(last, default=0.0) + seconds - file_system_seconds(staging_folder(out))


def _last_change(path: Path) -> float:
    """When a journal of another machine, or of a run on a cluster, was written last; else 0."""
    with contextlib.suppress(OSError, ValueError), path.open("rb") as file:
        first = next(journal.read_journal(path), {})
        run = first.get("run") or {}
        if (
            (first.get("host"), first.get("boot")) != (platform.node(), boot_id())
            or run.get("dask")
            or run.get("system")
        ):
            return os.fstat(file.fileno()).st_mtime
    return 0.0

"""Facts about this machine that several modules ask for. Needs the standard library alone."""

from __future__ import annotations

import os
from pathlib import Path


def num_cores() -> int:
    """Cores that this process may use (a container or batch system may allow fewer than the machine has)."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def existing_folder(path: Path) -> Path:
    """`path`, or the nearest folder above it that exists: on its disk `path` would be made."""
    return next(place for place in (path.absolute(), *path.absolute().parents) if place.exists())

"""Facts about this machine that several modules ask for. Needs the standard library alone."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path


def num_cores() -> int:
    """Cores that this process may use (a container or batch system may allow fewer than the machine has)."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min([cores, *_quotas(Path("/proc/self/cgroup"), Path("/sys/fs/cgroup"))]))


def _quotas(membership: Path, root: Path) -> list[int]:
    """Cores, rounded up, that each control group above this process allows (`docker --cpus`; version 2 alone)."""
    quotas = []
    with contextlib.suppress(OSError, ValueError):
        (path,) = (line[3:] for line in membership.read_text().splitlines() if line.startswith("0::"))
        group = root / path.strip("/")
        for folder in (group, *group.parents):
            if not folder.is_relative_to(root):
                break
            with contextlib.suppress(OSError, ValueError):
                quota, period = (folder / "cpu.max").read_text().split()
                quotas.append(-(-int(quota) // int(period)))  # "max" is no number: no quota
    return quotas


def existing_folder(path: Path) -> Path:
    """`path`, or the nearest folder above it that exists: on its disk `path` would be made."""
    return next(place for place in (path.absolute(), *path.absolute().parents) if place.exists())


def is_running(pid: int) -> bool:
    """True if there is a process of that number, ours or not."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except (OSError, OverflowError):
        return True  # somebody else's, which we may not signal
    return True

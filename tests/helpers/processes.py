"""What runs, as /proc says."""

import time
from collections.abc import Callable
from pathlib import Path


def children_of(parent: int) -> list[int]:
    """Processes whose parent is `parent` and that have not ended, but for those that Python keeps for itself.

    Where this process is the first of a container it becomes the parent of orphans, and does not ask for their end.
    """
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            pid, rest = int(path.parent.name), path.read_text().rpartition(")")[2].split()
            command = (path.parent / "cmdline").read_bytes()
        except OSError:
            continue
        if rest[0] not in "ZX" and int(rest[1]) == parent and b"resource_tracker" not in command:
            found.append(pid)
    return found


def eventually(condition: Callable[[], bool], *, seconds: float = 20) -> bool:
    """True as soon as the condition holds, False if it does not for so long."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


def parent_of(pid: int) -> int:
    """Who has started a process that lives."""
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])

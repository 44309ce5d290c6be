"""Facts about this machine that several modules ask for. Needs the standard library alone."""

from __future__ import annotations

import contextlib
import math
import os
import secrets
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

_GROUPS, _MEMBERSHIP = Path("/sys/fs/cgroup"), Path("/proc/self/cgroup")
_NO_LIMIT_BYTES = 1 << 60  # version 1 says "no limit" by a number near 2**63


@dataclass(frozen=True, slots=True, kw_only=True)
class Memory:
    """Bytes of the machine, those that are free or can be made so, and what a control group allows (None: all)."""

    total_bytes: int
    available_bytes: int
    limit_bytes: int | None

    @property
    def usable_bytes(self) -> int:
        """What a run may hope for."""
        return self.available_bytes if self.limit_bytes is None else min(self.available_bytes, self.limit_bytes)


def num_cores() -> int:
    """Cores that this process may use (a container or batch system may allow fewer than the machine has)."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min([cores, *_quotas(_MEMBERSHIP, _GROUPS)]))


def memory() -> Memory:
    """The memory of this machine; zeros where /proc does not tell."""
    sizes = {}
    with contextlib.suppress(OSError):
        for line in Path("/proc/meminfo").read_text().splitlines():
            name, _, value = line.partition(":")
            sizes[name] = int(value.split()[0]) * 1024
    total = sizes.get("MemTotal", 0)
    limits = [limit for limit in _memory_limits(_MEMBERSHIP, _GROUPS) if limit < min(_NO_LIMIT_BYTES, total)]
    return Memory(
        total_bytes=total, available_bytes=sizes.get("MemAvailable", 0), limit_bytes=min(limits, default=None)
    )


def _quotas(membership: Path, root: Path) -> list[int]:
    """Cores, rounded up, that each control group above this process allows, as with `docker --cpus`."""
    quotas = []
    for folder in _groups("cpu", membership, root):
        with contextlib.suppress(OSError, ValueError):
            quota, period = (folder / "cpu.max").read_text().split()
            quotas.append(-(-int(quota) // int(period)))  # "max" is no number: no quota
        with contextlib.suppress(OSError, ValueError):  # version 1
            quota, period = ((folder / f"cpu.cfs_{name}_us").read_text() for name in ("quota", "period"))
            if int(quota) > 0:
                quotas.append(-(-int(quota) // int(period)))
    return quotas


def _memory_limits(membership: Path, root: Path) -> list[int]:
    """Bytes that each control group above this process allows."""
    limits = []
    for folder in _groups("memory", membership, root):
        for name in ("memory.max", "memory.limit_in_bytes"):
            with contextlib.suppress(OSError, ValueError):
                limits.append(int((folder / name).read_text()))
    return limits


def _groups(controller: str, membership: Path, root: Path) -> Iterator[Path]:
    """Folders of the control groups of this process, inner ones first: of version 2, then of version 1."""
    with contextlib.suppress(OSError, ValueError):
        lines = [line.split(":", 2) for line in membership.read_text().splitlines()]
        for number, controllers, path in sorted(lines):
            top = root if number == "0" else root / controller
            if number == "0" or controller in controllers.split(","):
                group = top / path.strip("/")
                yield from (folder for folder in (group, *group.parents) if folder.is_relative_to(top))


def existing_folder(path: Path) -> Path:
    """`path`, or the nearest folder above it that exists: on its disk `path` would be made.

    What we may not look at, or has too long a name, is taken for one that does not exist.
    """
    return next(place for place in (path.absolute(), *path.absolute().parents) if os.path.exists(place))


def is_running(pid: int) -> bool:
    """True if there is a process of that number, ours or not, that has not ended."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except (OSError, OverflowError):
        pass  # somebody else's, which we may not signal
    # One that was killed keeps its number until its parent asks for it; some containers' first process never does.
    with contextlib.suppress(OSError, IndexError):
        return Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()[0] not in (b"Z", b"X")
    return True


def boot_id() -> str:
    """This start of this machine; "" where the system does not say."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text("ascii").strip()
    except OSError:
        return ""


def seconds_since_start() -> float:
    """How long ago this machine was started; infinity where the system does not say."""
    return time.clock_gettime(time.CLOCK_BOOTTIME) if hasattr(time, "CLOCK_BOOTTIME") else math.inf


def pid_space() -> str:
    """This start of this machine, and which of its spaces of process numbers; "" where the system does not say."""
    boot = boot_id()
    with contextlib.suppress(OSError):
        return (
            f"{boot}-{os.stat('/proc/self/ns/pid').st_ino}" if boot else ""
        )  # containers share the boot, not the PIDs
    return ""


def file_system_seconds(folder: Path) -> float:
    """What the clock of the file system says, in seconds; ours where we may not write there."""
    probe = folder / f"clock-{secrets.token_hex(8)}"
    try:
        descriptor = os.open(probe, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o600)
    except OSError:
        return time.time()
    try:
        return os.fstat(descriptor).st_mtime
    finally:
        os.close(descriptor)
        with contextlib.suppress(OSError):
            probe.unlink()

"""Whose the unfinished files of a shared disk are, as their names say, and whether that process can still run.

Note [what a name proves]: PIDs count within one start of one machine, and within one space of them, of which each
container has its own. Of processes elsewhere nothing is known, not even that they are elsewhere: cloned machines and
containers share names and the machine's id. So only what is no container knows what it was before it was started anew,
and takes for left over what has not changed since.
"""

from __future__ import annotations

import functools
import hashlib
import os
import platform
from pathlib import Path

from flowprep.machine import is_running, pid_space

_MACHINE_ID = Path("/etc/machine-id")
_FIRST_PID_SPACE = "4026531836"  # the kernel's number (PROC_PID_INIT_INO) of the one that is no container's


def owner() -> str:
    """Who makes an unfinished file, for its name: the machine where that is sure, its start, and the PID."""
    return "-".join(filter(None, (_machine(), _host(), str(os.getpid()))))


def is_dead(owner: str) -> bool:
    """True if that is a process of this start of this machine that has ended."""
    _, host, pid = _parts(owner)
    return host == _host() and pid.isdecimal() and not is_running(int(pid))


def is_of_another_start(owner: str) -> bool:
    """True if that is a process of this machine, as far as its name and id tell, from before or after another start."""
    machine, host, _ = _parts(owner)
    return machine == _machine() != "" and host != _host()


def _parts(owner: str) -> tuple[str, str, str]:
    """Machine or "", host and PID."""
    place, _, pid = owner.rpartition("-")
    machine, _, host = place.rpartition("-")
    return machine, host, pid


@functools.cache
def _host() -> str:
    """16 hex digits for this start of this machine and its PIDs; a name may be that of several machines."""
    return _digest(platform.node(), pid_space())


@functools.cache
def _machine() -> str:
    """16 hex digits for this machine, however often it is started; "" in a container, and where it has no id."""
    try:
        machine_id = _MACHINE_ID.read_text("ascii").strip()
    except (OSError, ValueError):
        return ""
    is_container = pid_space().rpartition("-")[2] != _FIRST_PID_SPACE
    return "" if is_container or not machine_id else _digest(platform.node(), machine_id)


def _digest(*parts: str) -> str:
    return hashlib.sha256("/".join(parts).encode()).hexdigest()[:16]

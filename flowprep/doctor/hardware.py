"""Processor, memory, and how many jobs they are enough for."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterator
from pathlib import Path

from flowprep import machine
from flowprep.config import RunSettings
from flowprep.doctor.finding import Finding

_WORKER_GIB = 0.3
"""What a worker takes for 340x256 with `native`: 255 MB were measured in work, shared libraries by their share."""

_GIB = 1 << 30


def examine_hardware() -> Iterator[Finding]:
    """Findings on cores and memory."""
    num_cores = machine.num_cores()
    yield _cores(num_cores)
    yield jobs_that_fit(machine.memory(), num_cores)


def _cores(num_cores: int) -> Finding:
    features = sorted(_features() & {"avx2", "fma", "avx512f"})
    num_all = os.cpu_count() or num_cores
    count = f"{num_cores} cores" if num_cores == num_all else f"{num_cores} of {num_all} cores may be used here"
    name = next(iter(_proc_values("/proc/cpuinfo", "model name")), platform.processor() or platform.machine())
    facts = {"name": name, "num_cores": num_cores, "num_all_cores": num_all, "features": features}
    text = f"{name}, {count}" + (f" ({', '.join(features)})" if features else "")
    if num_cores < num_all:
        text += ": affinity or a control group allows no more; ask the batch system for more"
    return Finding(
        topic="hardware", name="cores", state="ok" if num_cores == num_all else "note", text=text, facts=facts
    )


def jobs_that_fit(memory: machine.Memory, num_cores: int) -> Finding:
    """How many workers the memory is enough for, if each takes all it may; a run starts one a core."""
    limit = RunSettings().memory_gib + _WORKER_GIB
    num_jobs = int(memory.usable_bytes / _GIB / limit)
    facts = {
        "total_bytes": memory.total_bytes,
        "available_bytes": memory.available_bytes,
        "limit_bytes": memory.limit_bytes,
        "num_jobs": num_jobs,
    }
    if not memory.total_bytes:
        text = "unknown, since there is no /proc/meminfo"
        return Finding(topic="hardware", name="memory", state="note", text=text, facts=facts)
    sizes = f"{memory.available_bytes / _GIB:.1f} of {memory.total_bytes / _GIB:.1f} GiB available"
    if memory.limit_bytes is not None:
        sizes += f", of which a control group allows {memory.limit_bytes / _GIB:.1f} GiB"
    each = f"each of at most {limit:.1f} GiB (--memory {RunSettings().memory_gib:g} and its libraries)"
    if num_jobs >= num_cores:
        text = f"{sizes}: enough for {num_jobs} jobs, {each}; a run starts {num_cores}"
        return Finding(topic="hardware", name="memory", state="ok", text=text, facts=facts)
    text = f"{sizes}: enough for {num_jobs} jobs, {each}, where a run starts {num_cores}; ordinary videos take far less"
    cure = f"extract with --jobs {max(num_jobs, 1)} if videos end as `memory`"
    return Finding(topic="hardware", name="memory", state="note", text=text, cure=cure, facts=facts)


def _proc_values(path: str, key: str) -> list[str]:
    """Values of `key : value` lines of a file below /proc; none where there is no such file."""
    try:
        lines = Path(path).read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return []
    return [value.strip() for name, _, value in (line.partition(":") for line in lines) if name.strip() == key]


def _features() -> set[str]:
    return set(next(iter(_proc_values("/proc/cpuinfo", "flags")), "").split())

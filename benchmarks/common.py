"""What the benchmark scripts share: facts about the machine, medians with their spread, tables, the last JSON line."""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
import statistics
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

_DISTRIBUTIONS = ("flowprep", "av", "opencv-contrib-python", "numba", "numba-cuda", "numpy", "h5py", "joblib", "click")
DATA = Path(os.environ.get("FLOWPREP_TEST_DATA") or Path(__file__).resolve().parents[2] / "shared" / "data")
"""Real clips and flow pairs: `videos`, `flow`."""

CLIPS = DATA / "videos" / "ucf101"
"""The UCF101 clips, class folders of AVI files of 320x240."""


class Spread(NamedTuple):
    """Median, smallest and largest of several measurements, in the unit of the measurements."""

    median: float
    minimum: float
    maximum: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        """The spread of at least one value."""
        return cls(statistics.median(values), min(values), max(values))

    def to_json(self) -> dict[str, float]:
        """The three values, rounded to what can be meaningful."""
        return {name: round(value, 4) for name, value in self._asdict().items()}


def cores() -> list[int]:
    """The cores that this process may use."""
    return sorted(os.sched_getaffinity(0))


def spin_seconds(num_steps: int = 1_000_000) -> float:
    """Wall time of a loop that touches no memory: how fast the core is at this moment, on a machine that is shared."""
    start, total = time.perf_counter(), 0
    for step in range(num_steps):
        total += step
    return time.perf_counter() - start


def machine_facts() -> dict[str, Any]:
    """Processor, cores, load and versions: what a reader needs to compare figures. No names of hosts or folders."""
    return {
        "cpu": _cpu_model(),
        "num_cores": os.cpu_count(),
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "versions": {name: _version(name) for name in _DISTRIBUTIONS},
        "load_1min": round(os.getloadavg()[0], 2),
    }


def _cpu_model() -> str:
    """Model name with family and model number, since virtual machines give vague names."""
    facts = {}
    for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").split("\n\n")[0].splitlines():
        key, _, value = line.partition(":")
        facts[key.strip()] = value.strip()
    name = facts.get("model name", platform.machine())
    return f"{name} (family {facts.get('cpu family', '?')}, model {facts.get('model', '?')})"


def _version(distribution: str) -> str:
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return "not installed"


def print_table(title: str, header: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """A Markdown table, so that it can stand in a record as it is; floats with three digits after the point."""
    texts = [[f"{cell:.3f}" if isinstance(cell, float) else str(cell) for cell in row] for row in (header, *rows)]
    widths = [max(len(row[k]) for row in texts) for k in range(len(header))]
    print(f"\n{title}\n")
    for index, row in enumerate(texts):
        print("| " + " | ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)) + " |")
        if index == 0:
            print("|" + "|".join("-" * (width + 2) for width in widths) + "|")


def print_result(name: str, *, figures: Mapping[str, Any], target: Mapping[str, Any], passed: bool) -> None:
    """The last line of a benchmark: one JSON object."""
    result = {"benchmark": name, "machine": machine_facts(), "figures": figures, "target": target, "passed": passed}
    print("\n" + json.dumps(result))

"""What this machine can do for flowprep: versions, backends with reasons, processor, GPU, disk, what to install."""

from __future__ import annotations

import dataclasses
import importlib.metadata
import platform
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flowprep import __version__, machine
from flowprep.flow import BackendStatus, backends

_DISTRIBUTIONS = (
    "av",
    "click",
    "h5py",
    "joblib",
    "numba",
    "numpy",
    "opencv-contrib-python",
    "rich",
    "torch",
    "numba-cuda",
)
_CV2_OWNERS = (
    "opencv-python",
    "opencv-python-headless",
    "opencv-contrib-python",
    "opencv-contrib-python-headless",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Health:
    """What was found. `advice` holds one sentence for each thing to mend, and is empty on a sound machine."""

    versions: dict[str, str]
    backends: tuple[BackendStatus, ...]
    cpu: str
    num_cores: int
    cpu_features: tuple[str, ...]
    memory_bytes: int
    gpus: tuple[str, ...]
    folder: Path
    folder_type: str
    free_bytes: int
    advice: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """A JSON object."""
        return {**dataclasses.asdict(self), "folder": str(self.folder)}


def examine(folder: Path = Path()) -> Health:
    """Examine this machine, and the disk of `folder`, where a store would go. Needs no GPU and writes nothing."""
    found = tuple(backends())
    existing = machine.existing_folder(folder)
    features = _cpu_features()
    return Health(
        versions=_versions(),
        backends=found,
        cpu=_cpu_name(),
        num_cores=machine.num_cores(),
        cpu_features=tuple(name for name in ("avx2", "fma", "avx512f") if name in features),
        memory_bytes=_memory_bytes(),
        gpus=_gpus(),
        folder=folder,
        folder_type=_file_system(existing),
        free_bytes=shutil.disk_usage(existing).free,
        advice=tuple(_advice(found)),
    )


def _versions() -> dict[str, str]:
    versions = {"flowprep": __version__, "python": platform.python_version(), "system": platform.platform()}
    for name in _DISTRIBUTIONS:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return versions


def _advice(found: tuple[BackendStatus, ...]) -> list[str]:
    owners = [name for name in _CV2_OWNERS if _installed(name)]
    advice = []
    if len(owners) > 1:
        advice.append(
            f"{' and '.join(owners)} both own the folder cv2, so that either may be broken: "
            f"pip uninstall {' '.join(owners)}, then pip install opencv-contrib-python"
        )
    advice += [f"{status.name}: {status.reason}; {status.cure}" for status in found if not status.available]
    if sys.platform != "linux":
        advice.append("only Linux is supported; limits of memory and time do not hold elsewhere")
    return advice


def _installed(distribution: str) -> bool:
    try:
        importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return False
    return True


def _proc_values(path: str, key: str) -> list[str]:
    """Values of `key : value` lines of a file below /proc; none where there is no such file."""
    try:
        lines = Path(path).read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return []
    return [value.strip() for name, _, value in (line.partition(":") for line in lines) if name.strip() == key]


def _cpu_name() -> str:
    return next(iter(_proc_values("/proc/cpuinfo", "model name")), platform.processor() or platform.machine())


def _cpu_features() -> set[str]:
    return set(next(iter(_proc_values("/proc/cpuinfo", "flags")), "").split())


def _memory_bytes() -> int:
    total = next(iter(_proc_values("/proc/meminfo", "MemTotal")), "0 kB")
    return int(total.split()[0]) * 1024


def _gpus() -> tuple[str, ...]:
    """Names, memory and driver of NVIDIA GPUs as the driver's own tool tells; none where it is not installed."""
    command = ["nvidia-smi", "--query-gpu=name,memory.total,driver_version", "--format=csv,noheader"]
    try:
        result = subprocess.run(command, capture_output=True, text=True, timeout=20, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ()
    return tuple(line.strip() for line in result.stdout.splitlines() if line.strip()) if result.returncode == 0 else ()


def _file_system(folder: Path) -> str:
    """Type of the file system that holds `folder` (ext4, nfs4, fuse...), or "" where /proc does not tell."""
    best, kind = "", ""
    try:
        mounts = Path("/proc/self/mounts").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return ""
    place = str(folder.resolve())
    for line in mounts:
        _, point, this_kind, *_ = line.split()
        point = point.replace("\\040", " ")
        inside = place == point or place.startswith(point.rstrip("/") + "/")
        if inside and len(point) >= len(best):
            best, kind = point, this_kind
    return kind

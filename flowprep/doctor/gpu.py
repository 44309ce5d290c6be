"""NVIDIA GPUs: device files, driver, its library, and the packages that kernels of our own would need."""

from __future__ import annotations

import ctypes
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

from flowprep.doctor.finding import Finding
from flowprep.doctor.packages import installed_version
from flowprep.flow.cuda_driver import CudaDriver, DriverFailureError, NoDriverError
from flowprep.flow.probe_cuda import find_card_obstacle, find_native_cuda_obstacle
from flowprep.flow.tvl1.cuda_batch import most_pairs

_EXTRAS = {12: "cuda", 13: "cuda13"}
"""Our extra for each major version of CUDA."""

_NO_DEVICE = 100
_USUAL_SIZE = 340, 256  # UCF101's frames as `extract` stores them


def examine_gpu(root: Path = Path("/")) -> Iterator[Finding]:
    """Findings on GPUs; the first thing that is missing is what there is to say. Makes no context on any device."""
    devices = sorted(path.name for path in (root / "dev").glob("nvidia[0-9]*"))
    version = _driver_version(root)
    listed, smi_error = _listed()
    facts = {"devices": devices, "driver": version, "gpus": listed}
    if not version and not listed:
        text = "no NVIDIA GPU or no driver: there is no /proc/driver/nvidia, " + smi_error
        if devices:
            text = f"{', '.join(devices)} are there but no driver answers: {smi_error}"
        cure = "in a container, start it with the GPU (docker --gpus all, or --nv)" if devices else ""
        text += "; flow runs on the CPU"
        yield Finding(topic="gpu", name="GPU", state="note", text=text, cure=cure, facts=facts)
        return
    text = "; ".join(listed) or f"driver {version}, but {smi_error}"
    yield Finding(topic="gpu", name="GPU", state="ok" if listed else "note", text=text, facts=facts)
    cuda, error = _cuda_version()
    if error:
        cure = "check CUDA_VISIBLE_DEVICES and nvidia-smi; in a container, start it with the GPU (docker --gpus all)"
        yield Finding(topic="gpu", name="CUDA driver", state="problem", text=error, cure=cure)
        return
    major, minor = cuda // 1000, cuda % 1000 // 10
    text = f"the driver runs CUDA up to {major}.{minor}"
    if major < min(_EXTRAS):
        cure = f"update the driver: CUDA {min(_EXTRAS)} is needed"
        yield Finding(topic="gpu", name="CUDA driver", state="note", text=text, cure=cure)
        return
    yield Finding(topic="gpu", name="CUDA driver", state="ok", text=text, facts={"cuda": f"{major}.{minor}"})
    yield from _devices()
    yield _kernels(major)


def _devices() -> Iterator[Finding]:
    """What each device of `--device` is good for, as far as that is known without a run."""
    try:
        driver = CudaDriver.load()
    except (NoDriverError, DriverFailureError):
        return  # told above
    for index, (card, num_bytes, num_multiprocessors) in enumerate(driver.cards):
        capability = ".".join(map(str, driver.capabilities[index]))
        facts: dict[str, object] = {"card": card, "memory_bytes": num_bytes, "multiprocessors": num_multiprocessors}
        facts["capability"] = capability
        text, cure = f"{card}, compute capability {capability}, {num_bytes / 2**30:.0f} GiB", ""
        obstacle = find_card_obstacle(driver.capabilities[index])
        if obstacle is None:
            width, height = _USUAL_SIZE
            pairs = most_pairs(height, width, num_multiprocessors)
            text += f"; native-cuda computes up to {pairs} pairs of {width}x{height} at a time"
            cure = "flowprep bench VIDEOS measures which stage bounds a run: device, or decoding and encoding beside it"
        else:
            text, cure = f"{text}; native-cuda does not run on it: {obstacle[0]}", obstacle[1]
        yield Finding(
            topic="gpu", name=f"cuda:{index}", state="note" if obstacle else "ok", text=text, cure=cure, facts=facts
        )


def _driver_version(root: Path) -> str:
    try:
        text = (root / "proc/driver/nvidia/version").read_text(errors="replace")
    except OSError:
        return ""
    found = re.search(r"\b(\d+\.\d+(?:\.\d+)?)\b", text)
    return found[1] if found else ""


def _listed() -> tuple[list[str], str]:
    """Name, memory and driver of each GPU as the driver's own tool tells, or why it does not."""
    if shutil.which("nvidia-smi") is None:
        return [], "nvidia-smi is not installed"
    command = ["nvidia-smi", "--query-gpu=name,memory.total,driver_version", "--format=csv,noheader"]
    try:
        result = subprocess.run(command, capture_output=True, text=True, timeout=20, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        return [], f"nvidia-smi failed: {error}"
    lines = [line.strip() for line in result.stdout.splitlines() if line.strip()]
    if result.returncode:
        return [], f"nvidia-smi failed: {' '.join(lines) or result.stderr.strip()}"
    return lines, "" if lines else "nvidia-smi names no device"


def _cuda_version() -> tuple[int, str]:
    """The newest CUDA that the driver runs, as 1000 * major + 10 * minor; or why it cannot be used."""
    try:
        driver = ctypes.CDLL("libcuda.so.1")
    except OSError:
        return 0, "the driver's library libcuda.so.1 cannot be loaded"
    status = int(driver.cuInit(0))
    number, count = ctypes.c_int(), ctypes.c_int()
    if status == 0:
        driver.cuDriverGetVersion(ctypes.byref(number))
        driver.cuDeviceGetCount(ctypes.byref(count))
    if status == _NO_DEVICE or (status == 0 and count.value == 0):
        return 0, "libcuda.so.1 sees no device"
    return (number.value, "") if status == 0 else (0, f"libcuda.so.1 cannot be started (error {status})")


def _kernels(cuda_major: int) -> Finding:
    """Whether the compiler for kernels and what it needs are installed, for the newest CUDA that the driver runs."""
    version = installed_version("numba-cuda")
    if version is None:
        extra = _EXTRAS[max(major for major in _EXTRAS if major <= cuda_major)]
        cure = f"pip install 'flowprep[{extra}]' if you want flow of our own on the GPU"
        return Finding(topic="gpu", name="numba-cuda", state="note", text="is not installed", cure=cure)
    obstacle = find_native_cuda_obstacle()
    if obstacle is None:
        return Finding(topic="gpu", name="numba-cuda", state="ok", text=f"{version}, with all that it needs")
    reason, cure = obstacle
    return Finding(topic="gpu", name="numba-cuda", state="note", text=f"{version}, but {reason}", cure=cure)

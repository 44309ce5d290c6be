"""Whether `native-cuda` can run here: the package, the driver, a GPU, the toolkit; a sentence and a cure for each.

Asks the driver itself (`cuda_driver.py`), so that it takes no memory on a device and loads neither Numba nor NumPy.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
from pathlib import Path

from flowprep.flow.cuda_driver import CudaDriver, DriverFailureError, NoDriverError

OLDEST_CAPABILITY = {12: (5, 0), 13: (7, 5)}
"""Oldest GPU that a major version of the CUDA toolkit compiles for."""

_BLACKWELL, _BLACKWELL_MINOR = (10, 0), 8
"""Compute capability 10.0 and newer came with CUDA 12.8."""

_INSTALL = 'pip install "flowprep[cuda]"'
_INSTALL_13 = 'pip install "flowprep[cuda13]"'
_START = "install NVIDIA's driver until nvidia-smi lists the GPU; a container needs its --gpus or --nv option"
_TOOLKITS = {12: "nvidia-cuda-nvcc-cu12", 13: "nvidia-nvvm"}
"""The wheel with NVIDIA's compiler library of each major version."""

_NATIVE = "or use the backend native"
_STUB = 34  # CUDA_ERROR_STUB_LIBRARY
_MISMATCH = 803  # CUDA_ERROR_SYSTEM_DRIVER_MISMATCH


def find_native_cuda_obstacle() -> tuple[str, str] | None:
    """What keeps `native-cuda` from running here, and the cure; None where it is Numba at most."""
    if importlib.util.find_spec("numba_cuda") is None:
        return "the package numba-cuda is not installed", f"{_INSTALL}, {_NATIVE}"
    if os.environ.get("NUMBA_ENABLE_CUDASIM", "0") not in ("", "0"):
        return "NUMBA_ENABLE_CUDASIM is set, so that Numba simulates a GPU, slowly", "unset NUMBA_ENABLE_CUDASIM"
    try:
        driver = CudaDriver.load()
    except NoDriverError as error:
        return f"there is no NVIDIA driver ({error})", f"{_START}, {_NATIVE}"
    except DriverFailureError as error:
        return _explained(error.code)
    if not driver.capabilities:
        return "the NVIDIA driver finds no GPU", f"check nvidia-smi and CUDA_VISIBLE_DEVICES, {_NATIVE}"
    return _find_toolkit_obstacle(driver)


def _explained(code: int) -> tuple[str, str]:
    if code == _STUB:
        return "libcuda.so.1 is a stub for linking, not a driver", f"take it out of LD_LIBRARY_PATH; {_START}"
    if code == _MISMATCH:
        return "the NVIDIA driver's library and kernel module are of different versions", "restart the machine"
    return f"the NVIDIA driver does not start (CUDA error {code})", f"make nvidia-smi work first, {_NATIVE}"


def _find_toolkit_obstacle(driver: CudaDriver) -> tuple[str, str] | None:
    installed = _installed_toolkit()
    if installed is None:
        if _has_system_toolkit():
            return None
        cure = (
            _INSTALL_13 if driver.version[0] >= 13 and min(driver.capabilities) >= OLDEST_CAPABILITY[13] else _INSTALL
        )
        return "NVIDIA's compiler library (NVVM) is not installed", cure
    major, version = installed
    if driver.version[0] < major:
        newest = ".".join(map(str, driver.version))
        cure = f"{_INSTALL} for CUDA 12, or update the driver" if driver.version[0] == 12 else "update the driver"
        return f"the NVIDIA driver is too old: it runs CUDA {newest}, and installed is CUDA {version}", cure
    obstacles = [find_card_obstacle(capability) for capability in driver.capabilities]
    return obstacles[0] if all(obstacles) else None


def find_card_obstacle(capability: tuple[int, int]) -> tuple[str, str] | None:
    """Why the installed toolkit compiles for no GPU of that compute capability, and the cure; None where it does."""
    installed = _installed_toolkit()
    if installed is None:  # nobody knows which one Numba finds
        return None
    major, version = installed
    found = ".".join(map(str, capability))
    oldest = OLDEST_CAPABILITY.get(major, (0, 0))
    if capability < oldest:
        cure = f"{_INSTALL}, which is CUDA 12" if major == 13 and capability >= (5, 0) else _NATIVE[3:]
        return f"the GPU has compute capability {found}, and CUDA {version} needs {'.'.join(map(str, oldest))}", cure
    if capability >= _BLACKWELL and major == 12 and _minor(version) < _BLACKWELL_MINOR:
        cure = f"pip install --upgrade {_TOOLKITS[12]}, {_NATIVE}"
        return f"the GPU has compute capability {found}, which CUDA {version} does not know", cure
    return None


def _minor(version: str) -> int:
    """The second number of a version."""
    number = version.split(".")[1] if "." in version else ""
    return int(number) if number.isdecimal() else 0


def _installed_toolkit() -> tuple[int, str] | None:
    """Major version and version of the toolkit that was installed as wheels; of two, the newer."""
    for major, name in sorted(_TOOLKITS.items(), reverse=True):
        try:
            return major, importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return None


def _has_system_toolkit() -> bool:
    """Whether Numba may find a toolkit that was not installed as wheels; if it cannot, it says so itself."""
    places = [os.environ.get(name) for name in ("CUDA_HOME", "CUDA_PATH", "CONDA_PREFIX")]
    return any(place and Path(place).is_dir() for place in places) or Path("/usr/local/cuda").exists()

"""Whether `native-cuda` can run here: the package, the driver, a GPU, the toolkit; a sentence and a cure for each.

Asks the driver itself (`cuda_driver.py`), so that it takes no memory on a device and loads neither Numba nor NumPy.
Where a GPU is there, the compiler library is looked for as numba-cuda does it, by NVIDIA's `cuda.pathfinder`, which
loads it.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import re
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

_TOOLKIT = "set CUDA_HOME to the folder of a CUDA toolkit"
_WITHOUT_ROW_STACK = (2, 5)
"""The first NumPy that has no `row_stack`."""

_NEEDS_ROW_STACK = re.compile(r"if numpy_version >= \(2, 0\):\s+overload\(np\.row_stack\)")
"""A line of numba-cuda 0.30 and older that fails there, at the first kernel. Numba's own has an upper bound."""

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
    return _find_numpy_obstacle() or _find_toolkit_obstacle(driver)


def _explained(code: int) -> tuple[str, str]:
    if code == _STUB:
        return "libcuda.so.1 is a stub for linking, not a driver", f"take it out of LD_LIBRARY_PATH; {_START}"
    if code == _MISMATCH:
        return "the NVIDIA driver's library and kernel module are of different versions", "restart the machine"
    return f"the NVIDIA driver does not start (CUDA error {code})", f"make nvidia-smi work first, {_NATIVE}"


def _find_numpy_obstacle() -> tuple[str, str] | None:
    """A numba-cuda that compiles nothing with the installed NumPy; none of its releases says which ones it knows."""
    try:
        numpy = importlib.metadata.version("numpy")
        distribution = importlib.metadata.distribution("numba-cuda")
        source = Path(str(distribution.locate_file("numba_cuda/numba/cuda/np/arrayobj.py")))
        fits = _major_minor(numpy) < _WITHOUT_ROW_STACK or not _NEEDS_ROW_STACK.search(source.read_text("utf-8"))
    except (importlib.metadata.PackageNotFoundError, OSError):  # installed in another way: nothing is known
        return None
    if fits:
        return None
    return (
        f"numba-cuda {distribution.version} compiles nothing with NumPy {numpy}",
        f'pip install "numpy<2.5", {_NATIVE}',
    )


def _find_toolkit_obstacle(driver: CudaDriver) -> tuple[str, str] | None:
    installed = _installed_toolkit()
    if installed is not None:
        major, version = installed
        if driver.version[0] < major:
            newest = ".".join(map(str, driver.version))
            cure = f"{_INSTALL} for CUDA 12, or update the driver" if driver.version[0] == 12 else "update the driver"
            return f"the NVIDIA driver is too old: it runs CUDA {newest}, and installed is CUDA {version}", cure
        obstacles = [find_card_obstacle(capability) for capability in driver.capabilities]
        if all(obstacles):
            return obstacles[0]
    if _finds_compiler():
        return None
    is_new = driver.version[0] >= 13 and min(driver.capabilities) >= OLDEST_CAPABILITY[13]
    cure = f"{_INSTALL_13 if is_new else _INSTALL}, or {_TOOLKIT}"
    return "numba-cuda does not find NVIDIA's compiler library (NVVM)", cure


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
    if capability >= _BLACKWELL and major == 12 and _major_minor(version)[1] < _BLACKWELL_MINOR:
        cure = f"pip install --upgrade {_TOOLKITS[12]}, {_NATIVE}"
        return f"the GPU has compute capability {found}, which CUDA {version} does not know", cure
    return None


def _major_minor(version: str) -> tuple[int, int]:
    """The first two numbers of a version."""
    found = re.match(r"(\d+)(?:\.(\d+))?", version)
    return (int(found[1]), int(found[2] or 0)) if found else (0, 0)


def _installed_toolkit() -> tuple[int, str] | None:
    """Major version and version of the toolkit that was installed as wheels; of two, the newer."""
    for major, name in sorted(_TOOLKITS.items(), reverse=True):
        try:
            return major, importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return None


def _finds_compiler() -> bool:
    """Whether NVVM is found: in wheels, a conda environment, where the loader looks, by CUDA_PATH or CUDA_HOME."""
    try:
        from cuda import pathfinder
    except ImportError:
        return False
    try:
        pathfinder.load_nvidia_dynamic_lib("nvvm")
    except (RuntimeError, OSError):  # not found, or found and not to be loaded
        return False
    return True

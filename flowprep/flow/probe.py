"""Whether Numba, OpenCV and the machine have what a backend needs, and what to do where they have not.

Only "not installed", "not built" and "no device" are obstacles; any other error is a fault and is raised.
"""

from __future__ import annotations

import functools
import re
import types
from typing import NamedTuple


class Obstacle(NamedTuple):
    """Why a backend cannot run here, and the cure; both end without a full stop."""

    reason: str
    cure: str


_CONTRIB = (
    "pip uninstall opencv-python opencv-python-headless, then pip install --force-reinstall opencv-contrib-python"
)
_HEADLESS = "pip uninstall opencv-contrib-python, then pip install opencv-contrib-python-headless"
_PACKAGES = {
    "libGL": "libgl1 libglib2.0-0",
    "libgthread": "libglib2.0-0",
    "libglib": "libglib2.0-0",
    "libSM": "libsm6 libxext6",
    "libXext": "libxext6",
    "libXrender": "libxrender1",
    "libxcb": "libxcb1",
}
"""Libraries that OpenCV's windows want and servers have not, and the Debian packages that have them."""
_BUILD = "build OpenCV with CUDA as docs/opencv-cuda.md shows, or use another backend"

_FACTORIES = {
    "opencv": "DualTVL1OpticalFlow_create",
    "dis": "DISOpticalFlow_create",
    "farneback": "FarnebackOpticalFlow_create",
}


def find_obstacle(backend: str) -> Obstacle | None:
    """What keeps a backend from running here, or None."""
    if backend == "native":
        return _find_numba_obstacle()
    if backend == "native-cuda":
        from flowprep.flow.probe_cuda import find_native_cuda_obstacle

        reason_and_cure = find_native_cuda_obstacle()
        return _find_numba_obstacle() if reason_and_cure is None else Obstacle(*reason_and_cure)
    cv2 = load_opencv()
    if isinstance(cv2, Obstacle):
        return cv2
    version = f"OpenCV {cv2.__version__}"
    if backend == "opencv-cuda":
        return _find_cuda_obstacle(cv2, version)
    module = getattr(cv2, "optflow", None) if backend == "opencv" else cv2
    if not hasattr(module, _FACTORIES[backend]):
        return Obstacle(f"{version} has no {_FACTORIES[backend]} (it was built without contrib modules)", _CONTRIB)
    return None


@functools.cache  # a failed import costs as much the second time
def _find_numba_obstacle() -> Obstacle | None:
    try:
        from numba import config
    except ModuleNotFoundError as error:
        return Obstacle(f"the module {error.name} is not installed", "pip install numba")
    except (ImportError, OSError) as error:  # a NumPy that is newer than Numba knows, a library that does not load
        return Obstacle(f"importing numba failed: {error}", "pip install --upgrade --force-reinstall numba")
    if config.DISABLE_JIT:
        return Obstacle("NUMBA_DISABLE_JIT is set, so that Numba compiles nothing", "unset NUMBA_DISABLE_JIT")
    return None


def _find_cuda_obstacle(cv2: types.ModuleType, version: str) -> Obstacle | None:
    cuda = getattr(cv2, "cuda", None)
    if not hasattr(cuda, "OpticalFlowDual_TVL1_create"):
        return Obstacle(f"{version} was built without CUDA TV-L1 (the wheels on PyPI are)", _BUILD)
    assert cuda is not None
    num_devices = cuda.getCudaEnabledDeviceCount()
    if num_devices < 0:
        return Obstacle(
            f"{version} found no usable NVIDIA driver",
            "install the driver (see nvidia-smi), or one new enough for the CUDA version of this OpenCV",
        )
    if num_devices == 0:
        return Obstacle(f"{version} found no CUDA device", "check nvidia-smi and CUDA_VISIBLE_DEVICES")
    return None


@functools.cache  # importing cv2 again after a failure gives other errors than the first time
def load_opencv() -> types.ModuleType | Obstacle:
    """The module cv2, or why it cannot be loaded."""
    try:
        import cv2
    except ModuleNotFoundError as error:
        return Obstacle(f"the module {error.name} is not installed", "pip install opencv-contrib-python")
    except ImportError as error:
        return explain_opencv(str(error))
    if not hasattr(cv2, "__version__"):
        # Uninstalling one of two distributions that share the folder cv2/ leaves a folder without a library.
        return Obstacle("the folder cv2/ is there but OpenCV is not in it", _CONTRIB)
    return cv2


def explain_opencv(error: str) -> Obstacle:
    """What an ImportError of cv2 means."""
    missing = re.search(r"\b(lib[\w.+-]+\.so[\w.]*)", error)
    package = next((name for lib, name in _PACKAGES.items() if missing and missing[1].startswith(lib)), None)
    if package is None:
        return Obstacle(f"importing cv2 failed: {error}", _CONTRIB)
    return Obstacle(f"importing cv2 failed: {error}", f"apt-get install {package}, or without root {_HEADLESS}")

"""What NVIDIA's driver says about itself and its GPUs, asked without Numba and without taking memory on a device."""

from __future__ import annotations

import ctypes
from typing import Self, final

_LIBRARY = "libcuda.so.1"
_NO_DEVICE = 100
_MAJOR, _MINOR = 75, 76  # CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR and _MINOR


class NoDriverError(RuntimeError):
    """The driver's library is not there or cannot be loaded."""


class DriverFailureError(RuntimeError):
    """The driver does not start; `code` is its error number."""

    def __init__(self, code: int) -> None:
        super().__init__(f"error {code}")
        self.code = code


@final
class CudaDriver:
    """The driver: `version`, the newest CUDA that it runs, as (major, minor); `capabilities` of the visible GPUs."""

    def __init__(self, version: tuple[int, int], capabilities: tuple[tuple[int, int], ...]) -> None:
        self.version = version
        self.capabilities = capabilities

    @classmethod
    def load(cls) -> Self:
        """Ask the driver. Raises NoDriverError or DriverFailureError."""
        try:
            library = ctypes.CDLL(_LIBRARY)
        except OSError as error:
            raise NoDriverError(str(error)) from error
        number = ctypes.c_int()
        code = library.cuInit(0)
        if code not in (0, _NO_DEVICE):
            raise DriverFailureError(code)
        _call(library.cuDriverGetVersion, ctypes.byref(number))
        version = number.value // 1000, number.value % 1000 // 10
        if code == _NO_DEVICE:
            return cls(version, ())
        _call(library.cuDeviceGetCount, ctypes.byref(number))
        return cls(version, tuple(_capability(library, index) for index in range(number.value)))


def _capability(library: ctypes.CDLL, index: int) -> tuple[int, int]:
    device, major, minor = ctypes.c_int(), ctypes.c_int(), ctypes.c_int()
    _call(library.cuDeviceGet, ctypes.byref(device), index)
    _call(library.cuDeviceGetAttribute, ctypes.byref(major), _MAJOR, device)
    _call(library.cuDeviceGetAttribute, ctypes.byref(minor), _MINOR, device)
    return major.value, minor.value


def _call(function: object, *arguments: object) -> None:
    code = function(*arguments)  # type: ignore[operator]
    if code:
        raise DriverFailureError(code)

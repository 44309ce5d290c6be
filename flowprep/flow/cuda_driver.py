"""What NVIDIA's driver says about itself and its GPUs, asked without Numba and without taking memory on a device."""

from __future__ import annotations

import ctypes
from typing import Self, final

_LIBRARY = "libcuda.so.1"
_NO_DEVICE = 100
_MAJOR, _MINOR = 75, 76  # CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR and _MINOR
_MULTIPROCESSORS = 16  # CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT


class NoDriverError(RuntimeError):
    """The driver's library is not there or cannot be loaded."""


class DriverFailureError(RuntimeError):
    """The driver does not start; `code` is its error number."""

    def __init__(self, code: int) -> None:
        super().__init__(f"error {code}")
        self.code = code


@final
class CudaDriver:
    """The driver: `version`, the newest CUDA that it runs, as (major, minor); of the visible GPUs `capabilities`.

    `cards` are their names, bytes of memory and multiprocessors, as far as it tells.
    """

    def __init__(
        self,
        version: tuple[int, int],
        capabilities: tuple[tuple[int, int], ...],
        cards: tuple[tuple[str, int, int], ...] = (),
    ) -> None:
        self.version = version
        self.capabilities = capabilities
        self.cards = cards

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
        places = range(number.value)
        capabilities = tuple(_capability(library, index) for index in places)
        return cls(version, capabilities, tuple(_card(library, index) for index in places))


def _capability(library: ctypes.CDLL, index: int) -> tuple[int, int]:
    device, major, minor = ctypes.c_int(), ctypes.c_int(), ctypes.c_int()
    _call(library.cuDeviceGet, ctypes.byref(device), index)
    _call(library.cuDeviceGetAttribute, ctypes.byref(major), _MAJOR, device)
    _call(library.cuDeviceGetAttribute, ctypes.byref(minor), _MINOR, device)
    return major.value, minor.value


def _card(library: ctypes.CDLL, index: int) -> tuple[str, int, int]:
    device, num_multiprocessors = ctypes.c_int(), ctypes.c_int()
    name, num_bytes = ctypes.create_string_buffer(256), ctypes.c_size_t()
    _call(library.cuDeviceGet, ctypes.byref(device), index)
    _call(library.cuDeviceGetName, name, len(name), device)
    _call(library.cuDeviceTotalMem_v2, ctypes.byref(num_bytes), device)
    _call(library.cuDeviceGetAttribute, ctypes.byref(num_multiprocessors), _MULTIPROCESSORS, device)
    return name.value.decode(errors="replace"), num_bytes.value, num_multiprocessors.value


def _call(function: object, *arguments: object) -> None:
    code = function(*arguments)  # type: ignore[operator]
    if code:
        raise DriverFailureError(code)

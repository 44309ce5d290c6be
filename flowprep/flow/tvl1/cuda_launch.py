"""Launches whose arguments we pack ourselves.

Numba converts each argument of each launch anew: for our kernels that takes some thirty times as long as the driver's
own work on a launch, and a pair has hundreds of them. Here the arguments go into one buffer by one `struct` call, and
the buffer to the driver. How a kernel takes an array is Numba's business and may change; so the first launch of each
kernel is packed by Numba's own code as well, and where the two differ, or its code has moved, Numba makes all launches.
"""

from __future__ import annotations

import ctypes
import logging
import struct
import threading
from collections.abc import Sequence
from typing import Any, final

from numba import float32, float64, int32, int64, types

from flowprep.flow.tvl1.cuda_failures import DeviceError

_logger = logging.getLogger(__name__)
_FORMATS = {int32: "i4x", int64: "q", float32: "f4x", float64: "d"}
_ARRAY = "qqqqQqq"
_WORD = 8


@final
class Packer:
    """Arguments of a kernel as the driver wants them: each number in eight bytes, and an array of their addresses.

    An array of one dimension is seven numbers: two that Numba keeps for itself, elements, bytes of an element, address,
    elements, and bytes from one element to the next.
    """

    def __init__(self, kinds: Sequence[Any]) -> None:
        self._is_array = [isinstance(kind, types.Array) for kind in kinds]
        self._struct = struct.Struct(
            "="
            + "".join(_ARRAY if array else _FORMATS[kind] for array, kind in zip(self._is_array, kinds, strict=True))
        )
        num_words = self._struct.size // _WORD
        self._buffer = ctypes.create_string_buffer(max(self._struct.size, _WORD))
        start = ctypes.addressof(self._buffer)
        self._addresses = (ctypes.c_void_p * num_words)(*[start + _WORD * k for k in range(num_words)])
        self.address = ctypes.addressof(self._addresses)
        """Where the driver finds the addresses."""

    def pack(self, arguments: Sequence[Any]) -> None:
        """Put arguments into the buffer. Arrays are those of Numba on the device."""
        values: list[Any] = []
        for is_array, argument in zip(self._is_array, arguments, strict=True):
            if is_array:
                values += _array_fields(argument)
            else:
                values.append(argument)
        self._struct.pack_into(self._buffer, 0, *values)

    def unpacked(self) -> list[Any]:
        """The numbers in the buffer."""
        return list(self._struct.unpack_from(self._buffer))


def _array_fields(array: Any) -> tuple[int, ...]:
    """An array's seven numbers, kept with it: it never changes."""
    try:
        fields: tuple[int, ...] = array.flowprep_fields
    except AttributeError:
        size, item, address = array.size, array.dtype.itemsize, array.__cuda_array_interface__["data"][0]
        assert array.ndim == 1
        assert array.strides == (item,)
        fields = array.flowprep_fields = (0, 0, size, item, address, size, item)
    return fields


@final
class Launcher:
    """Launches of one compiled kernel, a `numba.cuda` dispatcher for one signature. Threads may share it."""

    def __init__(self, name: str, dispatcher: Any, kinds: Sequence[Any]) -> None:
        self._name, self._dispatcher, self._kinds = name, dispatcher, kinds
        self._packer = Packer(kinds)
        self._lock = threading.Lock()  # the driver reads the buffer without Python's lock
        self._is_checked = False
        self._function: Any = None
        self._launch: Any = None

    def __call__(self, grid: tuple[int, int, int], block: tuple[int, int, int], stream: Any, arguments: Any) -> None:
        """Put a launch on a stream. Raises DeviceError as soon as the driver says that something is wrong."""
        with self._lock:
            if not self._is_checked:
                self._check(stream, arguments)
            if self._launch is not None:
                self._packer.pack(arguments)
                (code,) = self._launch(self._function, *grid, *block, 0, int(stream.handle), self._packer.address, 0)
                if code:
                    raise DeviceError(f"the launch of {self._name} failed: {code.name}")
                return
        self._dispatcher[grid, block, stream](*arguments)

    def _check(self, stream: Any, arguments: Any) -> None:
        """Whether our packing is Numba's."""
        self._is_checked = True
        try:
            from cuda.bindings import driver

            (kernel,) = self._dispatcher.overloads.values()
            expected: list[Any] = []
            for kind, argument in zip(self._kinds, arguments, strict=True):
                kernel._prepare_args(kind, argument, stream, [], expected)
            self._packer.pack(arguments)
            agrees = self._packer.unpacked() == [getattr(value, "value", value) for value in expected]
            if agrees and not kernel.debug:
                self._function, self._launch = kernel._codelibrary.get_cufunc().handle, driver.cuLaunchKernel
        except (ImportError, AttributeError, TypeError, ValueError, struct.error) as error:
            _logger.debug("launches of %s are Numba's: %s", self._name, error)
        if self._launch is None:
            _logger.info("this numba-cuda takes arguments in another way, so that launches are slower")

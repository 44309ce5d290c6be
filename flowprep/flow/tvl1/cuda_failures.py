"""Errors of the CUDA driver as errors of ours, and batches that shrink until they fit into the device's memory."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

from flowprep.errors import FlowprepError, VideoError

_logger = logging.getLogger(__name__)
_SIGNS = ("OUT_OF_MEMORY", "out of memory")
_Result = TypeVar("_Result")


class DeviceError(RuntimeError):
    """A CUDA call failed for another reason than memory: the context, and all that was in it, is lost."""


def is_want_of_memory(error: BaseException) -> bool:
    """Whether an error of Numba or the driver says that the device's memory, or page-locked memory, is used up."""
    return isinstance(error, MemoryError) or any(sign in str(error) for sign in _SIGNS)


def halves(num: int) -> Iterator[int]:
    """`num`, half of it, and so on down to 1."""
    while num > 1:
        yield num
        num //= 2
    yield 1


def allocated(
    sizes: Iterable[int], allocate: Callable[[int], _Result], height: int, width: int, what: str
) -> tuple[_Result, int]:
    """What `allocate` gives for the first of `sizes` that fits into the device's memory, and that size.

    `what` are the things that there are so many of. Raises VideoError `memory` where none fits.
    """
    failure = ""
    for size in sizes:
        if failure:
            _logger.warning("the GPU's memory is too small; taking %d %s of %dx%d at a time", size, what, width, height)
        try:
            return allocate(size), size
        except Exception as error:
            if not is_want_of_memory(error):
                raise
            # Its text alone: its traceback holds what had been allocated before it, which the next try needs.
            failure = " ".join(str(error).split()) or type(error).__name__
    raise VideoError(
        "memory",
        f"the GPU has not enough free memory for {what} of {width}x{height}; end what else runs on it, or store "
        "smaller frames",
    ) from MemoryError(failure)


@contextlib.contextmanager
def cuda_failures(height: int, width: int) -> Iterator[None]:
    """Raise what CUDA reports as VideoError `memory`, or as DeviceError."""
    try:
        yield
    except FlowprepError:
        raise
    except Exception as error:
        text = " ".join(str(error).split())
        if is_want_of_memory(error):
            detail = f"the GPU has not enough free memory for frames of {width}x{height}: {text}"
            raise VideoError("memory", detail) from error
        if type(error).__module__.split(".")[0] in ("numba", "cuda") or "CUDA" in text:
            raise DeviceError(text) from error
        raise

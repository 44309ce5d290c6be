"""The context of a device, as this thread has it: made, made current, asked for memory; events."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

from numba import cuda

from flowprep.errors import BackendUnavailableError, VideoError
from flowprep.flow.tvl1.cuda_arithmetic import SIMULATED
from flowprep.flow.tvl1.cuda_failures import DeviceError, cuda_failures


def make_current(device: int) -> None:
    """Make a device this thread's, unless it is: `select_device` puts its context on top of the others each time."""
    from numba.cuda.cudadrv.driver import driver

    with driver.get_active_context() as active:
        is_current = active.devnum == device
    if not is_current:
        cuda.select_device(device)


def free_bytes() -> int:
    """Free memory of the current device. Numba keeps what was let go, up to a fifth of all; that is freed first."""
    context = cuda.current_context()
    context.memory_manager.deallocations.clear()
    return int(context.get_memory_info().free)


def mark() -> Any:
    """An event for waiting; one that takes no time costs less."""
    return cuda.event() if SIMULATED else cuda.event(timing=False)


_given_up = contextlib.ExitStack()


def give_up() -> None:
    """The context is lost: nothing of it is freed any more, since that would fail, and be told, piece by piece."""
    with contextlib.suppress(Exception):
        _given_up.enter_context(cuda.defer_cleanup())


@contextlib.contextmanager
def starting(name: str, device: int) -> Iterator[None]:
    """Raise as BackendUnavailableError what keeps a device from being used at all."""
    try:
        with cuda_failures(0, 0):
            yield
    except VideoError as error:
        raise BackendUnavailableError(
            f"flow backend {name} finds too little free memory on device {device} to start; end what else runs on it "
            "(nvidia-smi lists it), or choose another --device"
        ) from error
    except DeviceError as error:
        raise BackendUnavailableError(
            f"flow backend {name} cannot start on device {device} ({error}); make nvidia-smi and `flowprep doctor` "
            "work first, or use the backend native"
        ) from error

"""Runs `native-cuda` on `fake_libcuda.c` instead of a driver: `python -m helpers.cuda_driver`, which prints JSON.

Everything on the host is real: Numba's and NVIDIA's own Python code, allocations, copies, streams, launches. Kernels do
not run, so all flow is zero. Where there is no NVVM, kernels are not compiled either, and launched under another name.
"""

from __future__ import annotations

import ctypes
import json
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

COUNTS = (
    "launches",
    "device_bytes",
    "device_blocks",
    "pinned_bytes",
    "pinned_blocks",
    "pushes",
    "depth",
    "events",
    "streams",
    "copies",
)
FRAMES = np.random.default_rng(0).integers(0, 256, (13, 40, 50), np.uint8)


def counts() -> dict[str, int]:
    library = ctypes.CDLL("libcuda.so.1")
    library.fake_cuda_count.restype = ctypes.c_longlong
    return {name: library.fake_cuda_count(place) for place, name in enumerate(COUNTS)}


def has_compiler() -> bool:
    from numba import cuda, float32, void

    def nothing(array: Any) -> None:
        array[0] = 1

    try:
        cuda.compile_ptx(nothing, void(float32[::1]), cc=(9, 0))
    except Exception:  # noqa: BLE001 - each release of numba-cuda has another one
        return False
    return True


def launch_nothing(grid: Any, block: Any, stream: Any, *arguments: Any) -> None:
    """Instead of a compiled kernel: a launch of something, with the same grid."""
    from cuda.bindings import driver

    from flowprep.flow.tvl1.cuda_failures import DeviceError
    from flowprep.flow.tvl1.cuda_kernel import _three

    assert arguments
    (code,) = driver.cuLaunchKernel(1, *_three(grid), *_three(block), 0, int(stream.handle), 0, 0)
    if code:
        raise DeviceError(f"the launch failed: {code.name}")


def backend(max_pairs: int | None = None) -> Any:
    from flowprep.flow.parameters import parse_parameters
    from flowprep.flow.tvl1.cuda import NativeCUDABackend

    return NativeCUDABackend(parse_parameters("native-cuda", "cuda", {}), max_pairs=max_pairs)


def compute(one: Any, frames: Any = FRAMES, quantised: bool = True) -> Any:
    from flowprep.config import QuantiseSettings

    prepared = one.prepare(frames)
    if quantised:
        return one.compute_quantised(prepared[:-1], prepared[1:], QuantiseSettings())
    return one.compute(prepared[:-1], prepared[1:])


@contextmanager
def environment(**values: str) -> Iterator[None]:
    os.environ.update(values)
    try:
        yield
    finally:
        for name in values:
            del os.environ[name]


def text_of(function: Callable[[], Any]) -> str:
    """What it raises, with its class."""
    try:
        function()
    except Exception as error:  # noqa: BLE001 - the test looks at it
        return f"{type(error).__name__}: {error}"
    return ""


def memory_and_contexts() -> dict[str, Any]:
    """The same work again and again, in batches of two, and frames of other sizes in between."""
    from flowprep.flow.tvl1.cuda_context import free_bytes

    seen = []
    with backend(max_pairs=2) as one:
        for _ in range(4):
            compute(one)
            compute(one, quantised=False)
            compute(one, FRAMES[:3, :30, :30])
            free_bytes()  # frees what Numba keeps
            seen.append(counts())
    return {"seen": seen}


def want_of_memory() -> dict[str, Any]:
    """Free memory for a few pairs and their frames alone, and frames for which there is none; then enough again."""
    large = np.tile(FRAMES[:6], (1, 6, 6))  # 300x240
    used = counts()["device_bytes"]
    with backend() as one:
        compute(one, large[:2])
        one_pair = counts()["device_bytes"] - used
        with environment(FAKE_CUDA_MEMORY=str(used + one_pair + (20 << 20))):
            compute(one, large)
            capacity = one._sizes[large.shape[1:]].rooms.capacity
            refused = text_of(lambda: compute(one, np.tile(large, (1, 4, 4))))
        compute(one, large)
        after = one._sizes[large.shape[1:]].rooms.capacity
    return {"capacity": capacity, "after": after, "refused": refused}


def lost_device() -> dict[str, Any]:
    one = backend()
    compute(one)
    with environment(FAKE_CUDA_FAIL_AT=str(counts()["launches"] + 10)):
        first, second = text_of(lambda: compute(one)), text_of(lambda: compute(one))
        one.close()
    return {"first": first, "second": second}


def start() -> dict[str, Any]:
    """The self-test, without kernels; a device that is full; one that is broken."""
    from flowprep.flow.tvl1 import cuda_check

    cuda_check.check_once, kept = CHECK, cuda_check.check_once
    try:
        wrong = text_of(backend().warm_up)
        with environment(FAKE_CUDA_MEMORY=str(counts()["device_bytes"] + 1000)):
            full = text_of(backend().warm_up)
        with environment(FAKE_CUDA_FAIL_AT="0"):
            broken = text_of(backend().warm_up)
    finally:
        cuda_check.check_once = kept
    return {"wrong": wrong, "full": full, "broken": broken}


def launches() -> dict[str, Any]:
    """Whether all compiled kernels are launched by ourselves, and by Numba where it packs arguments in another way."""
    from flowprep.flow.tvl1 import cuda_launch

    found: dict[str, Any] = {}
    with backend() as one:
        compute(one)
        compute(one, quantised=False)
        before = counts()["launches"]
        compute(one)
        found["launches"] = counts()["launches"] - before
        kernels = one._kernels.items()
        found["own"] = {kernel.name: launchable._launcher._launch is not None for kernel, launchable in kernels}
    fields = cuda_launch._array_fields
    cuda_launch._array_fields = lambda array: (0, *fields(array)[1:3], 99, *fields(array)[4:])
    try:
        forget_launches(kernels)
        with backend() as one:
            before = counts()["launches"]
            compute(one)
            found["launches by Numba"] = counts()["launches"] - before
            found["by Numba"] = all(launchable._launcher._launch is None for _, launchable in one._kernels.items())
    finally:
        cuda_launch._array_fields = fields
        forget_launches(kernels)
    return found


def forget_launches(kernels: Any) -> None:
    for _, launchable in kernels:
        launchable._launcher._is_checked, launchable._launcher._launch = False, None


if __name__ == "__main__":
    from flowprep.flow.tvl1 import cuda_check
    from flowprep.flow.tvl1.cuda_kernel import Kernel

    CHECK = cuda_check.check_once
    cuda_check.check_once = lambda *_: None
    is_compiled = has_compiler()
    if not is_compiled:
        Kernel.compiled = lambda self: launch_nothing  # type: ignore[assignment,method-assign,return-value]
    results = {
        "compiled": is_compiled,
        "memory": memory_and_contexts(),
        "want": want_of_memory(),
        "start": start(),
    }
    if is_compiled:
        results["launches"] = launches()
    results["lost"] = lost_device()  # nothing is freed after that
    json.dump(results, sys.stdout)

"""Kernels that make 8-bit planes of flow on the device, by the rules of `flowprep.quantise`, with what its facts need.

Codes are computed in float64 as there, so that they are the same to the bit.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numba import cuda, float64, int32

from flowprep.flow.tvl1.cuda_arithmetic import SIMULATED, device_function
from flowprep.flow.tvl1.cuda_kernel import BYTES, DOUBLE, DOUBLES, FLOATS, INT, INTS, LIST_BLOCK, LONG, Kernel
from flowprep.flow.tvl1.cuda_status import FLOW_SIDE, NUM_FIELDS

NUM_THREADS = LIST_BLOCK
_WHOLE = 6755399441055744.0  # 1.5 * 2^52: adding it leaves no bits for fractions, and rounds half to even


def _product(x: Any, y: Any) -> Any:
    """`x * y`, rounded: no compiler joins it with a sum."""
    return x * y


if not SIMULATED:
    from numba.cuda import libdevice

    def _product(x: Any, y: Any) -> Any:
        """`x * y`, rounded: no compiler joins it with a sum."""
        return libdevice.dmul_rn(x, y)


product = device_function(_product)


def _code(value: Any, bound: Any, truncates: Any) -> Any:
    """The code of a flow component in pixels. One that is not a number becomes 0."""
    value = np.float64(value)
    if not value > -bound:
        value = -bound
    if value > bound:
        value = bound
    if truncates != 0:
        return np.uint8(product(value + bound, 255.0) / (2.0 * bound))
    scaled = product(value, 255.0 / (2.0 * bound)) + 127.5
    return np.uint8((scaled + _WHOLE) - _WHOLE)


code = device_function(_code)


def _quantise(
    status: Any,
    flow: Any,
    codes: Any,
    bound: Any,
    truncates: Any,
    num_components: Any,
    height: Any,
    width: Any,
    stride: Any,
    pixels: Any,
) -> None:
    """Codes of all pairs, uint8 (pairs, 2, height, width): the plane of x, then that of y."""
    x = cuda.blockIdx.x * cuda.blockDim.x + cuda.threadIdx.x
    y = cuda.blockIdx.y * cuda.blockDim.y + cuda.threadIdx.y
    pair = np.int64(cuda.blockIdx.z)
    if x < width and y < height:
        side = status[pair * NUM_FIELDS + FLOW_SIDE]
        for component in range(2):
            value = flow[((pair * 2 + side) * num_components + component) * pixels + y * stride + x]
            codes[((pair * 2 + component) * height + y) * width + x] = code(value, bound, truncates)


def _measure(
    status: Any,
    flow: Any,
    magnitudes: Any,
    saturated: Any,
    bound: Any,
    num_components: Any,
    height: Any,
    width: Any,
    stride: Any,
    pixels: Any,
) -> None:
    """Sum of lengths (not finite where a value is not) and number of pixels beyond the bound, of each row of all pairs.

    A block does a row (`cuda.blockIdx.x`) of a pair (`cuda.blockIdx.y`), always in the same order.
    """
    sums = cuda.shared.array(NUM_THREADS, float64)
    numbers = cuda.shared.array(NUM_THREADS, int32)
    thread = np.int32(cuda.threadIdx.x)
    y = np.int64(cuda.blockIdx.x)
    pair = np.int64(cuda.blockIdx.y)
    side = status[pair * NUM_FIELDS + FLOW_SIDE]
    base = (pair * 2 + side) * num_components * pixels + y * stride
    total = 0.0
    number = np.int32(0)
    x = np.int64(thread)
    while x < width:
        u1, u2 = np.float64(flow[base + x]), np.float64(flow[base + pixels + x])
        total += math.sqrt(product(u1, u1) + product(u2, u2))
        if abs(u1) > bound or abs(u2) > bound:
            number = np.int32(number + 1)
        x += NUM_THREADS
    sums[thread] = total
    numbers[thread] = number
    cuda.syncthreads()
    half = np.int32(NUM_THREADS // 2)
    while half > 0:
        if thread < half:
            sums[thread] += sums[thread + half]
            numbers[thread] += numbers[thread + half]
        cuda.syncthreads()
        half = np.int32(half // 2)
    if thread == 0:
        magnitudes[pair * height + y] = sums[0]
        saturated[pair * height + y] = numbers[0]


quantise = Kernel(_quantise, (INTS, FLOATS, BYTES, DOUBLE, INT, INT, INT, INT, INT, LONG))
measure = Kernel(_measure, (INTS, FLOATS, DOUBLES, INTS, DOUBLE, INT, INT, INT, INT, LONG))

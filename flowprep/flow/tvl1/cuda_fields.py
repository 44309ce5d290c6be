"""Kernels for flow and dual variables between the levels: zero, from one level to the next, and out.

A field is an array of planes of `num_pixels` elements: `(pair * 2 + side) * num_planes + plane` is the number of one.
Each kernel does all pairs; `cuda.blockIdx.z` is the pair.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import cuda

from flowprep.flow.tvl1.cuda_arithmetic import mul
from flowprep.flow.tvl1.cuda_images import RESIZING, sample
from flowprep.flow.tvl1.cuda_kernel import FLOATS, INT, INTS, LONG, Kernel
from flowprep.flow.tvl1.cuda_status import FLOW_SIDE, NUM_FIELDS


def _clear(status: Any, side_field: Any, field: Any, num_planes: Any, height: Any, stride: Any, pixels: Any) -> None:
    """Zeros in the current side of a field; `side_field` is the column of `status` that says which side that is."""
    x = cuda.blockIdx.x * cuda.blockDim.x + cuda.threadIdx.x
    y = cuda.blockIdx.y * cuda.blockDim.y + cuda.threadIdx.y
    pair = np.int64(cuda.blockIdx.z)
    if x < stride and y < height:
        side = status[pair * NUM_FIELDS + side_field]
        for plane in range(num_planes):
            field[((pair * 2 + side) * num_planes + plane) * pixels + y * stride + x] = np.float32(0)


def _resize_flow(
    status: Any,
    flow: Any,
    first: Any,
    second: Any,
    weight: Any,
    columns: Any,
    rows: Any,
    factor: Any,
    num_components: Any,
    source_stride: Any,
    height: Any,
    width: Any,
    stride: Any,
    pixels: Any,
) -> None:
    """The flow at another level, into the other side. u1 and u2 are lengths and times `factor`, u3 stays."""
    x = cuda.blockIdx.x * cuda.blockDim.x + cuda.threadIdx.x
    y = cuda.blockIdx.y * cuda.blockDim.y + cuda.threadIdx.y
    pair = np.int64(cuda.blockIdx.z)
    if x < width and y < height:
        side = status[pair * NUM_FIELDS + FLOW_SIDE]
        for component in range(num_components):
            source = ((pair * 2 + side) * num_components + component) * pixels
            target = ((pair * 2 + 1 - side) * num_components + component) * pixels
            value = sample(flow, source, source_stride, first, second, weight, columns, rows, x, y)
            if component < 2:
                value = mul(value, factor)
            flow[target + y * stride + x] = value


def _flip(status: Any, num_pairs: Any) -> None:
    """The other side of the flow becomes the current one."""
    pair = cuda.blockIdx.x * cuda.blockDim.x + cuda.threadIdx.x
    if pair < num_pairs:
        status[pair * NUM_FIELDS + FLOW_SIDE] = 1 - status[pair * NUM_FIELDS + FLOW_SIDE]


def _scatter(
    status: Any,
    start: Any,
    flow: Any,
    num_components: Any,
    height: Any,
    width: Any,
    stride: Any,
    pixels: Any,
) -> None:
    """An initial flow, float32 (pairs, height, width, 2), into the current side; u3 becomes 0."""
    x = cuda.blockIdx.x * cuda.blockDim.x + cuda.threadIdx.x
    y = cuda.blockIdx.y * cuda.blockDim.y + cuda.threadIdx.y
    pair = np.int64(cuda.blockIdx.z)
    if x < width and y < height:
        side = status[pair * NUM_FIELDS + FLOW_SIDE]
        for component in range(num_components):
            value = np.float32(0)
            if component < 2:
                value = start[((pair * height + y) * width + x) * 2 + component]
            flow[((pair * 2 + side) * num_components + component) * pixels + y * stride + x] = value


def _gather(
    status: Any,
    flow: Any,
    out: Any,
    num_components: Any,
    height: Any,
    width: Any,
    stride: Any,
    pixels: Any,
) -> None:
    """The flow of all pairs as float32 (pairs, height, width, 2); padding is left out."""
    x = cuda.blockIdx.x * cuda.blockDim.x + cuda.threadIdx.x
    y = cuda.blockIdx.y * cuda.blockDim.y + cuda.threadIdx.y
    pair = np.int64(cuda.blockIdx.z)
    if x < width and y < height:
        side = status[pair * NUM_FIELDS + FLOW_SIDE]
        for component in range(2):
            value = flow[((pair * 2 + side) * num_components + component) * pixels + y * stride + x]
            out[((pair * height + y) * width + x) * 2 + component] = value


clear = Kernel(_clear, (INTS, INT, FLOATS, INT, INT, INT, LONG))
resize_flow = Kernel(_resize_flow, (INTS, FLOATS, *RESIZING, INT, INT, INT, INT, INT, LONG))
flip = Kernel(_flip, (INTS, INT))
scatter = Kernel(_scatter, (INTS, FLOATS, FLOATS, INT, INT, INT, INT, LONG))
gather = Kernel(_gather, (INTS, FLOATS, FLOATS, INT, INT, INT, INT, LONG))

"""The kernel of the median filter of variant `cpu`: 3 x 3 or 5 x 5 pixels of u1 and u2, by minima and maxima.

It reads the current side of the flow of those pairs whose `FILTERS` is set, and writes the other side.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import cuda

from flowprep.flow.tvl1.cuda_arithmetic import device_function, median_of_sorted_columns, sort3, sort5
from flowprep.flow.tvl1.cuda_kernel import FLOATS, INT, INTS, LONG, Kernel
from flowprep.flow.tvl1.cuda_status import FILTERS, FLOW_SIDE, LENGTH, NUM_FIELDS


def _column5(flow: Any, base: Any, stride: Any, height: Any, width: Any, x: Any, y: Any) -> Any:
    """Five pixels above one another around (x, y), sorted; the border goes on outside."""
    place = base + min(max(x, 0), width - 1)
    return sort5(
        flow[place + max(y - 2, 0) * stride],
        flow[place + max(y - 1, 0) * stride],
        flow[place + y * stride],
        flow[place + min(y + 1, height - 1) * stride],
        flow[place + min(y + 2, height - 1) * stride],
    )


column5 = device_function(_column5)


def _median5(flow: Any, base: Any, stride: Any, height: Any, width: Any, x: Any, y: Any) -> Any:
    a = column5(flow, base, stride, height, width, x - 2, y)
    b = column5(flow, base, stride, height, width, x - 1, y)
    c = column5(flow, base, stride, height, width, x, y)
    d = column5(flow, base, stride, height, width, x + 1, y)
    e = column5(flow, base, stride, height, width, x + 2, y)
    return median_of_sorted_columns(
        (a[0], b[0], c[0], d[0], e[0]),
        (a[1], b[1], c[1], d[1], e[1]),
        (a[2], b[2], c[2], d[2], e[2]),
        (a[3], b[3], c[3], d[3], e[3]),
        (a[4], b[4], c[4], d[4], e[4]),
    )


median5 = device_function(_median5)


def _column3(flow: Any, base: Any, stride: Any, height: Any, width: Any, x: Any, y: Any) -> Any:
    place = base + min(max(x, 0), width - 1)
    return sort3(
        flow[place + max(y - 1, 0) * stride],
        flow[place + y * stride],
        flow[place + min(y + 1, height - 1) * stride],
    )


column3 = device_function(_column3)


def _median3(flow: Any, base: Any, stride: Any, height: Any, width: Any, x: Any, y: Any) -> Any:
    a = column3(flow, base, stride, height, width, x - 1, y)
    b = column3(flow, base, stride, height, width, x, y)
    c = column3(flow, base, stride, height, width, x + 1, y)
    low = max(max(a[0], b[0]), c[0])
    middle = sort3(a[1], b[1], c[1])
    high = min(min(a[2], b[2]), c[2])
    return sort3(low, middle[1], high)[1]


median3 = device_function(_median3)


def _filter_flow(
    status: Any, flow: Any, size: Any, num_components: Any, height: Any, width: Any, stride: Any, pixels: Any
) -> None:
    """The median of u1 and u2; u3, where there is one, is copied."""
    x = cuda.blockIdx.x * cuda.blockDim.x + cuda.threadIdx.x
    y = cuda.blockIdx.y * cuda.blockDim.y + cuda.threadIdx.y
    pair = np.int64(cuda.blockIdx.z)
    row = pair * NUM_FIELDS
    if status[row + FILTERS] != 0 and status[row + LENGTH] > 0 and x < width and y < height:
        side = status[row + FLOW_SIDE]
        for component in range(num_components):
            source = ((pair * 2 + side) * num_components + component) * pixels
            target = ((pair * 2 + 1 - side) * num_components + component) * pixels
            if component == 2:
                value = flow[source + y * stride + x]
            elif size == 5:
                value = median5(flow, source, stride, height, width, x, y)
            else:
                value = median3(flow, source, stride, height, width, x, y)
            flow[target + y * stride + x] = value


filter_flow = Kernel(_filter_flow, (INTS, FLOATS, INT, INT, INT, INT, INT, LONG))

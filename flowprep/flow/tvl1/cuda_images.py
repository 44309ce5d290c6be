"""Kernels for frames: 8-bit grey to a pyramid of float32 images and their gradients.

A frame has a slot of the pool: three planes (image, x derivative, y derivative) of all levels one after another.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import cuda

from flowprep.flow.tvl1.cuda_arithmetic import central_difference, device_function, linear
from flowprep.flow.tvl1.cuda_kernel import BYTES, FLOAT, FLOATS, INT, INTS, LONG, Kernel

NUM_PLANES = 3
"""Planes of a frame: the image, its x and its y derivative."""


def _expand(grey: Any, slots: Any, images: Any, height: Any, width: Any, stride: Any, slot_elements: Any) -> None:
    """Level 0 of frames, uint8 (T, height, width) in `grey`, as float32."""
    x = cuda.blockIdx.x * cuda.blockDim.x + cuda.threadIdx.x
    y = cuda.blockIdx.y * cuda.blockDim.y + cuda.threadIdx.y
    frame = np.int64(cuda.blockIdx.z)
    if x < width and y < height:
        value = grey[(frame * height + y) * width + x]
        images[slots[frame] * slot_elements + y * stride + x] = np.float32(value)


def _sample(
    source: Any, base: Any, stride: Any, first: Any, second: Any, weight: Any, columns: Any, rows: Any, x: Any, y: Any
) -> Any:
    """The value at (x, y) of a resized plane that begins at `base` of `source`: along x first, then along y."""
    left, right, horizontal = first[columns + x], second[columns + x], weight[columns + x]
    upper, lower = base + first[rows + y] * stride, base + second[rows + y] * stride
    return linear(
        linear(source[upper + left], source[upper + right], horizontal),
        linear(source[lower + left], source[lower + right], horizontal),
        weight[rows + y],
    )


sample = device_function(_sample)


def _shrink(
    slots: Any,
    images: Any,
    first: Any,
    second: Any,
    weight: Any,
    columns: Any,
    rows: Any,
    source: Any,
    source_stride: Any,
    target: Any,
    height: Any,
    width: Any,
    stride: Any,
    slot_elements: Any,
) -> None:
    """A level of the images from the next finer one; `source` and `target` are where the levels begin in a plane."""
    x = cuda.blockIdx.x * cuda.blockDim.x + cuda.threadIdx.x
    y = cuda.blockIdx.y * cuda.blockDim.y + cuda.threadIdx.y
    if x < width and y < height:
        slot = slots[cuda.blockIdx.z] * slot_elements
        value = sample(images, slot + source, source_stride, first, second, weight, columns, rows, x, y)
        images[slot + target + y * stride + x] = value


def _differentiate(
    slots: Any,
    images: Any,
    start: Any,
    height: Any,
    width: Any,
    stride: Any,
    plane_elements: Any,
    slot_elements: Any,
) -> None:
    """The derivatives of a level: half the difference of both neighbours, which are clamped to the image."""
    x = cuda.blockIdx.x * cuda.blockDim.x + cuda.threadIdx.x
    y = cuda.blockIdx.y * cuda.blockDim.y + cuda.threadIdx.y
    if x < width and y < height:
        base = slots[cuda.blockIdx.z] * slot_elements + start
        left, right = max(x - 1, 0), min(x + 1, width - 1)
        above, below = max(y - 1, 0), min(y + 1, height - 1)
        place = base + y * stride + x
        row = base + y * stride
        images[place + plane_elements] = central_difference(images[row + left], images[row + right])
        vertical = central_difference(images[base + above * stride + x], images[base + below * stride + x])
        images[place + 2 * plane_elements] = vertical


_TABLES = (INTS, INTS, FLOATS, INT, INT)

expand = Kernel(_expand, (BYTES, INTS, FLOATS, INT, INT, INT, LONG))
shrink = Kernel(_shrink, (INTS, FLOATS, *_TABLES, LONG, INT, LONG, INT, INT, INT, LONG))
differentiate = Kernel(_differentiate, (INTS, FLOATS, LONG, INT, INT, INT, LONG, LONG))
RESIZING = (*_TABLES, FLOAT)
"""Types of the tables of a resizing and of the factor after it."""

"""The kernel of the warp: the second image and its gradients where the flow leads, and what the iterations need of it.

The gradients are those of the second image, warped; not those of the warped image. A thread does a pixel: 4 x 4 taps of
three planes with common weights, rows first, from the top. Beyond the border lie the border's pixels (variant `cuda`)
or nothing (variant `cpu`), which is the border's pixel with weight 0.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import cuda

from flowprep.flow.tvl1.cuda_arithmetic import add, cubic_weights, device_function, fma, linearise, mul, sub
from flowprep.flow.tvl1.cuda_kernel import FLOAT, FLOATS, INT, INTS, LONG, Kernel
from flowprep.flow.tvl1.cuda_status import FLOW_SIDE, NUM_FIELDS

NUM_CONSTANTS = 4
"""Planes of a pair: dI1/dx, dI1/dy, rho_c, -|grad I1|^2."""

_FAR = 16777216.0
"""Coordinates are clamped to this; from here on float32 has whole numbers only. One that is NaN is far to the left."""


def _split(place: Any, size: Any) -> Any:
    """The pixel at or before a coordinate, clamped to where a window sees the border alone, and the rest in 0..1."""
    far = np.float32(_FAR)
    if not place > -far:  # holds for NaN as well
        place = -far
    if place > far:
        place = far
    whole = np.int32(place)
    if np.float32(whole) > place:  # the conversion cuts off towards 0
        whole = np.int32(whole - 1)
    fraction = sub(place, np.float32(whole))
    return min(max(whole, -3), size + 1), fraction


split = device_function(_split)


def _row(images: Any, row: Any, x0: Any, x1: Any, x2: Any, x3: Any, w0: Any, w1: Any, w2: Any, w3: Any) -> Any:
    """The weighted sum of four pixels of a row."""
    total = mul(images[row + x0], w0)
    total = fma(images[row + x1], w1, total)
    total = fma(images[row + x2], w2, total)
    return fma(images[row + x3], w3, total)


row_sum = device_function(_row)


def _weight(weight: Any, place: Any, size: Any, replicate: Any) -> Any:
    """A tap's weight: 0 outside the image, unless the border goes on."""
    if replicate != 0 or (place >= 0 and place < size):
        return weight
    return np.float32(0)


tap_weight = device_function(_weight)


def _clamped(place: Any, size: Any) -> Any:
    return min(max(place, 0), size - 1)


clamped = device_function(_clamped)


def _window(
    images: Any,
    plane: Any,
    stride: Any,
    y: Any,
    height: Any,
    xs: Any,
    wx: Any,
    wy: Any,
) -> Any:
    """The weighted sum of the 4 x 4 pixels of a plane around row y."""
    r0 = plane + clamped(y - 1, height) * stride
    r1 = plane + clamped(y, height) * stride
    r2 = plane + clamped(y + 1, height) * stride
    r3 = plane + clamped(y + 2, height) * stride
    total = mul(row_sum(images, r0, xs[0], xs[1], xs[2], xs[3], wx[0], wx[1], wx[2], wx[3]), wy[0])
    total = fma(row_sum(images, r1, xs[0], xs[1], xs[2], xs[3], wx[0], wx[1], wx[2], wx[3]), wy[1], total)
    total = fma(row_sum(images, r2, xs[0], xs[1], xs[2], xs[3], wx[0], wx[1], wx[2], wx[3]), wy[2], total)
    return fma(row_sum(images, r3, xs[0], xs[1], xs[2], xs[3], wx[0], wx[1], wx[2], wx[3]), wy[3], total)


window = device_function(_window)


def _warp(
    sources: Any,
    targets: Any,
    images: Any,
    status: Any,
    flow: Any,
    constants: Any,
    cubic: Any,
    replicate: Any,
    num_components: Any,
    start: Any,
    height: Any,
    width: Any,
    stride: Any,
    plane_elements: Any,
    slot_elements: Any,
    pixels: Any,
) -> None:
    """The constants of a warp for all pairs; `sources` and `targets` are the slots of their frames."""
    x = np.int32(cuda.blockIdx.x * cuda.blockDim.x + cuda.threadIdx.x)
    y = np.int32(cuda.blockIdx.y * cuda.blockDim.y + cuda.threadIdx.y)
    pair = np.int64(cuda.blockIdx.z)
    if x < width and y < height:
        side = status[pair * NUM_FIELDS + FLOW_SIDE]
        place = y * stride + x
        u = (pair * 2 + side) * num_components * pixels + place
        u1, u2 = flow[u], flow[u + pixels]
        column, tx = split(add(np.float32(x), u1), width)
        row, ty = split(add(np.float32(y), u2), height)
        w0, w1, w2, w3 = cubic_weights(tx, cubic)
        wx = (
            tap_weight(w0, column - 1, width, replicate),
            tap_weight(w1, column, width, replicate),
            tap_weight(w2, column + 1, width, replicate),
            tap_weight(w3, column + 2, width, replicate),
        )
        w0, w1, w2, w3 = cubic_weights(ty, cubic)
        wy = (
            tap_weight(w0, row - 1, height, replicate),
            tap_weight(w1, row, height, replicate),
            tap_weight(w2, row + 1, height, replicate),
            tap_weight(w3, row + 2, height, replicate),
        )
        xs = (
            clamped(column - 1, width),
            clamped(column, width),
            clamped(column + 1, width),
            clamped(column + 2, width),
        )
        target = targets[pair] * slot_elements + start
        warped = window(images, target, stride, row, height, xs, wx, wy)
        i1x = window(images, target + plane_elements, stride, row, height, xs, wx, wy)
        i1y = window(images, target + 2 * plane_elements, stride, row, height, xs, wx, wy)
        i0 = images[sources[pair] * slot_elements + start + place]
        rho_c, minus_square = linearise(warped, i1x, i1y, i0, u1, u2)
        out = pair * NUM_CONSTANTS * pixels + place
        constants[out] = i1x
        constants[out + pixels] = i1y
        constants[out + 2 * pixels] = rho_c
        constants[out + 3 * pixels] = minus_square


warp = Kernel(_warp, (INTS, INTS, FLOATS, INTS, FLOATS, FLOATS, FLOAT, INT, INT, LONG, INT, INT, INT, LONG, LONG, LONG))

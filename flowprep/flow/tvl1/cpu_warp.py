"""The second image warped by the flow, and what the iterations need of it.

A block of 16 neighbouring pixels mostly moves as one: in 87 to 99.9 % of the blocks of real clips the whole-pixel parts
of the displacements span at most two values in each direction. Then 5 x 5 contiguous loads serve all 16 pixels, each
with its own weights (zero where its 4 x 4 window does not reach). Where they span more, the lanes that fit are done and
the rest takes another turn. A zero weight adds an exact zero, so it does not matter which lanes shared a turn.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from flowprep.flow.tvl1.jit import compiled_function, device_function
from flowprep.flow.tvl1.pointwise import central_difference, cubic_weights, fma, linearise, select
from flowprep.flow.tvl1.simd import LANES, any_lane, lane_min, lane_numbers, load, splat, store, without

MARGIN = 4
"""Pixels around a plane: a window that begins further out lies wholly outside."""

LEFT = 16
"""Columns before a plane's first; more than MARGIN to keep rows aligned."""

GUARD = 64
"""Elements before and after the planes: lanes that are not of a turn read up to 35 elements beyond it."""


_FAR = np.float32(1e9)


def plane_stride(width: int) -> int:
    """Elements from one line of a plane to the next."""
    return -(-(LEFT + width + MARGIN + 1) // LANES) * LANES


def num_plane_elements(height: int, width: int) -> int:
    """Elements of the planes of an image."""
    return (height + 2 * MARGIN + 1) * 3 * plane_stride(width) + 2 * GUARD


@compiled_function
def fill_planes(
    image: Any, stride: Any, height: Any, width: Any, planes: Any, begin: Any, end: Any, replicate: Any
) -> None:
    """The image, its x and its y derivative, with margins, line by line; lines `begin` to `end` of height + 9.

    Derivatives are half the central difference with neighbours clamped to the image. Margins repeat the border
    (`replicate`) or are 0.
    """
    plane = _plane_stride(width)
    half = np.float32(0.5)
    zero = np.float32(0.0)
    for line in range(begin, end):
        out = GUARD + line * 3 * plane
        y = min(max(line - MARGIN, 0), height - 1)
        if y != line - MARGIN and not replicate:
            for x in range(0, 3 * plane, LANES):
                store(planes, out + x, splat(0.0))
            continue
        row = y * stride
        above = max(y - 1, 0) * stride
        below = min(y + 1, height - 1) * stride
        out += LEFT
        for x in range(0, width, LANES):
            store(planes, out + x, load(image, row + x))
            store(planes, out + plane + x, central_difference(load(image, row + x - 1), load(image, row + x + 1)))
            store(planes, out + 2 * plane + x, central_difference(load(image, above + x), load(image, below + x)))
        last = width - 1
        planes[out + plane] = half * (image[row + min(1, last)] - image[row])
        planes[out + plane + last] = half * (image[row + last] - image[row + max(last - 1, 0)])
        for k in range(3):
            first_value = planes[out + k * plane] if replicate else zero
            last_value = planes[out + k * plane + last] if replicate else zero
            for x in range(-LEFT, 0):
                planes[out + k * plane + x] = first_value
            for x in range(width, plane - LEFT):
                planes[out + k * plane + x] = last_value


@compiled_function
def warp_rows(
    image: Any,
    stride: Any,
    height: Any,
    width: Any,
    planes: Any,
    flow: Any,
    flow_row: Any,
    constants: Any,
    begin: Any,
    end: Any,
    a: Any,
    replicate: Any,
    lines: Any,
    corners: Any,
) -> None:
    """Constants of the iterations for rows `begin` to `end`: dI1/dx, dI1/dy, rho_c, -|grad I1|^2, line by line.

    `image` is I0, `planes` are I1's; `a` is the cubic's constant. `lines` is room for four lines of the stride,
    `corners` for an int64 a block. A row is done in three loops, since what one block computes from first to last takes
    longer than the processor looks ahead.
    """
    padded = (width + LANES - 1) // LANES * LANES
    a_lanes = splat(a)
    for y in range(begin, end):
        u, out = y * flow_row, y * 4 * stride
        for x in range(0, padded, LANES):
            _place_block(stride, height, width, flow, u, y, x, replicate, lines, corners)
        for x in range(0, padded, LANES):
            corner = corners[x // LANES]
            if corner < 0:
                warped, i1x, i1y = _warp_in_turns(stride, height, width, planes, flow, u, y, x, a, replicate)
            else:
                wx = _five_weights(load(lines, x), load(lines, stride + x), a_lanes)
                wy = _five_weights(load(lines, 2 * stride + x), load(lines, 3 * stride + x), a_lanes)
                warped, i1x, i1y = _windows(planes, corner, _plane_stride(width), wx, wy)
            if x + LANES > width:
                inside = lane_numbers() + np.float32(x) < np.float32(width)
                warped = select(inside, warped, splat(0.0))
                i1x = select(inside, i1x, splat(0.0))
                i1y = select(inside, i1y, splat(0.0))
            store(constants, out + x, i1x)
            store(constants, out + stride + x, i1y)
            store(constants, out + 2 * stride + x, warped)
        for x in range(0, padded, LANES):
            rho_c, minus_square = linearise(
                load(constants, out + 2 * stride + x),
                load(constants, out + x),
                load(constants, out + stride + x),
                load(image, y * stride + x),
                load(flow, u + x),
                load(flow, u + stride + x),
            )
            store(constants, out + 2 * stride + x, rho_c)
            store(constants, out + 3 * stride + x, minus_square)


@device_function
def _place_block(
    stride: Any, height: Any, width: Any, flow: Any, u: Any, y: Any, x: Any, replicate: Any, lines: Any, corners: Any
) -> None:
    """Where the window of a block begins, and how far into it each lane's; a corner of -1 where one is too small."""
    column, tx, row, ty = _places(stride, height, width, flow, u, y, x)
    dx = column - (lane_numbers() + np.float32(x))
    dy = row - splat(np.float32(y))
    inside = lane_numbers() + np.float32(x) < np.float32(width)
    first_dx = lane_min(select(inside, dx, splat(_FAR)))
    first_dy = lane_min(select(inside, dy, splat(_FAR)))
    late_x, late_y = dx - splat(first_dx), dy - splat(first_dy)
    together = (late_x <= 1.0) & (late_y <= 1.0)
    if not replicate:
        together = together & _sees_image(column, row, height, width)
    corner = _corner(x + np.int64(first_dx), y + np.int64(first_dy), _plane_stride(width))
    corners[x // LANES] = np.int64(-1) if any_lane(without(inside, together)) else corner
    store(lines, x, tx)
    store(lines, stride + x, late_x)
    store(lines, 2 * stride + x, ty)
    store(lines, 3 * stride + x, late_y)


@compiled_function
def _warp_in_turns(
    stride: Any, height: Any, width: Any, planes: Any, flow: Any, u: Any, y: Any, x: Any, a: Any, replicate: Any
) -> Any:
    """A block whose lanes move apart: as many windows as it takes, each for the lanes that fit."""
    column, tx, row, ty = _places(stride, height, width, flow, u, y, x)
    dx = column - (lane_numbers() + np.float32(x))
    dy = row - splat(np.float32(y))
    far = splat(_FAR)
    left = lane_numbers() + np.float32(x) < np.float32(width)
    if not replicate:
        left = left & _sees_image(column, row, height, width)
    warped, i1x, i1y = splat(0.0), splat(0.0), splat(0.0)
    while any_lane(left):
        first_dx = lane_min(select(left, dx, far))
        turn = left & (dx <= splat(first_dx + np.float32(1.0)))
        first_dy = lane_min(select(turn, dy, far))
        turn = turn & (dy <= splat(first_dy + np.float32(1.0)))
        corner = _corner(x + np.int64(first_dx), y + np.int64(first_dy), _plane_stride(width))
        wx = _five_weights(tx, dx - splat(first_dx), splat(a))
        wy = _five_weights(ty, dy - splat(first_dy), splat(a))
        warped_now, i1x_now, i1y_now = _windows(planes, corner, _plane_stride(width), wx, wy)
        warped = select(turn, warped_now, warped)
        i1x = select(turn, i1x_now, i1x)
        i1y = select(turn, i1y_now, i1y)
        left = without(left, turn)
    return warped, i1x, i1y


@device_function
def _places(stride: Any, height: Any, width: Any, flow: Any, u: Any, y: Any, x: Any) -> Any:
    """Column, its fraction, row and its fraction to which the pixels of a block move.

    Note [clamped coordinates]: a window more than 3 pixels outside sees only the margin, so it may as well begin there;
    NaN counts as far to the left or above. No place outside the planes is ever read.
    """
    column, tx = _split(lane_numbers() + np.float32(x) + load(flow, u + x), np.float32(width + 1))
    row, ty = _split(splat(np.float32(y)) + load(flow, u + stride + x), np.float32(height + 1))
    return column, tx, row, ty


@device_function
def _split(place: Any, highest: Any) -> Any:
    """Whole part, clamped to -3 .. highest, and fraction of coordinates."""
    whole = math.floor(place)
    fraction = max(min(place - whole, 1.0), 0.0)
    return min(max(whole, -3.0), highest), fraction


@device_function
def _sees_image(column: Any, row: Any, height: Any, width: Any) -> Any:
    """Whether the 4 x 4 window of a lane reaches into the image."""
    return (column > -3.0) & (column < np.float32(width + 1)) & (row > -3.0) & (row < np.float32(height + 1))


@device_function
def _plane_stride(width: Any) -> Any:
    return (LEFT + width + MARGIN + LANES) // LANES * LANES


@device_function
def _corner(column: Any, row: Any, plane: Any) -> Any:
    """Where the window of a pixel begins in the first plane."""
    return GUARD + (row - 1 + MARGIN) * 3 * plane + LEFT + column - 1


@device_function
def _five_weights(t: Any, start: Any, a: Any) -> Any:
    """The four weights of each lane among five pixels, from the first (`start` 0) or the second (1)."""
    late = start > 0.0
    zero = splat(0.0)
    w0, w1, w2, w3 = cubic_weights(t, a)
    return (
        select(late, zero, w0),
        select(late, w0, w1),
        select(late, w1, w2),
        select(late, w2, w3),
        select(late, w3, zero),
    )


@device_function
def _windows(planes: Any, corner: Any, plane: Any, wx: Any, wy: Any) -> Any:
    """The image, its x and its y derivative in a window."""
    return (
        _window(planes, corner, 3 * plane, wx, wy),
        _window(planes, corner + plane, 3 * plane, wx, wy),
        _window(planes, corner + 2 * plane, 3 * plane, wx, wy),
    )


@device_function
def _window(plane: Any, corner: Any, line: Any, wx: Any, wy: Any) -> Any:
    """The weighted sum of 5 x 5 vectors: rows first, from the top."""
    total = _weighted_row(plane, corner, wx) * wy[0]
    total = fma(_weighted_row(plane, corner + line, wx), wy[1], total)
    total = fma(_weighted_row(plane, corner + 2 * line, wx), wy[2], total)
    total = fma(_weighted_row(plane, corner + 3 * line, wx), wy[3], total)
    return fma(_weighted_row(plane, corner + 4 * line, wx), wy[4], total)


@device_function
def _weighted_row(plane: Any, i: Any, w: Any) -> Any:
    total = load(plane, i) * w[0]
    total = fma(load(plane, i + 1), w[1], total)
    total = fma(load(plane, i + 2), w[2], total)
    total = fma(load(plane, i + 3), w[3], total)
    return fma(load(plane, i + 4), w[4], total)

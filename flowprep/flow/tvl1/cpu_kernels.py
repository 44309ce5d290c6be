"""The two kernels of the `native` backend: a frame's pyramid, and the flow of a pair from two pyramids."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from flowprep.flow.tvl1.cpu_levels import COLUMNS, HEIGHT, HISTORY, IMAGE, ROWS, STRIDE, WIDTH
from flowprep.flow.tvl1.cpu_resize import resize_rows
from flowprep.flow.tvl1.cpu_stop import solve_by_every_change, solve_by_schedule
from flowprep.flow.tvl1.cpu_warp import MARGIN, fill_planes, warp_rows
from flowprep.flow.tvl1.jit import Kernel, device_function, kernel_part
from flowprep.flow.tvl1.simd import (
    LANES,
    flush_denormals,
    offset,
    pointer_to,
    restore_state,
    splat,
    store,
)
from flowprep.flow.tvl1.team import rows_of, wait_for_all


@Kernel
def build_pyramid(frame: Any, levels: Any, tables: Any, image: Any, lines: Any) -> None:
    """All levels of a uint8 frame (H, W) into `image`, by `Geometry.down`."""
    height, width, stride, base = levels[0, HEIGHT], levels[0, WIDTH], levels[0, STRIDE], levels[0, IMAGE]
    for y in range(height):
        for x in range(width):
            image[base + y * stride + x] = np.float32(frame[y, x])
    _fill_levels(pointer_to(image), levels, tables, np.float32(1.0), pointer_to(lines))


@Kernel
def shrink_flow(flow: Any, levels: Any, tables: Any, factor: Any, image: Any, lines: Any, coarsest: Any) -> None:
    """A flow component, float32 (H, W), at the coarsest level, times `factor` at each; `image` is room for them all."""
    stride, base = levels[0, STRIDE], levels[0, IMAGE]
    for y in range(levels[0, HEIGHT]):
        for x in range(levels[0, WIDTH]):
            image[base + y * stride + x] = flow[y, x]
    _fill_levels(pointer_to(image), levels, tables, factor, pointer_to(lines))
    last = levels.shape[0] - 1
    stride, base = levels[last, STRIDE], levels[last, IMAGE]
    for y in range(levels[last, HEIGHT]):
        for x in range(levels[last, WIDTH]):
            coarsest[y, x] = image[base + y * stride + x]


@device_function
def _fill_levels(image: Any, levels: Any, tables: Any, factor: Any, lines: Any) -> None:
    pointers = (pointer_to(tables.first), pointer_to(tables.second), pointer_to(tables.weight))
    for level in range(1, levels.shape[0]):
        resize_rows(
            offset(image, levels[level - 1, IMAGE]),
            levels[level - 1, STRIDE],
            offset(image, levels[level, IMAGE]),
            levels[level, STRIDE],
            levels[level, WIDTH],
            0,
            levels[level, HEIGHT],
            pointers,
            levels[level, COLUMNS],
            levels[level, ROWS],
            lines,
            factor,
        )


class Numbers(NamedTuple):
    """The parameters of a pair as the kernels take them."""

    theta: np.float32
    limit: np.float32  # lambda * theta
    taut: np.float32  # tau / theta
    gamma: np.float32
    u3_counts: np.float32  # 1 where the stop rule counts the illumination's changes, else 0
    cubic: np.float32  # the constant of the bicubic weights
    replicate: bool  # beyond the border: the border's pixels, or 0
    every_iteration: bool  # the stop rule: after every iteration, or by the schedule of the CUDA version
    epsilon: float
    upscale: np.float32
    downscale: np.float32
    num_warps: int
    outer_iterations: int
    inner_iterations: int
    median_filtering: int


@Kernel
def pair_flow(
    image0: Any,
    image1: Any,
    levels: Any,
    tables: Any,
    rooms: Any,
    numbers: Any,
    initial: Any,
    out: Any,
    counts: Any,
    member: Any,
    num_members: Any,
) -> None:
    """Flow of a pair from its pyramids into `out`, float32 (H, W, 2).

    `initial` is the flow at the coarsest level, float32 (2, H, W), or of size 0. counts[level, warp] becomes the number
    of iterations. A team's members call this at once, with the same arguments but for their number.
    """
    before = flush_denormals()
    _pair_flow(image0, image1, levels, tables, rooms, numbers, None, initial, out, counts, member, num_members)
    restore_state(before)


@Kernel
def pair_flow_with_illumination(
    image0: Any,
    image1: Any,
    levels: Any,
    tables: Any,
    rooms: Any,
    numbers: Any,
    initial: Any,
    out: Any,
    counts: Any,
    member: Any,
    num_members: Any,
) -> None:
    """`pair_flow` with the illumination term, for a gamma that is not 0."""
    before = flush_denormals()
    _pair_flow(image0, image1, levels, tables, rooms, numbers, numbers.gamma, initial, out, counts, member, num_members)
    restore_state(before)


@kernel_part
def _pair_flow(
    image0: Any,
    image1: Any,
    levels: Any,
    tables: Any,
    rooms: Any,
    numbers: Any,
    gamma: Any,
    initial: Any,
    out: Any,
    counts: Any,
    member: Any,
    num_members: Any,
) -> None:
    num_components = 2 if gamma is None else 3
    flow, other_flow = pointer_to(rooms.flow), pointer_to(rooms.other_flow)
    dual, other_dual = pointer_to(rooms.dual), pointer_to(rooms.other_dual)
    constants, planes, changes = pointer_to(rooms.constants), pointer_to(rooms.planes), pointer_to(rooms.changes)
    lines, state = offset(pointer_to(rooms.lines), member * rooms.lines.shape[1]), pointer_to(rooms.state)
    history = offset(pointer_to(rooms.history), member * HISTORY)
    corners = offset(pointer_to(rooms.corners), member * rooms.corners.shape[1])
    pointers = (pointer_to(tables.first), pointer_to(tables.second), pointer_to(tables.weight))
    steps = (numbers.theta, numbers.limit, numbers.taut, numbers.u3_counts)
    coarsest = levels.shape[0] - 1
    for level in range(coarsest, -1, -1):
        height, width, stride = levels[level, HEIGHT], levels[level, WIDTH], levels[level, STRIDE]
        i0, i1 = offset(pointer_to(image0), levels[level, IMAGE]), offset(pointer_to(image1), levels[level, IMAGE])
        begin, end = rows_of(member, num_members, height)
        if level == coarsest:
            _first_flow(flow, initial, width, stride, num_components, begin, end)
        else:
            _finer_flow(flow, other_flow, levels, level, pointers, num_components, numbers.upscale, lines, begin, end)
            flow, other_flow = other_flow, flow
        _set_zero(dual, (height + 1) * 2 * num_components * stride, member, num_members)
        _set_zero(other_dual, 2 * num_components * stride, member, num_members)  # the row above the first alone
        first_line, after_line = rows_of(member, num_members, height + 2 * MARGIN + 1)
        fill_planes(i1, stride, height, width, planes, first_line, after_line, numbers.replicate)
        wait_for_all(state, num_members)
        for warp in range(numbers.num_warps):
            warp_rows(
                i0,
                stride,
                height,
                width,
                planes,
                flow,
                num_components * stride,
                constants,
                begin,
                end,
                numbers.cubic,
                numbers.replicate,
                lines,
                corners,
            )
            wait_for_all(state, num_members)
            shape = (stride, (width + LANES - 1) // LANES * LANES, width)
            buffers = (flow, dual, other_flow, other_dual)
            if numbers.every_iteration:
                expected = counts[level + 1, warp] if level < coarsest else 0
                buffers, num_iterations = solve_by_every_change(
                    buffers,
                    constants,
                    height,
                    shape,
                    steps,
                    gamma,
                    numbers,
                    changes,
                    lines,
                    history,
                    expected,
                    member,
                    num_members,
                    state,
                )
            else:
                num_iterations = solve_by_schedule(
                    buffers,
                    constants,
                    height,
                    shape,
                    steps,
                    gamma,
                    numbers,
                    changes,
                    member,
                    num_members,
                    state,
                )
            flow, dual, other_flow, other_dual = buffers
            counts[level, warp] = num_iterations
    height, width, stride = levels[0, HEIGHT], levels[0, WIDTH], levels[0, STRIDE]
    begin, end = rows_of(member, num_members, height)
    for y in range(begin, end):
        row = y * num_components * stride
        for x in range(width):
            out[y, x, 0] = flow[row + x]
            out[y, x, 1] = flow[row + stride + x]
    wait_for_all(state, num_members)


@device_function
def _first_flow(flow: Any, initial: Any, width: Any, stride: Any, num_components: Any, begin: Any, end: Any) -> None:
    """The flow at the coarsest level: what was given, or 0."""
    for y in range(begin, end):
        row = y * num_components * stride
        for x in range(0, num_components * stride, LANES):
            store(flow, row + x, splat(0.0))
        if initial.size > 0:
            for x in range(width):
                flow[row + x] = initial[0, y, x]
                flow[row + stride + x] = initial[1, y, x]


@device_function
def _finer_flow(
    flow: Any,
    finer: Any,
    levels: Any,
    level: Any,
    tables: Any,
    num_components: Any,
    upscale: Any,
    lines: Any,
    begin: Any,
    end: Any,
) -> None:
    """The flow of level + 1, resized to `level`; displacements grow with the image, the illumination does not."""
    coarse, fine = levels[level + 1, STRIDE], levels[level, STRIDE]
    for component in range(num_components):
        factor = upscale if component < 2 else np.float32(1.0)
        resize_rows(
            offset(flow, component * coarse),
            num_components * coarse,
            offset(finer, component * fine),
            num_components * fine,
            levels[level, WIDTH],
            begin,
            end,
            tables,
            levels[level, COLUMNS],
            levels[level, ROWS],
            lines,
            factor,
        )


@device_function
def _set_zero(array: Any, num_elements: Any, member: Any, num_members: Any) -> None:
    begin, end = rows_of(member, num_members, num_elements // LANES)
    for block in range(begin, end):
        store(array, block * LANES, splat(0.0))

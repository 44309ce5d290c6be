"""How many iterations a warp gets: the stop rules of both variants, and how the iterations are put into passes."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from flowprep.flow.tvl1.cpu_levels import HISTORY, MAX_PASS
from flowprep.flow.tvl1.cpu_median import median_rows
from flowprep.flow.tvl1.cpu_solve import iterate, iterate_together
from flowprep.flow.tvl1.jit import device_function, kernel_part
from flowprep.flow.tvl1.simd import LANES, lane_sum, load, splat
from flowprep.flow.tvl1.team import rows_of, wait_for_all


@kernel_part
def solve_by_every_change(
    buffers: Any,
    constants: Any,
    height: Any,
    shape: Any,
    steps: Any,
    gamma: Any,
    numbers: Any,
    changes: Any,
    lines: Any,
    history: Any,
    expected: Any,
    member: Any,
    num_members: Any,
    state: Any,
) -> Any:
    """The iterations of a warp in variant `cpu`: the change is looked at after each. Gives the buffers and the number.

    `expected` is the number at the coarser level. How long a pass is, `_pass_length` guesses; it changes no result.
    """
    flow, dual, other_flow, other_dual = buffers
    stride, _, width = shape
    row = (2 if gamma is None else 3) * stride
    begin, end = rows_of(member, num_members, height)
    smallest = np.float32(numbers.epsilon * numbers.epsilon * width * height)
    change = np.float32(np.inf)
    num_iterations = 0
    for _ in range(numbers.outer_iterations):
        if not change > smallest:
            break
        if numbers.median_filtering > 1:
            median_rows(flow, other_flow, row, stride, height, width, begin, end, numbers.median_filtering, lines)
            flow, other_flow = other_flow, flow
            wait_for_all(state, num_members)
        inner = 0
        while inner < numbers.inner_iterations and change > smallest:
            length = 1
            if num_members == 1:
                left = np.int64(0.9 * expected) - num_iterations - inner
                length = min(_pass_length(left, history, inner, smallest), numbers.inner_iterations - inner)
            if length == 1:
                if num_members == 1:
                    slot = 0
                    iterate(flow, dual, flow, dual, constants, height, shape, steps, gamma, 1, changes)
                else:
                    slot = (num_iterations + inner) % 2
                    iterate_together(
                        flow, dual, constants, height, shape, steps, gamma, changes, slot, member, num_members, state
                    )
                change = _total(changes, slot, height)
                history[inner % HISTORY] = change
                inner += 1
                continue
            iterate(flow, dual, other_flow, other_dual, constants, height, shape, steps, gamma, length, changes)
            done = 0
            while done < length and change > smallest:
                change = _total(changes, done, height)
                history[(inner + done) % HISTORY] = change
                done += 1
            if done < length:
                iterate(flow, dual, other_flow, other_dual, constants, height, shape, steps, gamma, done, changes)
            flow, other_flow = other_flow, flow
            dual, other_dual = other_dual, dual
            inner += done
        num_iterations += inner
    return (flow, dual, other_flow, other_dual), num_iterations


@device_function
def _pass_length(left: Any, history: Any, num_changes: Any, smallest: Any) -> Any:
    """How many iterations to do in one pass, 1 to MAX_PASS: rather too few than too many.

    A level needs about as many iterations as the coarser one did in the same warp: 90 % of those, of which `left` are
    still to do, are taken for sure. After them the change, whose last values since the median filter are in `history`,
    is taken to go on shrinking as it did over at most the last five.
    """
    if left >= 1:
        return min(left, MAX_PASS)
    span = min(num_changes, HISTORY) - 1
    if span < 1 or smallest <= 0:
        return 1
    last = history[(num_changes - 1) % HISTORY]
    ratio = last / history[(num_changes - 1 - span) % HISTORY]
    if not (ratio < 1 and last > smallest):
        return 1
    expected = 0.85 * span * math.log(smallest / last) / math.log(ratio)
    return min(max(np.int64(expected + 0.5), 1), MAX_PASS)


@kernel_part
def solve_by_schedule(
    buffers: Any,
    constants: Any,
    height: Any,
    shape: Any,
    steps: Any,
    gamma: Any,
    numbers: Any,
    changes: Any,
    member: Any,
    num_members: Any,
    state: Any,
) -> Any:
    """The iterations of a warp in variant `cuda`, in place; gives their number.

    OpenCV looks at the change in odd iterations only, and after each look skips as many as the change exceeds the
    limit, so that the next look is known beforehand and passes end there.
    """
    flow, dual, _, _ = buffers
    width = shape[2]
    limit = numbers.epsilon * numbers.epsilon * width * height
    change, expected = np.inf, 0.0
    n = 0
    while change > limit and n < numbers.inner_iterations:
        length, looks = 0, False
        while length < MAX_PASS and n + length < numbers.inner_iterations and not looks:
            looks = numbers.epsilon > 0 and (n + length) % 2 == 1 and expected < limit
            if not looks:
                expected -= limit
            length += 1
        if num_members == 1:
            iterate(flow, dual, flow, dual, constants, height, shape, steps, gamma, length, changes)
            last = length - 1
        else:
            for i in range(length):
                last = (n + i) % 2
                iterate_together(
                    flow, dual, constants, height, shape, steps, gamma, changes, last, member, num_members, state
                )
        n += length
        if looks:
            change = _total(changes, last, height)
            expected = change
        else:
            change = np.inf
    return n


@device_function
def _total(changes: Any, t: Any, height: Any) -> Any:
    """The float32 sum over lanes and rows, lane by lane from the top."""
    total = splat(0.0)
    for y in range(height):
        total = total + load(changes, (t * height + y) * LANES)
    return lane_sum(total)

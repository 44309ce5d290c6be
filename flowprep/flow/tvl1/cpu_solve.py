"""The iterations: u and p of a whole level, several iterations in one pass over memory.

An iteration goes down the rows and does u of row y, then p of row y - 1, in place: u(y) needs p(y) and p(y - 1) from
before, p(y - 1) needs the new u of both rows. The next iteration can follow one row behind. So a pass of k iterations
touches a window of k + 2 rows at a time, which stays in the cache, instead of the whole level k times.

Rows, in float32, `stride` elements a component, zeros beyond the image:
flow u1, u2 (, u3); dual p11, p12, p21, p22 (, p31, p32), with a row of zeros above the first; constants dI1/dx, dI1/dy,
rho_c, -|grad I1|^2.

Where the number of iterations depends on their result (variant `cpu`), a pass is a guess: it goes from one pair of
buffers to the other, and where the stop lies inside it, it is done again from the kept state up to there.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from flowprep.flow.tvl1.jit import compiled_function, device_function
from flowprep.flow.tvl1.pointwise import divergence, dual_step, fma, primal_step, residual, select, threshold
from flowprep.flow.tvl1.simd import LANES, lane_numbers, load, shifted, splat, store
from flowprep.flow.tvl1.team import rows_of, wait_for_all


@device_function
def primal_row(
    flow: Any,
    u: Any,
    dual: Any,
    p: Any,
    above: Any,
    flow_out: Any,
    out: Any,
    constants: Any,
    c: Any,
    shape: Any,
    steps: Any,
    gamma: Any,
) -> Any:
    """New u of a row; gives the squared changes, summed lane by lane."""
    stride, padded, _ = shape
    theta, limit, _, u3_counts = steps
    theta_lanes, limit_lanes = splat(theta), splat(limit)
    change1, change2 = splat(0.0), splat(0.0)
    p11_before, p21_before, p31_before = splat(0.0), splat(0.0), splat(0.0)
    for x in range(0, padded, LANES):
        i1x, i1y = load(constants, c + x), load(constants, c + stride + x)
        rho_c, minus_square = load(constants, c + 2 * stride + x), load(constants, c + 3 * stride + x)
        u1, u2 = load(flow, u + x), load(flow, u + stride + x)
        rho = residual(rho_c, i1x, i1y, u1, u2)
        if gamma is not None:
            u3 = load(flow, u + 2 * stride + x)
            rho = rho + u3 * splat(gamma)
        step = threshold(rho, minus_square, limit_lanes)
        p11, p21 = load(dual, p + x), load(dual, p + 2 * stride + x)
        div1 = _divergence(dual, p11, p11_before, p + stride + x, above + stride + x)
        div2 = _divergence(dual, p21, p21_before, p + 3 * stride + x, above + 3 * stride + x)
        p11_before, p21_before = p11, p21
        new1 = primal_step(u1, step, i1x, div1, theta_lanes)
        new2 = primal_step(u2, step, i1y, div2, theta_lanes)
        change1 = fma(new1 - u1, new1 - u1, change1)
        change2 = fma(new2 - u2, new2 - u2, change2)
        store(flow_out, out + x, new1)
        store(flow_out, out + stride + x, new2)
        if gamma is not None:
            p31 = load(dual, p + 4 * stride + x)
            div3 = _divergence(dual, p31, p31_before, p + 5 * stride + x, above + 5 * stride + x)
            p31_before = p31
            new3 = primal_step(u3, step, splat(gamma), div3, theta_lanes)
            change1 = fma((new3 - u3) * splat(u3_counts), new3 - u3, change1)
            store(flow_out, out + 2 * stride + x, new3)
    return change1 + change2


@device_function
def _divergence(dual: Any, p1: Any, p1_before: Any, p2: Any, p2_above: Any) -> Any:
    return divergence(p1, shifted(p1_before, p1), load(dual, p2), load(dual, p2_above))


@device_function
def dual_row(
    flow: Any,
    u: Any,
    below: Any,
    dual: Any,
    p: Any,
    dual_out: Any,
    out: Any,
    shape: Any,
    steps: Any,
    num_components: Any,
) -> None:
    """New p of a row, from the new u of it and of the row below (the same row at the last)."""
    stride, padded, width = shape
    taut = splat(steps[2])
    last = padded - LANES
    not_last_column = lane_numbers() < np.float32(width - 1 - last)
    for k in range(num_components):
        u_k, below_k = u + k * stride, below + k * stride
        p_k, out_k = p + 2 * k * stride, out + 2 * k * stride
        for x in range(0, last, LANES):
            _dual_block(flow, u_k + x, below_k + x, dual, p_k + x, dual_out, out_k + x, stride, taut, None)
        x = last
        _dual_block(flow, u_k + x, below_k + x, dual, p_k + x, dual_out, out_k + x, stride, taut, not_last_column)


@device_function
def _dual_block(
    flow: Any, u: Any, below: Any, dual: Any, p: Any, dual_out: Any, out: Any, stride: Any, taut: Any, inside: Any
) -> None:
    here = load(flow, u)
    ux = load(flow, u + 1) - here
    if inside is not None:
        ux = select(inside, ux, splat(0.0))
    p1, p2 = dual_step(load(dual, p), load(dual, p + stride), ux, load(flow, below) - here, taut)
    store(dual_out, out, p1)
    store(dual_out, out + stride, p2)


@device_function
def iterate(
    flow: Any,
    dual: Any,
    flow_out: Any,
    dual_out: Any,
    constants: Any,
    height: Any,
    shape: Any,
    steps: Any,
    gamma: Any,
    num_iterations: Any,
    changes: Any,
) -> None:
    """`num_iterations` iterations in one pass, from the first pair of buffers to the second, or in place.

    changes[t * height + y] becomes the sum of squared changes of row y in iteration t.
    """
    for front in range(height + num_iterations):
        for t in range(num_iterations):
            y = front - t
            if y >= 0 and y <= height:
                flow_in, dual_in = (flow, dual) if t == 0 else (flow_out, dual_out)
                place = t * height + y
                _step(flow_in, dual_in, flow_out, dual_out, constants, y, height, shape, steps, gamma, changes, place)


@compiled_function
def _step(
    flow: Any,
    dual: Any,
    flow_out: Any,
    dual_out: Any,
    constants: Any,
    y: Any,
    height: Any,
    shape: Any,
    steps: Any,
    gamma: Any,
    changes: Any,
    t: Any,
) -> None:
    """Row y of u and row y - 1 of p."""
    if y < height:
        _primal_step(flow, dual, flow_out, constants, y, shape, steps, gamma, changes, t)
    if y > 0:
        _dual_step(flow_out, dual, dual_out, y - 1, height, shape, steps, gamma)


@compiled_function
def _primal_step(
    flow: Any,
    dual: Any,
    flow_out: Any,
    constants: Any,
    y: Any,
    shape: Any,
    steps: Any,
    gamma: Any,
    changes: Any,
    t: Any,
) -> None:
    num_components = 2 if gamma is None else 3
    u, p = y * num_components * shape[0], (y + 1) * 2 * num_components * shape[0]
    above = p - 2 * num_components * shape[0]
    change = primal_row(flow, u, dual, p, above, flow_out, u, constants, y * 4 * shape[0], shape, steps, gamma)
    store(changes, t * LANES, change)


@compiled_function
def _dual_step(flow: Any, dual: Any, dual_out: Any, y: Any, height: Any, shape: Any, steps: Any, gamma: Any) -> None:
    num_components = 2 if gamma is None else 3
    u_row, p_row = num_components * shape[0], 2 * num_components * shape[0]
    below = min(y + 1, height - 1) * u_row
    dual_row(flow, y * u_row, below, dual, (y + 1) * p_row, dual_out, (y + 1) * p_row, shape, steps, num_components)


@device_function
def iterate_together(
    flow: Any,
    dual: Any,
    constants: Any,
    height: Any,
    shape: Any,
    steps: Any,
    gamma: Any,
    changes: Any,
    slot: Any,
    member: Any,
    num_members: Any,
    state: Any,
) -> None:
    """One iteration in place by all members of a team, each with its rows; at the end changes[slot] has all rows.

    A member's last row of p needs the next member's first new row of u, hence the barriers. Iterations take slots 0 and
    1 by turns: a member may go on while another still adds up the changes.
    """
    begin, end = rows_of(member, num_members, height)
    for y in range(begin, end):
        _primal_step(flow, dual, flow, constants, y, shape, steps, gamma, changes, slot * height + y)
        if y > begin:
            _dual_step(flow, dual, dual, y - 1, height, shape, steps, gamma)
    wait_for_all(state, num_members)
    if end > begin:
        _dual_step(flow, dual, dual, end - 1, height, shape, steps, gamma)
    wait_for_all(state, num_members)

"""The kernel of the iterations: u and p of a tile in registers, several iterations in one launch.

A thread has `rows` pixels above one another, so that it finds most of their vertical neighbours in its own registers;
the others, and the horizontal ones, it gets through shared memory, with two barriers an iteration. See `cuda_tiles.py`
for tiles and halos. A block takes one tile after another, of those pairs alone whose warp still goes on.

Pixels outside the image are zeros with constants of zero, but for the last, which divides; they stay zeros. Loops over
a thread's pixels and over the components have constant bounds, so that the compiler unrolls them and the arrays become
registers; `tests/prep/test_cuda_ptx.py` looks at the machine code for that. Indices are unsigned, or Numba would let
each wrap around.
"""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
from numba import cuda, float32

from flowprep.flow.tvl1.cuda_arithmetic import (
    add,
    divergence,
    dual_step,
    fma,
    mul,
    primal_step,
    residual,
    sub,
    threshold,
)
from flowprep.flow.tvl1.cuda_kernel import FLOAT, FLOATS, INT, INTS, LONG, Kernel
from flowprep.flow.tvl1.cuda_status import (
    DUAL_SIDE,
    FILTERS,
    FLOW_SIDE,
    LENGTH,
    NOTHING,
    NUM_FIELDS,
    RECORDS,
)
from flowprep.flow.tvl1.cuda_tiles import CELL_ROWS, Tile
from flowprep.flow.tvl1.cuda_warp import NUM_CONSTANTS

_U32, _U64 = np.uint32, np.uint64
_MAX_REGISTERS = 128


@functools.cache
def make_iterate(tile: Tile, *, illumination: bool, records_each: bool) -> Kernel:
    """The kernel for a tile.

    Args:
        tile: The threads of a block and their pixels.
        illumination: Whether there is a third component.
        records_each: Whether the changes of every iteration are recorded or those of the last one, where `RECORDS`
            of a pair asks for any.
    """
    columns, strips, rows = tile
    height_of_tile = tile.height
    components = 3 if illumination else 2
    num_u, num_constants = components * rows, NUM_CONSTANTS * rows
    area, edge_area = height_of_tile * columns, strips * columns
    shared_area, shared_edge_area = components * area, components * edge_area
    last_row, last_cell_row, num_own_cells = rows - 1, CELL_ROWS - 1, rows // CELL_ROWS
    last_constant = NUM_CONSTANTS - 1
    zero, minus_one = np.float32(0), np.float32(-1)

    def iterate(
        status: Any,
        todo: Any,
        todo_at: Any,
        next_at: Any,
        flow: Any,
        dual: Any,
        constants: Any,
        changes: Any,
        num_slots: Any,
        num_cells: Any,
        height: Any,
        width: Any,
        stride: Any,
        pixels: Any,
        halo: Any,
        tile_rows: Any,
        tile_columns: Any,
        theta: Any,
        limit: Any,
        taut: Any,
        gamma: Any,
        u3_counts: Any,
    ) -> None:
        p1_shared = cuda.shared.array(shared_area, float32)
        u_shared = cuda.shared.array(shared_area, float32)
        p2_shared = cuda.shared.array(shared_edge_area, float32)  # of each strip's last row
        u = cuda.local.array(num_u, float32)
        p1 = cuda.local.array(num_u, float32)
        p2 = cuda.local.array(num_u, float32)
        constant = cuda.local.array(num_constants, float32)
        changed = cuda.local.array(num_own_cells, float32)

        column = np.int32(cuda.threadIdx.x)
        strip = np.int32(cuda.threadIdx.y)
        first = np.int32(strip * rows)
        here = np.int32(first * columns + column)
        own = _U32(here)
        left_of = _U32(here - 1 if here > 0 else 0)
        right_of = _U32(here + 1 if here + 1 < area else here)
        below_strip = _U32(here + rows * columns if strip + 1 < strips else here)
        edge = _U32(strip * columns + column)
        edge_above = _U32((strip - 1) * columns + column if strip > 0 else 0)
        has_left, has_strip_above = column > 0, strip > 0

        if cuda.blockIdx.x == 0 and column == 0 and strip == 0:
            todo[next_at] = 0  # the list of the pass after this, which the next kernel fills
        num_tiles = np.int32(tile_rows * tile_columns)
        num_items = np.int32(todo[todo_at] * num_tiles)
        item = np.int32(cuda.blockIdx.x)
        while item < num_items:
            order = np.int32(_U32(item) // _U32(num_tiles))  # unsigned, or the division would be one of 64 bits
            number = np.int32(item - order * num_tiles)
            tile_row = np.int32(_U32(number) // _U32(tile_columns))
            tile_column = np.int32(number - tile_row * tile_columns)
            pair = np.int64(todo[todo_at + 1 + order])
            x = np.int32(tile_column * (columns - 2 * halo) + column)
            top = np.int32(tile_row * (height_of_tile - 2 * halo) + first)
            num_rows = np.int32(min(max(height - top, 0), rows))
            if x >= width:
                num_rows = np.int32(0)
            rows_below = np.int32(height - 1 - top)
            has_right = column + 1 < columns and x + 1 < width
            owned = (tile_column == 0 or column >= halo) and (
                tile_column == tile_columns - 1 or column < columns - halo
            )
            # Of this thread's rows, those that the tile owns; all of them begin and end with a cell or the image.
            first_owned = np.int32(0 if tile_row == 0 else halo - first)
            end_owned = np.int32(rows if tile_row == tile_rows - 1 else height_of_tile - halo - first)
            end_owned = np.int32(min(end_owned, num_rows) if owned else 0)
            first_cell, end_cell = (
                np.int32(first_owned // CELL_ROWS),
                np.int32((end_owned + last_cell_row) // CELL_ROWS),
            )
            cell = np.int64(top // CELL_ROWS) * width + x

            length = np.int32(status[pair * NUM_FIELDS + LENGTH])
            records = np.int32(status[pair * NUM_FIELDS + RECORDS])
            flow_side = np.int64(status[pair * NUM_FIELDS + FLOW_SIDE] ^ status[pair * NUM_FIELDS + FILTERS])
            dual_side = np.int64(status[pair * NUM_FIELDS + DUAL_SIDE])
            plane, line = _U64(pixels), _U64(stride)
            start = np.int64(top) * stride + x
            flow_in = _U64((pair * 2 + flow_side) * components * pixels + start)
            dual_in = _U64((pair * 2 + dual_side) * 2 * components * pixels + start)
            constants_in = _U64(pair * NUM_CONSTANTS * pixels + start)
            for c in range(components):
                place, place1, place2 = flow_in, dual_in, dual_in + plane
                for i in range(rows):
                    inside = i < num_rows
                    u[c * rows + i] = flow[place] if inside else zero
                    p1[c * rows + i] = dual[place1] if inside else zero
                    p2[c * rows + i] = dual[place2] if inside else zero
                    place, place1, place2 = place + line, place1 + line, place2 + line
                flow_in, dual_in = flow_in + plane, dual_in + plane + plane
            for k in range(NUM_CONSTANTS):
                place = constants_in
                blank = minus_one if k == last_constant else zero
                for i in range(rows):
                    constant[k * rows + i] = constants[place] if i < num_rows else blank
                    place += line
                constants_in += plane

            for t in range(length):
                for c in range(components):
                    for i in range(rows):
                        p1_shared[own + _U32(c * area + i * columns)] = p1[c * rows + i]
                    p2_shared[edge + _U32(c * edge_area)] = p2[c * rows + last_row]
                cuda.syncthreads()

                change = zero
                for i in range(rows):
                    i1x, i1y = constant[i], constant[rows + i]
                    rho = residual(constant[2 * rows + i], i1x, i1y, u[i], u[rows + i])
                    if illumination:
                        rho = add(rho, mul(u[2 * rows + i], gamma))
                    step = threshold(rho, constant[3 * rows + i], limit)
                    for c in range(components):
                        left = p1_shared[left_of + _U32(c * area + i * columns)] if has_left else zero
                        if i > 0:
                            above = p2[c * rows + i - 1]
                        else:
                            above = p2_shared[edge_above + _U32(c * edge_area)] if has_strip_above else zero
                        div_p = divergence(p1[c * rows + i], left, p2[c * rows + i], above)
                        derivative = gamma if c == 2 else constant[c * rows + i]
                        new = primal_step(u[c * rows + i], step, derivative, div_p, theta)
                        moved = sub(new, u[c * rows + i])
                        weighted = mul(moved, u3_counts) if c == 2 else moved
                        change = fma(weighted, moved, change)
                        u[c * rows + i] = new
                        u_shared[own + _U32(c * area + i * columns)] = new
                    if i % CELL_ROWS == last_cell_row:
                        changed[i // CELL_ROWS] = change
                        change = zero
                if records_each and records != NOTHING:
                    slot = pair * num_slots + t
                    for k in range(num_own_cells):
                        if k >= first_cell and k < end_cell:
                            changes[_U64(slot * num_cells + cell + k * width)] = changed[k]
                cuda.syncthreads()

                for i in range(rows):
                    for c in range(components):
                        value = u[c * rows + i]
                        right = u_shared[right_of + _U32(c * area + i * columns)] if has_right else value
                        under = u[c * rows + i + 1] if i < last_row else u_shared[below_strip + _U32(c * area)]
                        if i >= rows_below:
                            under = value
                        new1, new2 = dual_step(
                            p1[c * rows + i], p2[c * rows + i], sub(right, value), sub(under, value), taut
                        )
                        p1[c * rows + i] = new1
                        p2[c * rows + i] = new2

            if not records_each and records != NOTHING:
                for k in range(num_own_cells):
                    if k >= first_cell and k < end_cell:
                        changes[_U64(pair * num_slots * num_cells + cell + k * width)] = changed[k]
            flow_out = _U64((pair * 2 + 1 - flow_side) * components * pixels + start)
            dual_out = _U64((pair * 2 + 1 - dual_side) * 2 * components * pixels + start)
            for c in range(components):
                place, place1, place2 = flow_out, dual_out, dual_out + plane
                for i in range(rows):
                    if i >= first_owned and i < end_owned:
                        flow[place] = u[c * rows + i]
                        dual[place1] = p1[c * rows + i]
                        dual[place2] = p2[c * rows + i]
                    place, place1, place2 = place + line, place1 + line, place2 + line
                flow_out, dual_out = flow_out + plane, dual_out + plane + plane
            item += np.int32(cuda.gridDim.x)

    sizes = (INT, LONG, INT, INT, INT, LONG, INT, INT, INT)
    types = (INTS, INTS, INT, INT, FLOATS, FLOATS, FLOATS, FLOATS, *sizes, FLOAT, FLOAT, FLOAT, FLOAT, FLOAT)
    return Kernel(iterate, types, max_registers=_MAX_REGISTERS)

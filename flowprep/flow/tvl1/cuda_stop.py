"""The kernels of the stop rule: when a pair's warp ends, decided on the device.

After each pass one block a pair adds up the changes that the pass recorded: each thread those at its own distances, in
float64, then halves and halves again, so that the order of the sum is always the same. Its first thread decides how the
pair goes on, and puts it on the list of the next pass unless its warp has ended. The order of that list is by chance;
nothing that a pair computes depends on it.

Variant `cuda` looks at the change in odd iterations only, and after each look skips as many as the change exceeds the
limit, so that the next look is known beforehand: a pass ends there at the latest. Variant `cpu` looks at every
iteration. A pass goes as far as it may and records every change; where the warp should have ended inside it, it is
repeated up to there, from the sides that it has read.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import cuda, float64

from flowprep.flow.tvl1.cuda_arithmetic import device_function
from flowprep.flow.tvl1.cuda_kernel import DOUBLE, DOUBLES, FLOATS, INT, INTS, LIST_BLOCK, LONG, Kernel
from flowprep.flow.tvl1.cuda_status import (
    COUNT,
    DUAL_SIDE,
    EACH,
    FILTERS,
    FLOW_SIDE,
    INNER,
    LAST,
    LENGTH,
    NOTHING,
    NUM_FIELDS,
    OUTER,
    RECORDS,
    REPEATS,
)

NUM_THREADS = LIST_BLOCK


def next_pass(count: Any, expected: Any, limit: Any, checks: Any, iterations: Any, longest: Any) -> Any:
    """The next pass of variant `cuda`: its length, whether its last iteration is looked at, and what is expected then.

    `count` iterations are done; `expected` is the change of the last look less the limit for each iteration since.
    `checks` is 0 where the rule never looks (an epsilon of 0).
    """
    length = 0
    looks = False
    while length < longest and count + length < iterations and not looks:
        looks = checks != 0 and (count + length) % 2 == 1 and expected < limit
        if not looks:
            expected -= limit
        length += 1
    return length, looks, expected


next_pass_on_device = device_function(next_pass)


def _begin(
    status: Any,
    todo: Any,
    expected: Any,
    limit: Any,
    checks: Any,
    every: Any,
    filters: Any,
    iterations: Any,
    longest: Any,
    num_pairs: Any,
) -> None:
    """The state of all pairs at the beginning of a warp, and the first list.

    `every` is 1 where every iteration is looked at (variant `cpu`); `iterations` are those of the only or inner loop;
    `longest` is how many a pass may have.
    """
    pair = cuda.blockIdx.x * cuda.blockDim.x + cuda.threadIdx.x
    if pair == 0:
        todo[0] = num_pairs
    if pair < num_pairs:
        todo[1 + pair] = pair
        row = pair * NUM_FIELDS
        status[row + COUNT] = 0
        status[row + INNER] = 0
        status[row + OUTER] = 0
        status[row + REPEATS] = 0
        status[row + FILTERS] = filters
        if every != 0:
            status[row + LENGTH] = min(longest, iterations)
            status[row + RECORDS] = EACH
        else:
            length, looks, then = next_pass_on_device(0, 0.0, limit, checks, iterations, longest)
            status[row + LENGTH] = length
            status[row + RECORDS] = LAST if looks else NOTHING
            expected[pair] = then


def _decide(
    status: Any,
    todo: Any,
    todo_at: Any,
    next_at: Any,
    expected: Any,
    changes: Any,
    num_slots: Any,
    num_cells: Any,
    limit: Any,
    checks: Any,
    every: Any,
    filters: Any,
    iterations: Any,
    outer_iterations: Any,
    longest: Any,
    counts: Any,
    counts_at: Any,
    counts_stride: Any,
) -> None:
    """What becomes of each pair of the list after its pass."""
    sums = cuda.shared.array(NUM_THREADS, float64)
    thread = np.int32(cuda.threadIdx.x)
    if cuda.blockIdx.x < todo[todo_at]:
        pair = np.int64(todo[todo_at + 1 + cuda.blockIdx.x])
        row = pair * NUM_FIELDS
        length, records, repeats = status[row + LENGTH], status[row + RECORDS], status[row + REPEATS]
        count = status[row + COUNT]
        cuda.syncthreads()  # before the first thread writes there: a warp without sums could come later and read that
        num_recorded = np.int32(0)
        if records != NOTHING:
            num_recorded = np.int32(length if records == EACH else 1)
        done = np.int32(-1)  # the recorded change with which the warp ends
        change = 0.0
        slot = np.int32(0)
        while slot < num_recorded and done < 0:
            base = (pair * num_slots + slot) * num_cells
            total = 0.0
            cell = np.int64(thread)
            while cell < num_cells:
                total += np.float64(changes[base + cell])
                cell += NUM_THREADS
            sums[thread] = total
            cuda.syncthreads()
            half = np.int32(NUM_THREADS // 2)
            while half > 0:
                if thread < half:
                    sums[thread] += sums[thread + half]
                cuda.syncthreads()
                half = np.int32(half // 2)
            change = sums[0]
            cuda.syncthreads()  # before the next sum overwrites this one
            if every != 0:
                change = np.float64(np.float32(change))
            if not change > limit:
                done = slot
            slot = np.int32(slot + 1)
        if thread == 0:
            flow_side = status[row + FLOW_SIDE] ^ status[row + FILTERS]  # what the pass has read
            status[row + FILTERS] = 0
            ends: Any = False
            if every != 0 and done >= 0 and done < length - 1:
                status[row + FLOW_SIDE] = flow_side
                status[row + LENGTH] = done + 1
                status[row + RECORDS] = NOTHING
                status[row + REPEATS] = 1
            else:
                count += length
                status[row + COUNT] = count
                status[row + FLOW_SIDE] = 1 - flow_side
                status[row + DUAL_SIDE] = 1 - status[row + DUAL_SIDE]
                ends = done >= 0 or repeats != 0
                if every != 0:
                    inner, outer = status[row + INNER] + length, status[row + OUTER]
                    if inner >= iterations:
                        inner = 0
                        outer += 1
                        status[row + FILTERS] = filters
                        ends = ends or outer >= outer_iterations
                    status[row + INNER] = inner
                    status[row + OUTER] = outer
                    status[row + LENGTH] = min(longest, iterations - inner)
                    status[row + RECORDS] = EACH
                else:
                    ends = ends or count >= iterations
                    then = change if records != NOTHING else expected[pair]
                    length, looks, then = next_pass_on_device(count, then, limit, checks, iterations, longest)
                    status[row + LENGTH] = length
                    status[row + RECORDS] = LAST if looks else NOTHING
                    expected[pair] = then
            if ends:
                status[row + LENGTH] = 0
                status[row + FILTERS] = 0
                counts[counts_at + pair * counts_stride] = count
            else:
                place = cuda.atomic.add(todo, next_at, 1)
                todo[next_at + 1 + place] = pair


begin = Kernel(_begin, (INTS, INTS, DOUBLES, DOUBLE, INT, INT, INT, INT, INT, INT))
decide = Kernel(
    _decide,
    (INTS, INTS, INT, INT, DOUBLES, FLOATS, INT, LONG, DOUBLE, INT, INT, INT, INT, INT, INT, INTS, INT, INT),
)

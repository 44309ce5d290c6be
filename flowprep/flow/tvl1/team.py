"""Threads that compute one pair together: who does which rows, and a barrier between stages.

The barrier lives in compiled code, since a stage takes some ten microseconds. A thread that waits long lets others run
(`sched_yield`), so that more threads than cores are slow but not stuck.
"""

from __future__ import annotations

from typing import Any

import llvmlite.ir as ir
from numba.core import cgutils, types
from numba.extending import intrinsic

from flowprep.flow.tvl1.jit import device_function

_STATE = types.CPointer(types.int64)  # type: ignore[attr-defined]
_SPINS = 2000
NUM_STATE = 16
"""Elements of a barrier's int64 state, zeros at first: the count and, on a cache line of its own, the round."""


@device_function
def rows_of(member: Any, num_members: Any, num_rows: Any) -> Any:
    """First row, and the row after the last, of a member."""
    return num_rows * member // num_members, num_rows * (member + 1) // num_members


@device_function
def wait_for_all(state: Any, num_members: Any) -> None:
    """Return when all members have come here; what they wrote before is seen by all after it."""
    if num_members == 1:
        return
    current = _load(state, 8)
    if _add(state, 0, 1) == num_members - 1:
        _store(state, 0, 0)
        _store(state, 8, current + 1)
        return
    spins = 0
    while _load(state, 8) == current:
        spins += 1
        if spins > _SPINS:
            _yield()


@intrinsic  # type: ignore[untyped-decorator]
def _load(typing: Any, state: Any, index: Any) -> Any:
    def generate(context: Any, builder: Any, sig: Any, arguments: Any) -> Any:
        return builder.load_atomic(builder.gep(arguments[0], [arguments[1]]), "seq_cst", 8)

    return types.int64(_STATE, types.intp), generate


@intrinsic  # type: ignore[untyped-decorator]
def _store(typing: Any, state: Any, index: Any, value: Any) -> Any:
    def generate(context: Any, builder: Any, sig: Any, arguments: Any) -> Any:
        builder.store_atomic(arguments[2], builder.gep(arguments[0], [arguments[1]]), "seq_cst", 8)
        return context.get_dummy_value()

    return types.void(_STATE, types.intp, types.int64), generate


@intrinsic  # type: ignore[untyped-decorator]
def _add(typing: Any, state: Any, index: Any, value: Any) -> Any:
    def generate(context: Any, builder: Any, sig: Any, arguments: Any) -> Any:
        pointer = builder.gep(arguments[0], [arguments[1]])
        return builder.atomic_rmw("add", pointer, arguments[2], "seq_cst")

    return types.int64(_STATE, types.intp, types.int64), generate


@intrinsic  # type: ignore[untyped-decorator]
def _yield(typing: Any) -> Any:
    def generate(context: Any, builder: Any, sig: Any, arguments: Any) -> Any:
        kind = ir.FunctionType(ir.IntType(32), [])
        builder.call(cgutils.get_or_insert_function(builder.module, kind, "sched_yield"), [])
        return context.get_dummy_value()

    return types.void(), generate

"""What this processor can do at most, on one core: vector arithmetic, and loads from each level of memory."""

from __future__ import annotations

import re
import time
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numba
import numpy as np
import numpy.typing as npt

from flowprep.flow.tvl1.cpu_levels import aligned_zeros
from flowprep.flow.tvl1.pointwise import damping, fma
from flowprep.flow.tvl1.simd import LANES, lane_sum, load, pointer_to, splat

_compiled = numba.njit(nogil=True, error_model="numpy")
_SIZES_KIB = {"L1": 16, "L2": 512, "L3": 8 * 1024, "memory": 512 * 1024}
_ARITHMETIC = re.compile(r"v(fn?m(add|sub)\w+|add|sub|mul|min|max|rsqrt14|rcp14|div|sqrt)ps$")


class Limits(NamedTuple):
    """Nanoseconds of an instruction on 16 float32 where nothing else bounds it, and GB/s of loads by place."""

    fma_ns: float
    damping_ns: float
    load_gb_per_second: dict[str, float]


@_compiled
def fma_loop(num_steps: int, start: Any) -> Any:
    """Ten independent chains of multiply-add, `num_steps` long."""
    p = pointer_to(start)
    m, c = load(p, 0), load(p, LANES)
    a0, a1, a2, a3, a4, a5, a6, a7, a8, a9 = m, c, m, c, m, c, m, c, m, c
    for _ in range(num_steps):
        a0, a1, a2, a3, a4 = fma(a0, m, c), fma(a1, m, c), fma(a2, m, c), fma(a3, m, c), fma(a4, m, c)
        a5, a6, a7, a8, a9 = fma(a5, m, c), fma(a6, m, c), fma(a7, m, c), fma(a8, m, c), fma(a9, m, c)
    return lane_sum(a0 + a1 + a2 + a3 + a4 + a5 + a6 + a7 + a8 + a9)


@_compiled
def _damping_loop(num_steps: int, start: Any) -> Any:
    p = pointer_to(start)
    m, c = load(p, 0), load(p, LANES)
    a0, a1, a2, a3, a4, a5, a6, a7 = m, c, m, c, m, c, m, c
    for _ in range(num_steps):
        a0, a1, a2, a3 = damping(a0, m, c), damping(a1, m, c), damping(a2, m, c), damping(a3, m, c)
        a4, a5, a6, a7 = damping(a4, m, c), damping(a5, m, c), damping(a6, m, c), damping(a7, m, c)
    return lane_sum(a0 + a1 + a2 + a3 + a4 + a5 + a6 + a7)


@_compiled
def _load_loop(num_rounds: int, array: Any) -> Any:
    p = pointer_to(array)
    s0, s1, s2, s3 = splat(0.0), splat(0.0), splat(0.0), splat(0.0)
    for _ in range(num_rounds):
        for x in range(0, array.size, 4 * LANES):
            s0, s1 = s0 + load(p, x), s1 + load(p, x + LANES)
            s2, s3 = s2 + load(p, x + 2 * LANES), s3 + load(p, x + 3 * LANES)
    return lane_sum(s0 + s1 + s2 + s3)


def seeds() -> npt.NDArray[np.float32]:
    """A factor and a summand that keep the chains of `fma_loop` near 1, one vector each."""
    return np.repeat(np.array([0.999, 0.001], np.float32), LANES)


def measure_limits() -> Limits:
    """The limits; each the best of several runs, since other work on the machine only slows down."""
    start = seeds()
    speeds = {}
    for place, kib in _SIZES_KIB.items():
        array = aligned_zeros(kib * 256)
        array += 1
        rounds = max(1, 65536 // kib)
        speeds[place] = array.nbytes * rounds / _best_seconds(_load_loop, rounds, array) / 1e9
    return Limits(
        fma_ns=_best_seconds(fma_loop, 2_000_000, start) / 2e7 * 1e9,
        damping_ns=_best_seconds(_damping_loop, 500_000, start) / 4e6 * 1e9,
        load_gb_per_second=speeds,
    )


def _best_seconds(function: Callable[..., Any], *arguments: Any) -> float:
    function(*arguments)
    best = float("inf")
    for _ in range(7):
        start = time.perf_counter()
        function(*arguments)
        best = min(best, time.perf_counter() - start)
    return best


class Instructions(NamedTuple):
    """Vector instructions of a loop for one block of 16 pixels (of one component where a loop does components)."""

    arithmetic: float
    loads: float
    stores: float
    per_body: Counter[str]


def loops_of(function: Any, *names: str) -> list[Instructions]:
    """The innermost loops of a compiled function with one of the named instructions, of which a block has one."""
    found = []
    for body in _loops(_assembly(function)):
        blocks = sum(body[name] for name in names)
        if blocks:
            count = sum(number for name, number in body.items() if _ARITHMETIC.match(name))
            found.append(Instructions(count / blocks, body["load"] / blocks, body["store"] / blocks, body))
    return found


def _assembly(function: Any) -> str:
    (text,) = function.inspect_asm().values()
    return str(text)


def _loops(assembly: str) -> Iterator[Counter[str]]:
    """Instructions on 512-bit registers of each innermost loop by name, and how many load and store."""
    lines = assembly.splitlines()
    labels = {match[1]: k for k, line in enumerate(lines) if (match := re.match(r"(\.LBB\w+):", line))}
    spans = [
        (labels[match[1]], k)
        for k, line in enumerate(lines)
        if (match := re.match(r"\s+j\w+\s+(\.LBB\w+)", line)) and labels.get(match[1], k) < k
    ]
    for first, last in spans:
        if any(first <= other_first and other_last < last for other_first, other_last in spans):
            continue
        body: Counter[str] = Counter()
        for line in lines[first:last]:
            if "zmm" not in line:
                continue
            name, _, operands = line.strip().partition("\t")
            stored = name.startswith("vmov") and operands.rstrip().endswith(")")
            body.update([name, *(["store"] if stored else ["load"] if "(" in operands else [])])
        yield body

"""Where the time of a pair goes: the kernels' own parts, called one after another on real pairs, and timed.

The replay does what `_pair_flow` of `cpu_kernels.py` does; that its flow is the same to the last bit is checked.
"""

from __future__ import annotations

import statistics
import time
from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import numba
import numpy as np
from common import print_table, spin_seconds
from tvl1_limits import Instructions, Limits, loops_of, measure_limits
from tvl1_pairs import Pair

from flowprep.flow import create_backend
from flowprep.flow.tvl1 import cpu_kernels
from flowprep.flow.tvl1.cpu import NativeBackend
from flowprep.flow.tvl1.cpu_median import median_rows
from flowprep.flow.tvl1.cpu_solve import iterate
from flowprep.flow.tvl1.cpu_stop import solve_by_every_change, solve_by_schedule
from flowprep.flow.tvl1.cpu_warp import MARGIN, fill_planes, warp_rows
from flowprep.flow.tvl1.simd import LANES, flush_denormals, offset, pointer_to, restore_state

STAGES = ("pyramid", "upsample", "zero", "planes", "warp", "solve", "median")
_compiled = numba.njit(nogil=True, error_model="numpy")


@_compiled
def _planes(image: Any, base: int, level: Any, planes: Any, replicate: bool) -> None:
    height, width, stride = level
    fill_planes(
        offset(pointer_to(image), base),
        stride,
        height,
        width,
        pointer_to(planes),
        0,
        height + 2 * MARGIN + 1,
        replicate,
    )


@_compiled
def _warp(image: Any, base: int, level: Any, rooms: Any, flow: Any, numbers: Any) -> None:
    height, width, stride = level
    warp_rows(
        offset(pointer_to(image), base),
        stride,
        height,
        width,
        pointer_to(rooms.planes),
        pointer_to(flow),
        2 * stride,
        pointer_to(rooms.constants),
        0,
        height,
        numbers.cubic,
        numbers.replicate,
        pointer_to(rooms.lines),
        pointer_to(rooms.corners),
    )


@_compiled
def _median(flow: Any, target: Any, level: Any, size: int, lines: Any) -> None:
    height, width, stride = level
    median_rows(
        pointer_to(flow), pointer_to(target), 2 * stride, stride, height, width, 0, height, size, pointer_to(lines)
    )


@_compiled
def _finer(flow: Any, finer: Any, levels: Any, number: int, tables: Any, upscale: float, lines: Any) -> None:
    pointers = (pointer_to(tables.first), pointer_to(tables.second), pointer_to(tables.weight))
    cpu_kernels._finer_flow(
        pointer_to(flow),
        pointer_to(finer),
        levels,
        number,
        pointers,
        2,
        upscale,
        pointer_to(lines),
        0,
        levels[number, 0],
    )


@_compiled
def _solve(
    flow: Any, dual: Any, other_flow: Any, other_dual: Any, level: Any, rooms: Any, numbers: Any, expected: int
) -> tuple[int, bool, bool]:
    """The iterations of a warp: their number, and whether flow and dual lie in the other buffers now."""
    height, width, stride = level
    before = flush_denormals()
    buffers = (pointer_to(flow), pointer_to(dual), pointer_to(other_flow), pointer_to(other_dual))
    shape = (stride, (width + LANES - 1) // LANES * LANES, width)
    steps = (numbers.theta, numbers.limit, numbers.taut, numbers.u3_counts)
    constants, changes = pointer_to(rooms.constants), pointer_to(rooms.changes)
    lines, history, state = pointer_to(rooms.lines), pointer_to(rooms.history), pointer_to(rooms.state)
    if numbers.every_iteration:
        buffers, count = solve_by_every_change(
            buffers, constants, height, shape, steps, None, numbers, changes, lines, history, expected, 0, 1, state
        )
    else:
        count = solve_by_schedule(buffers, constants, height, shape, steps, None, numbers, changes, 0, 1, state)
    restore_state(before)
    moved_flow = numba.carray(buffers[0], 1).ctypes.data != flow.ctypes.data
    moved_dual = numba.carray(buffers[1], 1).ctypes.data != dual.ctypes.data
    return count, moved_flow, moved_dual


@_compiled
def _iterate(flow: Any, dual: Any, level: Any, rooms: Any, numbers: Any, num_iterations: int, num_passes: int) -> None:
    height, width, stride = level
    before = flush_denormals()
    shape = (stride, (width + LANES - 1) // LANES * LANES, width)
    steps = (numbers.theta, numbers.limit, numbers.taut, numbers.u3_counts)
    u, p = pointer_to(flow), pointer_to(dual)
    constants, changes = pointer_to(rooms.constants), pointer_to(rooms.changes)
    for _ in range(num_passes):
        iterate(u, p, u, p, constants, height, shape, steps, None, num_iterations, changes)
    restore_state(before)


class Replay:
    """A backend's pair by its parts. `seconds[stage, level]` and `pixels[stage, level]` add up over pairs."""

    def __init__(self, variant: str) -> None:
        backend = create_backend("native", variant=variant)
        assert isinstance(backend, NativeBackend)
        self.backend = backend
        self.seconds: dict[tuple[str, int], float] = defaultdict(float)
        self.pixels: dict[tuple[str, int], float] = defaultdict(float)
        self.num_iterations = 0
        self.whole_seconds = 0.0

    def run(self, pair: Pair) -> None:
        """Replay a pair; fails where its flow is not that of the backend."""
        backend = self.backend
        start = time.perf_counter()
        source, target = backend.prepare(pair.frames)
        self._add("pyramid", 0, pair.frames[0].size, (time.perf_counter() - start) / 2)  # one of the two is new
        start = time.perf_counter()
        expected = backend.compute([source], [target])[0]
        self.whole_seconds += time.perf_counter() - start
        counts = backend.num_iterations[0].copy()
        found = self._levels(source.data, target.data, counts)
        height, width = expected.shape[:2]
        stride = int(backend._geometry.up[0, 2])  # type: ignore[union-attr]
        mine = found[: 2 * height * stride].reshape(height, 2, stride)[:, :, :width].transpose(0, 2, 1)
        assert np.array_equal(mine, expected), f"{pair.name}: the replay computes something else than the kernel"

    def _levels(self, image0: Any, image1: Any, counts: Any) -> Any:
        backend = self.backend
        geometry, rooms, numbers = backend._geometry, backend._rooms[0], backend._numbers
        assert geometry is not None
        flow, other, dual, other_dual = rooms.flow, rooms.other_flow, rooms.dual, rooms.other_dual
        coarsest = geometry.num_levels - 1
        found = np.zeros_like(counts)
        for number in range(coarsest, -1, -1):
            height, width, stride, base = (int(value) for value in geometry.up[number, :4])
            level, size = (height, width, stride), height * width
            if number == coarsest:
                flow[: 2 * height * stride] = 0
            else:
                arguments = (flow, other, geometry.up, number, geometry.up_tables, numbers.upscale, rooms.lines[0])
                self._time("upsample", number, size, _finer, *arguments)
                flow, other = other, flow
            start = time.perf_counter()
            dual[: (height + 1) * 4 * stride] = 0
            other_dual[: (height + 1) * 4 * stride] = 0
            self._add("zero", number, size, time.perf_counter() - start)
            self._time("planes", number, size, _planes, image1, base, level, rooms.planes, numbers.replicate)
            for warp in range(numbers.num_warps):
                self._time("warp", number, size, _warp, image0, base, level, rooms, flow, numbers)
                rounds = 0
                if numbers.every_iteration and numbers.median_filtering > 1:
                    rounds = max(1, -(-int(counts[number, warp]) // numbers.inner_iterations))
                    rounds = min(rounds, numbers.outer_iterations)
                before = self.seconds["median", number]
                for _ in range(rounds):  # timed here, and part of the solver's time below
                    arguments = (flow, other, level, numbers.median_filtering, rooms.lines[0])
                    self._time("median", number, size, _median, *arguments)
                guess = int(found[number + 1, warp]) if number < coarsest else 0
                start = time.perf_counter()
                count, moved_flow, moved_dual = _solve(flow, dual, other, other_dual, level, rooms, numbers, guess)
                seconds = time.perf_counter() - start - (self.seconds["median", number] - before)
                self._add("solve", number, size * count, seconds)
                found[number, warp] = count
                if moved_flow:
                    flow, other = other, flow
                if moved_dual:
                    dual, other_dual = other_dual, dual
        assert np.array_equal(found, counts), "the replay does other iterations than the kernel"
        self.num_iterations += int(found.sum())
        return flow

    def _time(self, stage: str, level: int, size: int, function: Any, *arguments: Any) -> None:
        start = time.perf_counter()
        function(*arguments)
        self._add(stage, level, size, time.perf_counter() - start)

    def _add(self, stage: str, level: int, size: int, seconds: float) -> None:
        self.seconds[stage, level] += seconds
        self.pixels[stage, level] += size

    def total(self, stage: str) -> float:
        """Seconds of a stage over all levels and pairs."""
        return sum(value for (name, _), value in self.seconds.items() if name == stage)

    def clear(self) -> None:
        """Forget what was measured (the first pair compiles)."""
        self.seconds.clear()
        self.pixels.clear()
        self.num_iterations = 0
        self.whole_seconds = 0.0


def measure_stages(pairs: Sequence[Pair], num_repeats: int) -> dict[str, Any]:
    """Print the tables; the figures. There is no bar, so `passed` is true."""
    figures: dict[str, Any] = {"passed": True}
    spins = []
    for variant in ("cpu", "cuda"):
        replay = Replay(variant)
        replay.run(pairs[0])
        replay.clear()
        for _ in range(num_repeats):
            spins.append(1000 * spin_seconds())
            for pair in pairs:
                replay.run(pair)
        figures[variant] = _show(variant, replay, len(pairs) * num_repeats)
    limits = measure_limits()
    figures["limits"] = _show_limits(limits)
    figures["solver"] = _show_solver(limits)
    print(f"\nA fixed loop: {', '.join(f'{spin:.0f}' for spin in spins)} ms")
    return figures


def _show(variant: str, replay: Replay, num_pairs: int) -> dict[str, Any]:
    seconds = {stage: replay.total(stage) for stage in STAGES}
    every = sum(seconds.values())
    whole = replay.whole_seconds + seconds["pyramid"]
    pixels = {stage: sum(n for (name, _), n in replay.pixels.items() if name == stage) for stage in STAGES}
    ns = {stage: 1e9 * seconds[stage] / pixels[stage] for stage in STAGES if pixels[stage]}
    unit = {"solve": "a pixel and iteration"}
    print_table(
        f"Variant {variant}: where the time of a pair goes, {replay.num_iterations / num_pairs:.0f} iterations a pair",
        ("stage", "ms a pair", "share %", "ns", ""),
        [
            (
                stage,
                1000 * seconds[stage] / num_pairs,
                f"{100 * seconds[stage] / every:.1f}",
                ns[stage],
                unit.get(stage, "a pixel and call"),
            )
            for stage in STAGES
            if stage in ns
        ]
        + [
            ("all", 1000 * every / num_pairs, "100.0", "", ""),
            ("the kernels themselves", 1000 * whole / num_pairs, f"{100 * whole / every:.1f}", "", ""),
        ],
    )
    levels = sorted({level for _, level in replay.seconds})
    stages = [stage for stage in ("planes", "warp", "median", "solve") if stage in ns]
    print_table(
        f"Variant {variant}: ns a pixel (solve: and iteration) by level, 0 is the finest",
        ("level", *stages),
        [(level, *(1e9 * replay.seconds[s, level] / replay.pixels[s, level] for s in stages)) for level in levels],
    )
    return {
        "ms_a_pair": {stage: round(1000 * value / num_pairs, 4) for stage, value in seconds.items()},
        "ns": {stage: round(value, 4) for stage, value in ns.items()},
        "whole_ms_a_pair": round(1000 * whole / num_pairs, 4),
        "iterations_a_pair": round(replay.num_iterations / num_pairs, 1),
    }


def _show_limits(limits: Limits) -> dict[str, Any]:
    rows: list[tuple[str, object, str]] = [
        ("multiply-add of 16 float32", limits.fma_ns, f"ns, {32 / limits.fma_ns:.0f} GFLOP/s"),
        ("damping of 16 float32", limits.damping_ns, "ns"),
    ]
    rows += [(f"loads from {place}", f"{speed:.0f}", "GB/s") for place, speed in limits.load_gb_per_second.items()]
    print_table("The machine's limits, one core, best of 7", ("what", "value", "unit"), rows)
    return {**limits._asdict(), "load_gb_per_second": {k: round(v, 1) for k, v in limits.load_gb_per_second.items()}}


def _show_solver(limits: Limits) -> dict[str, Any]:
    """The solver alone, on levels of several sizes and in passes of several iterations, against its limits."""
    backend = create_backend("native", variant="cpu")
    assert isinstance(backend, NativeBackend)
    shapes = {"24x24, in L1": (24, 24), "96x96, in L2": (96, 96), "340x256": (256, 340), "1024x1024": (1024, 1024)}
    measured = {}
    for name, (height, width) in shapes.items():
        source, target = backend.prepare(np.zeros((2, height, width), np.uint8))
        backend.compute([source], [target])
        rooms = backend._rooms[0]
        rng = np.random.default_rng(0)
        for array in (rooms.flow, rooms.dual, rooms.constants):
            array[:] = rng.normal(size=array.size) * 0.1
        level = (height, width, int(backend._geometry.up[0, 2]))  # type: ignore[union-attr]
        for length in (1, 8, 16):
            num_passes = max(1, 2_000_000 // (height * width * length))
            times = []
            for _ in range(9):
                start = time.perf_counter()
                _iterate(rooms.flow, rooms.dual, level, rooms, backend._numbers, length, num_passes)
                times.append(time.perf_counter() - start)
            measured[name, length] = 1e9 * statistics.median(times) / (num_passes * length * height * width)
    counted = _counted()
    rows = [(name, length, ns) for (name, length), ns in measured.items()]
    print_table("The solver alone, ns a pixel and iteration", ("level", "iterations in a pass", "ns"), rows)
    figures: dict[str, Any] = {f"{name}, {length} a pass": round(ns, 4) for (name, length), ns in measured.items()}
    if counted is None:
        print("\nIts instructions are counted for AVX-512 only.")
        return figures
    primal, dual = counted
    arithmetic = (primal.arithmetic + 2 * dual.arithmetic) * limits.fma_ns / LANES
    loads, stores = primal.loads + 2 * dual.loads, primal.stores + 2 * dual.stores
    moved = 64 * (loads + stores)
    bounds = {
        f"arithmetic, {primal.arithmetic:.0f} + 2 x {dual.arithmetic:.0f} instructions": arithmetic,
        "square root and division, 2 x damping": 2 * limits.damping_ns / LANES,
        f"loads from L1, {loads:.0f}": 64 * loads / limits.load_gb_per_second["L1"] / LANES,
    }
    for place in ("L2", "L3", "memory"):
        speed = limits.load_gb_per_second[place]
        bounds[f"loads and stores at the speed of loads from {place}, {moved:.0f} bytes"] = moved / speed / LANES
    print_table(
        "What bounds the solver: instructions of its loops for a block of 16 pixels at the machine's limits",
        ("limit", "ns a pixel and iteration"),
        list(bounds.items()),
    )
    best, bound = min(measured.values()), max(arithmetic, 2 * limits.damping_ns / LANES)
    print(f"\nThe best of the solver is {best:.3f} ns, {best / bound:.2f} times the larger limit of its arithmetic.")
    return {**figures, "bound_ns": round(bound, 4), "best_over_bound": round(best / bound, 3)}


def _counted() -> tuple[Instructions, Instructions] | None:
    """The loop of u, and that of p for a component."""
    roots = ("vsqrtps", "vrsqrt14ps")
    primal = [loop for loop in loops_of(_iterate, "vminps") if not any(loop.per_body[name] for name in roots)]
    dual = loops_of(_iterate, *roots)
    if not primal or not dual:
        return None
    return max(primal, key=lambda loop: loop.arithmetic), min(dual, key=lambda loop: loop.arithmetic)

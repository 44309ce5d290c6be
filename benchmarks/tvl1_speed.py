"""Time of a pair, one thread each, in turns: our kernels against OpenCV's object as its wheel runs it (IPP on)."""

from __future__ import annotations

import statistics
import time
from collections import defaultdict
from collections.abc import Sequence
from typing import Any

from common import Spread, print_table, spin_seconds
from tvl1_pairs import Pair, ipp, native_seconds, opencv, quartiles, seconds_of

from flowprep.flow import create_backend

TARGET_RATIO = 25.0
SAME_COUNTS = {"Epsilon": 0.0, "InnerIterations": 30, "OuterIterations": 1, "MedianFiltering": 1}
"""OpenCV's CPU object with 30 iterations a warp and no median filter, as variant `cuda` with epsilon 0 runs."""

CASES = ("opencv", "cpu", "opencv same counts", "cuda same counts", "cuda")


def measure_speed(pairs: Sequence[Pair], num_repeats: int, *, processor_time: bool = False) -> dict[str, Any]:
    """Print the tables; the figures, with `passed`.

    On a machine that others use, processor time has less of what they do in it: not the waiting for a core, but still
    what they take of caches and memory.
    """
    clock = time.process_time if processor_time else time.perf_counter
    seconds: dict[str, list[list[float]]] = {case: [[] for _ in pairs] for case in CASES}
    backends = {
        "cpu": create_backend("native", variant="cpu"),
        "cuda same counts": create_backend("native", variant="cuda", parameters={"epsilon": 0.0, "iterations": 30}),
        "cuda": create_backend("native", variant="cuda"),
    }
    spins = []
    for backend in backends.values():
        backend.warm_up()
    with ipp(on=True):
        for _ in range(num_repeats):
            for k, pair in enumerate(pairs):
                spins.append(1000 * spin_seconds())
                seconds["opencv"][k].append(seconds_of(opencv(pair.frames), clock))
                seconds["cpu"][k].append(native_seconds(backends["cpu"], pair.frames, clock))
                seconds["opencv same counts"][k].append(seconds_of(opencv(pair.frames, **SAME_COUNTS), clock))
                seconds["cuda same counts"][k].append(native_seconds(backends["cuda same counts"], pair.frames, clock))
                seconds["cuda"][k].append(native_seconds(backends["cuda"], pair.frames, clock))
    medians = {case: [statistics.median(taken) for taken in of_pairs] for case, of_pairs in seconds.items()}
    ratios = {
        "cpu": [a / b for a, b in zip(medians["opencv"], medians["cpu"], strict=True)],
        "same counts": [a / b for a, b in zip(medians["opencv same counts"], medians["cuda same counts"], strict=True)],
    }
    print_table(
        f"{'Processor' if processor_time else 'Wall'} time of a pair, ms, medians of {num_repeats} repeats; "
        "ratio = OpenCV / native",
        (
            "pair",
            "size",
            "OpenCV",
            "native cpu",
            "ratio",
            "OpenCV 30 it.",
            "native cuda 30 it.",
            "ratio",
            "native cuda",
        ),
        [
            (
                pair.name,
                pair.size,
                *(f"{1000 * medians[case][k]:.1f}" for case in CASES[:2]),
                f"{ratios['cpu'][k]:.1f}",
                *(f"{1000 * medians[case][k]:.1f}" for case in CASES[2:4]),
                f"{ratios['same counts'][k]:.1f}",
                f"{1000 * medians['cuda'][k]:.1f}",
            )
            for k, pair in enumerate(pairs)
        ],
    )
    rows = []
    by_set: dict[str, list[int]] = defaultdict(list)
    for k, pair in enumerate(pairs):
        by_set["all"].append(k)
        by_set[pair.dataset].append(k)
    for name, places in sorted(by_set.items()):
        times = [f"{1000 * statistics.median(medians[case][k] for k in places):.1f}" for case in CASES]
        rows.append((name, len(places), *times, *(quartiles([ratios[kind][k] for k in places]) for kind in ratios)))
    print_table(
        "Medians over pairs, ms; ratios: median (quartiles; least)",
        ("set", "pairs", *CASES, "ratio cpu", "ratio same counts"),
        rows,
    )
    repeats = [
        statistics.median(seconds["opencv"][k][r] / seconds["cpu"][k][r] for k in range(len(pairs)))
        for r in range(num_repeats)
    ]
    print(f"\nMedian ratio of variant cpu in each repeat: {', '.join(f'{value:.1f}' for value in repeats)}")
    spin = Spread.of(spins)
    print(f"A fixed loop before each pair: {spin.median:.0f} ms, {spin.minimum:.0f} to {spin.maximum:.0f}")
    found = {kind: statistics.median(values) for kind, values in ratios.items()}
    return {
        "median_ms": {case: round(1000 * statistics.median(values), 3) for case, values in medians.items()},
        "median_ratio": {kind: round(value, 2) for kind, value in found.items()},
        "least_ratio": {kind: round(min(values), 2) for kind, values in ratios.items()},
        "spin_ms": spin.to_json(),
        "passed": min(found.values()) >= TARGET_RATIO,
    }

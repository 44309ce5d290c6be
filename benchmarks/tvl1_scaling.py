"""How the kernels scale over threads and processes, and how near a whole `extract` comes to the kernels alone."""

from __future__ import annotations

import json
import multiprocessing
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from common import Spread, print_table, spin_seconds
from tvl1_limits import fma_loop, seeds
from tvl1_pairs import Pair

from flowprep.config import DecodeSettings, ResizeSettings
from flowprep.decode import VideoReader
from flowprep.flow import create_backend
from flowprep.journal import read_journal
from flowprep.resize import grey, resize, target_size

TARGET_SCALING = 0.9
TARGET_EXTRACT = 0.85
_SECONDS = 5.0
FLOWPREP = str(Path(sys.executable).with_name("flowprep"))
Frames = npt.NDArray[np.uint8]
Step = Callable[[], None]


def _fma_step() -> Step:
    start = seeds()
    return lambda: fma_loop(300_000, start)


def _flow_step(pairs: Sequence[Frames]) -> Step:
    """Every pair once, so that all steps are the same work."""
    backend = create_backend("native", variant="cpu")

    def step() -> None:
        for frames in pairs:
            source, target = backend.prepare(frames)
            backend.compute([source], [target])

    return step


def _rate(make_step: Callable[[], Step], wait: Callable[[], object], seconds: float) -> float:
    """Steps a second of one worker, measured between the common start and the end of its last step."""
    step = make_step()
    step()
    wait()
    start = time.perf_counter()
    count = 0
    while time.perf_counter() - start < seconds:
        step()
        count += 1
    return count / (time.perf_counter() - start)


def _in_threads(make_step: Callable[[], Step], num: int) -> float:
    barrier, rates = threading.Barrier(num), []
    workers = [
        threading.Thread(target=lambda: rates.append(_rate(make_step, barrier.wait, _SECONDS))) for _ in range(num)
    ]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    return sum(rates)


class Fma:
    """`_fma_step` that can be sent to a process."""

    def __call__(self) -> Step:
        """The step."""
        return _fma_step()


class _Flow:
    """`_flow_step` of given pairs that can be sent to a process."""

    def __init__(self, pairs: Sequence[Frames]) -> None:
        self._pairs = pairs

    def __call__(self) -> Step:
        return _flow_step(self._pairs)


def _process(make_step: Callable[[], Step], barrier: Any, rates: Any) -> None:
    rates.put(_rate(make_step, barrier.wait, _SECONDS))


def rate_of_processes(make_step: Callable[[], Step], num: int) -> float:
    """Steps a second of `num` processes together."""
    return _sum_of_rates(_process, make_step, num)


def _sum_of_rates(work: Callable[[Any, Any, Any], None], given: object, num: int) -> float:
    """Run work(given, barrier, rates) in `num` processes, and add what each puts into `rates`."""
    context = multiprocessing.get_context("spawn")
    barrier, rates = context.Barrier(num), context.Queue()
    workers = [context.Process(target=work, args=(given, barrier, rates)) for _ in range(num)]
    for worker in workers:
        worker.start()
    total: float = sum(rates.get(timeout=600) for _ in workers)
    for worker in workers:
        worker.join()
    return total


def measure_scaling(pairs: Sequence[Pair], num_repeats: int, num_workers: int) -> dict[str, Any]:
    """Print the tables; the figures, with `passed`. All pairs must have one size, as those of a video have."""
    loops: dict[str, Callable[[], Step]] = {"fma": Fma(), "flow": _Flow([pair.frames for pair in pairs])}
    kinds: dict[str, Callable[[Callable[[], Step], int], float]] = {
        "threads": _in_threads,
        "processes": rate_of_processes,
    }
    scalings: dict[tuple[str, str], list[float]] = {(kind, loop): [] for kind in kinds for loop in loops}
    spins = []
    for _ in range(num_repeats):
        for kind, run in kinds.items():
            for loop, make_step in loops.items():
                spins.append(1000 * spin_seconds())
                alone = run(make_step, 1)
                scalings[kind, loop].append(run(make_step, num_workers) / alone)
    rows, figures = [], {}
    for kind in kinds:
        bare, ours = (Spread.of(scalings[kind, loop]) for loop in loops)
        share = statistics.median(
            flow / fma for flow, fma in zip(scalings[kind, "flow"], scalings[kind, "fma"], strict=True)
        )
        rows.append((f"{num_workers} {kind}", *bare, *ours, share))
        figures[kind] = {"fma": bare.to_json(), "flow": ours.to_json(), "share": round(share, 4)}
    print_table(
        f"Times as much work as one worker, {num_repeats} repeats",
        ("workers", "fma", "min", "max", "flow", "min", "max", "flow / fma"),
        rows,
    )
    rows = _one_pair_by_threads(pairs, num_repeats, num_workers)
    print_table("One pair by rows: ms", ("threads", "median", "min", "max"), rows)
    print(f"\nA fixed loop before each: {', '.join(f'{spin:.0f}' for spin in spins)} ms")
    return {**figures, "passed": all(found["share"] >= TARGET_SCALING for found in figures.values())}


def _one_pair_by_threads(pairs: Sequence[Pair], num_repeats: int, num_workers: int) -> list[tuple[object, ...]]:
    times: dict[int, list[float]] = {1: [], num_workers: []}
    backends = {num: create_backend("native", variant="cpu", num_threads=num) for num in times}
    for _ in range(num_repeats + 1):
        for pair in pairs:
            for num, backend in backends.items():
                source, target = backend.prepare(pair.frames)
                start = time.perf_counter()
                backend.compute([source], [target])
                times[num].append(1000 * (time.perf_counter() - start))
    for backend in backends.values():
        backend.close()
    return [(num, *Spread.of(taken[len(pairs) :])) for num, taken in times.items()]


# -- whole runs --------------------------------------------------------------------------------------------------------


def measure_extract(clips: Path, num_repeats: int, jobs: int, copies: int) -> dict[str, Any]:
    """`extract` with `jobs` processes against as many that only compute flow of the same frames, in turns."""
    frames = [_frames_of(path) for path in sorted(clips.glob("*/*.avi"))]
    num_pairs = copies * sum(len(of_clip) - 1 for of_clip in frames)
    cases = {"--no-rgb": ("--no-rgb",), "with rgb": ()}
    rates: dict[str, list[float]] = {"kernels": []}
    for name in cases:
        rates |= {name: [], f"{name}, workers at work": []}
    spins = []
    with tempfile.TemporaryDirectory(prefix="flowprep-bench-") as scratch:
        videos = Path(scratch, "videos")
        for path in sorted(clips.glob("*/*.avi")):
            for copy in range(copies):
                target = videos / path.parent.name / f"{path.stem}_{copy:03d}.avi"
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(path, target)
        for _ in range(num_repeats):
            spins.append(1000 * spin_seconds())
            rates["kernels"].append(_kernel_rate(frames, jobs))
            for name, options in cases.items():
                out = Path(scratch, "out")
                command = [FLOWPREP, "extract", "--dataset", "folder", "--videos", str(videos), "--out", str(out)]
                command += ["--jobs", str(jobs), "--backend", "native", "--json", *options]
                result = json.loads(subprocess.run(command, check=True, capture_output=True).stdout)
                assert result["num_flows_now"] == num_pairs, result
                rates[name].append(num_pairs / result["seconds"])
                rates[f"{name}, workers at work"].append(num_pairs * jobs / _worker_seconds(out))
                shutil.rmtree(out)
    shares = {
        name: statistics.median(rate / bare for rate, bare in zip(rates[name], rates["kernels"], strict=True))
        for name in rates
    }
    print_table(
        f"Pairs a second with {jobs} processes, {num_pairs} pairs of variant cuda, {num_repeats} repeats",
        ("what", "median", "min", "max", "of the kernels' rate"),
        [(name, *Spread.of(found), shares[name]) for name, found in rates.items()],
    )
    print(f"\nA fixed loop before each: {', '.join(f'{spin:.0f}' for spin in spins)} ms")
    return {
        "jobs": jobs,
        "rates": {name: Spread.of(found).to_json() for name, found in rates.items()},
        "shares": {name: round(share, 4) for name, share in shares.items()},
        "passed": min(shares[name] for name in cases) >= TARGET_EXTRACT,
    }


def _worker_seconds(store: Path) -> float:
    """What the workers spent on videos, all together: without their start, and without waiting at the end."""
    entries = [entry for path in (store / ".flowprep" / "journal").iterdir() for entry in read_journal(path)]
    return sum(float(entry["seconds"]) for entry in entries if entry["event"] == "video")


def _frames_of(path: Path) -> Frames:
    """All frames of a clip as `extract` makes them, grey uint8 (T, H, W)."""
    with VideoReader(path, DecodeSettings()) as reader:
        return np.stack(
            [grey(resize(rgb, target_size(rgb.shape[1], rgb.shape[0], ResizeSettings()))) for rgb in reader.frames()]
        )


def _kernel_rate(clips: Sequence[Frames], jobs: int) -> float:
    """Pairs a second of `jobs` processes that each compute all pairs of the clips, in batches as `extract` does."""
    return _sum_of_rates(_compute_all, clips, jobs)


def _compute_all(clips: Sequence[Frames], barrier: Any, rates: Any) -> None:
    with create_backend("native") as backend:
        backend.warm_up()
        barrier.wait()
        start = time.perf_counter()
        num_pairs = 0
        for frames in clips:
            recent: list[Any] = []
            for first in range(0, len(frames), 16):
                prepared = [*recent, *backend.prepare(frames[first : first + 16])]
                if len(prepared) > 1:
                    backend.compute(prepared[:-1], prepared[1:])
                num_pairs += len(prepared) - 1
                recent = prepared[-1:]
        rates.put(num_pairs / (time.perf_counter() - start))

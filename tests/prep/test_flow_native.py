"""The `native` backend: the contract of a backend, and flow that depends on nothing but the pair."""

from __future__ import annotations

import platform
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from contracts.flow_backend import FlowBackendContract, moving_texture
from helpers.tvl1 import difficult_pair

from flowprep.flow import create_backend
from flowprep.flow.backend import FlowBackend

VARIANTS = pytest.mark.parametrize("variant", ["cuda", "cpu"])
Pairs = list[tuple[int, int]]


class TestNativeCUDA(FlowBackendContract):
    def make_backend(self) -> FlowBackend:
        return create_backend("native", variant="cuda")


class TestNativeCPU(FlowBackendContract):
    def make_backend(self) -> FlowBackend:
        return create_backend("native", variant="cpu")


class TestNativeIllumination(FlowBackendContract):
    def make_backend(self) -> FlowBackend:
        return create_backend("native", variant="cpu", parameters={"gamma": 0.2, "median_filtering": 3})


class TestNativeThreads(FlowBackendContract):
    def make_backend(self) -> FlowBackend:
        return create_backend("native", variant="cuda", num_threads=3)


class TestNativeThreadsCPU(FlowBackendContract):
    def make_backend(self) -> FlowBackend:
        return create_backend("native", variant="cpu", num_threads=3)


def flow_and_counts(
    frames: Any, pairs: Pairs, variant: str, num_threads: int = 1, initial_flow: Any = None, **parameters: Any
) -> tuple[npt.NDArray[np.float32], Any]:
    with create_backend("native", variant=variant, parameters=parameters, num_threads=num_threads) as backend:
        prepared = backend.prepare(frames)
        flow = backend.compute([prepared[a] for a, _ in pairs], [prepared[b] for _, b in pairs], initial_flow)
        return flow, backend.num_iterations  # type: ignore[attr-defined]


@VARIANTS
@pytest.mark.parametrize("num_threads", [2, 3, 5])
@pytest.mark.parametrize("num_pairs", [1, 2, 3, 7])
@pytest.mark.parametrize("gamma", [0.0, 0.2])
def test_threads_change_no_bit(variant: str, num_threads: int, num_pairs: int, gamma: float) -> None:
    """With fewer pairs than threads, all threads compute each pair together, by rows."""
    frames = moving_texture(8, 37, 50)
    pairs = [(k, k + 1) for k in range(num_pairs)]
    expected, counts = flow_and_counts(frames, pairs, variant, gamma=gamma)
    flow, counts_of_threads = flow_and_counts(frames, pairs, variant, num_threads, gamma=gamma)
    np.testing.assert_array_equal(flow, expected)
    np.testing.assert_array_equal(counts_of_threads, counts)
    assert counts.shape == (num_pairs, 4, 5)  # 37 -> 30 -> 24 -> 19 -> 15, which is below 16
    assert counts.min() >= 1


@VARIANTS
@pytest.mark.parametrize(("height", "width"), [(3, 40), (4, 9), (1, 1), (2, 70), (40, 3)])
def test_more_threads_than_rows(variant: str, height: int, width: int) -> None:
    frames = moving_texture(2, height, width)
    expected, counts = flow_and_counts(frames, [(0, 1)], variant)
    flow, counts_of_threads = flow_and_counts(frames, [(0, 1)], variant, 5)
    np.testing.assert_array_equal(flow, expected)
    np.testing.assert_array_equal(counts_of_threads, counts)


@VARIANTS
@pytest.mark.parametrize("num_threads", [1, 3])
def test_a_team_uses_the_initial_flow_as_one_thread_does(variant: str, num_threads: int) -> None:
    frames = moving_texture(3, 40, 44)
    start = np.random.default_rng(0).normal(size=(2, 40, 44, 2)).astype(np.float32)
    together, _ = flow_and_counts(frames, [(0, 1), (1, 2)], variant, num_threads, start)
    for k in range(2):
        alone, _ = flow_and_counts(frames, [(k, k + 1)], variant, num_threads, start[k : k + 1])
        np.testing.assert_array_equal(alone[0], together[k])
    without, _ = flow_and_counts(frames, [(0, 1), (1, 2)], variant, num_threads)
    assert (np.abs(without - together).max(axis=(1, 2, 3)) > 1e-6).all()


@VARIANTS
@pytest.mark.parametrize("num_threads", [1, 3])
def test_neither_batch_nor_history_changes_a_bit(variant: str, num_threads: int) -> None:
    """Easy pairs end after few iterations and difficult ones use all: what one leaves, the next must not see."""
    rng = np.random.default_rng(0)
    frames = np.concatenate([moving_texture(3, 41, 53), rng.integers(0, 256, (3, 41, 53), np.uint8)])
    pairs = [(a, b) for a in range(6) for b in range(6) if abs(a - b) <= 2]
    expected = {pair: flow_and_counts(frames, [pair], variant)[0][0] for pair in pairs}
    with create_backend("native", variant=variant, num_threads=num_threads) as backend:
        prepared = backend.prepare(frames)
        for size in (1, 2, 5, len(pairs)):
            order = [pairs[k] for k in rng.permutation(len(pairs))[:size]]
            flow = backend.compute([prepared[a] for a, _ in order], [prepared[b] for _, b in order])
            for values, pair in zip(flow, order, strict=True):
                np.testing.assert_array_equal(values, expected[pair])
            other = backend.prepare(rng.integers(0, 256, (2, *rng.integers(1, 60, 2)), np.uint8))
            backend.compute(other[:1], other[1:])


@VARIANTS
def test_backends_of_several_threads_do_not_disturb_each_other(variant: str) -> None:
    frames = moving_texture(4, 48, 64)
    pairs = [(0, 1), (1, 2), (2, 3)]
    expected, _ = flow_and_counts(frames, pairs, variant)
    flows: list[Any] = [None] * 4

    def work(k: int) -> None:
        flows[k], _ = flow_and_counts(frames, pairs, variant, 1 + k % 2)

    threads = [threading.Thread(target=work, args=(k,)) for k in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for flow in flows:
        np.testing.assert_array_equal(flow, expected)


@VARIANTS
def test_the_python_interpreter_is_free_while_flow_is_computed(variant: str) -> None:
    """A kernel that held the GIL would let this loop begin only when all is done."""
    frames = np.random.default_rng(0).integers(0, 256, (9, 96, 128), np.uint8)
    done = threading.Event()
    turns = 0
    with create_backend("native", variant=variant) as backend:
        prepared = backend.prepare(frames)
        backend.warm_up()

        def work() -> None:
            backend.compute(prepared[:-1], prepared[1:])
            done.set()

        thread = threading.Thread(target=work)
        thread.start()
        while not done.wait(1e-4):
            turns += 1
        thread.join()
    assert turns > 20


@VARIANTS
def test_warm_up_leaves_no_trace(variant: str) -> None:
    frames = moving_texture(2, 37, 50)
    expected, counts = flow_and_counts(frames, [(0, 1)], variant)
    with create_backend("native", variant=variant) as backend:
        prepared = backend.prepare(frames)
        backend.warm_up()
        np.testing.assert_array_equal(backend.compute(prepared[:1], prepared[1:]), expected)
        np.testing.assert_array_equal(backend.num_iterations, counts)  # type: ignore[attr-defined]


@pytest.mark.parametrize("gamma", [0.0, 0.2])
def test_the_threads_arithmetic_is_left_as_it_was(gamma: float) -> None:
    """Kernels take denormal numbers as 0; the caller's NumPy must not."""
    flow_and_counts(moving_texture(2, 20, 24), [(0, 1)], "cpu", gamma=gamma)
    denormal = np.full(64, 1e-40, np.float32)
    assert (denormal * np.float32(0.5) != 0).all()


BASELINE = """
import sys
import numpy as np
from flowprep.flow import create_backend
frames = np.load("frames.npy")
for variant in ("cuda", "cpu"):
    with create_backend("native", variant=variant, cpu_baseline="x86-64-v3") as backend:
        prepared = backend.prepare(frames)
        np.save(f"{variant}.npy", backend.compute(prepared[:-1], prepared[1:]))
"""


@pytest.mark.skipif(platform.machine() != "x86_64", reason="a baseline of x86-64")
def test_unlike_processors_compute_the_same_bits(tmp_path: Path) -> None:
    """Compiled for this processor or for one of ten years ago: the baseline's code is the same on every machine."""
    frames = np.concatenate([moving_texture(2, 61, 83), np.stack(difficult_pair(61, 83))])
    np.save(tmp_path / "frames.npy", frames)
    subprocess.run([sys.executable, "-c", BASELINE], cwd=tmp_path, capture_output=True, text=True, check=True)
    for variant in ("cuda", "cpu"):
        flow, _ = flow_and_counts(frames, [(0, 1), (1, 2), (2, 3)], variant)
        np.testing.assert_array_equal(np.load(tmp_path / f"{variant}.npy"), flow)

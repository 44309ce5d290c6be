"""`native-cuda` on a real GPU: the contract, the reference, `native`, batches, memory, codes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from contracts.flow_backend import FlowBackendContract, moving_texture
from helpers.flow_tolerances import CALM, CHAOTIC, FEW_ITERATIONS, Tolerance, assert_flow_near
from helpers.gpu import needs_gpu
from helpers.real_pairs import CLIPS, IMAGES, real_pair
from helpers.shared_data import needs_shared
from helpers.tvl1 import difficult_pair, random_flow

from flowprep.config import QuantiseSettings
from flowprep.errors import BackendUnavailableError, VideoError
from flowprep.flow import compute_flow, create_backend, resolve
from flowprep.flow.backend import FlowBackend
from flowprep.flow.parameters import parse_parameters
from flowprep.flow.tvl1.reference import WarpRecord, tvl1_flow
from flowprep.quantise import flow_facts, quantise

pytestmark = needs_gpu
VARIANTS = pytest.mark.parametrize("variant", ["cuda", "cpu"])


class TestNativeCUDA(FlowBackendContract):
    def make_backend(self) -> FlowBackend:
        return create_backend("native-cuda", variant="cuda")


class TestNativeCUDAVariantCPU(FlowBackendContract):
    def make_backend(self) -> FlowBackend:
        return create_backend("native-cuda", variant="cpu")


class TestNativeCUDAIllumination(FlowBackendContract):
    def make_backend(self) -> FlowBackend:
        return create_backend("native-cuda", variant="cpu", parameters={"gamma": 0.2, "median_filtering": 3})


def flow_and_counts(
    frames: Any, pairs: list[tuple[int, int]], variant: str, initial_flow: Any = None, **parameters: Any
) -> tuple[Any, Any]:
    with create_backend("native-cuda", variant=variant, parameters=parameters) as backend:
        prepared = backend.prepare(frames)
        flow = backend.compute([prepared[a] for a, _ in pairs], [prepared[b] for _, b in pairs], initial_flow)
        return flow, backend.num_iterations  # type: ignore[attr-defined]


def test_auto_takes_it() -> None:
    assert resolve() == ("native-cuda", "cuda")
    assert resolve(cpu_baseline="x86-64-v3") == ("native", "cuda")


CHANGES: list[dict[str, Any]] = [
    {},
    {"tau": 0.1},
    {"lambda": 0.4},
    {"theta": 0.15},
    {"num_scales": 1},
    {"num_warps": 1},
    {"scale_step": 0.7},
    {"scale_step": 0.5},
    {"epsilon": 0.0},
    {"gamma": 0.3},
]
CPU_CHANGES: list[dict[str, Any]] = [{"median_filtering": 1}, {"median_filtering": 3}, {"inner_iterations": 1}]


@pytest.mark.parametrize(
    ("variant", "change"),
    [(variant, change) for variant in ("cuda", "cpu") for change in CHANGES]
    + [("cpu", change) for change in CPU_CHANGES],
    ids=str,
)
@pytest.mark.parametrize(("height", "width"), [(61, 83), (30, 140), (130, 33)])
def test_every_parameter_against_the_reference(variant: str, change: dict[str, Any], height: int, width: int) -> None:
    few = {"iterations": 12} if variant == "cuda" else {"inner_iterations": 4, "outer_iterations": 3}
    parameters = {"num_scales": 2, "num_warps": 2, "epsilon": 0.08, **few, **change}
    frames = np.stack(difficult_pair(height, width))
    trace: list[WarpRecord] = []
    expected = tvl1_flow(frames[0], frames[1], parse_parameters("native-cuda", variant, parameters), None, trace)
    flow, counts = flow_and_counts(frames, [(0, 1)], variant, **parameters)
    assert_flow_near(flow[0], expected, FEW_ITERATIONS)
    assert [counts[0, record.level, record.warp] for record in trace] == [record.num_iterations for record in trace]


@VARIANTS
def test_an_initial_flow_counts(variant: str) -> None:
    few = {"iterations": 12} if variant == "cuda" else {"inner_iterations": 4, "outer_iterations": 1}
    frames, start = np.stack(difficult_pair(61, 83)), random_flow(61, 83)
    parameters = {"num_scales": 2, "num_warps": 2, **few}
    expected = tvl1_flow(frames[0], frames[1], parse_parameters("native-cuda", variant, parameters), start)
    flow, _ = flow_and_counts(frames, [(0, 1)], variant, start[None], **parameters)
    assert_flow_near(flow[0], expected, FEW_ITERATIONS)


@needs_shared
@VARIANTS
@pytest.mark.parametrize("name", [*CLIPS, *IMAGES])
def test_real_pairs_are_near_those_of_native(variant: str, name: str) -> None:
    frames = real_pair(name)
    flow, counts = flow_and_counts(frames, [(0, 1)], variant)
    with create_backend("native", variant=variant) as backend:
        prepared = backend.prepare(frames)
        expected = backend.compute(prepared[:1], prepared[1:])
        same = np.array_equal(counts, backend.num_iterations)  # type: ignore[attr-defined]
    tolerance: Tolerance = CALM if same else CHAOTIC
    assert_flow_near(flow[0], expected[0], tolerance)


@VARIANTS
@pytest.mark.parametrize("gamma", [0.0, 0.2])
def test_neither_batch_nor_history_changes_a_bit(variant: str, gamma: float) -> None:
    """The halo depends on the size of a batch; pairs end at different passes."""
    rng = np.random.default_rng(0)
    frames = np.concatenate([moving_texture(6, 97, 141), rng.integers(0, 256, (3, 97, 141), np.uint8)])
    pairs = [(a, b) for a in range(9) for b in range(9) if abs(a - b) <= 2] * 3
    with create_backend("native-cuda", variant=variant, parameters={"gamma": gamma}) as backend:
        prepared = backend.prepare(frames)
        flows = backend.compute([prepared[a] for a, _ in pairs], [prepared[b] for _, b in pairs])
        for k in (0, 7, 13, len(pairs) - 1):
            alone, _ = flow_and_counts(frames, [pairs[k]], variant, gamma=gamma)
            np.testing.assert_array_equal(flows[k], alone[0])
        order = rng.permutation(len(pairs))
        again = backend.compute([prepared[pairs[k][0]] for k in order], [prepared[pairs[k][1]] for k in order])
        np.testing.assert_array_equal(again, flows[order])


@VARIANTS
def test_batches_that_are_cut_give_the_same_bits(variant: str) -> None:
    from flowprep.flow.tvl1.cuda import NativeCUDABackend

    frames = moving_texture(12, 60, 70)
    expected, counts = flow_and_counts(frames, [(k, k + 1) for k in range(11)], variant)
    values = parse_parameters("native-cuda", variant, {})
    with NativeCUDABackend(values, max_pairs=3) as backend:
        prepared = backend.prepare(frames)
        np.testing.assert_array_equal(backend.compute(prepared[:-1], prepared[1:]), expected)
        np.testing.assert_array_equal(backend.num_iterations, counts)


@pytest.mark.parametrize("rounding", ["round", "truncate"])
def test_codes_of_the_device_are_those_of_the_host(rounding: str) -> None:
    from flowprep.flow.tvl1.cuda import NativeCUDABackend

    settings = QuantiseSettings(bound_px=1.1, rounding=rounding)
    frames = moving_texture(6, 60, 300)
    with NativeCUDABackend(parse_parameters("native-cuda", "cuda", {}), max_pairs=2) as backend:
        prepared = backend.prepare(frames)
        flow = backend.compute(prepared[:-1], prepared[1:])
        found = backend.compute_quantised(prepared[:-1], prepared[1:], settings)
    for k in range(5):
        x, y = quantise(flow[k], settings)
        np.testing.assert_array_equal(found.codes[k], np.stack([x, y]))
        facts = flow_facts(flow[k], x, y, settings)
        assert found.num_saturated[k] == facts.num_saturated
        assert found.sum_magnitude_px[k] == pytest.approx(facts.sum_magnitude_px, rel=1e-6)


def test_a_video_of_many_frames_by_compute_flow() -> None:
    frames = moving_texture(150, 40, 50)
    flow = compute_flow(frames, backend="native-cuda")
    np.testing.assert_allclose(np.median(flow, (1, 2)), np.broadcast_to((1, -1), (149, 2)), atol=0.1)


def test_want_of_memory_halves_the_batch_and_then_fails_the_video(monkeypatch: pytest.MonkeyPatch) -> None:
    from flowprep.flow.tvl1 import cuda as module
    from flowprep.flow.tvl1.cuda_solver import Solver

    frames = moving_texture(9, 48, 64)
    expected, _ = flow_and_counts(frames, [(k, k + 1) for k in range(8)], "cuda")
    original = Solver.make_rooms
    limit = 2
    asked: list[int] = []

    def make_rooms(self: Solver, capacity: int) -> Any:
        asked.append(capacity)
        # More than any card has: the driver itself refuses.
        return original(self, capacity if capacity <= limit else 1 << 34)

    monkeypatch.setattr(module.Solver, "make_rooms", make_rooms)
    with create_backend("native-cuda") as backend:
        prepared = backend.prepare(frames)
        np.testing.assert_array_equal(backend.compute(prepared[:-1], prepared[1:]), expected)
        assert asked == [8, 4, 2]
        limit = 0
        other = backend.prepare(moving_texture(2, 20, 20))
        with pytest.raises(VideoError, match="gpu_memory"):
            backend.compute(other[:1], other[1:])


def test_a_device_that_is_not_there() -> None:
    with pytest.raises(BackendUnavailableError, match="native-cuda has no device 99: there are"):
        create_backend("native-cuda", device=99)

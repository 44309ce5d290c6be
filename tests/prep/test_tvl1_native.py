"""The `native` backend against the reference: every parameter, small pairs tightly; real pairs by statistics."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
import pytest
from contracts.flow_backend import moving_texture
from helpers.flow_tolerances import CALM, CHAOTIC, FEW_ITERATIONS, assert_flow_near
from helpers.real_pairs import CLIPS, IMAGES, real_pair
from helpers.shared_data import needs_shared
from helpers.tvl1 import BOTH, Image, difficult_pair, random_flow

from flowprep.flow import create_backend
from flowprep.flow.tvl1.params import TVL1CPUParameters, TVL1CUDAParameters
from flowprep.flow.tvl1.reference import Parameters, WarpRecord, tvl1_flow

_cv2: Any = cv2  # the type stubs of the wheels lack the create functions


def native_flow(
    frames: Any, parameters: Parameters, initial_flow: Image | None = None
) -> tuple[Image, list[list[int]]]:
    """Flow of a pair, and the numbers of iterations, by level (finest first) and warp."""
    variant = "cpu" if isinstance(parameters, TVL1CPUParameters) else "cuda"
    start = None if initial_flow is None else initial_flow[None]
    with create_backend("native", variant=variant, parameters=parameters.to_json()) as backend:
        prepared = backend.prepare(np.stack(frames))
        flow = backend.compute(prepared[:1], prepared[1:], start)[0]
        return flow, backend.num_iterations[0].tolist()  # type: ignore[attr-defined]


def reference_flow(
    frames: Any, parameters: Parameters, initial_flow: Image | None = None
) -> tuple[Image, list[list[int]]]:
    trace: list[WarpRecord] = []
    flow = tvl1_flow(frames[0], frames[1], parameters, initial_flow, trace)
    counts = np.zeros((1 + max(record.level for record in trace), parameters.num_warps), np.int64)
    for record in trace:
        counts[record.level, record.warp] = record.num_iterations
    return flow, counts.tolist()


# -- every parameter ---------------------------------------------------------------------------------------------------

FEW: dict[type[Parameters], dict[str, Any]] = {
    TVL1CPUParameters: {"inner_iterations": 4, "outer_iterations": 3},
    TVL1CUDAParameters: {"iterations": 12},
}
BASE: dict[str, Any] = {"num_scales": 2, "num_warps": 2, "epsilon": 0.08}

CHANGES: list[dict[str, Any]] = [
    {},
    {"tau": 0.1},
    {"lambda_": 0.05},
    {"lambda_": 1.0},
    {"theta": 0.6},
    {"num_scales": 1},
    {"num_scales": 3, "num_warps": 1},
    {"num_warps": 1},
    {"num_warps": 3, "lambda_": 0.05},
    {"epsilon": 0.0},
    {"epsilon": 0.2},
    {"scale_step": 0.5},
    {"scale_step": 0.7},
    {"scale_step": 0.95},
    {"gamma": 0.2},
    {"gamma": 0.5, "num_warps": 1},
]
CHANGES_OF_ONE: list[tuple[type[Parameters], dict[str, Any]]] = [
    (TVL1CPUParameters, {"median_filtering": 1}),
    (TVL1CPUParameters, {"median_filtering": 3}),
    (TVL1CPUParameters, {"inner_iterations": 1}),
    (TVL1CPUParameters, {"outer_iterations": 1}),
    (TVL1CPUParameters, {"inner_iterations": 40, "outer_iterations": 1, "num_scales": 1, "num_warps": 1}),
    (TVL1CUDAParameters, {"iterations": 1}),
    (TVL1CUDAParameters, {"iterations": 5}),
    (TVL1CUDAParameters, {"iterations": 70, "num_scales": 1, "num_warps": 1}),
]


def pairs() -> dict[str, Any]:
    return {"smooth": moving_texture(2, 47, 66), "difficult": difficult_pair(50, 70)}


@pytest.mark.parametrize("pair", pairs())
@pytest.mark.parametrize(
    ("kind", "changes"),
    [*((kind, changes) for kind in FEW for changes in CHANGES), *CHANGES_OF_ONE],
    ids=lambda value: str(value) if isinstance(value, dict) else "cpu" if value is TVL1CPUParameters else "cuda",
)
def test_flow_of_few_iterations_is_the_references(kind: type[Parameters], changes: dict[str, Any], pair: str) -> None:
    frames = pairs()[pair]
    few = {**BASE, **FEW[kind]}
    flow, counts = native_flow(frames, kind(**{**few, **changes}))
    expected, expected_counts = reference_flow(frames, kind(**{**few, **changes}))
    assert counts == expected_counts
    assert_flow_near(flow, expected, FEW_ITERATIONS)
    if changes:  # a parameter that was ignored would be seen
        with pytest.raises(AssertionError, match="q99_px"):
            assert_flow_near(reference_flow(frames, kind(**few))[0], expected, FEW_ITERATIONS)


@BOTH
@pytest.mark.parametrize("scale_step", [0.8, 0.5])
@pytest.mark.parametrize("gamma", [0.0, 0.2])
def test_flow_from_an_initial_flow_is_the_references(kind: type[Parameters], scale_step: float, gamma: float) -> None:
    frames = difficult_pair(50, 70)
    start = cv2.GaussianBlur(random_flow(50, 70), (0, 0), 4) * np.float32(20)
    parameters = kind(**{**BASE, **FEW[kind]}, scale_step=scale_step, gamma=gamma)
    flow, counts = native_flow(frames, parameters, start)
    expected, expected_counts = reference_flow(frames, parameters, start)
    assert counts == expected_counts
    assert_flow_near(flow, expected, FEW_ITERATIONS)
    with pytest.raises(AssertionError, match="q99_px"):
        assert_flow_near(native_flow(frames, parameters)[0], expected, FEW_ITERATIONS)


@BOTH
@pytest.mark.parametrize(("height", "width"), [(1, 1), (1, 40), (2, 2), (3, 3), (3, 50), (50, 3), (16, 17), (33, 31)])
def test_flow_of_small_and_odd_sizes_is_the_references(kind: type[Parameters], height: int, width: int) -> None:
    frames = np.stack(difficult_pair(height + 8, width + 8))[:, 4 : 4 + height, 4 : 4 + width]
    parameters = kind(**{**BASE, **FEW[kind]})
    flow, counts = native_flow(frames, parameters)
    expected, expected_counts = reference_flow(frames, parameters)
    assert counts == expected_counts
    np.testing.assert_allclose(flow, expected, rtol=0, atol=2e-4)


# -- real pairs, default parameters ------------------------------------------------------------------------------------

# Pairs of which a last bit decides nothing; found by running, the same with AVX2 and AVX-512 arithmetic.
CALM_PAIRS = [
    (TVL1CPUParameters, "rubberwhale"),
    (TVL1CPUParameters, "chairs_0000000"),
    (TVL1CPUParameters, "chairs_0000003"),
    (TVL1CUDAParameters, "rubberwhale"),
    (TVL1CUDAParameters, "chairs_0000000"),
    (TVL1CUDAParameters, "ipol_tvl1"),
    (TVL1CUDAParameters, "soccer"),
    (TVL1CUDAParameters, "basketball"),
]


@needs_shared
@pytest.mark.parametrize(("kind", "name"), CALM_PAIRS, ids=lambda value: value if isinstance(value, str) else None)
def test_calm_real_pairs_have_the_references_flow_and_iterations(kind: type[Parameters], name: str) -> None:
    flow, counts = native_flow(real_pair(name), kind())
    expected, expected_counts = reference_flow(real_pair(name), kind())
    assert counts == expected_counts
    assert_flow_near(flow, expected, CALM)


@needs_shared
@pytest.mark.parametrize("name", ["chairs_0000003", "cartwheel", "makeup", "truman"])
def test_other_real_pairs_of_variant_cuda_are_near_the_reference(name: str) -> None:
    parameters = TVL1CUDAParameters()
    assert_flow_near(
        native_flow(real_pair(name), parameters)[0], reference_flow(real_pair(name), parameters)[0], CHAOTIC
    )


@needs_shared
@pytest.mark.skipif(int(cv2.__version__.split(".")[0]) < 5, reason="OpenCV 4 rounds coordinates of the warp")
@pytest.mark.parametrize("name", [*IMAGES, *CLIPS])
def test_variant_cpu_is_as_near_to_opencv_as_opencv_to_itself(name: str) -> None:
    """With IPP on, OpenCV's images of the pyramid differ in last bits."""
    frames = real_pair(name)
    with create_backend("opencv") as backend:  # IPP off
        prepared = backend.prepare(frames)
        expected = backend.compute(prepared[:1], prepared[1:])[0]
    flow, _ = native_flow(frames, TVL1CPUParameters())
    assert_flow_near(flow, expected, CHAOTIC)
    before = cv2.ipp.useIPP()
    cv2.ipp.setUseIPP(True)
    try:
        with_ipp = _cv2.optflow.DualTVL1OpticalFlow_create().calc(*frames, None)
        if not cv2.ipp.useIPP():
            return  # an OpenCV without IPP
    finally:
        cv2.ipp.setUseIPP(before)
    ours, itself = (np.linalg.norm(other - expected, axis=-1) for other in (flow, with_ipp))
    assert np.median(ours) <= 5 * np.median(itself) + 1e-4
    assert ours.mean() <= 5 * itself.mean() + 1e-3

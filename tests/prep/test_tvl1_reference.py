"""The TV-L1 reference as a whole: equal to OpenCV's CPU object in every bit, stop rules, defined results."""

# ruff: noqa: N803, N806  (symbols as in the papers)

from __future__ import annotations

import math
from typing import Any

import cv2
import numpy as np
import pytest
from contracts.flow_backend import moving_texture
from helpers.shared_data import FLOW, needs_shared
from helpers.tvl1 import (
    BOTH,
    OPENCV_SCALES_IN_DOUBLE,
    Image,
    difficult_pair,
    float32,
    needs_same_warp,
    random_flow,
    scaled_in_double,
)

from flowprep.errors import SettingsError
from flowprep.flow import create_backend
from flowprep.flow.tvl1 import reference
from flowprep.flow.tvl1.params import TVL1CPUParameters, TVL1CUDAParameters
from flowprep.flow.tvl1.reference import DataTerm, Parameters, WarpRecord, tvl1_flow
from flowprep.ipp import without_ipp

_cv2: Any = cv2  # the type stubs of the wheels lack the create functions

# -- equal to OpenCV ---------------------------------------------------------------------------------------------------


def opencv_flow(I0: Any, I1: Any, parameters: TVL1CPUParameters, initial_flow: Image | None = None) -> Image:
    algorithm = _cv2.optflow.DualTVL1OpticalFlow_create(
        parameters.tau,
        parameters.lambda_,
        parameters.theta,
        parameters.num_scales,
        parameters.num_warps,
        parameters.epsilon,
        parameters.inner_iterations,
        parameters.outer_iterations,
        parameters.scale_step,
        parameters.gamma,
        parameters.median_filtering,
        initial_flow is not None,
    )
    with without_ipp():
        flow: Image = algorithm.calc(I0, I1, None if initial_flow is None else initial_flow.copy())
    return flow


@pytest.fixture
def scaled_as_here(monkeypatch: pytest.MonkeyPatch) -> None:
    """The reference with the product of the OpenCV that is installed, so that all the rest is compared with it."""
    if OPENCV_SCALES_IN_DOUBLE:
        monkeypatch.setattr(reference, "scaled", scaled_in_double)


CONFIGURATIONS = {
    "defaults": TVL1CPUParameters(),
    "gamma": TVL1CPUParameters(gamma=1.0),
    "one_loop": TVL1CPUParameters(gamma=0.1, median_filtering=1, inner_iterations=1, outer_iterations=60),
    "half": TVL1CPUParameters(scale_step=0.5),
    "smooth": TVL1CPUParameters(scale_step=0.7, median_filtering=3, lambda_=0.05, theta=0.2, tau=0.2),
}
each_configuration = pytest.mark.parametrize("parameters", CONFIGURATIONS.values(), ids=CONFIGURATIONS)


@needs_same_warp
@each_configuration
@pytest.mark.parametrize("dtype", [np.uint8, np.float32], ids=["uint8", "float32"])
@pytest.mark.usefixtures("scaled_as_here")
def test_flow_is_opencvs_to_the_last_bit(parameters: TVL1CPUParameters, dtype: Any) -> None:
    I0, I1 = difficult_pair(41, 55)
    if dtype == np.float32:
        I0, I1 = (float32(image / 255) for image in (I0, I1))
    np.testing.assert_array_equal(tvl1_flow(I0, I1, parameters), opencv_flow(I0, I1, parameters))


@needs_same_warp
@each_configuration
@pytest.mark.usefixtures("scaled_as_here")
def test_flow_from_an_initial_flow_is_opencvs_to_the_last_bit(parameters: TVL1CPUParameters) -> None:
    I0, I1 = difficult_pair(41, 55, seed=1)
    start = random_flow(41, 55)
    if parameters.scale_step == 0.5:
        start = np.rint(start * 8) / 8  # see test_halving_differs_from_opencv_in_last_bits_at_most
    flow = tvl1_flow(I0, I1, parameters, start)
    np.testing.assert_array_equal(flow, opencv_flow(I0, I1, parameters, start))
    assert np.abs(flow - tvl1_flow(I0, I1, parameters)).max() > 1e-3, "the initial flow was not used"


@needs_same_warp
@pytest.mark.parametrize(
    ("height", "width"), [(1, 1), (1, 7), (7, 1), (2, 2), (3, 3), (4, 40), (16, 17), (15, 33), (21, 20), (49, 31)]
)
def test_flow_of_small_and_odd_sizes_is_the_opencv_backends(height: int, width: int) -> None:
    frames = np.stack(difficult_pair(height + 8, width + 8))[:, 4 : 4 + height, 4 : 4 + width]
    with create_backend("opencv") as backend:
        prepared = backend.prepare(np.ascontiguousarray(frames))
        expected = backend.compute(prepared[:1], prepared[1:])[0]
    np.testing.assert_array_equal(tvl1_flow(frames[0], frames[1], TVL1CPUParameters()), expected)


@needs_shared
@needs_same_warp
@pytest.mark.parametrize("parameters", [TVL1CPUParameters(), TVL1CPUParameters(scale_step=0.99, num_scales=3)])
@pytest.mark.usefixtures("scaled_as_here")
def test_flow_of_real_images_is_opencvs_to_the_last_bit(parameters: TVL1CPUParameters) -> None:
    paths = [FLOW / "rubberwhale" / f"frame{k}.png" for k in (0, 1)]
    I0, I1 = (_cv2.imread(str(path), cv2.IMREAD_GRAYSCALE)[120:210, 230:330] for path in paths)
    np.testing.assert_array_equal(tvl1_flow(I0, I1, parameters), opencv_flow(I0, I1, parameters))


@pytest.mark.usefixtures("scaled_as_here")
@each_configuration
def test_all_but_the_warp_is_that_of_every_opencv(
    parameters: TVL1CPUParameters, monkeypatch: pytest.MonkeyPatch
) -> None:
    """OpenCV 4 rounds coordinates, and processors without FMA round more often: with its warp the rest is equal."""

    def warp(images: list[Image], x: Image, y: Image) -> list[Any]:
        return [cv2.remap(image, x, y, cv2.INTER_CUBIC) for image in images]

    I0, I1 = difficult_pair(40, 50, seed=2)
    monkeypatch.setattr(reference, "warp_cpu", warp)
    with without_ipp():
        flow = tvl1_flow(I0, I1, parameters)
    np.testing.assert_array_equal(flow, opencv_flow(I0, I1, parameters))


@needs_same_warp
@pytest.mark.parametrize("gamma", [0.0, 0.3])
@pytest.mark.parametrize("seed", range(3))
def test_iterations_end_when_opencvs_do(seed: int, gamma: float) -> None:
    """OpenCV does not tell its number of iterations: without the stop rule it must need the same to the same flow."""
    settings_of_one_warp: Any = {"num_scales": 1, "num_warps": 1, "median_filtering": 1, "inner_iterations": 1}
    I0, I1 = difficult_pair(33, 40, seed)
    trace: list[WarpRecord] = []
    parameters = TVL1CPUParameters(gamma=gamma, epsilon=0.03, outer_iterations=900, **settings_of_one_warp)
    tvl1_flow(I0, I1, parameters, trace=trace)
    stopped = opencv_flow(I0, I1, parameters)
    count = trace[0].num_iterations
    assert 2 < count < 900
    for outer_iterations, same in ((count - 1, False), (count, True), (count + 1, False)):
        limited = TVL1CPUParameters(gamma=gamma, epsilon=0, outer_iterations=outer_iterations, **settings_of_one_warp)
        assert np.array_equal(stopped, opencv_flow(I0, I1, limited)) is same


# -- iterations --------------------------------------------------------------------------------------------------------


def scripted_checks(
    monkeypatch: pytest.MonkeyPatch, parameters: TVL1CUDAParameters, errors: list[float]
) -> tuple[list[int], int]:
    """At which iterations `iterate_cuda` computes the error if that has these values, and how many it does."""
    count = 0
    checked: list[int] = []

    def primal_step(data: DataTerm, u: Any, p: Any, parameters: Any) -> Any:
        nonlocal count
        count += 1
        return u

    def change(u_old: Any, u: Any) -> float:
        checked.append(count - 1)
        return errors[len(checked) - 1]

    monkeypatch.setattr(reference, "primal_step", primal_step)
    monkeypatch.setattr(reference, "change_cuda", change)
    zero = np.zeros((10, 10), np.float32)
    _, _, counts = reference.iterate_cuda(
        DataTerm(zero, zero, zero, zero), [zero, zero], [(zero, zero)] * 2, parameters
    )
    assert counts[0] == count
    return checked, count


@pytest.mark.parametrize("ratio", [1.5, 2.5, 3.9, 4.1, 17, 100.5, 280])
def test_next_check_of_cuda_is_known_from_the_last_error(ratio: float, monkeypatch: pytest.MonkeyPatch) -> None:
    S = 0.01 * 0.01 * 100
    checked, count = scripted_checks(monkeypatch, TVL1CUDAParameters(), [ratio * S, 0.5 * S])
    # After error e at n: at n + 2j, j >= 1 the smallest with e < 2jS.
    assert checked == [1, 1 + 2 * max(1, math.floor(ratio / 2) + 1)]
    assert count == checked[-1] + 1  # the dual step of the last iteration is done


def test_cuda_goes_on_to_the_limit_after_a_large_error(monkeypatch: pytest.MonkeyPatch) -> None:
    assert scripted_checks(monkeypatch, TVL1CUDAParameters(), [300.0]) == ([1], 300)


def test_cuda_without_epsilon_never_checks(monkeypatch: pytest.MonkeyPatch) -> None:
    assert scripted_checks(monkeypatch, TVL1CUDAParameters(epsilon=0, iterations=17), []) == ([], 17)


def test_cpu_filters_at_the_head_of_each_outer_iteration() -> None:
    I0, I1 = difficult_pair(24, 30)
    trace: list[WarpRecord] = []
    parameters = TVL1CPUParameters(epsilon=0, inner_iterations=4, outer_iterations=3, num_scales=1, num_warps=2)
    tvl1_flow(I0, I1, parameters, trace=trace)
    assert [(record.num_iterations, record.num_median_filters) for record in trace] == [(12, 3)] * 2


@pytest.mark.parametrize(
    "parameters",
    [
        TVL1CUDAParameters(iterations=1, num_scales=1, num_warps=1),
        TVL1CPUParameters(inner_iterations=1, outer_iterations=1, num_scales=1, num_warps=1, median_filtering=1),
    ],
    ids=["cuda", "cpu"],
)
def test_first_iteration_on_a_worked_ramp(parameters: Parameters) -> None:
    """I1 rises by 10 a pixel and I0 is I1 moved by half a pixel: rho = -5.

    Inside, grad = 100 and rho < -4.5, so that the step is 0.045 * 10; in the first and last column the gradient is 5.
    """
    columns = np.broadcast_to(np.arange(6), (4, 6))
    I0, I1 = (columns * 10 + 5).astype(np.uint8), (columns * 10).astype(np.uint8)
    flow = tvl1_flow(I0, I1, parameters)
    np.testing.assert_allclose(flow[..., 0], np.broadcast_to([0.225, *[0.45] * 4, 0.225], (4, 6)), rtol=1e-6)
    np.testing.assert_array_equal(flow[..., 1], 0)


@BOTH
def test_trace_names_every_warp_of_every_level(kind: type[Parameters]) -> None:
    trace: list[WarpRecord] = []
    I0, I1 = difficult_pair(24, 40)
    parameters = kind(num_warps=2)
    tvl1_flow(I0, I1, parameters, trace=trace)
    # 24 -> 19 -> 15, which is below 16.
    assert [(record.level, record.warp) for record in trace] == [(1, 0), (1, 1), (0, 0), (0, 1)]
    assert pytest.approx(1e-4 * 24 * 40) == trace[-1].S
    assert pytest.approx(1e-4 * 19 * 32) == trace[0].S
    assert all(record.error <= record.S for record in trace if record.num_iterations < 300)
    assert all((record.num_median_filters > 0) == (kind is TVL1CPUParameters) for record in trace)


# -- whole algorithm, both variants ------------------------------------------------------------------------------------


@BOTH
def test_translation_is_found(kind: type[Parameters]) -> None:
    I0, I1 = moving_texture(2)
    flow = tvl1_flow(I0, I1, kind())
    assert flow.dtype == np.float32
    assert flow.shape == (48, 64, 2)
    np.testing.assert_allclose(np.median(flow, axis=(0, 1)), (1, -1), atol=0.05)


@BOTH
def test_equal_and_constant_images_have_no_flow(kind: type[Parameters]) -> None:
    still, _ = moving_texture(2, 30, 33)
    dark, bright = np.full((20, 25), 3, np.uint8), np.full((20, 25), 250, np.uint8)
    np.testing.assert_array_equal(tvl1_flow(still, still, kind()), 0)
    np.testing.assert_array_equal(tvl1_flow(dark, bright, kind()), 0)


@BOTH
def test_float_images_are_taken_as_0_to_1(kind: type[Parameters]) -> None:
    I0, I1 = difficult_pair(20, 24)
    flow = tvl1_flow(float32(I0) / np.float32(256), float32(I1) / np.float32(256), kind(lambda_=0.15 * 256 / 255))
    # Images times k with lambda / k are the same problem; only rounding differs.
    np.testing.assert_allclose(np.median(flow - tvl1_flow(I0, I1, kind()), axis=(0, 1)), 0, atol=1e-3)


@BOTH
def test_initial_flow_stays_where_the_images_say_nothing(kind: type[Parameters]) -> None:
    grey = np.full((40, 50), 100, np.uint8)
    start = np.broadcast_to(float32([2.5, -1.25]), (40, 50, 2))
    trace: list[WarpRecord] = []
    flow = tvl1_flow(grey, grey, kind(), start, trace)
    assert trace[0].level == 4
    if kind is TVL1CUDAParameters:  # beyond its border, variant cpu sees black
        np.testing.assert_allclose(flow, start, rtol=1e-5)
    np.testing.assert_allclose(flow[15:25, 20:30], start[15:25, 20:30], rtol=0.1)


@BOTH
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 1e30, -3e9])
def test_absurd_initial_flow_gives_a_defined_result_and_ends(kind: type[Parameters], value: float) -> None:
    I0, I1 = difficult_pair(24, 20)
    start = random_flow(24, 20)
    start[3, 4] = value
    trace: list[WarpRecord] = []
    parameters = kind(num_warps=2)
    flow = tvl1_flow(I0, I1, parameters, start, trace)
    assert flow.shape == (24, 20, 2)
    np.testing.assert_array_equal(flow, tvl1_flow(I0, I1, parameters, start))
    assert all(record.num_iterations <= 300 for record in trace)


@BOTH
def test_nothing_but_nan_ends_the_iterations_of_each_warp(kind: type[Parameters]) -> None:
    I0, I1 = difficult_pair(24, 20)
    trace: list[WarpRecord] = []
    flow = tvl1_flow(I0, I1, kind(), np.full((24, 20, 2), np.nan, np.float32), trace)
    assert np.isnan(flow).all()
    # An error that is NaN is not above S; the first check of variant cuda is in the second iteration.
    assert {record.num_iterations for record in trace} == {2 if kind is TVL1CUDAParameters else 1}


def test_median_filter_removes_a_nan() -> None:
    I0, I1 = difficult_pair(24, 20)
    start = random_flow(24, 20)
    start[3, 4] = np.nan
    assert np.isfinite(tvl1_flow(I0, I1, TVL1CPUParameters(num_scales=1), start)).all()
    assert np.isnan(tvl1_flow(I0, I1, TVL1CPUParameters(num_scales=1, median_filtering=1), start)).any()


@BOTH
def test_images_that_are_not_finite_give_a_defined_result(kind: type[Parameters]) -> None:
    I0, I1 = (float32(image / 255) for image in difficult_pair(20, 24))
    I1[5, 6], I0[12, 3] = np.nan, np.inf
    flow = tvl1_flow(I0, I1, kind())
    np.testing.assert_array_equal(flow, tvl1_flow(I0, I1, kind()))


@BOTH
def test_huge_contrast_and_parameters_end(kind: type[Parameters]) -> None:
    board = (np.indices((30, 31)).sum(axis=0) % 2 * 255).astype(np.uint8)
    flow = tvl1_flow(board, 255 - board, kind(lambda_=1e6, theta=50.0, num_warps=2))
    assert flow.shape == (30, 31, 2)


@pytest.mark.parametrize(
    ("I0", "I1", "start", "message"),
    [
        (np.zeros((4, 4)), np.zeros((4, 4)), None, "`I0` must be uint8 or float32"),
        (np.zeros((0, 4), np.uint8), np.zeros((0, 4), np.uint8), None, "`I0` must be uint8 or float32"),
        (np.zeros((4, 4), np.uint8), np.zeros((4, 5), np.uint8), None, r"`I1` must be uint8 \(4, 4\) as `I0`"),
        (np.zeros((4, 4), np.uint8), np.zeros((4, 4), np.float32), None, "`I1` must be uint8"),
        (np.zeros((4, 4), np.uint8), np.zeros((4, 4), np.uint8), np.zeros((4, 4)), "`initial_flow` must be float32"),
    ],
)
def test_wrong_arrays_are_refused(I0: Any, I1: Any, start: Any, message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        tvl1_flow(I0, I1, TVL1CPUParameters(), start)

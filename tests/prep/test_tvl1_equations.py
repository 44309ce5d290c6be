"""The functions of the TV-L1 reference one by one: sampling against OpenCV and by hand, the equations of the papers."""

# ruff: noqa: N803, N806  (symbols as in the papers)

from __future__ import annotations

import cv2
import numpy as np
import pytest
from helpers.tvl1 import BOTH, OPENCV_SCALES_IN_DOUBLE, float32, needs_same_warp, random_image, scaled_in_double
from hypothesis import given, settings
from hypothesis import strategies as st

from flowprep.flow.tvl1 import reference
from flowprep.flow.tvl1.params import TVL1CPUParameters, TVL1CUDAParameters
from flowprep.flow.tvl1.reference import DataTerm, Parameters
from flowprep.flow.tvl1.reference_sampling import (
    catmull_rom,
    cubic_weights,
    fma,
    median_filter,
    resize_cpu,
    resize_cuda,
    warp_cpu,
    warp_cuda,
)
from flowprep.ipp import without_ipp

# -- warping -----------------------------------------------------------------------------------------------------------


@needs_same_warp
@pytest.mark.parametrize("deviation_px", [0.3, 3, 50, 1e9])
def test_cpu_warp_is_opencvs_to_the_last_bit(deviation_px: float) -> None:
    image = random_image(37, 51)
    moves = np.random.default_rng(1).normal(size=(2, 37, 51)) * deviation_px
    y, x = float32(np.mgrid[:37, :51] + moves)
    x[0, :4] = [np.nan, np.inf, -np.inf, 1e38]
    y[1, :4] = [np.nan, np.inf, -np.inf, -1e38]
    with without_ipp():
        expected = cv2.remap(image, x, y, cv2.INTER_CUBIC)
    np.testing.assert_array_equal(warp_cpu([image], x, y)[0], expected)


def test_cpu_weights_sum_to_one_and_are_those_of_the_kernel() -> None:
    t = float32(np.linspace(0, 1, 101)[:-1])
    weights = cubic_weights(t)
    np.testing.assert_allclose(sum(weights), 1, atol=2e-7)
    np.testing.assert_array_equal([weight[0] for weight in weights], [0, 1, 0, 0])
    # Keys' kernel at distance 1.5 and 0.5: a/8 and 1/2 - a/8.
    np.testing.assert_allclose([weight[50] for weight in weights], [-0.09375, 0.59375, 0.59375, -0.09375], atol=1e-7)


def test_cpu_warp_sees_zero_outside() -> None:
    image = np.full((5, 6), 100, np.float32)
    x, y = float32([[-0.5, -2, -9, 7, 2.5]]), float32([[2, 2, 2, 2, 2.5]])
    (values,) = warp_cpu([image], x, y)
    # Half a pixel left of the first column the taps at 0 and 1 are left.
    np.testing.assert_allclose(values, [[100 * (0.59375 - 0.09375), 0, 0, 0, 100]], rtol=1e-6)


def test_fma_rounds_once() -> None:
    a, b, c = float32([1 + 2**-12]), np.float32(1 + 2**-12), np.float32(-1 - 2**-11)
    assert a * b + c == 0
    assert fma(a, b, c) == 2**-24


def test_catmull_rom_kernel_values() -> None:
    np.testing.assert_array_equal(
        catmull_rom(float32([0, 0.5, 1, -1.5, 2, 2.5])), float32([1, 0.5625, 0, -0.0625, 0, 0])
    )


def test_cuda_warp_reproduces_linear_images_inside_and_whole_coordinates_everywhere() -> None:
    rows, columns = np.mgrid[:12, :15]
    image = float32(3 * columns - 2 * rows + 5)
    rng = np.random.default_rng(0)
    x, y = float32(rng.uniform(1, 13, (12, 15))), float32(rng.uniform(1, 10, (12, 15)))
    np.testing.assert_allclose(warp_cuda([image], x, y)[0], 3 * x - 2 * y + 5, atol=2e-5)
    noise = random_image(12, 15)
    x, y = float32(columns), float32(rows)
    np.testing.assert_array_equal(warp_cuda([noise], x, y)[0], noise)


def test_cuda_warp_continues_the_edge_pixels_outside() -> None:
    image = float32([[1, 2, 4, 8], [3, 5, 7, 9], [10, 20, 30, 40]])
    x = float32([[-1, -70, 9.5, 1e30, 1.5, np.nan, np.inf]])
    y = float32([[0, 1, 1, 1, -5, 2, 0]])
    # Between 2 and 4 at 1.5: (-1 + 9 * 2 + 9 * 4 - 8) / 16.
    np.testing.assert_allclose(warp_cuda([image], x, y)[0], [[1, 3, 9, 9, 2.8125, 10, 8]], rtol=1e-6)


def test_warps_sample_all_images_alike() -> None:
    images = [random_image(9, 11, seed) for seed in range(3)]
    y, x = float32(np.mgrid[:9, :11] + 0.3)
    for warp in (warp_cpu, warp_cuda):
        for image, warped in zip(images, warp(images, x, y), strict=True):
            np.testing.assert_array_equal(warped, warp([image], x, y)[0])


# -- pyramid -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("scale_step", [0.8, 0.7, 0.33, 0.95])
@pytest.mark.parametrize(("height", "width"), [(50, 70), (33, 64), (17, 100)])
def test_cpu_resizing_is_opencvs_to_the_last_bit(height: int, width: int, scale_step: float) -> None:
    image = random_image(height, width)
    with without_ipp():
        coarse = cv2.resize(image, None, fx=scale_step, fy=scale_step, interpolation=cv2.INTER_LINEAR)
        fine = cv2.resize(coarse, (width, height), interpolation=cv2.INTER_LINEAR)
    parameters = TVL1CPUParameters(scale_step=scale_step)
    np.testing.assert_array_equal(reference.coarser(image, parameters), coarse)
    inverse_y, inverse_x = 1 / (height / coarse.shape[0]), 1 / (width / coarse.shape[1])
    np.testing.assert_array_equal(resize_cpu(float32(coarse), height, width, inverse_y, inverse_x), fine)


@pytest.mark.parametrize(("height", "width"), [(50, 70), (49, 51), (51, 53)])
def test_halving_differs_from_opencv_in_last_bits_at_most(height: int, width: int) -> None:
    image = random_image(height, width)
    with without_ipp():
        coarse = cv2.resize(image, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_LINEAR)
    difference = np.abs(reference.coarser(image, TVL1CPUParameters(scale_step=0.5)) - coarse)
    assert difference.max() < 2e-5
    assert (difference != 0).any(axis=0).sum() <= 3


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        (TVL1CUDAParameters, [0, 12.5, 25, 37.5, 50, 62.5, 75, 87.5]),  # x * 1.25
        (TVL1CPUParameters, [1.25, 13.75, 26.25, 38.75, 51.25, 63.75, 76.25, 88.75]),  # (x + 1/2) * 1.25 - 1/2
    ],
    ids=["cuda", "cpu"],
)
def test_level_of_a_ramp_shows_the_alignment(kind: type[Parameters], expected: list[float]) -> None:
    ramp = float32(np.broadcast_to(np.arange(10) * 10.0, (10, 10)))
    for image, coarse in ((ramp, np.broadcast_to(expected, (8, 8))), (ramp.T, np.broadcast_to(expected, (8, 8)).T)):
        np.testing.assert_array_equal(reference.coarser(np.ascontiguousarray(image), kind()), coarse)


def test_cuda_halving_takes_every_second_pixel() -> None:
    image = random_image(20, 34)
    np.testing.assert_array_equal(reference.coarser(image, TVL1CUDAParameters(scale_step=0.5)), image[::2, ::2])


def test_cuda_upsampling_repeats_the_last_pixels() -> None:
    # Source coordinates 0, 0.75, 1.5, 2.25; the neighbour of 2 is 2 again.
    expected = [[0, 7.5, 15, 20]]
    np.testing.assert_array_equal(resize_cuda(float32([[0, 10, 20]]), 1, 4, 1, 0.75), expected)


@BOTH
def test_upsampling_turns_pixels_into_finer_pixels_but_not_illumination(kind: type[Parameters]) -> None:
    coarse = [np.full((16, 20), value, np.float32) for value in (1.1, -2.3, 7)]
    parameters = kind(scale_step=0.7, gamma=1)
    u1, u2, u3 = reference.upsampled(coarse, (23, 29), parameters)
    assert u1.shape == u2.shape == u3.shape == (23, 29)
    np.testing.assert_allclose(u1, np.float32(1.1) / 0.7, rtol=1e-6)
    np.testing.assert_allclose(u2, np.float32(-2.3) / 0.7, rtol=1e-6)
    np.testing.assert_allclose(u3, 7, rtol=1e-6)


@pytest.mark.parametrize("factor", [0.8, 0.7, 1 / 0.8, 1 / 0.7])
def test_flow_is_scaled_as_by_opencv(factor: float) -> None:
    """`cv::multiply` by a number: in float32 since OpenCV 5.1, before in double, which is the same for 1 / 0.8."""
    values = random_image(40, 40)
    in_double = scaled_in_double(values, factor)
    assert np.array_equal(in_double, reference.scaled(values, factor)) is (factor == 1 / 0.8)
    expected = in_double if OPENCV_SCALES_IN_DOUBLE else reference.scaled(values, factor)
    np.testing.assert_array_equal(cv2.multiply(values, (factor, 0, 0, 0)), expected)


# -- median ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("side", [3, 5])
@pytest.mark.parametrize(("height", "width"), [(20, 31), (3, 3), (4, 17)])
def test_median_is_opencvs(side: int, height: int, width: int) -> None:
    image = random_image(height, width)
    np.testing.assert_array_equal(median_filter(image, side), cv2.medianBlur(image, side))


# -- equations ---------------------------------------------------------------------------------------------------------


def test_centered_gradient_of_a_ramp() -> None:
    ramp = float32(np.broadcast_to(3 * np.arange(5), (4, 5)))
    Ix, Iy = reference.centered_gradient(ramp)
    np.testing.assert_array_equal(Ix, np.broadcast_to([1.5, 3, 3, 3, 1.5], (4, 5)))
    np.testing.assert_array_equal(Iy, 0)
    np.testing.assert_array_equal(reference.centered_gradient(ramp.T.copy())[1], Ix.T)


def test_divergence_is_the_negative_adjoint_of_the_gradient() -> None:
    rng = np.random.default_rng(0)
    u, p1, p2 = (float32(rng.integers(-50, 50, (7, 9))) for _ in range(3))  # whole numbers: the sums are exact
    p1[:, -1] = 0
    p2[-1] = 0
    ux, uy = reference.forward_gradient(u)
    assert np.sum(ux * p1 + uy * p2) == -np.sum(u * reference.divergence(p1, p2))


def test_dual_variable_stays_zero_where_the_divergence_relies_on_it() -> None:
    p = [(np.zeros((6, 7), np.float32), np.zeros((6, 7), np.float32))]
    for seed in range(4):
        p = reference.dual_step([random_image(6, 7, seed)], p, TVL1CPUParameters())
    assert (p[0][0][:, -1] == 0).all()
    assert (p[0][1][-1] == 0).all()
    assert (p[0][0][:, :-1] != 0).all()


@BOTH
def test_dual_step_on_a_worked_pixel_and_inside_the_unit_disc(kind: type[Parameters]) -> None:
    u = float32([[0, 3], [4, 0]])
    zero = np.zeros((2, 2), np.float32)
    ((p1, p2),) = reference.dual_step([u], [(zero, zero)], kind(tau=0.25, theta=0.5))
    assert (p1[0, 0], p2[0, 0]) == (np.float32(1.5 / 3.5), np.float32(2 / 3.5))  # |(3, 4)| = 5, tau/theta = 1/2
    p = [(zero, zero)]
    for seed in range(9):
        p = reference.dual_step([random_image(2, 2, seed)], p, kind())
        assert np.hypot(*p[0]).max() <= 1


def data_term(rho_c: float, I1wx: float, I1wy: float) -> DataTerm:
    x, y = float32([[I1wx]]), float32([[I1wy]])
    return DataTerm(x, y, x * x + y * y, float32([[rho_c]]))


@BOTH
@settings(max_examples=30, deadline=None)
@given(
    rho_c=st.floats(-40, 40, width=32),
    I1wx=st.floats(-20, 20, width=32),
    I1wy=st.floats(-20, 20, width=32),
    u1=st.floats(-3, 3, width=32),
    u2=st.floats(-3, 3, width=32),
)
def test_threshold_minimises_data_and_coupling_term(
    kind: type[Parameters], rho_c: float, I1wx: float, I1wy: float, u1: float, u2: float
) -> None:
    parameters = kind()

    def energy(v1: float, v2: float) -> float:
        coupling = ((v1 - u1) ** 2 + (v2 - u2) ** 2) / (2 * parameters.theta)
        return parameters.lambda_ * abs(rho_c + I1wx * v1 + I1wy * v2) + coupling

    u = [float32([[u1]]), float32([[u2]])]
    v1, v2 = (float(v[0, 0]) for v in reference.thresholded(data_term(rho_c, I1wx, I1wy), u, parameters))
    lowest = energy(v1, v2)
    for radius in (1e-2, 0.3):
        for angle in np.linspace(0, 2 * np.pi, 16):
            assert energy(v1 + radius * np.cos(angle), v2 + radius * np.sin(angle)) > lowest - 1e-4


@BOTH
@pytest.mark.parametrize(
    ("rho_c", "I1wx", "step"),
    [
        (-5, 10, 0.45),  # rho < -lt grad = -4.5: lambda theta = 0.045 times the gradient
        (5, 10, -0.45),
        (2, 10, -0.2),  # between: to rho = 0
        (4.5, 10, -0.45),
        (7, 0, 0),  # rho > 0 = lt grad, but the gradient is 0
        (0, 1e-4, 0),
    ],
)
def test_threshold_on_worked_pixels(kind: type[Parameters], rho_c: float, I1wx: float, step: float) -> None:
    u = [np.zeros((1, 1), np.float32) for _ in range(2)]
    v1, v2 = reference.thresholded(data_term(rho_c, I1wx, 0), u, kind())
    assert v1[0, 0] == pytest.approx(step, rel=1e-6)
    assert v2[0, 0] == 0


@BOTH
def test_gradient_below_epsilon_takes_no_newton_step(kind: type[Parameters]) -> None:
    for I1wx, step in ((3.4e-4, 0.0), (3.5e-4, -1e-9 / 3.5e-4)):  # squares 1.16e-7 and 1.23e-7
        u = [np.zeros((1, 1), np.float32) for _ in range(2)]
        v1, _ = reference.thresholded(data_term(1e-9, I1wx, 0), u, kind())
        assert v1[0, 0] == pytest.approx(step, rel=1e-5)


@BOTH
def test_illumination_shares_the_step(kind: type[Parameters]) -> None:
    u = [float32([[value]]) for value in (0, 0, 2)]
    v = reference.thresholded(data_term(-3, 10, 0), u, kind(gamma=0.5))  # rho = -3 + 0.5 * 2
    np.testing.assert_allclose([component[0, 0] for component in v], [0.2, 0, 2 + 0.02 * 0.5], rtol=1e-6)


def test_variants_add_the_illumination_in_different_orders() -> None:
    data = data_term(1, 1, 0)
    u = [float32([[value]]) for value in (1e8, 0, -1e8)]
    assert reference.residual(data, u, TVL1CUDAParameters(gamma=1))[0, 0] == 1
    assert reference.residual(data, u, TVL1CPUParameters(gamma=1))[0, 0] == 0


def test_error_sums_differ_in_precision_and_illumination() -> None:
    u_old = [np.zeros((1, 3), np.float32) for _ in range(3)]
    u = [float32([[4096, 1, 0]]), float32([[0, 0, 1]]), float32([[0, 0, 3]])]
    assert reference.change_cuda(u_old, u) == 2**24 + 2
    assert reference.change_cpu(u_old[:2], u[:2]) == 2**24  # in float32, one by one, the ones are lost
    assert reference.change_cpu(u_old, u) == 2**24 + 10

"""The arithmetic of a pixel: as plain Python against the reference's equations, and compiled against plain Python."""

# ruff: noqa: N806  (symbols as in the papers)

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numba
import numpy as np
import numpy.typing as npt
import pytest
from helpers.tvl1 import Image, float32

from flowprep.flow.tvl1 import pointwise, reference, reference_sampling
from flowprep.flow.tvl1.params import TVL1CPUParameters
from flowprep.flow.tvl1.reference import DataTerm
from flowprep.flow.tvl1.simd import LANES, load, pointer_to, splat, store

NUM = 512
RTOL = 2e-6  # some roundings of float32 against the same in double


def columns(num: int, scale: float = 1.0, seed: int = 0) -> Image:
    return float32(np.random.default_rng(seed).normal(size=(num, NUM)) * scale)


def pixel_by_pixel(function: Callable[..., Any], *arguments: Any) -> npt.NDArray[np.float64]:
    """The function on Python floats, (results, NUM) or (NUM,)."""
    pixels = np.broadcast_arrays(*arguments)
    values = [function(*map(float, pixel)) for pixel in zip(*pixels, strict=True)]
    return np.array(values).T


# -- against the reference ---------------------------------------------------------------------------------------------


def data_term(seed: int = 0) -> tuple[DataTerm, Image, Image]:
    """A line of pixels around all cases of the threshold, some without gradient; u1 and u2."""
    I1wx, I1wy, u1, u2, rho_c = columns(5, 10, seed)
    I1wx[::9], I1wy[::9] = 0, 0
    I1wx[4::9], I1wy[4::9] = 2e-4, -2e-4  # grad below FLT_EPSILON
    u1, u2 = u1 / 10, u2 / 10
    rho_c[::3] = -I1wx[::3] * u1[::3] - I1wy[::3] * u2[::3]  # rho near 0
    rho_c[::9] = 5
    return DataTerm(I1wx, I1wy, I1wx * I1wx + I1wy * I1wy, rho_c), u1, u2


def test_data_term_is_that_of_the_reference() -> None:
    data, u1, u2 = data_term()
    I0, I1w = columns(2, 50, seed=1)
    rho_c, minus_square = pixel_by_pixel(pointwise.linearise, I1w, data.I1wx, data.I1wy, I0, u1, u2)
    np.testing.assert_allclose(rho_c, I1w - data.I1wx * u1 - data.I1wy * u2 - I0, rtol=0, atol=1e-4)
    flat = data.grad <= np.finfo(np.float32).eps
    assert 0 < flat.sum() < NUM
    np.testing.assert_allclose(minus_square[~flat], -data.grad[~flat], rtol=RTOL)
    assert (np.abs(minus_square[flat] + 1e-30) < 1e-36).all()


@pytest.mark.parametrize("gamma", [0.0, 0.7])
def test_thresholding_is_that_of_the_reference(gamma: float) -> None:
    """Three cases and that of no gradient, there by comparisons, here one clamp."""
    parameters = TVL1CPUParameters(gamma=gamma)
    data, u1, u2 = data_term()
    u3 = columns(1, 2, seed=2)[0]
    v = reference.thresholded(data, [u1, u2, u3], parameters)
    limit = parameters.lambda_ * parameters.theta
    _, minus_square = pixel_by_pixel(pointwise.linearise, 0, data.I1wx, data.I1wy, 0, u1, u2)
    rho = pixel_by_pixel(pointwise.residual, data.rho_c, data.I1wx, data.I1wy, u1, u2) + gamma * u3
    step = pixel_by_pixel(pointwise.threshold, rho, minus_square, limit)
    cases = [rho < -limit * data.grad, rho > limit * data.grad, data.grad > np.finfo(np.float32).eps]
    assert all(case.sum() > 20 for case in (cases[0], cases[1], cases[2] & ~cases[0] & ~cases[1]))
    for ours, expected in zip((u1 + step * data.I1wx, u2 + step * data.I1wy, u3 + step * gamma), v, strict=gamma != 0):
        # 0 < grad <= FLT_EPSILON with a small rho: the reference takes no step, here one of up to limit * |grad I1|.
        np.testing.assert_allclose(ours, expected, rtol=RTOL, atol=limit * 3.5e-4)


def test_primal_and_dual_steps_are_those_of_the_reference() -> None:
    parameters = TVL1CPUParameters()
    height, width = 16, NUM // 16
    u, p1, p2 = (values.reshape(height, width) for values in columns(3))
    p1[:, -1], p2[-1] = 0, 0
    p1_left, p2_above = np.roll(p1, 1, axis=1), np.roll(p2, 1, axis=0)  # from the last, which is 0
    div = pixel_by_pixel(pointwise.divergence, *(array.ravel() for array in (p1, p1_left, p2, p2_above)))
    np.testing.assert_allclose(div, reference.divergence(p1, p2).ravel(), rtol=0, atol=1e-6)
    step, derivative = columns(2, seed=3)
    expected = u.ravel() + step * derivative + parameters.theta * div
    ours = pixel_by_pixel(pointwise.primal_step, u.ravel(), step, derivative, div, parameters.theta)
    np.testing.assert_allclose(ours, expected, rtol=0, atol=1e-6)
    ux, uy = (gradient.ravel() for gradient in reference.forward_gradient(u))
    taut = parameters.tau / parameters.theta
    ours = pixel_by_pixel(pointwise.dual_step, p1.ravel(), p2.ravel(), ux, uy, taut)
    ((new1, new2),) = reference.dual_step([u], [(p1, p2)], parameters)
    np.testing.assert_allclose(ours, [new1.ravel(), new2.ravel()], rtol=RTOL, atol=1e-7)


@pytest.mark.parametrize("a", [-0.5, -0.75])
def test_cubic_weights_are_those_of_the_reference(a: float) -> None:
    t = np.linspace(0, 1, NUM, dtype=np.float32)
    ours = pixel_by_pixel(pointwise.cubic_weights, t, a)
    if a == -0.75:
        expected = reference_sampling.cubic_weights(t)
    else:
        expected = [reference_sampling.catmull_rom(t - np.float32(place)) for place in (-1, 0, 1, 2)]
    np.testing.assert_allclose(ours, expected, rtol=0, atol=1e-6)
    np.testing.assert_allclose(ours.sum(axis=0), 1, rtol=1e-15)
    np.testing.assert_array_equal(ours[:, 0], [0, 1, 0, 0])
    np.testing.assert_array_equal(ours[:, -1], [0, 0, 1, 0])


def test_central_difference_and_linear() -> None:
    x, y, w = columns(3)
    np.testing.assert_allclose(pixel_by_pixel(pointwise.central_difference, x, y), (y - x) / 2, rtol=0, atol=1e-6)
    np.testing.assert_allclose(pixel_by_pixel(pointwise.linear, x, y, w), x + (y - x) * w, rtol=0, atol=2e-6)
    np.testing.assert_array_equal(pixel_by_pixel(pointwise.linear, x, y, 0.0), x)
    np.testing.assert_array_equal(pixel_by_pixel(pointwise.linear, x, y, 1.0), y)


# -- compiled for vectors ----------------------------------------------------------------------------------------------


@numba.njit(error_model="numpy")
def compute_all(values: Any, out: Any) -> None:
    """Rows of out: the results of the functions in the order of `on_vectors_and_plainly`."""
    v, o, n = pointer_to(values), pointer_to(out), values.shape[1]
    for i in range(0, n, LANES):
        a, b, c = load(v, i), load(v, n + i), load(v, 2 * n + i)
        d, e, f = load(v, 3 * n + i), load(v, 4 * n + i), load(v, 5 * n + i)
        w0, w1, w2, w3 = pointwise.cubic_weights(a, splat(-0.75))
        rho_c, minus_square = pointwise.linearise(a, b, c, d, e, f)
        p1, p2 = pointwise.dual_step(a, b, c, d, splat(0.8))
        store(o, i, w0)
        store(o, n + i, w1)
        store(o, 2 * n + i, w2)
        store(o, 3 * n + i, w3)
        store(o, 4 * n + i, rho_c)
        store(o, 5 * n + i, minus_square)
        store(o, 6 * n + i, p1)
        store(o, 7 * n + i, p2)
        store(o, 8 * n + i, pointwise.fma(a, b, c))
        store(o, 9 * n + i, pointwise.damping(a, b, splat(0.8)))
        store(o, 10 * n + i, pointwise.linear(a, b, c))
        store(o, 11 * n + i, pointwise.central_difference(a, b))
        store(o, 12 * n + i, pointwise.residual(a, b, c, d, e))
        store(o, 13 * n + i, pointwise.threshold(a, e, splat(0.045)))
        store(o, 14 * n + i, pointwise.divergence(a, b, c, d))
        store(o, 15 * n + i, pointwise.primal_step(a, b, c, d, splat(0.3)))
        store(o, 16 * n + i, pointwise.select(a < b, c, d))


def test_compiled_for_vectors_it_is_the_same_arithmetic() -> None:
    values = columns(6)
    values[1, ::9], values[2, ::9] = 0, 0
    out = np.zeros((17, NUM), np.float32)
    compute_all(values, out)
    a, b, c, d, e, f = values
    plain = np.vstack(
        [
            pixel_by_pixel(pointwise.cubic_weights, a, -0.75),
            pixel_by_pixel(pointwise.linearise, a, b, c, d, e, f),
            pixel_by_pixel(pointwise.dual_step, a, b, c, d, 0.8),
            pixel_by_pixel(pointwise.fma, a, b, c),
            pixel_by_pixel(pointwise.damping, a, b, 0.8),
            pixel_by_pixel(pointwise.linear, a, b, c),
            pixel_by_pixel(pointwise.central_difference, a, b),
            pixel_by_pixel(pointwise.residual, a, b, c, d, e),
            pixel_by_pixel(pointwise.threshold, a, e, 0.045),
            pixel_by_pixel(pointwise.divergence, a, b, c, d),
            pixel_by_pixel(pointwise.primal_step, a, b, c, d, 0.3),
            pixel_by_pixel(lambda *pixel: pointwise.select(pixel[0] < pixel[1], pixel[2], pixel[3]), a, b, c, d),
        ]
    )
    # Sums of a few products of numbers up to 4: their rounding is relative to the largest product.
    np.testing.assert_allclose(out, plain, rtol=RTOL, atol=1e-5)


def test_u_is_rounded_as_by_the_reference() -> None:
    """Note [roundings of u]: without `fma`, and the step by a division."""
    values = columns(6)
    out = np.zeros((17, NUM), np.float32)
    compute_all(values, out)
    a, b, c, d, e, _ = values
    zero = np.zeros_like(a)
    rho = reference.residual(DataTerm(b, c, zero, a), [d, e], TVL1CPUParameters())
    np.testing.assert_array_equal(out[12], rho)
    np.testing.assert_array_equal(out[13], np.clip(a / e, np.float32(-0.045), np.float32(0.045)))
    np.testing.assert_array_equal(out[15], (a + b * c) + np.float32(0.3) * d)  # v + theta div p
    # Other roundings would be seen in these numbers.
    assert (rho != reference_sampling.fma(c, e, reference_sampling.fma(b, d, a))).any()
    assert (out[15] != reference_sampling.fma(d, np.float32(0.3), reference_sampling.fma(b, c, a))).any()

"""Pyramid, upsampled flow and warp of the CPU kernels against the reference; variant `cpu` to the bit."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import cv2
import numpy as np
import pytest
from helpers.tvl1 import BOTH, Image, difficult_pair, float32, needs_same_warp, random_flow, random_image
from helpers.tvl1_kernels import Warped, geometry_of, pyramid, upsampled, warp

from flowprep.flow.tvl1 import reference
from flowprep.flow.tvl1.params import TVL1CPUParameters, TVL1CUDAParameters
from flowprep.flow.tvl1.reference import Parameters
from flowprep.ipp import without_ipp

SIZES = [(3, 3), (3, 300), (300, 3), (16, 16), (20, 20), (31, 33), (61, 83), (64, 48), (97, 161)]

# Samples are sums of products in another order than the reference's: a few units in the last place of 255.
SAMPLE_TOLERANCE = 3e-4


# -- resizing ----------------------------------------------------------------------------------------------------------


@BOTH
@pytest.mark.parametrize("scale_step", [0.8, 0.5, 0.7, 0.95])
@pytest.mark.parametrize(("height", "width"), SIZES)
def test_pyramid_is_the_references(kind: type[Parameters], scale_step: float, height: int, width: int) -> None:
    """Variant `cuda` multiplies the weights of both directions first: a few units in the last place of 255 a level."""
    parameters = kind(scale_step=scale_step)
    frame = np.random.default_rng(height).integers(0, 256, (height, width), np.uint8)
    levels = pyramid(frame, parameters)
    assert len(levels) == parameters.num_levels(height, width)
    expected = float32(frame)
    for k, level in enumerate(levels):
        if k > 0:
            expected = reference.coarser(expected, parameters)
        if kind is TVL1CPUParameters:
            np.testing.assert_array_equal(level, expected)
        else:
            np.testing.assert_allclose(level, expected, rtol=0, atol=k * 6e-5)


@pytest.mark.parametrize("scale_step", [0.8, 0.7, 0.9])
def test_pyramid_is_opencvs(scale_step: float) -> None:
    frame, _ = difficult_pair(75, 101)
    levels = pyramid(frame, TVL1CPUParameters(scale_step=scale_step))
    with without_ipp():
        for finer, level in pairwise(levels):
            np.testing.assert_array_equal(level, cv2.resize(finer.copy(), None, fx=scale_step, fy=scale_step))


@BOTH
@pytest.mark.parametrize("scale_step", [0.8, 0.7])
@pytest.mark.parametrize(("height", "width"), [(23, 23), (31, 33), (61, 83), (33, 130)])
def test_upsampled_flow_is_the_references(kind: type[Parameters], height: int, width: int, scale_step: float) -> None:
    parameters = kind(scale_step=scale_step)
    coarse = geometry_of(height, width, parameters).sizes[1]
    component = random_flow(*coarse)[..., 0]
    finer = reference.upsampled([component] * 3, (height, width), parameters)
    tolerance = 0.0 if kind is TVL1CPUParameters else 2e-6
    for values, by in ((finer[0], 1 / scale_step), (finer[2], 1.0)):
        ours = upsampled(component, height, width, parameters, by)
        np.testing.assert_allclose(ours, values, rtol=0, atol=tolerance)
    if kind is TVL1CPUParameters:
        with without_ipp():
            expected = cv2.resize(component.copy(), (width, height))
        np.testing.assert_array_equal(upsampled(component, height, width, parameters, 1.0), expected)


# -- warp --------------------------------------------------------------------------------------------------------------


def smooth_flow(height: int, width: int) -> Image:
    y, x = np.mgrid[:height, :width]
    return float32(np.stack([2.3 + 0.013 * x - 0.02 * y, -1.4 + 0.031 * y + 0.01 * x], axis=-1))


def still_flow(height: int, width: int) -> Image:
    """Around zero, so that the whole part of neighbours' displacements is -1 or 0."""
    return random_flow(height, width) * np.float32(0.05)


def with_what_is_not_finite(height: int, width: int) -> Image:
    flow = random_flow(height, width)
    flow.reshape(-1)[:: max(height * width // 20, 1)] = np.nan
    flow[height // 2, ::3] = np.inf, -np.inf
    flow[height // 3, ::4] = -np.inf, 1.0
    return flow


FLOWS: dict[str, Any] = {
    "zero": lambda h, w: np.zeros((h, w, 2), np.float32),
    "whole": lambda h, w: np.rint(random_flow(h, w) * 4),
    "still": still_flow,
    "smooth": smooth_flow,
    "random": random_flow,
    "large": lambda h, w: random_flow(h, w) * np.float32(40),
    "huge": lambda h, w: random_flow(h, w) * np.float32(1e6),
    "beyond": lambda h, w: random_flow(h, w) * np.float32(1e30),
    "not_finite": with_what_is_not_finite,
}


def expected_warp(i0: Image, i1: Image, flow: Image, parameters: Parameters) -> Warped:
    with np.errstate(all="ignore"):
        data = reference.linearised(i0, i1, *reference.centered_gradient(i1), [flow[..., 0], flow[..., 1]], parameters)
        minus_square = np.where(data.grad > np.finfo(np.float32).eps, -data.grad, np.float32(-1e-30))
    return Warped(data.I1wx, data.I1wy, data.rho_c, minus_square)


@pytest.mark.parametrize("motion", FLOWS)
@pytest.mark.parametrize(("height", "width"), [(3, 3), (5, 16), (9, 17), (20, 31), (41, 55), (4, 100)])
def test_warp_of_variant_cpu_is_the_references_to_the_bit(motion: str, height: int, width: int) -> None:
    i0, i1 = random_image(height, width), random_image(height, width, 1)
    flow = FLOWS[motion](height, width)
    ours = warp(i0, i1, flow, variant="cpu")
    expected = expected_warp(i0, i1, flow, TVL1CPUParameters())
    for name, values in ours._asdict().items():
        np.testing.assert_array_equal(values, getattr(expected, name), err_msg=name)


@pytest.mark.parametrize("motion", FLOWS)
@pytest.mark.parametrize(("height", "width"), [(3, 3), (5, 16), (9, 17), (20, 31), (41, 55), (4, 100)])
def test_warp_of_variant_cuda_is_the_references(motion: str, height: int, width: int) -> None:
    i0, i1 = random_image(height, width), random_image(height, width, 1)
    flow = FLOWS[motion](height, width)
    ours = warp(i0, i1, flow, variant="cuda")
    expected = expected_warp(i0, i1, flow, TVL1CUDAParameters())
    np.testing.assert_allclose(ours.i1x, expected.i1x, rtol=0, atol=SAMPLE_TOLERANCE)
    np.testing.assert_allclose(ours.i1y, expected.i1y, rtol=0, atol=SAMPLE_TOLERANCE)
    with np.errstate(all="ignore"):
        # rho_c is I1 - <grad I1, u> - I0, whose rounding grows with u.
        length = np.abs(flow).sum(axis=-1)
        near = np.abs(ours.rho_c - expected.rho_c) <= 2 * SAMPLE_TOLERANCE * (1 + length) + 1e-6 * length * 255
        same = (ours.rho_c == expected.rho_c) | (np.isnan(ours.rho_c) & np.isnan(expected.rho_c))
    assert (near | same).all()


@needs_same_warp
def test_warped_image_and_gradients_are_opencvs_remap() -> None:
    _, i1 = (float32(image) for image in difficult_pair(41, 55))
    flow = random_flow(41, 55) * np.float32(8)
    y, x = (float32(grid) for grid in np.mgrid[:41, :55])
    zero = np.zeros_like(i1)
    ours = warp(zero, i1, flow, variant="cpu")
    for gradient, values in zip(reference.centered_gradient(i1), ours[:2], strict=True):
        expected = cv2.remap(gradient, x + flow[..., 0], y + flow[..., 1], cv2.INTER_CUBIC)
        np.testing.assert_array_equal(values, expected)
    image = cv2.remap(i1, x + flow[..., 0], y + flow[..., 1], cv2.INTER_CUBIC)
    np.testing.assert_array_equal(ours.rho_c, image - ours.i1x * flow[..., 0] - ours.i1y * flow[..., 1])


@pytest.mark.parametrize("variant", ["cpu", "cuda"])
@pytest.mark.parametrize("stray", [17.0, -1e6, 1e30, np.nan, np.inf])
@pytest.mark.parametrize("motion", [still_flow, smooth_flow])
def test_pixels_do_not_depend_on_the_window_that_they_share(variant: str, stray: float, motion: Any) -> None:
    """One pixel of each block goes astray: its neighbours leave the common window for turns, and keep their bits."""
    height, width = 24, 70
    i0, i1 = random_image(height, width), random_image(height, width, 1)
    together = motion(height, width)
    astray = np.zeros((height, width), bool)
    astray[np.arange(height)[:, None], np.arange(5, width, 16)[None]] = True
    apart = together.copy()
    apart[astray] = stray
    before, after = warp(i0, i1, together, variant=variant), warp(i0, i1, apart, variant=variant)
    for name, values in before._asdict().items():
        np.testing.assert_array_equal(getattr(after, name)[~astray], values[~astray], err_msg=name)
    assert not np.array_equal(after.i1x[astray], before.i1x[astray])


@pytest.mark.parametrize(("variant", "expected"), [("cpu", 0.0), ("cuda", 100.0)])
def test_beyond_the_border_is_black_or_the_border(variant: str, expected: float) -> None:
    """I0 black and no gradient inside: rho_c is the warped image alone."""
    i1 = np.full((20, 40), 100, np.float32)
    flow = np.zeros((20, 40, 2), np.float32)
    flow[..., 0] = 60.0
    warped = warp(np.zeros_like(i1), i1, flow, variant=variant)
    np.testing.assert_allclose(warped.rho_c, expected, rtol=1e-6)
    np.testing.assert_array_equal(warped.minus_square, np.float32(-1e-30))

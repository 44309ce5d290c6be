"""Each fusion against loops in NumPy, and what the initial filter does."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from helpers.networks import Array, convolved, debug_settings, grown
from torch import Tensor

from fusion_train.models.fusion import BilinearFusion, ConcatFusion, ConvFusion, MaxFusion, SumFusion

B, T, C, H, W = 2, 3, 4, 5, 6


def maps(seed: int, height: int = H, width: int = W, channels: int = C) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(B * T, channels, height, width, generator=generator)


SIZES = pytest.mark.parametrize("size", [(H, W), (H - 1, W - 1), (H + 1, W - 1)], ids=["equal", "smaller", "mixed"])
"""Sizes of the temporal map beside HxW."""


def both(size: tuple[int, int], channels: int = C) -> tuple[Tensor, Tensor, Array, Array]:
    """A spatial and a temporal map, and both as the fusion must pad them."""
    spatial, temporal = maps(1), maps(2, *size, channels=channels)
    height, width = max(H, size[0]), max(W, size[1])
    return (
        spatial,
        temporal,
        grown(spatial.double().numpy(), height, width),
        grown(temporal.double().numpy(), height, width),
    )


@SIZES
def test_sum_max_and_concatenation(size: tuple[int, int]) -> None:
    spatial, temporal, left, right = both(size)
    for fusion, rule in (
        (SumFusion(), lambda s, t: [a + b for a, b in zip(s, t, strict=True)]),
        (MaxFusion(), lambda s, t: [max(a, b) for a, b in zip(s, t, strict=True)]),
        (ConcatFusion(), lambda s, t: [*s, *t]),
    ):
        found = fusion(spatial, temporal, B).numpy()
        for n, y, x in np.ndindex(found.shape[0], *found.shape[2:]):
            np.testing.assert_allclose(found[n, :, y, x], rule(left[n, :, y, x], right[n, :, y, x]), rtol=1e-6)


def conv_fusion(over_time: bool, kernel: int, num_temporal: int = C, **overrides: Any) -> ConvFusion:
    settings = debug_settings(**overrides)
    return ConvFusion(C, num_temporal, kernel=kernel, over_time=over_time, rectify=True, settings=settings)


@SIZES
@pytest.mark.parametrize(("over_time", "kernel"), [(False, 1), (False, 3), (True, 3), (True, 1)])
@torch.no_grad()
def test_convolution_is_the_loop(size: tuple[int, int], over_time: bool, kernel: int) -> None:
    spatial, temporal, left, right = both(size, channels=C + 1)
    fusion = conv_fusion(over_time, kernel, C + 1)
    torch.nn.init.normal_(fusion.conv.weight)
    bias = fusion.conv.bias
    assert bias is not None
    torch.nn.init.normal_(bias)
    found = fusion(spatial, temporal, B).numpy()

    weight = fusion.conv.weight.double().numpy()
    if not over_time:
        weight = weight[:, :, None]  # one step of time
    stacked = np.concatenate([left, right], 1)
    clip = stacked.reshape(B, T, *stacked.shape[1:]).transpose(0, 2, 1, 3, 4)
    expected = np.maximum(convolved(clip, weight, bias.double().numpy()), 0).transpose(0, 2, 1, 3, 4)
    np.testing.assert_allclose(found, expected.reshape(found.shape), atol=1e-4)


def test_convolution_without_rectifier_lets_negative_values_pass() -> None:
    settings = debug_settings(init_spatial=1.0, init_temporal=1.0)
    fusion = ConvFusion(C, C, kernel=1, over_time=False, rectify=False, settings=settings)
    torch.testing.assert_close(fusion(maps(1), maps(2), B), maps(1) + maps(2))


@SIZES
@pytest.mark.parametrize("over_time", [False, True])
def test_bilinear_is_the_loop(size: tuple[int, int], over_time: bool) -> None:
    spatial, temporal, left, right = both(size, channels=C + 2)
    found = BilinearFusion(over_time=over_time)(spatial, temporal, B).numpy()
    expected = []
    for group in np.split(np.arange(B * T), B if over_time else B * T):
        total = np.zeros((C, C + 2))
        for n in group:
            for y, x in np.ndindex(*left.shape[2:]):
                total += np.outer(left[n, :, y, x], right[n, :, y, x])
        rooted = np.sign(total) * np.sqrt(np.abs(total))
        expected.append((rooted / np.sqrt((rooted**2).sum())).ravel())
    np.testing.assert_allclose(found[..., 0, 0], np.array(expected), atol=1e-5)


def test_bilinear_of_maps_that_are_zero_has_finite_gradients() -> None:
    spatial = torch.zeros(T, C, H, W, requires_grad=True)
    temporal = maps(1)[:T].relu().requires_grad_()
    BilinearFusion(over_time=True)(spatial, temporal, 1).sum().backward()
    assert spatial.grad is not None
    assert temporal.grad is not None
    assert spatial.grad.isfinite().all()
    assert temporal.grad.isfinite().all()


def test_initial_3d_filter_is_that_of_the_released_code() -> None:
    weight = conv_fusion(True, 3).conv.weight  # (Cs, Cs + Ct, t, y, x)
    total = sum(math.exp(-(x * x + y * y + t * t) / 2) for x in (-1, 0, 1) for y in (-1, 0, 1) for t in (-1, 0, 1))
    for o, i, t, y, x in np.ndindex(*weight.shape):
        gauss = math.exp(-((x - 1) ** 2 + (y - 1) ** 2 + (t - 1) ** 2) / 2) / total
        factor = 0.25 if i == o else 0.75 if i == o + C else 0.0
        assert weight[o, i, t, y, x].item() == pytest.approx(factor * gauss, abs=1e-7)


@pytest.mark.parametrize("over_time", [False, True])
@pytest.mark.parametrize("init", ["gaussian", "identity"])
def test_initial_filter_on_constant_maps_gives_a_quarter_and_three_quarters(over_time: bool, init: str) -> None:
    spatial = torch.rand(1, C, 1, 1).expand(T, C, H, W)
    temporal = torch.rand(1, C, 1, 1).expand(T, C, H, W)
    found = conv_fusion(over_time, 3, conv_init=init)(spatial, temporal, 1)
    chunks = slice(1, -1) if over_time else slice(None)  # beyond the first and last there are zeros
    inside = found[chunks, :, 1:-1, 1:-1]
    torch.testing.assert_close(inside, (0.25 * spatial + 0.75 * temporal)[chunks, :, 1:-1, 1:-1])


def test_other_initial_filters() -> None:
    torch.manual_seed(0)
    identity = conv_fusion(True, 3, conv_init="identity").conv.weight
    assert identity.count_nonzero() == 2 * C
    assert identity[1, 1 + C, 1, 1, 1].item() == 0.75
    random = conv_fusion(True, 3, 40, conv_init="random").conv.weight
    assert random.std().item() == pytest.approx(0.01, rel=0.1)
    one = conv_fusion(False, 1, init_spatial=1.0, init_temporal=0.0).conv.weight
    torch.testing.assert_close(one[:, :, 0, 0], torch.cat([torch.eye(C), torch.zeros(C, C)], 1))

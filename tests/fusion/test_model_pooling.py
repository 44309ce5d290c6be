"""3D pooling against loops in NumPy and against MaxPool3d; the windows of paper and released code."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from helpers.networks import pooled_3d
from torch import nn
from torch.nn import functional

from flowprep.errors import SettingsError
from fusion_train.config import ModelSettings
from fusion_train.models.backbones import backbone_of
from fusion_train.models.layers import Backbone, Layer, ResponseNorm
from fusion_train.models.pooling import TimePool, Window

LAYER = Layer("pool", "max", kernel=2, stride=2)
B, C = 2, 3


def window(kernel: str, stride: str, padding: str) -> Window:
    return ModelSettings(pool_kernel=kernel, pool_stride=stride, pool_padding=padding).pool_window


@pytest.mark.parametrize("num_chunks", [1, 2, 5, 6])
@pytest.mark.parametrize(
    ("kernel", "stride", "padding"),
    [
        ((3, 3, 3), (2, 2, 2), (1, 1, 1)),  # the paper
        ((3, 3, 3), (2, 2, 2), (0, 0, 0)),  # of 6 chunks the last lies in no window
        ((2, 2, 2), (2, 2, 2), (0, 0, 0)),
        ((1, 2, 3), (3, 1, 2), (0, 1, 0)),
        ((3, 1, 1), (1, 1, 1), (1, 0, 0)),
    ],
)
def test_pooling_is_the_loop_and_maxpool3d(
    kernel: tuple[int, ...], stride: tuple[int, ...], padding: tuple[int, ...], num_chunks: int
) -> None:
    if kernel[0] > num_chunks + 2 * padding[0]:
        return  # no window fits
    maps = torch.randn(B * num_chunks, C, 7, 6, generator=torch.Generator().manual_seed(1))
    layer = TimePool(LAYER, window(*(",".join(map(str, values)) for values in (kernel, stride, padding))))
    found = layer(maps, B)
    clip = maps.reshape(B, num_chunks, C, 7, 6).transpose(1, 2)
    expected = [pooled_3d(item.double().numpy(), kernel, stride, padding) for item in clip]
    np.testing.assert_array_equal(found.numpy(), np.array(expected, np.float32))
    assert torch.equal(found, functional.max_pool3d(clip, kernel, stride, padding).amax(2))


def test_gradient_is_that_of_maxpool3d_where_no_values_are_equal() -> None:
    maps = torch.randn(5, C, 6, 6, generator=torch.Generator().manual_seed(2), requires_grad=True)
    weights = torch.randn(1, C, 3, 3, generator=torch.Generator().manual_seed(3))
    (TimePool(LAYER, window("all,own,own", "1,own,own", "0,own,own"))(maps, 1) * weights).sum().backward()
    found = maps.grad
    maps.grad = None
    pooled = functional.max_pool3d(maps.transpose(0, 1), (5, 2, 2), (1, 2, 2))[:, 0]
    (pooled * weights).sum().backward()
    torch.testing.assert_close(found, maps.grad)


def test_clip_shorter_than_the_window_is_taken_whole() -> None:
    layer = TimePool(LAYER, window("3,own,own", "2,own,own", "0,own,own"))
    assert layer.covered(2) == [0, 1]
    assert layer.covered(6) == [0, 1, 2, 3, 4]


def pool_of(backbone: Backbone, settings: ModelSettings) -> nn.Module:
    return TimePool(backbone.layers[backbone.last_pool], settings.pool_window).pool


@pytest.mark.parametrize(
    ("name", "authors", "kernel", "padding"),
    [("vgg16", False, 3, 1), ("vgg16", True, 2, 0), ("vggm", False, 3, 0), ("vggm", True, 3, 0)],
)
def test_windows_of_paper_and_code_keep_the_size_of_the_map(
    name: str, authors: bool, kernel: int, padding: int
) -> None:
    code = {"pool_kernel": "all,own,own", "pool_padding": "0,own,own"} if authors else {}
    backbone = backbone_of(name, "spatial")
    pool = pool_of(backbone, ModelSettings(**code))
    assert isinstance(pool, nn.MaxPool2d)
    assert (pool.kernel_size, pool.stride, pool.padding) == ((kernel,) * 2, (2, 2), (padding,) * 2)
    size, expected = (14, 7) if name == "vgg16" else (13, 6)
    assert pool(torch.zeros(1, 1, size, size)).shape[2:] == (expected, expected)


def test_averaging_backbone_takes_the_maximum_over_time_alone() -> None:
    average = Layer("pool", "average", kernel=2)
    maps = torch.randn(6, C, 4, 4, generator=torch.Generator().manual_seed(4))
    found = TimePool(average, window("all,own,own", "1,own,own", "0,own,own"))(maps, 2)
    torch.testing.assert_close(found, functional.avg_pool2d(maps.reshape(2, 3, C, 4, 4).amax(1), 2, 1))
    with pytest.raises(SettingsError, match=r"layer pool averages, so y and x of `pool_kernel`.* must be own"):
        TimePool(average, window("3,3,3", "1,own,own", "0,own,own"))


@pytest.mark.parametrize(("kernel", "padding"), [("2,2,2", "2,0,0"), ("2,2,2", "0,2,0")])
def test_padding_is_at_most_half_of_the_kernel(kernel: str, padding: str) -> None:
    with pytest.raises(SettingsError, match="`pool_padding` must be at most half of `pool_kernel`"):
        TimePool(LAYER, window(kernel, "2,2,2", padding))


def test_response_norm_is_that_of_caffe_and_matconvnet() -> None:
    maps = 50 * torch.randn(2, 9, 4, 3, generator=torch.Generator().manual_seed(5))
    found = ResponseNorm()(maps)
    torch.testing.assert_close(found, nn.LocalResponseNorm(5, alpha=5e-4, beta=0.75, k=2)(maps))
    for n, c, y, x in np.ndindex(*maps.shape):
        squares = sum(maps[n, k, y, x].item() ** 2 for k in range(max(c - 2, 0), min(c + 3, 9)))
        assert found[n, c, y, x].item() == pytest.approx(
            maps[n, c, y, x].item() / (2 + 1e-4 * squares) ** 0.75, rel=1e-5
        )

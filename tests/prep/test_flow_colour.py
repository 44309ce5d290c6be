"""Pictures of flow: hues by direction, saturation by length, unknown pixels, legend."""

from __future__ import annotations

import colorsys

import numpy as np
import pytest

from flowprep.colour import flow_to_rgb, longest_px, with_legend
from flowprep.errors import SettingsError


def colour_of(u: float, v: float, max_px: float = 1.0) -> tuple[int, ...]:
    return tuple(int(c) for c in flow_to_rgb(np.array([[[u, v]]], np.float32), max_px=max_px)[0, 0])


def test_hues_of_the_published_wheel() -> None:
    """Red, then (turning from right to down) 15 steps to yellow, 6 to green, 4 cyan, 11 blue, 13 magenta, 6 red."""
    corners = {0: "ff0000", 15: "ffff00", 21: "00ff00", 25: "00ffff", 36: "0000ff", 49: "ff00ff"}
    for step, expected in corners.items():
        angle = 2 * np.pi * step / 54
        found = colour_of(np.cos(angle), np.sin(angle))
        np.testing.assert_allclose(found, tuple(bytes.fromhex(expected)), atol=2)


def test_no_motion_is_white_and_longer_is_more_saturated() -> None:
    assert colour_of(0, 0) == (255, 255, 255)
    saturations = [colorsys.rgb_to_hsv(*(c / 255 for c in colour_of(length, 0)))[1] for length in (0.1, 0.4, 0.7, 1)]
    np.testing.assert_allclose(saturations, (0.1, 0.4, 0.7, 1), atol=0.01)


def test_flow_beyond_the_maximum_keeps_its_hue_and_is_darker() -> None:
    assert colour_of(1, 0) == (255, 0, 0)
    assert colour_of(5, 0) == (191, 0, 0)


def test_the_scale_does_not_matter_only_the_share_of_the_maximum() -> None:
    flow = np.random.default_rng(0).normal(size=(9, 9, 2)).astype(np.float32)
    np.testing.assert_array_equal(flow_to_rgb(flow), flow_to_rgb(flow * 4))
    np.testing.assert_array_equal(flow_to_rgb(flow), flow_to_rgb(flow, max_px=longest_px(flow)))
    assert flow_to_rgb(flow).max(axis=-1).min() == 255  # the longest flow is not darkened either


def test_unknown_pixels_are_black_and_do_not_set_the_scale() -> None:
    flow = np.array([[[3, 4], [1e10, 0], [np.nan, 0], [0, np.inf]]], np.float32)
    assert longest_px(flow) == 5
    picture = flow_to_rgb(flow)
    assert picture.dtype == np.uint8
    assert (picture[0, 1:] == 0).all()
    assert picture[0, 0].any()
    assert (flow_to_rgb(flow[:, 1:]) == 0).all()


@pytest.mark.parametrize("max_px", [0, -1, float("nan"), float("inf")])
def test_a_maximum_that_is_none_is_refused(max_px: float) -> None:
    with pytest.raises(SettingsError, match="`max_px` must be above 0 and finite"):
        colour_of(0, 0, max_px)


def test_other_shapes_are_refused() -> None:
    with pytest.raises(SettingsError, match=r"must have the shape \(H, W, 2\), got \(4, 4\)"):
        flow_to_rgb(np.zeros((4, 4), np.float32))


@pytest.mark.parametrize("size", [(64, 64), (64, 400), (300, 90), (256, 340)])
def test_legend_shows_the_wheel_in_the_lower_right_corner(size: tuple[int, int]) -> None:
    black = np.zeros((*size, 3), np.uint8)
    shown = with_legend(black, max_px=12.34)
    assert shown.shape == black.shape
    assert not black.any()
    assert not shown[: size[0] // 2, : size[1] // 3].any()
    colours = {tuple(colour) for colour in shown.reshape(-1, 3).tolist()}
    assert (255, 0, 0) in colours
    assert (0, 208, 255) in colours


def test_a_picture_without_room_for_a_legend_is_refused() -> None:
    with pytest.raises(SettingsError, match="a picture of 100x63 has no room for a legend"):
        with_legend(np.zeros((63, 100, 3), np.uint8), max_px=1)

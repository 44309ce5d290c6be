"""What `native` does with absurd input: refused in a sentence, or a defined result; no crash, no endless loop."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from contracts.flow_backend import moving_texture
from helpers.tvl1 import difficult_pair

from flowprep.errors import SettingsError
from flowprep.flow import compute_flow, create_backend

VARIANTS = pytest.mark.parametrize("variant", ["cuda", "cpu"])


def flow_of(
    frames: Any, variant: str, num_threads: int = 1, initial_flow: Any = None, **parameters: Any
) -> npt.NDArray[np.float32]:
    with create_backend("native", variant=variant, parameters=parameters, num_threads=num_threads) as backend:
        prepared = backend.prepare(np.stack(frames))
        start = None if initial_flow is None else initial_flow[None]
        flow = backend.compute(prepared[:1], prepared[1:], start)[0]
        np.testing.assert_array_equal(backend.compute(prepared[:1], prepared[1:], start)[0], flow)
        return flow


# -- initial flow ------------------------------------------------------------------------------------------------------


def with_value(value: float) -> npt.NDArray[np.float32]:
    flow = np.zeros((1, 20, 24, 2), np.float32)
    flow[0, 3, 4, 1] = value
    return flow


@VARIANTS
@pytest.mark.parametrize(
    ("start", "message"),
    [
        (with_value(0)[0], r"must be float32 \(1, 20, 24, 2\), got float32 \(20, 24, 2\)"),
        (with_value(0)[:, :-1], r"must be float32 \(1, 20, 24, 2\), got float32 \(1, 19, 24, 2\)"),
        (with_value(0).astype(np.float64), r"must be float32 \(1, 20, 24, 2\), got float64 \(1, 20, 24, 2\)"),
        (np.zeros((2, 20, 24, 2), np.float32), r"must be float32 \(1, 20, 24, 2\), got float32 \(2, 20"),
        (with_value(np.nan), "`initial_flow` must be finite; set unknown displacements to 0"),
        (with_value(np.inf), "`initial_flow` must be finite"),
    ],
    ids=["3-D", "size", "float64", "batch", "nan", "inf"],
)
def test_a_wrong_initial_flow_is_refused(variant: str, start: Any, message: str) -> None:
    with create_backend("native", variant=variant) as backend:
        frames = backend.prepare(moving_texture(2, 20, 24))
        with pytest.raises(SettingsError, match=message):
            backend.compute(frames[:1], frames[1:], start)


@pytest.mark.parametrize("name", ["opencv", "dis", "farneback"])
def test_backends_without_an_initial_flow_say_so(name: str) -> None:
    with create_backend(name) as backend:
        frames = backend.prepare(moving_texture(2, 20, 24))
        assert not backend.takes_initial_flow
        with pytest.raises(SettingsError, match=f"backend {name} takes no initial flow; native does"):
            backend.compute(frames[:1], frames[1:], with_value(0))
    with pytest.raises(SettingsError, match=f"backend {name} takes no initial flow; native does"):
        compute_flow(moving_texture(2, 20, 24), backend=name, initial_flow=with_value(0))


@VARIANTS
def test_an_initial_flow_finds_a_motion_that_is_too_large_for_the_pyramid(variant: str) -> None:
    frames = moving_texture(17, 80, 90)[::16]
    start = np.broadcast_to(np.float32([15, -15]), (80, 90, 2)).copy()
    found = np.median(flow_of(frames, variant, initial_flow=start)[20:-20, 20:-20], axis=(0, 1))
    np.testing.assert_allclose(found, (16, -16), atol=0.1)
    lost = np.median(flow_of(frames, variant, num_scales=1)[20:-20, 20:-20], axis=(0, 1))
    assert np.abs(lost - (16, -16)).max() > 1


@VARIANTS
@pytest.mark.parametrize("value", [1e30, -3e9, 1e6])
@pytest.mark.parametrize("size", [(24, 20), (2, 2), (3, 40)])
def test_an_absurd_initial_flow_gives_a_defined_result(variant: str, value: float, size: tuple[int, int]) -> None:
    """Finite values are taken as they are. What overflows on the way may end as NaN; the result is still the same
    on every call."""
    frames = np.stack(difficult_pair(*size))
    start = np.zeros((*size, 2), np.float32)
    start[1, 1] = value
    assert flow_of(frames, variant, 1, start, num_warps=2).shape == (*size, 2)
    np.testing.assert_array_equal(
        flow_of(frames, variant, 3, start, num_warps=2), flow_of(frames, variant, 1, start, num_warps=2)
    )


@VARIANTS
def test_compute_flow_hands_each_pair_its_initial_flow(variant: str) -> None:
    frames = moving_texture(20, 20, 24)  # more than a batch
    start = np.random.default_rng(0).normal(size=(18, 20, 24, 2)).astype(np.float32)
    few = {"num_warps": 1, "iterations" if variant == "cuda" else "outer_iterations": 2}
    flow = compute_flow(frames, backend="native", variant=variant, step=2, initial_flow=start, **few)
    for k in (0, 15, 16, 17):
        expected = flow_of(frames[[k, k + 2]], variant, initial_flow=start[k], **few)
        np.testing.assert_array_equal(flow[k], expected)
    backward = compute_flow(frames, variant=variant, step=2, backward=True, initial_flow=start, **few)
    np.testing.assert_array_equal(backward[3], flow_of(frames[[5, 3]], variant, initial_flow=start[3], **few))
    with pytest.raises(SettingsError, match=r"`initial_flow` must be float32 \(18, 20, 24, 2\), got float32 \(17,"):
        compute_flow(frames, variant=variant, step=2, initial_flow=start[:-1])


# -- images ------------------------------------------------------------------------------------------------------------


@VARIANTS
@pytest.mark.parametrize("gamma", [0.0, 0.5])
@pytest.mark.parametrize(("first", "second"), [(0, 0), (7, 7), (255, 255), (0, 255), (200, 30)])
def test_constant_images_have_no_flow(variant: str, gamma: float, first: int, second: int) -> None:
    """Exactly none, whatever their brightness: without a gradient no displacement explains the difference."""
    frames = [np.full((30, 41), value, np.uint8) for value in (first, second)]
    np.testing.assert_array_equal(flow_of(frames, variant, gamma=gamma), 0)


@VARIANTS
@pytest.mark.parametrize("num_threads", [1, 2])
def test_equal_images_have_no_flow(variant: str, num_threads: int) -> None:
    (image,) = moving_texture(1, 47, 50)
    np.testing.assert_array_equal(flow_of([image, image], variant, num_threads), 0)


IMAGES: dict[str, Any] = {
    "board": lambda h, w: (np.indices((h, w)).sum(axis=0) % 2 * 255).astype(np.uint8),
    "noise": lambda h, w: np.random.default_rng(0).choice(np.array([0, 255], np.uint8), (h, w)),
    "edge": lambda h, w: np.broadcast_to((np.arange(w) > w // 2) * 255, (h, w)).astype(np.uint8),
    "dot": lambda h, w: np.pad(np.full((1, 1), 255, np.uint8), ((h // 2, h - h // 2 - 1), (w // 2, w - w // 2 - 1))),
}


@VARIANTS
@pytest.mark.parametrize("image", IMAGES)
def test_saturated_images_give_finite_flow(variant: str, image: str) -> None:
    first = IMAGES[image](31, 45)
    assert np.isfinite(flow_of([first, 255 - first], variant)).all()


@VARIANTS
@pytest.mark.parametrize(
    ("height", "width"), [(1, 1), (1, 2), (2, 1), (1, 3), (3, 1), (2, 2), (3, 2), (3, 3), (1, 300), (300, 1)]
)
@pytest.mark.parametrize("gamma", [0.0, 0.5])
def test_the_smallest_images_give_finite_flow(variant: str, height: int, width: int, gamma: float) -> None:
    frames = np.random.default_rng(1).integers(0, 256, (2, height, width), np.uint8)
    flow = flow_of(frames, variant, gamma=gamma)
    assert flow.shape == (height, width, 2)
    assert np.isfinite(flow).all()


@VARIANTS
def test_images_without_a_common_point_give_finite_flow(variant: str) -> None:
    """A motion larger than the image."""
    assert np.isfinite(flow_of(moving_texture(400, 40, 48)[[0, 399]], variant)).all()


# -- parameters --------------------------------------------------------------------------------------------------------


@VARIANTS
@pytest.mark.parametrize(
    "parameters",
    [
        {"tau": 10.0},
        {"tau": 1e6},
        {"lambda": 1e6},
        {"lambda": 1e30},
        {"lambda": 1e-30},
        {"theta": 50.0},
        {"theta": 1e-6},
        {"theta": 1e6, "lambda": 1e6},
        {"epsilon": 1e-30},
        {"epsilon": 1e30},
        {"gamma": 1e6},
        {"scale_step": 0.01},
        {"scale_step": 0.999, "num_scales": 8},
        {"num_scales": 100},
    ],
    ids=str,
)
def test_absurd_parameters_end_with_a_defined_result(variant: str, parameters: dict[str, float]) -> None:
    """Numbers may grow without bound where the iteration does not converge; they end, and do not depend on threads."""
    frames = difficult_pair(25, 34)
    few = {"num_warps": 2, "num_scales": 2, **parameters}
    flow = flow_of(frames, variant, **few)
    assert flow.shape == (25, 34, 2)
    np.testing.assert_array_equal(flow_of(frames, variant, 3, **few), flow)
    if parameters.get("theta", 0) < 1e5:
        assert np.isfinite(flow).all()

"""`compute_flow`: shapes, direction, steps, colour, batches, and what it refuses."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
import pytest
from contracts.flow_backend import moving_texture
from helpers.fake_cv2_cuda import FakeCuda

from flowprep.errors import SettingsError
from flowprep.flow import compute_flow, create_backend


@pytest.mark.parametrize(
    ("num_frames", "step", "num_flows"), [(0, 1, 0), (1, 1, 0), (4, 1, 3), (4, 3, 1), (4, 4, 0), (2, 9, 0), (40, 2, 38)]
)
def test_there_are_as_many_flows_as_pairs(num_frames: int, step: int, num_flows: int) -> None:
    flow = compute_flow(np.zeros((num_frames, 20, 24), np.uint8), backend="dis", step=step)
    assert flow.shape == (num_flows, 20, 24, 2)
    assert flow.dtype == np.float32


@pytest.mark.parametrize("step", [1, 2, 20])
@pytest.mark.parametrize("backward", [False, True])
def test_entry_i_belongs_to_images_i_and_i_plus_step(step: int, backward: bool) -> None:
    """Also across the batches that it works in."""
    frames = np.random.default_rng(0).integers(0, 256, (38, 20, 24), np.uint8)
    flow = compute_flow(frames, backend="dis", step=step, backward=backward)
    with create_backend("dis") as backend:
        prepared = backend.prepare(frames)
        for i in range(38 - step):
            source, target = (i + step, i) if backward else (i, i + step)
            np.testing.assert_array_equal(flow[i], backend.compute([prepared[source]], [prepared[target]])[0])


def test_backward_flow_points_back() -> None:
    frames = moving_texture(3)
    forward = compute_flow(frames, backend="dis", step=2)
    backward = compute_flow(frames, backend="dis", step=2, backward=True)
    np.testing.assert_allclose(np.median(forward, (0, 1, 2)), (2, -2), atol=0.1)
    np.testing.assert_allclose(np.median(backward, (0, 1, 2)), (-2, 2), atol=0.1)


def test_rgb_is_made_grey_as_rgb() -> None:
    rgb = np.random.default_rng(0).integers(0, 256, (3, 40, 40, 3), np.uint8)
    grey = np.stack([cv2.cvtColor(image, cv2.COLOR_RGB2GRAY) for image in rgb])
    np.testing.assert_array_equal(compute_flow(rgb, backend="dis"), compute_flow(grey, backend="dis"))
    assert not np.array_equal(compute_flow(rgb[..., ::-1], backend="dis"), compute_flow(rgb, backend="dis"))


def test_parameters_reach_the_backend() -> None:
    frames = moving_texture(2, 40, 40)
    usual = compute_flow(frames, backend="opencv", num_warps=1)
    assert not np.array_equal(compute_flow(frames, backend="opencv", num_warps=1, lambda_=0.02), usual)
    np.testing.assert_array_equal(
        compute_flow(frames, backend="opencv", num_warps=1, lambda_=0.02),
        compute_flow(frames, backend="opencv", num_warps=1, **{"lambda": 0.02}),
    )


def test_frames_are_prepared_once(monkeypatch: pytest.MonkeyPatch) -> None:
    cuda = FakeCuda()
    monkeypatch.setattr(cv2, "cuda", cuda)
    compute_flow(moving_texture(40, 16, 16), backend="opencv-cuda", step=3)
    assert len(cuda.named("upload")) == 40
    assert len(cuda.named("calc")) == 37


@pytest.mark.parametrize(
    ("frames", "got"),
    [
        (np.zeros((3, 8, 8), np.float32), r"float32 \(3, 8, 8\)"),
        (np.zeros((8, 8), np.uint8), r"uint8 \(8, 8\)"),
        (np.zeros((3, 8, 8, 1), np.uint8), r"uint8 \(3, 8, 8, 1\)"),
        (np.zeros((3, 0, 8), np.uint8), r"uint8 \(3, 0, 8\)"),
        ([[0]], r"list \(\)"),
    ],
    ids=["float", "2-D", "4-D grey", "empty", "list"],
)
def test_other_arrays_are_refused(frames: Any, got: str) -> None:
    with pytest.raises(SettingsError, match=rf"`frames` must be uint8 \(T, H, W\) or .* got {got}"):
        compute_flow(frames, backend="dis")


@pytest.mark.parametrize(
    ("choice", "message"),
    [
        ({"step": 0}, "`step` must be at least 1, got 0"),
        ({"step": 1.5}, "`step` must be a whole number"),
        ({"backend": "tvl1"}, "`backend` must be one of"),
        ({"backend": "dis", "variant": "cpu"}, "leave it out"),
        ({"backend": "dis", "warps": 3}, "unknown flow parameter `warps`"),
    ],
    ids=lambda value: str(value),
)
def test_wrong_choices_are_refused(choice: dict[str, Any], message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        compute_flow(moving_texture(2, 8, 8), **choice)

"""Accuracy on Middlebury's RubberWhale, whose true flow is known."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
import pytest
from helpers.shared_data import FLOW, needs_shared

from flowprep.flow import compute_flow
from flowprep.flowfile import UNKNOWN_PX, read_flow

pytestmark = needs_shared

# Mean end-point error in pixels over known pixels, measured with OpenCV 5.0.0: 0.1567, 0.4402, 0.2255, 0.3273; native
# 0.1568 (cpu) and 0.1558 (cuda). The bands leave room for other builds (OpenCV with IPP on: 0.1568).
CROP = (slice(100, 228), slice(200, 360))
WHOLE = (slice(None), slice(None))
BANDS: list[tuple[str, dict[str, Any], tuple[slice, slice], float, float]] = [
    ("opencv", {}, WHOLE, 0.152, 0.161),
    ("native", {"variant": "cpu"}, WHOLE, 0.155, 0.158),
    ("native", {"variant": "cuda"}, WHOLE, 0.154, 0.157),
    ("dis", {}, WHOLE, 0.42, 0.46),
    ("dis", {"preset": "medium"}, WHOLE, 0.21, 0.24),
    ("farneback", {}, WHOLE, 0.31, 0.345),
]


def rubberwhale(region: tuple[slice, slice]) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    images = [cv2.imread(str(FLOW / "rubberwhale" / f"frame{k}.png")) for k in (0, 1)]
    return np.stack([image[region][..., ::-1] for image in images if image is not None]), read_flow(
        FLOW / "rubberwhale" / "gt.flo"
    )[region]


def mean_error_px(flow: np.ndarray[Any, Any], truth: np.ndarray[Any, Any]) -> float:
    known = (np.abs(truth) < UNKNOWN_PX).all(axis=-1)
    return float(np.linalg.norm((flow - truth)[known], axis=-1).mean())


@pytest.mark.parametrize(("backend", "parameters", "region", "lowest", "highest"), BANDS, ids=lambda value: str(value))
def test_end_point_error_is_the_algorithms(
    backend: str, parameters: dict[str, Any], region: tuple[slice, slice], lowest: float, highest: float
) -> None:
    frames, truth = rubberwhale(region)
    error_px = mean_error_px(compute_flow(frames, backend=backend, **parameters)[0], truth)
    assert lowest < error_px < highest


def test_tvl1_is_near_opencvs_own_reference_output() -> None:
    frames, _ = rubberwhale(CROP)
    reference = read_flow(FLOW / "rubberwhale" / "tvl1_opencv.flo")[CROP]
    flow = compute_flow(frames, backend="opencv")[0]
    # The crop sees less at its border than the whole image did.
    assert mean_error_px(flow[16:-16, 16:-16], reference[16:-16, 16:-16]) < 0.06

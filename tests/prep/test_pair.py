"""The flow between two image files: what does not move, small images, and flow that is none."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from flowprep.config import FlowSettings
from flowprep.errors import SettingsError, VideoError
from flowprep.pair import flow_of_files

DIS = FlowSettings(backend="dis")


def image(path: Path, height: int, width: int) -> Path:
    """An image file of noise."""
    cv2.imwrite(str(path), np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8))
    return path


def test_a_picture_of_no_motion_is_white(tmp_path: Path) -> None:
    source = image(tmp_path / "a.png", 80, 96)
    found = flow_of_files(source, source, tmp_path / "flow.png", DIS)
    assert found.largest_px < 1e-3
    picture = cv2.imread(str(tmp_path / "flow.png"))
    assert picture is not None
    assert picture.shape == (80, 96, 3)


def test_equal_images_of_one_colour_have_a_picture(tmp_path: Path) -> None:
    """Their flow is 0 everywhere, to the bit."""
    source = tmp_path / "a.png"
    cv2.imwrite(str(source), np.full((80, 96, 3), 90, np.uint8))
    found = flow_of_files(source, source, tmp_path / "flow.png", FlowSettings(backend="native"))
    assert (found.mean_px, found.largest_px) == (0.0, 0.0)
    picture = cv2.imread(str(tmp_path / "flow.png"))
    assert picture is not None
    assert (picture[:40, :40] == 255).all()


def test_a_picture_without_room_for_a_legend_has_none(tmp_path: Path) -> None:
    flow_of_files(image(tmp_path / "a.png", 40, 50), image(tmp_path / "b.png", 40, 50), tmp_path / "flow.png", DIS)
    picture = cv2.imread(str(tmp_path / "flow.png"))
    assert picture is not None
    assert picture.shape == (40, 50, 3)


def test_flow_that_is_not_finite_is_not_written(tmp_path: Path) -> None:
    source, target = image(tmp_path / "a.png", 40, 50), tmp_path / "b.png"
    cv2.imwrite(str(target), np.roll(cv2.imread(str(source)), 1, axis=1))
    settings = FlowSettings(backend="native", parameters={"theta": 1e-45, "lambda": 1e30})
    with pytest.raises(VideoError, match=r"a\.png to .*b\.png has values that are not finite; give other parameters"):
        flow_of_files(source, target, tmp_path / "flow.flo", settings)
    assert not (tmp_path / "flow.flo").exists()


def test_a_film_is_wrong_use_and_no_damage(tmp_path: Path) -> None:
    (tmp_path / "a.mp4").write_bytes(b"no image")
    with pytest.raises(SettingsError, match=r"a\.mp4 is not an image that can be read"):
        flow_of_files(tmp_path / "a.mp4", tmp_path / "a.mp4", tmp_path / "f.flo", FlowSettings(backend="dis"))

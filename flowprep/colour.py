"""Flow as a picture: direction as hue, length as saturation (the Middlebury colour code).

Source: S. Baker et al., "A Database and Evaluation Methodology for Optical Flow", IJCV 2011. The wheel has 55 hues,
unevenly spaced as the eye tells them apart: red-yellow 15, yellow-green 6, green-cyan 4, cyan-blue 11,
blue-magenta 13, magenta-red 6. Motion to the right is red, down yellow, left cyan, up blue-violet; no motion is white.

The code is symmetrical in length: colour depends on direction and length alone, so that a circle of equal lengths is
equally saturated all around. In direction it is as published: 54 of the 55 steps make a turn, so that just above
"right" the last shade before red (a little magenta in it) stands beside red.
"""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt

from flowprep.errors import SettingsError
from flowprep.flowfile import UNKNOWN_PX

MIN_LEGEND_SIDE = 64
"""Pictures with a shorter side (in pixels) have no room for a legend."""

_BEYOND = 0.75  # brightness of flow that is longer than `max_px`


def flow_to_rgb(flow_px: npt.NDArray[np.float32], *, max_px: float | None = None) -> npt.NDArray[np.uint8]:
    """The picture of a flow field.

    Args:
        flow_px: float32 (H, W, 2), x then y, in pixels. Unknown pixels (not finite, or beyond 1e9) become black.
        max_px: Length that has full saturation; longer flow keeps its hue and is darkened. None takes the longest
            known flow, see `longest_px`.

    Returns:
        RGB uint8 (H, W, 3).

    Raises:
        SettingsError: `flow_px` has another shape, or `max_px` is not above 0.
    """
    if flow_px.ndim != 3 or flow_px.shape[2] != 2:
        raise SettingsError(f"`flow_px` must have the shape (H, W, 2), got {flow_px.shape}")
    if max_px is None:
        max_px = longest_px(flow_px) or 1.0
    if not (max_px > 0 and np.isfinite(max_px)):
        raise SettingsError(f"`max_px` must be above 0 and finite, got {max_px}")
    known = _known(flow_px)
    # Adding 0 makes -0 a 0, which else would be the other side of the seam.
    u, v = np.moveaxis(np.where(known[..., None], flow_px, 0).astype(np.float64) / max_px + 0.0, -1, 0)  # (H, W) each
    wheel = _wheel()  # (55, 3), 0..1
    # Half a turn off, so that the wheel's first colour, red, is motion to the right.
    place = (np.arctan2(-v, -u) / np.pi + 1) / 2 * (len(wheel) - 1)
    before = np.floor(place).astype(np.intp)
    share = (place - before)[..., None]
    hue = (1 - share) * wheel[before] + share * wheel[(before + 1) % len(wheel)]
    length = np.hypot(u, v)[..., None]
    full = length <= 1 + 1e-6  # the longest flow itself must not be darkened by a rounding error
    rgb = np.where(full, 1 - np.minimum(length, 1) * (1 - hue), hue * _BEYOND)
    return np.where(known[..., None], np.floor(255 * rgb), 0).astype(np.uint8)


def longest_px(flow_px: npt.NDArray[np.float32]) -> float:
    """Length in pixels of the longest known flow of (..., 2), 0 if none is known."""
    lengths = np.hypot(flow_px[..., 0], flow_px[..., 1], dtype=np.float64)[_known(flow_px)]
    return float(lengths.max(initial=0.0))


def with_legend(picture: npt.NDArray[np.uint8], *, max_px: float) -> npt.NDArray[np.uint8]:
    """A copy of an RGB picture (H, W, 3) with the wheel and its radius in pixels in the lower right corner.

    Args:
        picture: What `flow_to_rgb` made, uint8.
        max_px: The length that it was made with.

    Raises:
        SettingsError: The picture's shorter side is below 64 pixels.
    """
    height, width = picture.shape[:2]
    if min(height, width) < MIN_LEGEND_SIDE:
        raise SettingsError(
            f"a picture of {width}x{height} has no room for a legend: that takes sides of {MIN_LEGEND_SIDE} pixels"
        )
    radius = min(height, width) // 8
    disc, inside = wheel_disc(radius)
    text = f"{max_px:.3g} px"
    scale = max(radius / 64, 0.3)
    (text_width, text_height), _ = cv2.getTextSize(text, cv2.FONT_HERSHEY_SIMPLEX, scale, 1)
    margin = 3
    panel_width = max(2 * radius + 1, text_width) + 2 * margin
    panel_height = 2 * radius + 1 + text_height + 3 * margin
    panel = np.full((panel_height, panel_width, 3), 255, np.uint8)
    left = (panel_width - 2 * radius - 1) // 2
    corner = panel[margin : margin + 2 * radius + 1, left : left + 2 * radius + 1]
    corner[inside] = disc[inside]
    place = ((panel_width - text_width) // 2, panel_height - margin)
    cv2.putText(panel, text, place, cv2.FONT_HERSHEY_SIMPLEX, scale, (0, 0, 0), 1, cv2.LINE_AA)
    result = picture.copy()
    shown = panel[-min(panel_height, height) :, -min(panel_width, width) :]
    result[height - shown.shape[0] :, width - shown.shape[1] :] = shown
    return result


def wheel_disc(radius: int) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.bool_]]:
    """The colours of all flow up to the length `radius`, RGB (2r+1, 2r+1, 3) with no motion in the middle.

    The second array, bool (2r+1, 2r+1), says which pixels are inside of the disc.
    """
    offsets = np.arange(-radius, radius + 1, dtype=np.float32)
    flow_px = np.stack(np.meshgrid(offsets, offsets), axis=-1)  # (2r+1, 2r+1, 2)
    return flow_to_rgb(flow_px, max_px=radius), np.hypot(offsets[:, None], offsets[None, :]) <= radius


def _known(flow_px: npt.NDArray[np.float32]) -> npt.NDArray[np.bool_]:
    with np.errstate(invalid="ignore"):
        return np.asarray((np.abs(flow_px) <= UNKNOWN_PX).all(axis=-1))  # False for NaN too


def _wheel() -> npt.NDArray[np.float64]:
    """The 55 colours, RGB 0..1: between two corners of the RGB cube one channel goes up or down, the others stay."""
    red, yellow, green, cyan, blue, magenta = (1, 0, 0), (1, 1, 0), (0, 1, 0), (0, 1, 1), (0, 0, 1), (1, 0, 1)
    corners = [red, yellow, green, cyan, blue, magenta, red]
    counts = (15, 6, 4, 11, 13, 6)
    parts = []
    for begin, end, count in zip(corners, corners[1:], counts, strict=False):
        share = np.arange(count)[:, None] / count
        parts.append((1 - share) * np.array(begin) + share * np.array(end))
    wheel: npt.NDArray[np.float64] = np.concatenate(parts)
    return wheel

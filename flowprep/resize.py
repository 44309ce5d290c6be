"""Frames to the stored size, and to grey."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from flowprep.config import ResizeSettings


def target_size(width: int, height: int, settings: ResizeSettings) -> tuple[int, int]:
    """(width, height) in pixels of the stored frames for a source of `width` x `height`.

    With a short side S the long side is 2*floor(long*S/short/2), so that it is even: 320x240 becomes 340x256, the size
    of the published UCF101 flow (Feichtenhofer et al., gpu_flow). A long side never becomes shorter than S.
    """
    if settings.width is not None and settings.height is not None:
        return settings.width, settings.height
    short = settings.short_side
    if short is None:
        return width, height
    long = max(2 * (max(width, height) * short // (2 * min(width, height))), short)
    return (long, short) if width >= height else (short, long)


def resize(rgb: NDArray[np.uint8], size: tuple[int, int]) -> NDArray[np.uint8]:
    """RGB uint8 (H, W, 3) scaled to size (width, height) by OpenCV's bicubic; the same array where nothing changes."""
    if (rgb.shape[1], rgb.shape[0]) == size:
        return rgb
    return np.asarray(cv2.resize(rgb, size, interpolation=cv2.INTER_CUBIC), dtype=np.uint8)


def grey(rgb: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Grey uint8 (H, W) of an RGB frame, by OpenCV's integer weights (ITU-R BT.601)."""
    return np.asarray(cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY), dtype=np.uint8)

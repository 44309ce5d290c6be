"""Flow in pixels to 8 bits and back.

Two rules are in use in the field. `round` (denseflow, TSN, Feichtenhofer's gpu_flow): 255*(v+b)/(2b) rounded half to
even, zero becomes 128. `truncate` (mmaction2's flow_extraction.py, flowty): the same value cut off, zero becomes 127.
Both clip to -b..b first, and compute in double precision.

Note [zero is not exactly zero]: with `round`, zero flow lies half way between codes 127 and 128, so code 128 means
+b/255 pixels, within the error bound. A mirrored x component is therefore 255 - code plus one half step; trainers that
negate flow subtract 128 first.
"""

from __future__ import annotations

import functools
import math

import cv2
import numpy as np
from numpy.typing import NDArray

from flowprep.config import QuantiseSettings
from flowprep.errors import VideoError
from flowprep.ipp import without_ipp
from flowprep.records import FlowFacts

_BLOCK_PIXELS = 16384
"""Flow is quantised in rows of about this many pixels, so that what lies between two passes stays in the L2 cache."""


def quantise(flow_px: NDArray[np.float32], settings: QuantiseSettings) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """8-bit codes of one flow field, float32 (H, W, 2) in pixels: the planes of x and of y, each uint8 (H, W)."""
    height, width = flow_px.shape[:2]
    x, y = np.empty((height, width), np.uint8), np.empty((height, width), np.uint8)
    num_rows = max(1, _BLOCK_PIXELS // width)
    for top in range(0, height, num_rows):
        rows = slice(top, top + num_rows)
        cv2.split(_codes(flow_px[rows], settings), [x[rows], y[rows]])
    return x, y


def _codes(flow_px: NDArray[np.float32], settings: QuantiseSettings) -> cv2.typing.MatLike:
    """The codes of some rows of flow, x and y interleaved, uint8 (H, W, 2)."""
    bound = settings.bound_px
    if settings.rounding == "round":
        # Saturates, and rounds half to even, in one pass; the zeros are double so that OpenCV's arithmetic is.
        zeros = _zeros(flow_px.shape[1])[: len(flow_px)]
        return cv2.addWeighted(flow_px, 255.0 / (2.0 * bound), zeros, 0.0, 127.5, dtype=cv2.CV_8U)
    values = flow_px.astype(np.float64)
    np.clip(values, -bound, bound, out=values)
    values += bound
    values *= 255.0
    values /= 2.0 * bound
    return values.astype(np.uint8)


@functools.lru_cache(maxsize=1)
def _zeros(width: int) -> NDArray[np.float64]:
    """Zeros, float64 (H, width, 2), for a block of rows."""
    return np.zeros((max(1, _BLOCK_PIXELS // width), width, 2))


def dequantise(codes: NDArray[np.uint8], settings: QuantiseSettings) -> NDArray[np.float32]:
    """Flow in pixels of 8-bit codes of any shape, float32: the middle of the values that have each code."""
    offset = 0.0 if settings.rounding == "round" else 0.5
    table = (np.arange(256) + offset) * (2.0 * settings.bound_px / 255.0) - settings.bound_px
    return table.astype(np.float32)[codes]


def stilled(flow_px: NDArray[np.float32], settings: QuantiseSettings) -> NDArray[np.float32]:
    """Dequantised flow of any shape for the eye: components of less than one step of the codes are 0.

    Of a still scene `round` makes codes 127 and 128, which stand for half a step to either side: noise, in colours.
    """
    step_px = 2 * settings.bound_px / 255
    return np.where(np.abs(flow_px) < 0.6 * step_px, np.float32(0), flow_px)


def flow_facts(
    flow_px: NDArray[np.float32], x: NDArray[np.uint8], y: NDArray[np.uint8], settings: QuantiseSettings
) -> FlowFacts:
    """Sums over one flow field, float32 (H, W, 2), with its codes. Raises VideoError `numeric` if it is not finite."""
    sum_magnitude_px = _sum_magnitude_px(flow_px)
    check_finite(sum_magnitude_px)
    # Only pixels with an extreme code can be beyond the bound, and mostly there are none.
    num_saturated = 0
    if min(x.min(), y.min()) == 0 or max(x.max(), y.max()) == 255:
        extreme = ((x == 0) | (x == 255)) | ((y == 0) | (y == 255))
        num_saturated = int(np.count_nonzero((np.abs(flow_px[extreme]) > settings.bound_px).any(axis=1)))
    return FlowFacts(num_values=x.size, num_saturated=num_saturated, sum_magnitude_px=sum_magnitude_px)


def check_finite(sum_magnitude_px: float) -> None:
    """Raise VideoError `numeric` where the sum over a flow field shows that it is not finite."""
    if not math.isfinite(sum_magnitude_px):
        raise VideoError("numeric", "the flow has values that are not finite; please report this video")


def _sum_magnitude_px(flow_px: NDArray[np.float32]) -> float:
    """Sum of hypot(u, v) over one flow field.

    With Intel's IPP the last bits of a magnitude depend on where the array lies in memory (measured), and the manifest
    would not be the same every time; OpenCV's own code has no such dependence.
    """
    planes = [np.empty(flow_px.shape[:2], np.float32) for _ in "uv"]  # given, since cv2.split returns copies otherwise
    with without_ipp():
        u, v = cv2.split(flow_px, planes)
        return float(cv2.sumElems(cv2.magnitude(u, v, u))[0])

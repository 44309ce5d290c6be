"""Flow in pixels to 8 bits and back.

Two rules are in use in the field. `round` (denseflow, TSN, Feichtenhofer's gpu_flow): 255*(v+b)/(2b) rounded half to
even, zero becomes 128. `truncate` (mmaction2's flow_extraction.py, flowty): the same value cut off, zero becomes 127.
Both clip to -b..b first, and compute in double precision.

Note [zero is not exactly zero]: with `round`, zero flow lies half way between codes 127 and 128, so code 128 means
+b/255 pixels, within the error bound. A mirrored x component is therefore 255 - code plus one half step; trainers that
negate flow subtract 128 first.
"""

from __future__ import annotations

import math

import cv2
import numpy as np
from numpy.typing import NDArray

from flowprep.config import QuantiseSettings
from flowprep.errors import VideoError
from flowprep.records import FlowFacts


def quantise(flow_px: NDArray[np.float32], settings: QuantiseSettings) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """8-bit codes of one flow field, float32 (H, W, 2) in pixels: the planes of x and of y, each uint8 (H, W)."""
    bound = settings.bound_px
    values = flow_px.astype(np.float64)
    if settings.rounding == "round":
        # Saturates, and rounds half to even, in one pass of double arithmetic.
        codes = cv2.addWeighted(values, 255.0 / (2.0 * bound), values, 0.0, 127.5, dtype=cv2.CV_8U)
    else:
        np.clip(values, -bound, bound, out=values)
        values += bound
        values *= 255.0
        values /= 2.0 * bound
        codes = values.astype(np.uint8)
    x, y = cv2.split(codes)
    return np.asarray(x, dtype=np.uint8), np.asarray(y, dtype=np.uint8)


def dequantise(codes: NDArray[np.uint8], settings: QuantiseSettings) -> NDArray[np.float32]:
    """Flow in pixels of 8-bit codes of any shape, float32: the middle of the values that have each code."""
    offset = 0.0 if settings.rounding == "round" else 0.5
    table = (np.arange(256) + offset) * (2.0 * settings.bound_px / 255.0) - settings.bound_px
    return table.astype(np.float32)[codes]


def error_bound_px(settings: QuantiseSettings) -> float:
    """Largest difference in pixels between a flow value inside the bound and what its code stands for."""
    return settings.bound_px / 255.0


def flow_facts(
    flow_px: NDArray[np.float32], x: NDArray[np.uint8], y: NDArray[np.uint8], settings: QuantiseSettings
) -> FlowFacts:
    """Sums over one flow field, float32 (H, W, 2), with its codes. Raises VideoError `numeric` if it is not finite."""
    planes = cv2.split(flow_px)
    sum_magnitude_px = float(cv2.sumElems(cv2.magnitude(*planes))[0])
    if not math.isfinite(sum_magnitude_px):
        raise VideoError("numeric", "the flow has values that are not finite; please report this video")
    # Only pixels with an extreme code can be beyond the bound, and mostly there are none.
    extreme = ((x == 0) | (x == 255)) | ((y == 0) | (y == 255))
    num_saturated = int(np.count_nonzero((np.abs(flow_px[extreme]) > settings.bound_px).any(axis=1)))
    return FlowFacts(num_values=x.size, num_saturated=num_saturated, sum_magnitude_px=sum_magnitude_px)

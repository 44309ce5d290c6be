"""Resizing, warping and median filtering of the TV-L1 reference: where OpenCV's two variants differ most.

All images are float32 (H, W). `*_cuda` follows `cv2.cuda.OpticalFlowDual_TVL1`, `*_cpu` follows
`cv2.optflow.DualTVL1OpticalFlow` of OpenCV 5 with IPP off. See reference.py for what they serve.

Note [bicubic of OpenCV 5]: `cv::remap` with INTER_CUBIC samples at exact coordinates (4.x rounds them to 1/32 px). With
`fma(a, b, c)` = a * b + c rounded once, float32, it computes for t = x - floor(x), s = 1 - t, a = -3/4:
  w0 = ((s s) t) a,  w1 = fma(t t, fma(t, a + 2, -(a + 3)), 1),  w3 = ((t t) s) a,  w2 = ((1 - w0) - w1) - w3;
  a row of taps is fma(s3, w3, fma(s2, w2, fma(s1, w1, s0 w0))), the four rows are added in the same way.
Found by reading the machine code of the x86-64 wheel 5.0.0.93 and equal to it in every bit, also outside the image. On
processors without AVX2 the wheel rounds each product and sum, which changes samples by up to 6e-5 of 255.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Image = npt.NDArray[np.float32]
Indices = npt.NDArray[np.intp]

_ONLY_WHOLE = np.float32(2**24)
"""From here on float32 has whole numbers only."""


# -- resizing ----------------------------------------------------------------------------------------------------------


def resize_cuda(image: Image, height: int, width: int, inverse_y: float, inverse_x: float) -> Image:
    """Bilinear, aligned at the top left: target x shows source x * inverse_x (OpenCV's `cuda::resize`).

    `inverse_y` and `inverse_x` are source pixels a target pixel. Beyond the last row and column they go on.
    """
    if image.shape == (height, width):
        return image.copy()
    y1, y2, upper, lower = _taps_cuda(height, inverse_y, image.shape[0])
    x1, x2, left, right = _taps_cuda(width, inverse_x, image.shape[1])
    y1, y2, upper, lower = y1[:, None], y2[:, None], upper[:, None], lower[:, None]
    total = np.zeros((height, width), np.float32)
    total += image[y1, x1] * (left * upper)
    total += image[y1, x2] * (right * upper)
    total += image[y2, x1] * (left * lower)
    total += image[y2, x2] * (right * lower)
    return total


def _taps_cuda(num_targets: int, inverse: float, size: int) -> tuple[Indices, Indices, Image, Image]:
    """First and second source index of each target index, and their weights."""
    source = np.arange(num_targets, dtype=np.float32) * np.float32(inverse)
    first = np.floor(source)
    second = first + np.float32(1)
    indices = [np.minimum(tap.astype(np.intp), size - 1) for tap in (first, second)]
    return indices[0], indices[1], second - source, source - first


def resize_cpu(image: Image, height: int, width: int, inverse_y: float, inverse_x: float) -> Image:
    """Bilinear, aligned at pixel centres: target x shows source (x + 1/2) * inverse_x - 1/2 (`cv::resize`).

    First along x, then along y. Outside, the first and last rows and columns go on.

    Where both `inverse` are exactly 2, OpenCV takes the mean of 2x2 pixels, which is the same but for the order of the
    sum in up to three columns near the right side: their last bit may differ (not with uint8 images, whose sums are
    exact).
    """
    if image.shape == (height, width):
        return image.copy()
    x1, x2, right = _taps_cpu(width, inverse_x, image.shape[1])
    y1, y2, lower = _taps_cpu(height, inverse_y, image.shape[0])
    right = np.where(x1 == x2, np.float32(0), right)  # outside OpenCV copies; along y it mixes the row with itself
    lower = lower[:, None]
    along_x = image[:, x1] * (np.float32(1) - right) + image[:, x2] * right
    resized: Image = along_x[y1] * (np.float32(1) - lower) + along_x[y2] * lower
    return resized


def _taps_cpu(num_targets: int, inverse: float, size: int) -> tuple[Indices, Indices, Image]:
    """First and second source index of each target index, and the weight of the second."""
    source = ((np.arange(num_targets) + 0.5) * inverse - 0.5).astype(np.float32)
    first = np.floor(source)
    index = first.astype(np.intp)
    return np.clip(index, 0, size - 1), np.clip(index + 1, 0, size - 1), source - first


# -- warping -----------------------------------------------------------------------------------------------------------


def warp_cuda(images: list[Image], x: Image, y: Image) -> list[Image]:
    """Catmull-Rom samples (a = -1/2) of the images at (x, y), weights normalised, edge pixels going on outside.

    The taps are ceil(x - 2) .. floor(x + 2), row by row, as in OpenCV's `warpBackwardKernel`. A coordinate that is NaN
    is far to the left or above.
    """
    x, y = _clamp(x, -_ONLY_WHOLE, _ONLY_WHOLE), _clamp(y, -_ONLY_WHOLE, _ONLY_WHOLE)
    height, width = images[0].shape
    left, top = np.ceil(x - np.float32(2)), np.ceil(y - np.float32(2))
    totals = [np.zeros(x.shape, np.float32) for _ in images]
    total_weight = np.zeros(x.shape, np.float32)
    for row in range(5):  # where x is not whole, the fifth is beyond floor(x + 2) and weighs 0
        cy = top + np.float32(row)
        iy = np.clip(cy.astype(np.intp), 0, height - 1)
        for column in range(5):
            cx = left + np.float32(column)
            ix = np.clip(cx.astype(np.intp), 0, width - 1)
            weight = catmull_rom(x - cx) * catmull_rom(y - cy)
            for total, image in zip(totals, images, strict=True):
                total += weight * image[iy, ix]
            total_weight += weight
    coefficient = np.float32(1) / total_weight
    return [total * coefficient for total in totals]


def catmull_rom(distance: Image) -> Image:
    """Weight of a tap at this distance in pixels: cubic convolution with a = -1/2."""
    t = np.abs(distance)
    near = t * t * (np.float32(1.5) * t - np.float32(2.5)) + np.float32(1)
    far = t * (t * (np.float32(-0.5) * t + np.float32(2.5)) - np.float32(4)) + np.float32(2)
    weight: Image = np.where(t <= 1, near, np.where(t < 2, far, np.float32(0)))
    return weight


def warp_cpu(images: list[Image], x: Image, y: Image) -> list[Image]:
    """Bicubic samples (a = -3/4) of the images at (x, y), which are 0 outside: Note [bicubic of OpenCV 5].

    A coordinate that is NaN is outside.
    """
    height, width = images[0].shape
    x = _clamp(x, np.float32(-3), np.float32(width + 1))  # there all taps are outside
    y = _clamp(y, np.float32(-3), np.float32(height + 1))
    left, top = np.floor(x), np.floor(y)
    weights_x, weights_y = cubic_weights(x - left), cubic_weights(y - top)
    frame = 4
    ix, iy = left.astype(np.intp) - 1 + frame, top.astype(np.intp) - 1 + frame  # the first of four taps
    warped = []
    for image in images:
        framed = np.pad(image, frame)
        rows = [_weighted_sum([framed[iy + row, ix + column] for column in range(4)], weights_x) for row in range(4)]
        warped.append(_weighted_sum(rows, weights_y))
    return warped


def cubic_weights(t: Image) -> list[Image]:
    """Weights of the pixels at -1, 0, 1 and 2 in a sample at `t` in 0..1: cubic convolution with a = -3/4."""
    a, one = np.float32(-0.75), np.float32(1)
    s = one - t
    w0 = s * s * t * a
    w1 = fma(t * t, fma(t, a + np.float32(2), -(a + np.float32(3))), one)
    w3 = t * t * s * a
    return [w0, w1, one - w0 - w1 - w3, w3]


def _weighted_sum(values: list[Image], weights: list[Image]) -> Image:
    total: Image = values[0] * weights[0]
    for value, weight in zip(values[1:], weights[1:], strict=True):
        total = fma(value, weight, total)
    return total


def fma(a: Image, b: Image | np.float32, c: Image | np.float32) -> Image:
    """Product and sum, a * b + c, rounded once.

    Extended precision has 64 bits on x86-64, where this rounds wrongly once in some 2^40 times (2^29 with 53 bits).
    """
    return (a.astype(np.longdouble) * b + c).astype(np.float32)


def _clamp(coordinates: Image, low: np.float32, high: np.float32) -> Image:
    """Coordinates within the limits; NaN becomes `low`."""
    clamped: Image = np.fmin(np.fmax(coordinates, low), high)
    return clamped


# -- median ------------------------------------------------------------------------------------------------------------


def median_filter(image: Image, side: int) -> Image:
    """Median of the `side` x `side` pixels around each pixel, edge pixels going on outside (`cv::medianBlur`).

    NaN counts as larger than any number.
    """
    height, width = image.shape
    framed = np.pad(image, side // 2, mode="edge")
    neighbours = np.stack([framed[j : j + height, i : i + width] for j in range(side) for i in range(side)])
    median: Image = np.partition(neighbours, side * side // 2, axis=0)[side * side // 2]
    return median

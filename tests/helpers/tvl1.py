"""Images, flows and marks that the tests of TV-L1 share."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import pytest

from flowprep.flow.tvl1.params import TVL1CPUParameters, TVL1CUDAParameters

Image = npt.NDArray[np.float32]

CPU_AVX2, CPU_FMA3 = 11, 12  # cv::CpuFeatures, which Python does not have by name

needs_same_warp = pytest.mark.skipif(
    int(cv2.__version__.split(".")[0]) < 5 or not all(map(cv2.checkHardwareSupport, (CPU_AVX2, CPU_FMA3))),
    reason=f"OpenCV {cv2.__version__} warps with other rounding here: equal bits need OpenCV 5 and AVX2",
)

# Numbers of the versions rather than a probe: a new OpenCV that multiplies in yet another way is to be seen.
OPENCV_SCALES_IN_DOUBLE = tuple(map(int, cv2.__version__.split(".")[:2])) < (5, 1)


def scaled_in_double(component: Image, factor: float) -> Image:
    """`reference.scaled` with the roundings of OpenCV before 5.1."""
    return float32(component.astype(np.float64) * factor)


BOTH = pytest.mark.parametrize("kind", [TVL1CPUParameters, TVL1CUDAParameters], ids=["cpu", "cuda"])


def float32(values: Any) -> Image:
    return np.asarray(values, np.float32)


def random_image(height: int, width: int, seed: int = 0) -> Image:
    return float32(np.random.default_rng(seed).random((height, width)) * 255)


def difficult_pair(height: int, width: int, seed: int = 0) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8]]:
    """Texture that turns and grows, with a patch that moves differently, and noise."""
    rng = np.random.default_rng(seed)
    texture = cv2.GaussianBlur(rng.random((height + 20, width + 20)), (0, 0), 1.5)
    texture = (texture - texture.min()) / np.ptp(texture) * 255
    motion = np.array([[1.02, 0.02, -11.5], [-0.02, 1.0, -9.2]])
    first = texture[10:-10, 10:-10]
    second = cv2.warpAffine(texture, motion, (width, height), flags=cv2.INTER_LINEAR)
    second[height // 3 : height // 2, width // 3 : width // 2] = first[
        : height // 2 - height // 3, : width // 2 - width // 3
    ]
    second += rng.normal(size=second.shape)
    return np.rint(first).astype(np.uint8), np.rint(second.clip(0, 255)).astype(np.uint8)


def random_flow(height: int, width: int) -> Image:
    return float32(np.random.default_rng(9).normal(size=(height, width, 2)))

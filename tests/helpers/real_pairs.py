"""Crops of real image pairs, for tests of flow."""

from __future__ import annotations

import functools

import cv2
import numpy as np
import numpy.typing as npt
from helpers.shared_data import FLOW, VIDEOS

Grey = npt.NDArray[np.uint8]

CLIPS = {  # video, index of the first frame
    "soccer": ("ucf101/SoccerJuggling/v_SoccerJuggling_g23_c01.avi", 20),
    "basketball": ("ucf101/Basketball/v_Basketball_g01_c01.avi", 30),
    "makeup": ("ucf101/ApplyEyeMakeup/v_ApplyEyeMakeup_g01_c01.avi", 40),
    "truman": ("hmdb51/wave/TrumanShow_wave_f_nm_np1_fr_med_26.avi", 10),
    "cartwheel": ("hmdb51/cartwheel/Turnk_r_Pippi_Michel_cartwheel_f_cm_np2_le_med_6.avi", 30),
}
IMAGES = ("rubberwhale", "chairs_0000000", "chairs_0000003", "ipol_tvl1")


@functools.cache
def real_pair(name: str, height: int = 96, width: int = 128) -> Grey:
    """The middle of a pair of CLIPS or IMAGES, uint8 (2, height, width)."""
    images = _images(name)
    top, left = (images.shape[1] - height) // 2, (images.shape[2] - width) // 2
    return np.ascontiguousarray(images[:, top : top + height, left : left + width])


def _images(name: str) -> Grey:
    if name in IMAGES:
        paths = [next((FLOW / name).glob(f"frame{k}.*")) for k in (0, 1)]
        return np.stack([cv2.imread(str(path), cv2.IMREAD_GRAYSCALE) for path in paths]).astype(np.uint8)
    path, index = CLIPS[name]
    video = cv2.VideoCapture(str(VIDEOS / path))
    frames = [video.read()[1] for _ in range(index + 2)][-2:]
    video.release()
    return np.stack([cv2.cvtColor(frame, cv2.COLOR_BGR2GRAY) for frame in frames]).astype(np.uint8)

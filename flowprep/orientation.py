"""Pictures as they are to be shown: turned and mirrored as the display matrix of a frame says (phones write one)."""

from __future__ import annotations

import struct

import av
import numpy as np
from av.sidedata.sidedata import Type
from numpy.typing import NDArray

_TOP_LEFT = struct.Struct("=5i")  # of a 3x3 matrix by rows: a b . c d


def upright(image: NDArray[np.uint8], frame: av.VideoFrame) -> NDArray[np.uint8]:
    """The picture uint8 (H, W, 3) of a frame, mirrored and then turned by quarters; other angles are left alone.

    FFmpeg's angle, counter-clockwise, is that of the horizontal axis alone: of a mirrored picture, whose matrix has a
    negative determinant, it holds after the picture was turned upside down.
    """
    if _is_mirrored(frame):
        image = image[::-1]
    return np.ascontiguousarray(np.rot90(image, frame.rotation // 90) if frame.rotation % 90 == 0 else image)


def _is_mirrored(frame: av.VideoFrame) -> bool:
    matrix = frame.side_data.get(Type.DISPLAYMATRIX)
    if matrix is None:
        return False
    a, b, _, c, d = _TOP_LEFT.unpack_from(bytes(matrix))
    return bool(a * d - b * c < 0)

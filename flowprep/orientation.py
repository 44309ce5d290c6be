"""Pictures as they are to be shown: turned and mirrored as the display matrix of a video says (phones write one)."""

from __future__ import annotations

import struct
from typing import Any, final

import av
import numpy as np
from numpy.typing import NDArray

_TOP_LEFT = struct.Struct("=5i")  # of a 3x3 matrix by rows: a b . c d


@final
class Upright:
    """Makes the pictures of one video upright. Whether they are mirrored is decided by its first frame."""

    def __init__(self) -> None:
        self._mirrored: bool | None = None

    def __call__(self, image: NDArray[np.uint8], frame: av.VideoFrame) -> NDArray[np.uint8]:
        """The picture uint8 (H, W, 3) of a frame, mirrored and then turned by quarters; other angles are left alone.

        FFmpeg's angle, counter-clockwise, is that of the horizontal axis alone: of a mirrored picture, whose matrix has
        a negative determinant, it holds after the picture was turned upside down.
        """
        if self._mirrored is None:  # once: a frame whose side data were looked at lives until garbage is collected
            self._mirrored = _is_mirrored(frame)
        if self._mirrored:
            image = image[::-1]
        return np.ascontiguousarray(np.rot90(image, frame.rotation // 90) if frame.rotation % 90 == 0 else image)


def _is_mirrored(frame: Any) -> bool:
    try:
        matrix = frame.side_data["DISPLAYMATRIX"]
    except (KeyError, ValueError):  # none, or beside it side data of a kind that PyAV does not know
        return False
    a, b, _, c, d = _TOP_LEFT.unpack_from(bytes(matrix))
    return bool(a * d - b * c < 0)

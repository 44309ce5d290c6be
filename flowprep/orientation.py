"""Pictures as they are to be shown: turned and mirrored as the display matrix of a video says (phones write one)."""

from __future__ import annotations

import math
import struct
from typing import Any, final

import av
import numpy as np
from av.sidedata.sidedata import Type
from numpy.typing import NDArray

_TOP_LEFT = struct.Struct("=5i")  # of a 3x3 matrix by rows: a b . c d
_TOLERANCE_DEGREES = 1.0  # FFmpeg's


def _unnamed(kind: type[Any], value: int) -> Any:
    """A kind of side data that PyAV has no name for: beside one it gives none of a frame, EXIF in JPEG for instance."""
    member = object.__new__(kind)
    member._name_, member._value_ = f"UNNAMED_{value}", value
    return member


if "_missing_" not in vars(Type):
    Type._missing_ = classmethod(_unnamed)  # type: ignore[assignment]


@final
class Upright:
    """Makes the pictures of one video upright.

    The matrix is read of the first frame, and again where FFmpeg's angle changes. `rotation` is that angle in degrees,
    counter-clockwise, and `is_askew` tells whether it is no multiple of 90: such pictures are left as they are.
    """

    def __init__(self) -> None:
        self.rotation = 0
        self.is_askew = False
        self._is_mirrored = False
        self._angle: int | None = None

    def __call__(self, image: NDArray[np.uint8], frame: av.VideoFrame) -> NDArray[np.uint8]:
        """The picture uint8 (H, W, 3) of a frame, mirrored and then turned by quarters."""
        if self._angle != frame.rotation:  # seldom: a frame whose side data were looked at waits for the collector
            self._angle = frame.rotation
            self._read(frame)
        if self.is_askew:
            return np.ascontiguousarray(image)
        if self._is_mirrored:
            image = image[::-1]
        return np.ascontiguousarray(np.rot90(image, self.rotation // 90))

    def _read(self, frame: Any) -> None:
        """Read the matrix of a frame. One that maps all to a line or point is none.

        FFmpeg's angle is that of the horizontal axis alone: of a mirrored picture, whose matrix has a negative
        determinant, it holds after the picture was turned upside down.
        """
        try:
            matrix = bytes(frame.side_data["DISPLAYMATRIX"])
        except KeyError:
            matrix = bytes(_TOP_LEFT.size)
        a, b, _, c, d = _TOP_LEFT.unpack_from(matrix)
        determinant = a * d - b * c
        angle = -math.degrees(math.atan2(b / math.hypot(b, d), a / math.hypot(a, c))) if determinant else 0.0
        quarter = 90 * round(angle / 90)
        is_quarter = abs(angle - quarter) <= _TOLERANCE_DEGREES
        self.rotation = quarter if is_quarter else round(angle)
        self.is_askew, self._is_mirrored = not is_quarter, determinant < 0

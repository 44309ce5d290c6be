"""How far what is computed again may be from what is stored, in one table, with reasons."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True, kw_only=True)
class Tolerance:
    """Bounds of one pair of decoded JPEGs, in 8-bit codes (of flow: 2 * bound / 255 px, 0.157 px by default)."""

    mean_codes: float
    share_within_3: float

    def allows(self, found: NDArray[np.uint8], expected: NDArray[np.uint8]) -> bool:
        """True if two images of one size are as near as that."""
        distance = np.abs(found.astype(np.int16) - expected)
        return bool(distance.mean() <= self.mean_codes and (distance <= 3).mean() >= self.share_within_3)


_OF_TVL1 = Tolerance(mean_codes=1.5, share_within_3=0.90)
_OF_OTHER_ALGORITHMS = Tolerance(mean_codes=0.5, share_within_3=0.98)

TOLERANCES: Mapping[str, Tolerance] = {
    # The same build on the same kind of processor gives the same bytes, which is looked at first: all this is for
    # stores that another one has made. JPEG adds to both sides what it loses, up to 2 codes where an edge meets a
    # block.
    #
    # swscale is bit exact and the resize is OpenCV's integer one, so that only decoders differ, by a code here and
    # there.
    "rgb": Tolerance(mean_codes=1.0, share_within_3=0.97),
    # Chaotic pairs: where a last bit decides whether a warp gets one iteration more, flow creeps on in places without
    # texture. Between implementations 95 % of the codes are within 1, mean end-point differences up to 0.15 px
    # (tests/helpers/flow_tolerances.py), which is one code; flow of another bound or another pair differs by several.
    **dict.fromkeys(("native", "native-cuda", "opencv", "opencv-cuda"), _OF_TVL1),
    # Of one implementation each, in which the order of a sum is all that may differ from build to build.
    "dis": _OF_OTHER_ALGORITHMS,
    "farneback": _OF_OTHER_ALGORITHMS,
}

"""Where a crop lies, and whether it is mirrored: arithmetic alone. One geometry holds for all frames of both streams.

A training crop has height and width round(224 * (1 + u)), u in -jitter .. jitter, each by itself, cut down to the
image; it is resized to 224 x 224, so its aspect changes. Positions are drawn in the free space, image less crop:
*borders*, y and x each at most a quarter of it from a border (the paper); *diagonal*, both near the top left or both
near the bottom right, on a grid of 20 x 20 (the released code's 'noCtr'); *corners*, a corner or the centre, with sides
of 256, 224, 192 or 168 for 224 (its 'multiScaleRegular', for the temporal stream alone); *borders+corners*, sizes of
*borders*, and every second crop at a corner or in the centre: so we read what the paper says of VGG-16 (section 4.4),
which is not how often.
"""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass

from fusion_train.config import DataSettings
from fusion_train.data.draws import Draws

_GRID = 20
_MAX_KEPT = 2
_SCALES = (8 / 7, 1.0, 6 / 7, 3 / 4)
_CORNERS = ((0.0, 0.0), (1.0, 1.0), (0.0, 1.0), (1.0, 0.0), (0.5, 0.5))
"""Shares of the free space above and left of crops at the corners and in the centre."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Crop:
    """A part of an image in pixels."""

    top: int
    left: int
    height: int
    width: int


def strip_of(crop: Crop, width: int) -> Crop:
    """What is kept of an image of that width for the sake of a crop.

    These are the crop's rows at their whole width, which lie in one piece already; only where that is more than
    twice what is needed, it is the crop alone.
    """
    if width > _MAX_KEPT * crop.width:
        return crop
    return dataclasses.replace(crop, left=0, width=width)


def training_crop(height: int, width: int, settings: DataSettings, draws: Draws) -> tuple[Crop, bool]:
    """A crop of an image of that size, and whether it is mirrored."""
    if settings.crops == "corners":
        crop = _corner_crop(height, width, settings, draws)
    else:
        crop_height, crop_width = (
            min(_rounded(settings.crop_size * (1 + settings.jitter * (2 * draws.uniform() - 1))), limit)
            for limit in (height, width)
        )
        place_y, place_x = _places(settings, draws)
        crop = Crop(
            top=math.floor((height - crop_height) * place_y),
            left=math.floor((width - crop_width) * place_x),
            height=crop_height,
            width=crop_width,
        )
    mirrored = draws.below(2) == 1
    return crop, mirrored and settings.flip


def _places(settings: DataSettings, draws: Draws) -> tuple[float, float]:
    """Shares of the free space above and left of the crop."""
    if settings.crops == "diagonal":
        first = draws.below(2) * (1 - settings.border)
        step = settings.border / (_GRID - 1)
        return first + step * draws.below(_GRID), first + step * draws.below(_GRID)
    if settings.crops == "borders+corners" and draws.below(2):
        return _CORNERS[draws.below(len(_CORNERS))]
    far, near = draws.below(4), (settings.border * draws.uniform(), settings.border * draws.uniform())
    return (1 - near[0] if far & 1 else near[0]), (1 - near[1] if far & 2 else near[1])


def _corner_crop(height: int, width: int, settings: DataSettings, draws: Draws) -> Crop:
    crop_height, crop_width = (
        min(_rounded(settings.crop_size * _SCALES[draws.below(4)]), limit) for limit in (height, width)
    )
    place_y, place_x = _CORNERS[draws.below(len(_CORNERS))]
    return Crop(
        top=_rounded((height - crop_height) * place_y),
        left=_rounded((width - crop_width) * place_x),
        height=crop_height,
        width=crop_width,
    )


def evaluation_size(height: int, width: int, settings: DataSettings) -> tuple[int, int]:
    """Size at which a whole image is evaluated: its own, each side brought to between 1 and 2 crop sizes."""
    low, high = settings.crop_size, 2 * settings.crop_size
    return min(max(height, low), high), min(max(width, low), high)


def _rounded(value: float) -> int:
    """MATLAB's `round` of a number that is not negative: halves go up."""
    return math.floor(value + 0.5)

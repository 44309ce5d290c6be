"""What pictures of flow are made of: panels of a size for the eye, arrows, marks, text and the legend.

All pictures are RGB, uint8 (H, W, 3). Text is OpenCV's: it has the Latin letters from OpenCV 5 on, ASCII before.
"""

from __future__ import annotations

import functools

import cv2
import numpy as np
from numpy.typing import NDArray

from flowprep.colour import flow_to_rgb, wheel_disc

Picture = NDArray[np.uint8]

PAPER, INK, GREY, ALARM = (255, 255, 255), (28, 28, 30), (110, 110, 115), (200, 0, 0)
"""Colours of the page, of text, of minor text, and of text about saturated pixels."""

_SMALL_PX, _LARGE_PX = 340, 640  # panels are enlarged about to the first side, and reduced to the second
_STRIPE_PX = 3
_MIN_SCALE = 0.38  # the smallest text that can be read
_ARROW = (255, 230, 0)
_NICE = (1, 1.5, 2, 3, 4, 5, 6, 8, 10)


def shown_size(width: int, height: int) -> tuple[int, int]:
    """(width, height) in which a frame is shown: small ones a whole number of times as large, large ones smaller."""
    longest = max(width, height)
    if longest > _LARGE_PX:
        return max(1, round(width * _LARGE_PX / longest)), max(1, round(height * _LARGE_PX / longest))
    times = max(1, round(_SMALL_PX / longest))
    return width * times, height * times


def nice_px(length_px: float) -> float:
    """The round number for a scale that is just not below a length, and at least 1 pixel."""
    power = 10.0 ** np.floor(np.log10(max(length_px, 1.0)))
    return float(next(step * power for step in _NICE if step * power >= length_px - 1e-9 or step == _NICE[-1]))


def frame_panel(image: Picture, size: tuple[int, int]) -> Picture:
    """A frame in the size `size` (width, height)."""
    enlarged = size[0] > image.shape[1]
    return np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_CUBIC if enlarged else cv2.INTER_AREA), np.uint8)


def flow_panel(
    flow_px: NDArray[np.float32], saturated: NDArray[np.bool_], size: tuple[int, int], *, max_px: float
) -> Picture:
    """Flow (H, W, 2) in the wheel's colours; the pixels of `saturated`, bool (H, W), are marked."""
    enlarged = size[0] > flow_px.shape[1]
    method = cv2.INTER_NEAREST if enlarged else cv2.INTER_AREA
    if enlarged:
        panel = np.asarray(cv2.resize(flow_to_rgb(flow_px, max_px=max_px), size, interpolation=method), np.uint8)
    else:  # the mean flow of an area, since colours take long
        small = np.asarray(cv2.resize(flow_px, size, interpolation=method), np.float32)
        panel = flow_to_rgb(small.reshape(size[1], size[0], 2), max_px=max_px)
    shown = cv2.resize(saturated.astype(np.float32), size, interpolation=method) > 0
    return mark(panel, shown)


def mark(panel: Picture, where: NDArray[np.bool_]) -> Picture:
    """The panel with black and white stripes in a black rim where `where` (H, W) is true.

    The wheel has no black, and white only for no motion; a single pixel is made large enough to be seen.
    """
    if not where.any():
        return panel
    area = cv2.dilate(where.astype(np.uint8), np.ones((3, 3), np.uint8))
    rim = cv2.dilate(area, np.ones((3, 3), np.uint8))
    rows, columns = np.indices(where.shape, dtype=np.int32)
    white = (rows + columns) // _STRIPE_PX % 2 == 0
    marked = panel.copy()
    marked[rim > 0] = 0
    marked[(area > 0) & white] = 255
    return marked


def with_arrows(panel: Picture, flow_px: NDArray[np.float32], *, max_px: float) -> Picture:
    """A copy of the panel with an arrow a field of a grid: the mean flow of the field, from the middle of it.

    Flow of `max_px` is drawn `arrow_length` dots long; what would be shorter than four dots is left out.
    """
    height, width = panel.shape[:2]
    field = _field(width, height)
    num_columns, num_rows = max(1, width // field), max(1, height // field)
    means = cv2.resize(flow_px, (num_columns, num_rows), interpolation=cv2.INTER_AREA)  # (rows, columns, 2)
    scale = arrow_length(width, height) / max_px
    drawn = panel.copy()
    for colour, thickness in (((0, 0, 0), 3), (_ARROW, 1)):
        for (row, column), u, v in zip(np.ndindex(num_rows, num_columns), *means.reshape(-1, 2).T, strict=True):
            along = np.array([u, v], np.float64) * scale
            length = float(np.hypot(*along))
            if length < 4:
                continue
            along *= min(1.0, 2 * field / length)
            start = np.array([(column + 0.5) * width / num_columns, (row + 0.5) * height / num_rows])
            _arrow(drawn, start, start + along, colour, thickness)
    return drawn


def arrow_length(width: int, height: int) -> float:
    """Dots of the arrow that stands for the scale's longest flow, in a panel of this size."""
    return 1.25 * _field(width, height)


def _field(width: int, height: int) -> int:
    """Side in dots of the fields that have an arrow each."""
    return int(np.clip(min(height, width) // 12, 16, 40))


def put_arrow(page: Picture, place: tuple[int, int], length: float) -> None:
    """An arrow to the right, as `with_arrows` draws them, that begins at `place` (x, y)."""
    start = np.array(place, np.float64)
    for colour, thickness in (((0, 0, 0), 3), (_ARROW, 1)):
        _arrow(page, start, start + np.array([length, 0]), colour, thickness)


def _arrow(
    picture: Picture, start: NDArray[np.float64], end: NDArray[np.float64], colour: tuple[int, int, int], width: int
) -> None:
    """An arrow between two points (x, y), with a head of a size that does not vary much."""
    length = float(np.hypot(*(end - start)))
    tip = float(np.clip(5.0 / length, 0.25, 0.6))
    points = [(round(float(x)), round(float(y))) for x, y in (start, end)]
    cv2.arrowedLine(picture, points[0], points[1], colour, width, cv2.LINE_AA, tipLength=tip)


def text_size(text: str, scale: float, *, bold: bool = False) -> tuple[int, int]:
    """Width and height in dots."""
    (width, height), _ = cv2.getTextSize(text, _font(bold), scale, 1)
    return int(width), int(height)


def put_text(
    picture: Picture,
    text: str,
    place: tuple[int, int],
    *,
    scale: float = 0.45,
    colour: tuple[int, int, int] = INK,
    bold: bool = False,
    max_width: int | None = None,
) -> int:
    """Write text with its lower left corner at `place` (x, y), and say at which x it ends.

    What is too long gets smaller, and if that is not enough ends in dots.
    """
    if not hasattr(cv2, "FontFace"):  # OpenCV 4 writes two question marks for a letter that it has not
        text = text.encode("ascii", "backslashreplace").decode("ascii")
    text = text.encode("utf-8", "backslashreplace").decode("utf-8")
    limit = picture.shape[1] - place[0] if max_width is None else max_width
    while scale > _MIN_SCALE and text_size(text, scale, bold=bold)[0] > limit:
        scale -= 0.02
    if text_size(text, scale, bold=bold)[0] > limit:
        while text and text_size(f"{text}...", scale, bold=bold)[0] > limit:
            text = text[:-1]
        text += "..."
    cv2.putText(picture, text, place, _font(bold), scale, colour, 1, cv2.LINE_AA)
    return place[0] + text_size(text, scale, bold=bold)[0]


def _font(bold: bool) -> int:
    return int(cv2.FONT_HERSHEY_DUPLEX if bold else cv2.FONT_HERSHEY_SIMPLEX)


@functools.cache
def wheel(radius: int) -> Picture:
    """The wheel on paper, with a smooth edge: RGB (2r+1, 2r+1, 3)."""
    times = 4
    disc, inside = wheel_disc(radius * times + times // 2)
    disc = np.where(inside[..., None], disc, np.array(PAPER, np.uint8))
    side = 2 * radius + 1
    return np.asarray(cv2.resize(disc, (side, side), interpolation=cv2.INTER_AREA), np.uint8)


def paste(page: Picture, picture: Picture, left: int, top: int) -> None:
    """Lay a picture on a page."""
    height, width = picture.shape[:2]
    page[top : top + height, left : left + width] = picture


def blank(width: int, height: int) -> Picture:
    """Empty paper."""
    return np.full((height, width, 3), PAPER, np.uint8)

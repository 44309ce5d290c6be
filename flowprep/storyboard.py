"""Pages about a stored video: a sheet with some of its frames, or one page a frame for a film."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from flowprep.drawing import (
    ALARM,
    GREY,
    PAPER,
    Picture,
    arrow_length,
    blank,
    flow_panel,
    frame_panel,
    mark,
    paste,
    put_arrow,
    put_text,
    shown_size,
    text_size,
    wheel,
    with_arrows,
)

_MARGIN, _GAP, _LINE = 14, 8, 19
_WHEEL_RADIUS, _FILM_WHEEL_RADIUS = 42, 22
_MIN_WIDTH, _MIN_FILM_WIDTH = 700, 380
_LEGEND_WIDTH = 300
_FRAMES_A_ROW = 3  # where a frame has one panel


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Shot:
    """A frame and the flow that starts from it; what is not stored is None.

    `index` counts frames as they were decoded, `target` is where the flow goes, `seconds` the time of the frame.
    `flow_px` (H, W, 2) is what is drawn, `saturated` (H, W) is true where a code is 0 or 255.
    """

    index: int
    target: int | None
    seconds: float | None
    image: Picture | None
    flow_px: NDArray[np.float32] | None
    saturated: NDArray[np.bool_] | None
    mean_px: float
    longest_px: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Title:
    """What all shots have in common: the video, facts about it, size, and the scale of the colours."""

    video: str
    lines: tuple[str, ...]
    width: int
    height: int
    max_px: float


def draw_sheet(title: Title, shots: Sequence[Shot]) -> Picture:
    """A row a shot: its frame, its flow in colours, and as arrows; three shots a row where they are frames alone."""
    size = shown_size(title.width, title.height)
    cells = [_panels(title, shot, size) for shot in shots]
    has_flow = any(shot.flow_px is not None for shot in shots)
    names = _names(shots)
    a_row = 1 if len(names) > 1 else min(_FRAMES_A_ROW, len(shots))
    num_columns = len(names) * a_row
    inner = num_columns * size[0] + (num_columns - 1) * _GAP
    width = max(inner, _MIN_WIDTH) + 2 * _MARGIN
    left = (width - inner) // 2
    head = _head(title, width, has_flow=has_flow, any_saturated=any(_num_saturated(shot) for shot in shots))
    row_height = size[1] + _LINE + _GAP
    num_rows = -(-len(shots) // a_row)
    page = blank(width, head.shape[0] + _LINE + num_rows * row_height + _MARGIN - _GAP)
    paste(page, head, 0, 0)
    top = head.shape[0]
    for k in range(num_columns):
        put_text(page, names[k % len(names)], (left + k * (size[0] + _GAP), top + 12), scale=0.4, colour=GREY)
    top += _LINE
    for k, (shot, panels) in enumerate(zip(shots, cells, strict=True)):
        row, place = divmod(k, a_row)
        x, y = left + place * len(names) * (size[0] + _GAP), top + row * row_height
        for panel in panels:
            paste(page, _framed(panel), x, y)
            x += size[0] + _GAP
        _caption(page, shot, (left + place * len(names) * (size[0] + _GAP), y + size[1] + 14), a_row, size[0])
    return page


def draw_film_page(title: Title, shot: Shot) -> Picture:
    """Frame and flow side by side over a caption; both sides are even, and depend on the video alone."""
    size = shown_size(title.width, title.height)
    panels = _panels(title, shot, size)[:2]
    inner = len(panels) * size[0] + (len(panels) - 1) * _GAP
    width = (max(inner, _MIN_FILM_WIDTH) + 1) // 2 * 2
    foot = 4 + 3 * _LINE + 4
    page = blank(width, (size[1] + foot + 1) // 2 * 2)
    for k, panel in enumerate(panels):
        paste(page, panel, (width - inner) // 2 + k * (size[0] + _GAP), 0)
    bottom = page.shape[0]
    room = width - 20
    if shot.flow_px is not None:
        side = 2 * _FILM_WHEEL_RADIUS + 1
        room -= side + 60
        paste(page, wheel(_FILM_WHEEL_RADIUS), width - side - 8, bottom - side - 10)
        label = f"{title.max_px:g} px"
        put_text(page, label, (width - side - 14 - text_size(label, 0.42)[0], bottom - 12), scale=0.42)
    y = size[1] + 4 + 14
    put_text(page, title.video, (10, y), bold=True, max_width=room)
    put_text(page, _moment(shot), (10, y + _LINE), max_width=room)
    if shot.flow_px is not None:
        end = put_text(page, f"{_lengths(shot)}, ", (10, y + 2 * _LINE), max_width=room)
        put_text(page, _saturation(shot), (end + 4, y + 2 * _LINE), colour=_alarm(shot), max_width=room + 6 - end)
    return page


def _names(shots: Sequence[Shot]) -> list[str]:
    """Headings of the columns, for the panels that `_panels` gives."""
    images = any(shot.image is not None for shot in shots)
    flow = any(shot.flow_px is not None for shot in shots)
    if images and flow:
        return ["frame", "flow", "flow as arrows"]
    return ["flow as arrows", "flow"] if flow else ["frame"]


def _panels(title: Title, shot: Shot, size: tuple[int, int]) -> list[Picture]:
    """The frame (or arrows on paper), the flow, and arrows on the frame, as far as they are stored."""
    frame = frame_panel(shot.image, size) if shot.image is not None else None
    if shot.flow_px is None or shot.saturated is None:
        return [frame if frame is not None else blank(*size)]
    flow = flow_panel(shot.flow_px, shot.saturated, size, max_px=title.max_px)
    ground = frame if frame is not None else np.full((size[1], size[0], 3), 90, np.uint8)
    arrows = with_arrows(ground, shot.flow_px, max_px=title.max_px)
    return [arrows, flow] if frame is None else [frame, flow, arrows]


def _framed(panel: Picture) -> Picture:
    """The panel with a thin grey line at its edge, since flow may be as white as paper."""
    panel = panel.copy()
    panel[[0, -1]] = 190
    panel[:, [0, -1]] = 190
    return panel


def _head(title: Title, width: int, *, has_flow: bool, any_saturated: bool) -> Picture:
    """The video's name and facts on the left, the legend on the right."""
    lines = title.lines
    side = 2 * _WHEEL_RADIUS + 1
    height = max(24 + _LINE * len(lines), side if has_flow else 0) + 2 * _MARGIN
    page = blank(width, height)
    room = width - 2 * _MARGIN - (_LEGEND_WIDTH + _MARGIN if has_flow else 0)
    put_text(page, title.video, (_MARGIN, _MARGIN + 15), scale=0.62, bold=True, max_width=room)
    for k, line in enumerate(lines):
        put_text(page, line, (_MARGIN, _MARGIN + 38 + k * _LINE), scale=0.43, colour=GREY, max_width=room)
    if not has_flow:
        return page
    left, top = width - _MARGIN - _LEGEND_WIDTH, _MARGIN
    paste(page, wheel(_WHEEL_RADIUS), left, top)
    x = left + side + 12
    put_text(page, f"rim: {title.max_px:g} px, darker: longer", (x, top + 18), scale=0.43)
    length = arrow_length(*shown_size(title.width, title.height))
    put_arrow(page, (x + 1, top + 18 + _LINE), length)
    put_text(page, f"{title.max_px:g} px", (x + round(length) + 10, top + 18 + _LINE + 4), scale=0.43)
    swatch = np.full((14, 24, 3), PAPER, np.uint8)
    where = np.zeros((14, 24), np.bool_)
    where[2:-2, 2:-2] = True
    paste(page, mark(swatch, where), x, top + 18 + 2 * _LINE)
    colour = ALARM if any_saturated else GREY
    put_text(page, "saturated: code 0 or 255", (x + 32, top + 18 + 2 * _LINE + 12), scale=0.43, colour=colour)
    return page


def _caption(page: Picture, shot: Shot, place: tuple[int, int], a_row: int, panel_width: int) -> None:
    room = page.shape[1] - place[0] if a_row == 1 else panel_width
    if shot.flow_px is None:
        put_text(page, _moment(shot), place, max_width=room)
        return
    end = put_text(page, f"{_moment(shot)}   {_lengths(shot)}   ", place, max_width=room)
    put_text(page, _saturation(shot), (end, place[1]), colour=_alarm(shot))


def _moment(shot: Shot) -> str:
    way = "" if shot.target is None else f" -> {shot.target}"
    time = "" if shot.seconds is None else f"   {shot.seconds:.3f} s"
    return f"frame {shot.index}{way}{time}"


def _lengths(shot: Shot) -> str:
    return f"mean {shot.mean_px:.2f} px, longest {shot.longest_px:.2f} px"


def _num_saturated(shot: Shot) -> int:
    return 0 if shot.saturated is None else int(shot.saturated.sum())


def _saturation(shot: Shot) -> str:
    count = _num_saturated(shot)
    if not count or shot.saturated is None:
        return "none saturated"
    return f"{100 * count / shot.saturated.size:.2g} % saturated ({count} pixels)"


def _alarm(shot: Shot) -> tuple[int, int, int]:
    return ALARM if _num_saturated(shot) else GREY

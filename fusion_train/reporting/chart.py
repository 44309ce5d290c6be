"""Lines over an axis, as inline SVG with its legend: 420 units wide, so that its text is of one size on any screen."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import final

from markupsafe import Markup

from fusion_train.reporting.svg import element, joined, picture, short, ticks

WIDTH, HEIGHT = 420, 260
_LEFT, _RIGHT, _TOP, _BOTTOM = 46, 12, 34, 40
_MAX_DOTS = 40

Points = Sequence[tuple[float, float]]


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """`colour` is 1 to 4, one of the page's. A `faint` line is behind the others and not in the legend."""

    label: str
    points: Points
    colour: int
    is_dashed: bool = False
    is_faint: bool = False


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Mark:
    """A vertical line with a text at its head."""

    x: float
    text: str


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Axis:
    """From `low` to `high`, with a name below or above it."""

    name: str
    low: float
    high: float


def line_chart(title: str, lines: Sequence[Line], *, x: Axis, y: Axis, marks: Sequence[Mark] = ()) -> Markup:
    """A figure with title, picture and legend."""
    frame = _Frame(x, y)
    shown = sorted((line for line in lines if line.points), key=lambda line: not line.is_faint)
    named = [line for line in lines if line.points and not line.is_faint]
    ends = "; ".join(f"{line.label} ends at {short(line.points[-1][1])}" for line in named)
    drawing = picture(
        WIDTH,
        HEIGHT,
        f"{title}, {y.name} by {x.name}: {ends}",
        *frame.axes(),
        *(frame.mark(mark, k) for k, mark in enumerate(marks)),
        *(part for line in shown for part in frame.line(line)),
    )
    legend = element("ul", *(element("li", _swatch(line), line.label) for line in named), class_="legend")
    return element("figure", element("figcaption", title), drawing, legend, class_="plot")


def widest(values: Sequence[float], *, at_least: float = 0.0) -> float:
    """The end of an axis from 0 that has room for the values."""
    highest = max([value for value in values if math.isfinite(value)], default=at_least)
    return max(highest, at_least) * 1.08 or 1.0


def _swatch(line: Line) -> Markup:
    stroke = element("path", d="M1 6H25", class_=_class_of(line))
    return element("svg", stroke, class_="swatch", viewBox="0 0 26 12", aria_hidden="true")


def _class_of(line: Line) -> str:
    styles = [f"line c{line.colour}", "dashed" if line.is_dashed else "", "faint" if line.is_faint else ""]
    return " ".join(filter(None, styles))


class _Frame:
    """Where values lie in the picture."""

    def __init__(self, x: Axis, y: Axis) -> None:
        self._x, self._y = x, y

    def _at(self, x: float, y: float) -> tuple[float, float]:
        across = (x - self._x.low) / ((self._x.high - self._x.low) or 1)
        up = (min(max(y, self._y.low), self._y.high) - self._y.low) / ((self._y.high - self._y.low) or 1)
        return _LEFT + across * (WIDTH - _LEFT - _RIGHT), HEIGHT - _BOTTOM - up * (HEIGHT - _TOP - _BOTTOM)

    def axes(self) -> list[Markup]:
        parts = [element("text", self._y.name, x=0, y=11, class_="axis")]
        for value in ticks(self._y.low, self._y.high):
            left, top = self._at(self._x.low, value)
            parts += [
                element("path", d=f"M{left:.1f} {top:.1f}H{WIDTH - _RIGHT}", class_="grid"),
                element("text", short(value), x=left - 6, y=top + 4, class_="tick end"),
            ]
        for value in ticks(self._x.low, self._x.high):
            left, _ = self._at(value, self._y.low)
            parts.append(element("text", short(value), x=left, y=HEIGHT - _BOTTOM + 17, class_="tick middle"))
        middle = _LEFT + (WIDTH - _LEFT - _RIGHT) / 2
        return [*parts, element("text", self._x.name, x=middle, y=HEIGHT - 5, class_="axis middle")]

    def mark(self, mark: Mark, number: int) -> Markup:
        left, bottom = self._at(mark.x, self._y.low)
        is_late = left > WIDTH * 0.7
        text = element(
            "text",
            mark.text,
            x=left + (-4 if is_late else 4),
            y=_TOP - 5 - 11 * (number % 2),
            class_="note end" if is_late else "note",
        )
        return joined(element("path", d=f"M{left:.1f} {_TOP - 14}V{bottom:.1f}", class_="mark"), text)

    def line(self, line: Line) -> list[Markup]:
        places = [self._at(x, y) for x, y in line.points if math.isfinite(y)]
        path = "M" + "L".join(f"{left:.1f} {top:.1f}" for left, top in places)
        parts = [element("path", d=path, class_=_class_of(line))]
        if line.is_dashed and len(places) <= _MAX_DOTS:
            parts += [element("circle", cx=left, cy=top, r=2.6, class_=f"dot c{line.colour}") for left, top in places]
        return parts

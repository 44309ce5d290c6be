"""Horizontal bars with a text above each, as inline SVG."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import final

from markupsafe import Markup

from fusion_train.reporting.svg import element, picture

_WIDTH, _ROW = 420, 40
_MAX_LETTERS = 48


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Bar:
    """Values are shares of 1. `interval` is drawn as a whisker, `reference` as a diamond, e.g. the paper's figure."""

    label: str
    value: float
    interval: tuple[float, float] | None = None
    reference: float | None = None
    is_main: bool = False


def bar_chart(label: str, bars: Sequence[Bar], *, chance: float | None = None) -> Markup:
    """The picture alone. `chance` is a dotted line over each bar."""
    height = _ROW * len(bars) + (22 if chance is not None else 2)
    parts: list[Markup] = []
    for k, bar in enumerate(bars):
        top = k * _ROW
        parts += [
            element("text", *_fitted(bar.label), x=0, y=top + 14, class_="name"),
            element("text", f"{100 * bar.value:.2f} %", x=_WIDTH, y=top + 14, class_="name end"),
            element("rect", x=0, y=top + 20, width=_WIDTH, height=12, rx=2, class_="track"),
            element("rect", x=0, y=top + 20, width=_WIDTH * bar.value, height=12, rx=2,
                    class_="bar main" if bar.is_main else "bar"),
        ]  # fmt: skip
        if chance is not None:
            parts.append(element("path", d=f"M{_WIDTH * chance:.1f} {top + 18}v16", class_="chance"))
        if bar.interval is not None:
            low, high = (_WIDTH * min(max(end, 0.0), 1.0) for end in bar.interval)
            path = f"M{low:.1f} {top + 22}v8M{low:.1f} {top + 26}H{high:.1f}M{high:.1f} {top + 22}v8"
            parts.append(element("path", d=path, class_="whisker"))
        if bar.reference is not None:
            left = _WIDTH * bar.reference
            parts.append(element("path", d=f"M{left:.1f} {top + 19}l5 7l-5 7l-5 -7z", class_="reference"))
    if chance is not None:
        parts.append(element("text", "chance", x=_WIDTH * chance + 3, y=height - 6, class_="note"))
    values = "; ".join(f"{bar.label} {100 * bar.value:.2f} %" for bar in bars)
    return picture(_WIDTH, height, f"{label}: {values}", *parts)


def _fitted(label: str) -> tuple[str, ...]:
    """A label that leaves room for the figure, with the whole of it as a title where it is cut."""
    if len(label) <= _MAX_LETTERS:
        return (label,)
    return element("title", label), f"{label[: _MAX_LETTERS - 1]}\N{HORIZONTAL ELLIPSIS}"

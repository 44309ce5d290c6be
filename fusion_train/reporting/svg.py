"""SVG as text: elements with escaped attributes and texts, and numbers for axes."""

from __future__ import annotations

import math

from markupsafe import Markup, escape


def element(tag: str, *children: str, **attributes: str | float | None) -> Markup:
    """An element. Texts among `children` are escaped unless they are `Markup`; attributes of None are left out.

    Names of attributes have `_` for `-`, and `class_` is `class`.
    """
    given = Markup("").join(
        Markup(' {}="{}"').format(name.rstrip("_").replace("_", "-"), _text(value))
        for name, value in attributes.items()
        if value is not None
    )
    content = Markup("").join(children)
    if not content:
        return Markup("<{}{}/>").format(tag, given)
    return Markup("<{}{}>{}</{}>").format(tag, given, content, tag)


def picture(
    wide: float, high: float, label: str, *children: str, class_: str = "chart", **attributes: str | float
) -> Markup:
    """A picture that fits its place, unless it has a `width`; `label` is what is read out in its stead."""
    return element(
        "svg",
        *children,
        class_=class_,
        viewBox=f"0 0 {_text(wide)} {_text(high)}",
        role="img",
        aria_label=label,
        **attributes,
    )


def joined(*parts: str) -> Markup:
    """Several pieces, one after another; texts are escaped."""
    return Markup("").join(escape(part) for part in parts)


def ticks(low: float, high: float, most: int = 5) -> list[float]:
    """Round numbers from `low` to `high`, at most about so many."""
    if not high > low:
        return [low]
    step = 10.0 ** math.floor(math.log10((high - low) / most))
    step *= next(factor for factor in (1, 2, 5, 10) if (high - low) / (step * factor) <= most)
    first = math.ceil(low / step - 1e-9)
    return [k * step for k in range(first, math.floor(high / step + 1e-9) + 1)]


def short(value: float) -> str:
    """A number as it stands at an axis."""
    if value and abs(value) < 1e-3:
        return f"{value:.0e}".replace("e-0", "e-")
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"


def _text(value: str | float) -> str:
    if isinstance(value, str):
        return value
    return f"{value:.2f}".rstrip("0").rstrip(".") if isinstance(value, float) else str(value)

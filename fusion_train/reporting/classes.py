"""Accuracy by class of every network, and what fusion gains in each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import final

import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray

from fusion_train.reporting.svg import element

_HALF = 40
_GAINS = (
    ("over the better stream", ("spatial", "temporal")),
    ("over late fusion", ("late fusion",)),
)


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class ClassRow:
    """A class: test videos, shares that are right by row of the results, gains of `fused` by what they are over."""

    name: str
    num_videos: int
    accuracy: Mapping[str, float]
    gains: Mapping[str, float]


def class_rows(confusions: Mapping[str, NDArray[np.int64]], classes: Sequence[str]) -> list[ClassRow]:
    """Classes that have test videos, with the largest gain first.

    Args:
        confusions: int64 (C, C) by row of the results, summed over splits.
        classes: Names by label.
    """
    if not confusions:
        return []
    sizes = next(iter(confusions.values())).sum(1)
    found = []
    for label in np.flatnonzero(sizes).tolist():
        accuracy = {row: float(confusion[label, label] / sizes[label]) for row, confusion in confusions.items()}
        gains = {
            what: accuracy["fused"] - max(accuracy[row] for row in rows)
            for what, rows in _GAINS
            if {"fused", *rows} <= accuracy.keys()
        }
        found.append(ClassRow(name=classes[label], num_videos=int(sizes[label]), accuracy=accuracy, gains=gains))
    last = list(found[0].gains)[-1:] if found else []
    return sorted(found, key=lambda row: (-row.gains[last[0]] if last else 0, row.name))


def largest_gain(rows: Sequence[ClassRow]) -> float:
    """The largest gain or loss of all classes; 1 where there is none."""
    return max((abs(gain) for row in rows for gain in row.gains.values()), default=1.0) or 1.0


def gain_bar(gain: float, largest: float) -> Markup:
    """A bar to the right for a gain, to the left for a loss; `largest` is its full length."""
    length = _HALF * min(abs(gain) / largest, 1.0)
    bar = element("rect", x=_HALF - (length if gain < 0 else 0), y=2, width=length, height=8,
                  class_="loss" if gain < 0 else "gain")  # fmt: skip
    middle = element("path", d=f"M{_HALF} 0V12", class_="middle-line")
    return element("svg", bar, middle, class_="gainbar", viewBox=f"0 0 {2 * _HALF} 12", aria_hidden="true")

"""The confusion matrix as a heat map that is readable with a hundred classes, and the pairs that are confused most."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import final

import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray

from fusion_train.reporting.svg import element, picture

MAX_LABELLED = 150
"""With more classes rows and columns have no names, which the title of each cell still has."""

_SIDE_OF_ALL, _SMALLEST, _LARGEST = 640, 9, 46
_NUMBERS_FROM = 22  # side of a cell that has room for a number
_LETTER = 0.68  # width of a letter, of its height, in a wide font


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class ConfusedPair:
    """`num` of the `of` videos of the class `true` are taken for `taken`."""

    true: str
    taken: str
    num: int
    of: int


def confused_pairs(confusion: NDArray[np.int64], classes: Sequence[str], most: int = 15) -> list[ConfusedPair]:
    """The largest cells off the diagonal of int64 (C, C), true by predicted class: by number, then by share."""
    sizes = confusion.sum(1)
    true, taken = np.nonzero(confusion * (1 - np.eye(len(classes), dtype=np.int64)))
    pairs = [
        ConfusedPair(true=classes[i], taken=classes[j], num=int(confusion[i, j]), of=int(sizes[i]))
        for i, j in zip(true.tolist(), taken.tolist(), strict=True)
    ]
    return sorted(pairs, key=lambda pair: (-pair.num, -pair.num / pair.of, pair.true, pair.taken))[:most]


def heat_map(title: str, confusion: NDArray[np.int64], classes: Sequence[str]) -> Markup:
    """Rows are true classes, columns what they are taken for, colour is the share of the row.

    The picture keeps its size, so that it is scrolled where there is no room.
    """
    side = int(np.clip(_SIDE_OF_ALL // max(1, len(classes)), _SMALLEST, _LARGEST))
    letter = min(12.0, max(7.5, side - 1.0))
    is_labelled = len(classes) <= MAX_LABELLED
    room = max(map(len, classes)) * letter * _LETTER + 10 if is_labelled else 8
    extent = side * len(classes)
    parts = [element("rect", x=room, y=room, width=extent, height=extent, class_="ground")]
    if is_labelled:
        for k, name in enumerate(classes):
            middle = room + (k + 0.5) * side
            at = f"translate({middle + letter * 0.35:.1f} {room - 5:.1f}) rotate(-90)"
            parts += [
                element("text", name, x=room - 5, y=middle + letter * 0.35, class_="tick end"),
                element("text", name, transform=at, class_="tick"),
            ]
    sizes = confusion.sum(1)
    for i, j in np.argwhere(confusion).tolist():
        num, of = int(confusion[i, j]), int(sizes[i])
        words = f"{num} of {of}: {classes[i]} taken for {classes[j]}" if i != j else f"{num} of {of}: {classes[i]}"
        left, top = room + j * side, room + i * side
        parts.append(
            element("rect", element("title", words), x=left, y=top, width=side, height=side,
                    fill_opacity=round(0.2 + 0.8 * num / of, 2), class_="right" if i == j else "wrong")
        )  # fmt: skip
        if side >= _NUMBERS_FROM:
            parts.append(
                element("text", str(num), x=left + side / 2, y=top + side / 2 + 4,
                        class_="count on" if num / of > 0.55 else "count")
            )  # fmt: skip
    width, height = room + extent + 4, room + extent + 4
    share = confusion.diagonal().sum() / max(1, confusion.sum())
    label = f"Confusion matrix of {title}: {len(classes)} classes, {100 * share:.1f} % on the diagonal"
    return picture(width, height, label, *parts, class_="heat", width=width, height=height, font_size=letter)

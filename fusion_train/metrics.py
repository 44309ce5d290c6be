"""What a score table is worth: accuracies, intervals, the confusion matrix, and what one table gains over another."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fusion_train.scores import ScoreTable, joined

_NORMAL_95 = 1.959963984540054  # 97.5 % quantile of the normal distribution


@dataclass(frozen=True, slots=True, kw_only=True)
class Share:
    """`num_right` of `num_videos`, with the 95 % interval of the share (E. B. Wilson, JASA 22, 1927)."""

    num_right: int
    num_videos: int

    @property
    def value(self) -> float:
        """The share, NaN of no videos."""
        return self.num_right / self.num_videos if self.num_videos else math.nan

    @property
    def interval(self) -> tuple[float, float]:
        """Where the true share lies with 95 % confidence."""
        if not self.num_videos:
            return 0.0, 1.0
        z2, n, p = _NORMAL_95**2, self.num_videos, self.value
        centre = (p + z2 / (2 * n)) / (1 + z2 / n)
        half = _NORMAL_95 / (1 + z2 / n) * math.sqrt(p * (1 - p) / n + z2 / (4 * n * n))
        return max(0.0, centre - half), min(1.0, centre + half)


@dataclass(frozen=True, slots=True, kw_only=True)
class Metrics:
    """Of one score table. `mean_class` is the mean over classes that have videos of their top-1 accuracy.

    `confusion` is int64 (C, C): videos of class i that were taken for class j. `top1` and `mean_class` are two numbers,
    and equal only where all classes are equally large.
    """

    top1: Share
    top5: Share
    mean_class: float
    confusion: NDArray[np.int64]
    classes: tuple[str, ...]

    @property
    def per_class(self) -> tuple[Share, ...]:
        """Top-1 accuracy of each class."""
        rights = self.confusion.diagonal().tolist()
        return tuple(
            Share(num_right=right, num_videos=num)
            for right, num in zip(rights, self.confusion.sum(1).tolist(), strict=True)
        )

    @property
    def confused(self) -> tuple[tuple[str, str, int], ...]:
        """True class, class that it was taken for, and number of videos: the most frequent first."""
        wrong = self.confusion - np.diag(self.confusion.diagonal())
        pairs = [(int(wrong[i, j]), int(i), int(j)) for i, j in zip(*wrong.nonzero(), strict=True)]
        return tuple(
            (self.classes[i], self.classes[j], num) for num, i, j in sorted(pairs, key=lambda p: (-p[0], p[1:]))
        )

    def confusion_csv(self) -> str:
        """The confusion matrix as CSV: a row a true class, a column a class that it was taken for."""
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(["true class", *self.classes])
        writer.writerows([name, *row] for name, row in zip(self.classes, self.confusion.tolist(), strict=True))
        return text.getvalue()

    def to_json(self) -> dict[str, Any]:
        """A JSON object; of the confusion matrix what is not 0, beside the diagonal."""
        return {
            "num_videos": self.top1.num_videos,
            "top1": self.top1.value,
            "top1_interval": list(self.top1.interval),
            "top5": self.top5.value,
            "mean_class": self.mean_class,
            "confused": [list(pair) for pair in self.confused],
            "per_class": {
                name: share.value if share.num_videos else None
                for name, share in zip(self.classes, self.per_class, strict=True)
            },
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Gain:
    """What `after` gains over `before` on the same videos.

    `p_value` is that of the exact two-sided sign test on the videos that only one of them gets right (Q. McNemar,
    Psychometrika 12, 1947): how likely so unequal numbers are if neither is better.
    """

    top1: float
    num_only_before: int
    num_only_after: int
    p_value: float
    per_class: Mapping[str, float]


def measure(table: ScoreTable) -> Metrics:
    """Metrics of a table. Of equal scores the class with the lower label counts as the higher."""
    num_classes = len(table.classes)
    ranks = ranks_of(table)
    confusion = np.zeros((num_classes, num_classes), np.int64)
    np.add.at(confusion, (table.labels, table.scores.argmax(1)), 1)
    sizes = confusion.sum(1)
    rates = confusion.diagonal()[sizes > 0] / sizes[sizes > 0]
    num_videos = len(table.ids)
    return Metrics(
        top1=Share(num_right=int((ranks < 1).sum()), num_videos=num_videos),
        top5=Share(num_right=int((ranks < 5).sum()), num_videos=num_videos),
        mean_class=float(rates.mean()) if len(rates) else math.nan,
        confusion=confusion,
        classes=tuple(table.classes),
    )


def gain(before: ScoreTable, after: ScoreTable) -> Gain:
    """What `after` gets right and `before` does not, and the reverse. Raises ScoreMismatchError."""
    before, after = joined([before, after])
    was_right, is_right = ranks_of(before) == 0, ranks_of(after) == 0
    only_before, only_after = int((was_right & ~is_right).sum()), int((is_right & ~was_right).sum())
    per_class = {}
    for label, name in enumerate(before.classes):
        members = before.labels == label
        if members.any():
            per_class[name] = float(is_right[members].mean() - was_right[members].mean())
    return Gain(
        top1=float(is_right.mean() - was_right.mean()) if len(is_right) else math.nan,
        num_only_before=only_before,
        num_only_after=only_after,
        p_value=_sign_test(only_before, only_after),
        per_class=per_class,
    )


def cross_entropy(table: ScoreTable) -> float:
    """Mean over videos of -log of the probability that the softmax gives the true class; NaN of no videos."""
    if not len(table.ids):
        return math.nan
    scores = table.scores.astype(np.float64)
    highest = scores.max(1)
    own = np.take_along_axis(scores, table.labels[:, None], 1)[:, 0]
    return float(np.mean(highest - own + np.log(np.exp(scores - highest[:, None]).sum(1))))


def ranks_of(table: ScoreTable) -> NDArray[np.int64]:
    """Place of each video's true class among its scores, int64 (N,), 0 the highest."""
    own = np.take_along_axis(table.scores, table.labels[:, None], 1)
    before_own = np.arange(len(table.classes)) < table.labels[:, None]
    ranks: NDArray[np.int64] = ((table.scores > own) | ((table.scores == own) & before_own)).sum(1, dtype=np.int64)
    return ranks


def _sign_test(num_first: int, num_second: int) -> float:
    """Two-sided p-value of a split of fair coin tosses."""
    num, fewer = num_first + num_second, min(num_first, num_second)
    tail, ways = 0, 1  # `ways` to choose k of num: exact, each from the one before
    for k in range(fewer + 1):
        tail += ways
        ways = ways * (num - k) // (k + 1)
    return min(1.0, float(2 * tail / 2**num))

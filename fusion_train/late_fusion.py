"""Weighted late fusion: the mean of what several networks, or several towers of one, say of the same videos.

Scores are averaged before the softmax, as in the paper and the authors' code; `on="softmax"` averages probabilities, as
Simonyan and Zisserman do (NIPS 2014). Weights other than equal ones belong to be chosen on held-out videos, never on
the test list.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from flowprep.errors import SettingsError
from fusion_train.metrics import measure
from fusion_train.scores import ScoreTable, joined

ON = ("scores", "softmax")
SWEEP_STEPS = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class SweepPoint:
    """The weight of the second table, that of the first being 1 less it, and the top-1 accuracy with it."""

    weight: float
    top1: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Sweep:
    """All weights that were tried, and the one chosen: the middle of the best stretch, see `sweep`."""

    points: tuple[SweepPoint, ...]
    weights: tuple[float, float]


def fuse(tables: Sequence[ScoreTable], weights: Sequence[float] | None = None, *, on: str = "scores") -> ScoreTable:
    """The weighted mean of tables of the same videos; equal weights where None. Weights are scaled to sum to 1.

    Raises:
        SettingsError: a weight is negative or not a number, all are 0, or there is not one for each table.
        ScoreMismatchError: the tables are not of the same videos.
    """
    if on not in ON:
        raise SettingsError(f"`on` must be one of {', '.join(ON)}, got {on!r}")
    if len(tables) < 2:
        raise SettingsError(f"late fusion takes two or more score tables, got {len(tables)}")
    shares = shares_of(weights, len(tables))
    tables = joined(tables)
    first = tables[0]
    mean = weighted_mean([table.scores for table in tables], shares, on=on)
    return ScoreTable(
        name=" + ".join(f"{share:.3g} {table.name}" for share, table in zip(shares, tables, strict=True)),
        part=first.part,
        manifest_sha256=first.manifest_sha256,
        ids=first.ids,
        labels=first.labels,
        scores=mean,
        classes=first.classes,
        origin={
            "late_fusion": on,
            "weights": list(shares),
            "of": [{"name": table.name, "origin": dict(table.origin)} for table in tables],
        },
    )


def weighted_mean(
    scores: Sequence[NDArray[np.float32]], weights: Sequence[float] | None = None, *, on: str = "scores"
) -> NDArray[np.float32]:
    """The mean of scores (N, C) each, taken in double; weights as in `fuse`, which joins tables by id first."""
    if on not in ON:
        raise SettingsError(f"`on` must be one of {', '.join(ON)}, got {on!r}")
    mean = np.zeros(scores[0].shape, np.float64)
    for share, values in zip(shares_of(weights, len(scores)), scores, strict=True):
        mean += share * (softmax(values) if on == "softmax" else values)
    return mean.astype(np.float32)


def sweep(first: ScoreTable, second: ScoreTable, *, on: str = "scores", num_steps: int = SWEEP_STEPS) -> Sweep:
    """Try weights 1 - w and w, for w from 0 to 1 in equal steps, on held-out videos.

    Accuracy is a staircase in w, and its best step says little about other videos; so the middle of the longest run of
    weights within one standard error of the best is chosen, the run nearest to equal weights where two are as long.
    """
    points = tuple(
        SweepPoint(weight=k / num_steps, top1=measure(fuse([first, second], _pair(k / num_steps), on=on)).top1.value)
        for k in range(num_steps + 1)
    )
    best = max(point.top1 for point in points)
    standard_error = math.sqrt(best * (1 - best) / max(1, len(first.ids)))
    runs: list[list[float]] = [[]]
    for point in points:
        if point.top1 >= best - standard_error:
            runs[-1].append(point.weight)
        else:
            runs.append([])
    middles = [(-len(run), abs((run[0] + run[-1]) / 2 - 0.5), (run[0] + run[-1]) / 2) for run in runs if run]
    return Sweep(points=points, weights=_pair(min(middles)[2]))


def softmax(scores: NDArray[np.float32]) -> NDArray[np.float64]:
    """Probabilities of scores (N, C), in double."""
    shifted = np.exp(scores - scores.max(1, keepdims=True), dtype=np.float64)
    probabilities: NDArray[np.float64] = shifted / shifted.sum(1, keepdims=True)
    return probabilities


def _pair(weight: float) -> tuple[float, float]:
    return 1 - weight, weight


def shares_of(weights: Sequence[float] | None, num: int) -> tuple[float, ...]:
    """Weights that sum to 1, equal ones where None. Raises SettingsError where they are no weights."""
    weights = [1.0] * num if weights is None else list(weights)
    if len(weights) != num:
        raise SettingsError(f"late fusion of {num} score tables takes {num} weights, got {len(weights)}")
    if not all(math.isfinite(weight) and weight >= 0 for weight in weights) or not sum(weights) > 0:
        text = ":".join(f"{weight:g}" for weight in weights)
        raise SettingsError(f"weights must be numbers from 0, not all 0, got {text}")
    return tuple(weight / sum(weights) for weight in weights)

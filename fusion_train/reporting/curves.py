"""Learning curves of a network from its log: loss and error, in training and on held-out videos."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

from markupsafe import Markup

from fusion_train.reporting.chart import Axis, Line, Mark, Points, line_chart, widest
from fusion_train.reporting.contents import StageContents
from fusion_train.reporting.svg import short

_MAX_POINTS = 240
_SMOOTHED_OVER = 25  # of the points of a line, one such part is averaged

Rows = Sequence[Mapping[str, Any]]


def learning_curves(stage: StageContents) -> list[Markup]:
    """Two figures, of loss and of error; none while nothing is logged, no error where an old log has not that."""
    steps = [row for row in stage.log if "loss" in row]
    epochs = [row for row in stage.log if "val_top1" in row]
    if not steps:
        return []
    x = Axis(name="step", low=0, high=max(row["step"] for row in stage.log))
    marks = _drops(steps)
    towers = [name.removeprefix("loss_") for name in steps[0] if name.startswith("loss_")]
    losses = [
        line
        for colour, tower in enumerate(towers, start=1)
        for line in _pair(
            tower, colour, _points(steps, f"loss_{tower}"), _points(epochs, f"val_loss_{tower}"), _held_out(epochs)
        )
    ]
    errors = _pair(
        stage.name, 1, _points(steps, "top1", is_error=True), _points(epochs, "val_top1", is_error=True),
        _held_out(epochs),
    )  # fmt: skip
    figures = [("loss", "cross-entropy", losses), ("error", "% wrong", errors)]
    return [
        line_chart(
            f"{stage.name.capitalize()} network: {what}",
            lines,
            x=x,
            y=Axis(name=unit, low=0, high=100 if what == "error" else _top(lines)),
            marks=marks,
        )
        for what, unit, lines in figures
        if lines
    ]


def _held_out(epochs: Rows) -> str:
    return "test list" if epochs and epochs[0].get("val_on") == "test" else "held out"


def _pair(name: str, colour: int, training: Points, held_out: Points, held_out_name: str) -> list[Line]:
    """The line of training behind its moving mean, and that of held-out videos."""
    lines = [
        Line(label=name, points=training, colour=colour, is_faint=True),
        Line(label=f"{name}, training", points=smoothed(training), colour=colour),
        Line(label=f"{name}, {held_out_name}", points=held_out, colour=colour, is_dashed=True),
    ]
    return [line for line in lines if line.points]


def _points(rows: Rows, name: str, *, is_error: bool = False) -> Points:
    found = [
        (float(row["step"]), 100 * (1 - row[name]) if is_error else float(row[name])) for row in rows if name in row
    ]
    return thinned(found)


def _top(lines: Sequence[Line]) -> float:
    """The end of the axis: for the smooth lines, so that a few large first losses do not flatten all others."""
    return widest([y for line in lines if not line.is_faint for _, y in line.points])


def _drops(steps: Rows) -> list[Mark]:
    """Where the learning rate changes."""
    return [
        Mark(x=row["step"], text=f"rate {short(row['rate'])}")
        for before, row in itertools.pairwise(steps)
        if row["rate"] != before["rate"]
    ]


def thinned(points: Points) -> Points:
    """At most 240 points: means of neighbours."""
    size = -(-len(points) // _MAX_POINTS) if points else 1
    return [_mean(points[first : first + size]) for first in range(0, len(points), size)]


def smoothed(points: Points) -> Points:
    """The moving mean of values, over neighbours on both sides as far as there are any."""
    reach = len(points) // _SMOOTHED_OVER // 2 + 1 if len(points) > 4 else 0
    return [(x, _mean(points[max(0, k - reach) : k + reach + 1])[1]) for k, (x, _) in enumerate(points)]


def _mean(points: Points) -> tuple[float, float]:
    return sum(x for x, _ in points) / len(points), sum(y for _, y in points) / len(points)

"""Bars of the ablations whose results lie in the folder of a run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import final

from markupsafe import Markup

from fusion_train.reporting.bars import Bar, bar_chart
from fusion_train.reporting.svg import element


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class AblationRow:
    """A configuration: mean top-1 accuracy over `num_seeds` trainings, its deviation (None of one), and the paper's.

    All are shares of 1.
    """

    name: str
    top1: float
    deviation: float | None
    num_seeds: int
    paper: float | None


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Ablation:
    """One set of configurations that are compared, as a table of the paper does."""

    title: str
    rows: tuple[AblationRow, ...]


def ablation_charts(ablations: Sequence[Ablation]) -> list[Markup]:
    """A figure for each set that has a row; the best row stands out."""
    return [_chart(ablation) for ablation in ablations if ablation.rows]


def _chart(ablation: Ablation) -> Markup:
    best = max(row.top1 for row in ablation.rows)
    bars = [
        Bar(
            label=row.name,
            value=row.top1,
            interval=None if row.deviation is None else (row.top1 - row.deviation, row.top1 + row.deviation),
            reference=row.paper,
            is_main=row.top1 == best,
        )
        for row in ablation.rows
    ]
    note = "Top-1 accuracy. Whisker: one deviation of the seeds. Diamond: the paper."
    return element(
        "figure",
        element("figcaption", ablation.title),
        bar_chart(ablation.title, bars),
        element("p", note, class_="small"),
        class_="plot",
    )

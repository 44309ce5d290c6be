"""The table of results with the paper's figures, the same as bars, and what fusion gains, in sentences."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping
from dataclasses import dataclass
from typing import final

from markupsafe import Markup

from fusion_train.metrics import Metrics, gain, measure
from fusion_train.paper import Reported, reported
from fusion_train.reporting.bars import Bar, bar_chart
from fusion_train.reporting.contents import RunContents

MISSING = "\N{EN DASH}"

Measured = Mapping[str, Mapping[str, Metrics]]
"""Metrics by split and row of the results."""


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Tile:
    """A figure that stands at the head of the page."""

    name: str
    value: str
    detail: str


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Results:
    """`head` and `rows` are the table without its first column, `chart` is empty while nothing is evaluated."""

    tiles: tuple[Tile, ...]
    head: tuple[str, ...]
    rows: tuple[tuple[str, tuple[str, ...]], ...]
    chart: Markup
    sentences: tuple[str, ...]


def measured(run: RunContents) -> Measured:
    """Metrics of all score tables of a run, computed from the scores."""
    return {split.name: {row: measure(table) for row, table in split.tables.items()} for split in run.splits}


def results(run: RunContents, metrics: Measured) -> Results:
    """What stands in the section of results."""
    splits = [name for name, rows in metrics.items() if rows]
    of_paper = reported(run.preset or "", len(splits))
    head = (*(f"split {name}" for name in splits), "mean", "deviation", "paper")
    if len(splits) == 1:
        head = ("top-1", "95 % interval", "top-5", "mean class", "paper")
    rows, bars = [], []
    for row in run.rows:
        found = {name: metrics[name].get(row) for name in splits}
        paper = of_paper.get(row)
        cells = _cells_of_one(found[splits[0]]) if len(splits) == 1 else _cells_of_several(found)
        rows.append((row, (*cells, paper.text() if paper else MISSING)))
        bars.append(_bar(row, found, paper, is_main=row == "fused"))
    return Results(
        tiles=_tiles(run, metrics, of_paper),
        head=head,
        rows=tuple(rows),
        chart=bar_chart("Top-1 accuracy", bars, chance=1 / len(run.classes)) if bars else Markup(),
        sentences=(*_gains(run), *_left_out(run)),
    )


def percent(value: float) -> str:
    """A share as it stands in a table."""
    return MISSING if math.isnan(value) else f"{100 * value:.2f}"


def points(value: float) -> str:
    """A difference of shares, with its sign."""
    if round(1000 * value) == 0:
        return "0.0"
    return f"{100 * value:+.1f}".replace("-", "\N{MINUS SIGN}")


def _cells_of_one(found: Metrics | None) -> tuple[str, ...]:
    assert found is not None, "rows are those that a split has"
    low, high = found.top1.interval
    interval = f"{percent(low)} to {percent(high)}"
    top5 = percent(found.top5.value) if len(found.classes) > 5 else MISSING  # else all are right
    return percent(found.top1.value), interval, top5, percent(found.mean_class)


def _cells_of_several(found: Mapping[str, Metrics | None]) -> tuple[str, ...]:
    values = [metrics.top1.value for metrics in found.values() if metrics]
    mean, deviation = _mean(values)
    return *(percent(m.top1.value) if m else MISSING for m in found.values()), percent(mean), percent(deviation)


def _mean(values: list[float]) -> tuple[float, float]:
    return statistics.fmean(values), statistics.stdev(values) if len(values) > 1 else math.nan


def _bar(row: str, found: Mapping[str, Metrics | None], paper: Reported | None, *, is_main: bool) -> Bar:
    """With one split the whisker is its 95 % interval, with several it is a deviation to either side."""
    there = [metrics for metrics in found.values() if metrics]
    mean, deviation = _mean([metrics.top1.value for metrics in there])
    interval = there[0].top1.interval if len(there) == 1 else (mean - deviation, mean + deviation)
    reference = paper.percent / 100 if paper else None
    return Bar(label=row, value=mean, interval=interval, reference=reference, is_main=is_main)


def _tiles(run: RunContents, metrics: Measured, of_paper: Mapping[str, Reported]) -> tuple[Tile, ...]:
    if not run.rows:
        return ()
    row = run.rows[-1]
    having = [rows for rows in metrics.values() if row in rows]
    mean, deviation = _mean([rows[row].top1.value for rows in having])
    low, high = having[0][row].top1.interval
    detail = f"95 %: {percent(low)} to {percent(high)}"
    if len(having) > 1:
        detail = f"mean of {len(having)} splits, deviation {percent(deviation)}"
    tiles = [Tile(name=f"{row}, top-1", value=f"{percent(mean)} %", detail=detail)]
    both = [rows for rows in having if "late fusion" in rows]
    if row == "fused" and both:
        over = statistics.fmean(rows[row].top1.value - rows["late fusion"].top1.value for rows in both)
        tiles.append(Tile(name="gain over late fusion", value=points(over), detail="points of top-1 accuracy"))
    if row in of_paper:
        paper = of_paper[row]
        detail = f"{paper.of}, {paper.source}"
        tiles.append(Tile(name="in the paper", value=f"{paper.percent:.2f} %", detail=detail))
    num = sum(rows[row].top1.num_videos for rows in having)
    tiles.append(Tile(name="test videos", value=f"{num:,}", detail=f"of {len(run.classes)} classes"))
    return tuple(tiles)


def _gains(run: RunContents) -> list[str]:
    """A sentence a split, with the exact sign test."""
    found = []
    for split in run.splits:
        if not {"late fusion", "fused"} <= split.tables.keys():
            continue
        gained = gain(split.tables["late fusion"], split.tables["fused"])
        p_value = f"p = {gained.p_value:.2g}" if gained.p_value >= 1e-4 else "p < 0.0001"
        found.append(
            f"Split {split.name}: against the late fusion of the streams the fused network gets "
            f"{gained.num_only_after} videos more right and {gained.num_only_before} no longer, {points(gained.top1)} "
            f"points (sign test, {p_value})."
        )
    return found


def _left_out(run: RunContents) -> list[str]:
    """A sentence on each split with test videos that are too short for a network."""
    found = []
    for split in run.splits:
        skipped = {video for table in split.tables.values() for video in table.origin.get("skipped", ())}
        if skipped:
            found.append(f"Split {split.name}: {len(skipped)} test videos are too short for a clip and in no figure.")
    return found

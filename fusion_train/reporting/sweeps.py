"""How late fusion depends on its weights: of both streams, and of the towers of the fused network."""

from __future__ import annotations

from markupsafe import Markup

from fusion_train.late_fusion import Sweep, sweep
from fusion_train.reporting.chart import Axis, Line, Mark, line_chart
from fusion_train.reporting.contents import SplitContents
from fusion_train.scores import ScoreTable


def sweep_charts(split: SplitContents) -> list[Markup]:
    """A figure for each pair of score tables that is there."""
    figures = []
    tables, held_out = split.tables, split.held_out
    if {"spatial", "temporal", "late fusion"} <= tables.keys():
        figures.append(_chart("Both streams", tables["spatial"], tables["temporal"], tables["late fusion"], None))
    pair = [tables.get(f"fused {tower}") for tower in ("spatiotemporal", "temporal")]
    if pair[0] is not None and pair[1] is not None and "fused" in tables:
        curve = sweep(held_out["spatiotemporal"], held_out["temporal"]) if len(held_out) == 2 else None
        figures.append(_chart("Towers of the fused network", pair[0], pair[1], tables["fused"], curve))
    return figures


def _chart(title: str, first: ScoreTable, second: ScoreTable, fused: ScoreTable, held_out: Sweep | None) -> Markup:
    lines = [Line(label="test list", points=_points(sweep(first, second)), colour=1)]
    if held_out is not None:
        lines.append(Line(label="held out", points=_points(held_out), colour=2, is_dashed=True))
    used = float(fused.origin["weights"][1])
    values = [y for line in lines for _, y in line.points]
    low, high = max(0.0, min(values) - 5), min(100.0, max(values) + 5)
    return line_chart(
        title,
        lines,
        x=Axis(name=f"weight of {_short(second)}; the rest: {_short(first)}", low=0, high=1),
        y=Axis(name="% right", low=low, high=high),
        marks=[Mark(x=used, text=f"used: {used:.3g}")],
    )


def _short(table: ScoreTable) -> str:
    return table.name.removeprefix("fused ")


def _points(found: Sweep) -> list[tuple[float, float]]:
    return [(point.weight, 100 * point.top1) for point in found.points]

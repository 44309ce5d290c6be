"""Bars of the ablations whose results lie in the folder of a run or in one of their own."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from markupsafe import Markup

from fusion_train.ablation_table import FILE, AblationRow, read_ablation
from fusion_train.reporting.bars import Bar, bar_chart
from fusion_train.reporting.svg import element


def ablation_charts(folder: Path) -> list[Markup]:
    """A figure for each of the paper's tables in which something was measured; none where nothing was.

    Raises StoreError if the file is damaged or of another format.
    """
    path = folder / FILE
    if not path.exists():
        return []
    ablation = read_ablation(path)
    charts = []
    for number in ablation.tables:
        rows = ablation.of_table(number)
        measured = [row for row in rows if row.seed_top1]
        if measured:
            num_missing = sum(row.state in ("open", "failed") for row in rows if not row.seed_top1)
            charts.append(_chart(f"Table {number}: {ablation.titles[number]}", measured, num_missing))
    return charts


def _chart(title: str, rows: Sequence[AblationRow], num_missing: int) -> Markup:
    """The best row stands out."""
    best = max(row.mean for row in rows)
    bars = [
        Bar(
            label=row.label,
            value=row.mean,
            interval=(row.mean - row.deviation, row.mean + row.deviation) if len(row.seed_top1) > 1 else None,
            reference=row.paper.top1,
            is_main=row.mean == best,
        )
        for row in rows
    ]
    notes = ["Top-1 accuracy."]
    notes += ["Whisker: one deviation of the seeds."] if any(bar.interval is not None for bar in bars) else []
    notes += ["Diamond: the paper."] if any(bar.reference is not None for bar in bars) else []
    notes += [f"Not measured yet: {num_missing}."] if num_missing else []
    return element(
        "figure",
        element("figcaption", title),
        bar_chart(title, bars),
        element("p", " ".join(notes), class_="small"),
        class_="plot",
    )

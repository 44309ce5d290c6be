"""Bars of the ablations whose results lie in the folder, `ablation.json` of `fusion-train ablate` (docs/formats.md)."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

from markupsafe import Markup

from flowprep.errors import StoreError
from fusion_train.reporting.bars import Bar, bar_chart
from fusion_train.reporting.svg import element

FILE = "ablation.json"
_KIND, _FORMAT = "fusion-train-ablation", 1


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class AblationRow:
    """A configuration that was measured: mean top-1 accuracy of its seeds, their deviation (None of one), the paper's.

    All are shares of 1.
    """

    name: str
    top1: float
    deviation: float | None
    paper: float | None


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Ablation:
    """One table of the paper: configurations that are compared, and how many more of them are not measured."""

    title: str
    rows: tuple[AblationRow, ...]
    num_missing: int


def read_ablations(folder: Path) -> tuple[Ablation, ...]:
    """The tables of the file in a folder in which something was measured; none where there is no file.

    Raises StoreError if it is damaged or of another format.
    """
    path = folder / FILE
    try:
        data = json.loads(path.read_text("utf-8"))
        if (data["kind"], data["format"]) != (_KIND, _FORMAT):
            raise StoreError(f"{path} is no ablation of format {_FORMAT}; run `fusion-train ablate` with another --out")
        tables = [
            _table(f"Table {number}: {title}", [row for row in data["rows"] if str(row["table"]) == number])
            for number, title in sorted(data["titles"].items())
        ]
    except FileNotFoundError:
        return ()
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        if isinstance(error, StoreError):
            raise
        raise StoreError(f"{path} is damaged ({error}); delete it, `fusion-train ablate` makes it anew") from error
    return tuple(table for table in tables if table.rows)


def ablation_charts(ablations: Sequence[Ablation]) -> list[Markup]:
    """A figure for each table; the best row stands out."""
    return [_chart(ablation) for ablation in ablations]


def _table(title: str, rows: Sequence[Mapping[str, Any]]) -> Ablation:
    measured = [row for row in rows if row["mean"] is not None]
    return Ablation(
        title=title,
        rows=tuple(
            AblationRow(
                name=", ".join(filter(None, map(str, row["cells"].values()))),
                top1=float(row["mean"]),
                deviation=None if row["deviation"] is None else float(row["deviation"]),
                paper=None if row["paper"]["top1"] is None else float(row["paper"]["top1"]),
            )
            for row in measured
        ),
        num_missing=sum(row["state"] in ("open", "failed") for row in rows if row["mean"] is None),
    )


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
    notes = ["Top-1 accuracy."]
    notes += ["Whisker: one deviation of the seeds."] if any(row.deviation is not None for row in ablation.rows) else []
    notes += ["Diamond: the paper."] if any(row.paper is not None for row in ablation.rows) else []
    notes += [f"Not measured yet: {ablation.num_missing}."] if ablation.num_missing else []
    return element(
        "figure",
        element("figcaption", ablation.title),
        bar_chart(ablation.title, bars),
        element("p", " ".join(notes), class_="small"),
        class_="plot",
    )

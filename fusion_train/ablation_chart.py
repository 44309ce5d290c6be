"""Tables of an ablation as pictures: a bar a row, and a mark where the paper's figure is."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flowprep.errors import BackendUnavailableError
from fusion_train.ablation_table import Ablation, AblationRow
from fusion_train.ablation_text import NAMES
from fusion_train.outage import whole_file

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_BAR, _PAPER, _TEXT = "#4477aa", "#bb3311", "#333333"
_LINE_HEIGHT_INCHES = 0.42


def draw_tables(ablation: Ablation, out: Path) -> list[Path]:
    """Write `ablation_table_N.png` of every table in which something was measured; returns the paths.

    Raises:
        BackendUnavailableError: matplotlib is not installed.
    """
    found = []
    for number in ablation.tables:
        if any(row.runs for row in ablation.of_table(number)):
            path = out / f"ablation_table_{number}.png"
            draw_table(ablation, number, path)
            found.append(path)
    return found


def draw_table(ablation: Ablation, number: int, path: Path) -> None:
    """Write one table as PNG; the file appears whole. Raises BackendUnavailableError without matplotlib."""
    figure = table_figure(ablation, number)
    with whole_file(path) as file:
        figure.savefig(file, format="png", dpi=120)


def table_figure(ablation: Ablation, number: int) -> Figure:
    """One table as a figure. Bars begin at 0, so that their lengths compare.

    Raises:
        BackendUnavailableError: matplotlib is not installed.
    """
    try:
        from matplotlib.figure import Figure
    except ModuleNotFoundError as error:
        raise BackendUnavailableError("pictures need matplotlib: pip install 'flowprep[train]'") from error
    rows = [row for row in ablation.of_table(number) if row.state != "left out"]
    figure = Figure(figsize=(9, 1.5 + _LINE_HEIGHT_INCHES * len(rows)), layout="constrained")
    axes = figure.subplots()
    for place, row in enumerate(rows):
        measured, paper = 100 * row.mean, None if row.paper.top1 is None else 100 * row.paper.top1
        if not math.isnan(measured):
            whisker = None if math.isnan(row.deviation) else 100 * row.deviation
            axes.barh(place, measured, height=0.6, color=_BAR, xerr=whisker, ecolor=_TEXT, capsize=3)
        if paper is not None:
            axes.plot([paper, paper], [place - 0.38, place + 0.38], color=_PAPER, linewidth=2.5, solid_capstyle="butt")
        axes.annotate(_figures(row, paper), (1, place), xycoords=("axes fraction", "data"), xytext=(6, 0),
                      textcoords="offset points", va="center", fontsize=9, color=_TEXT)  # fmt: skip
    axes.set_yticks(range(len(rows)), [row.label for row in rows], fontsize=9)
    axes.set_ylim(len(rows) - 0.4, -0.6)
    axes.set_xlim(0, 100)
    axes.set_xlabel(f"top-1 accuracy on {NAMES.get(ablation.dataset, ablation.dataset)}, percent")
    axes.grid(axis="x", color="#dddddd", linewidth=0.8)
    axes.set_axisbelow(True)
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)
    axes.tick_params(axis="y", length=0)
    replaced = f" (all networks: {ablation.preset}, not the paper's)" if ablation.preset else ""
    axes.set_title(f"Table {number}. {ablation.titles[number]}{replaced}", loc="left", fontsize=11)
    _legend(figure, rows)
    return figure


def _figures(row: AblationRow, paper: float | None) -> str:
    """What stands beside a bar: measured, then the paper's."""
    own = "" if math.isnan(row.mean) else f"{100 * row.mean:.2f}"
    if own and not math.isnan(row.deviation):
        own += f" \N{PLUS-MINUS SIGN} {100 * row.deviation:.2f}"
    own = own or {"failed": "failed", "open": "not yet"}.get(row.state, "")
    return "   ".join(text for text in (own, "" if paper is None else f"paper {paper:.2f}") if text)


def _legend(figure: Figure, rows: Sequence[AblationRow]) -> None:
    """What a bar and a mark are, below the axes; each only where it occurs."""
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    seeds = max((len(row.seed_top1) for row in rows), default=0)
    entries: list[Any] = []
    if seeds:
        over = f", mean and deviation over {seeds} seeds" if seeds > 1 else ""
        entries.append(Patch(color=_BAR, label=f"measured{over}"))
    if any(row.paper.top1 is not None for row in rows):
        entries.append(Line2D([], [], color=_PAPER, linewidth=2.5, label=f"paper ({rows[0].paper.of})"))
    figure.legend(handles=entries, loc="outside lower left", ncols=2, frameon=False, fontsize=9)

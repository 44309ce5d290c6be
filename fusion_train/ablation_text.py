"""An ablation in the paper's form: the columns of each table, the paper's figures beside ours, and footnotes."""

from __future__ import annotations

import math
import string
from collections.abc import Sequence
from dataclasses import dataclass
from typing import final

from fusion_train.ablation_table import Ablation, AblationRow

NAMES = {"ucf101": "UCF101", "hmdb51": "HMDB51"}
_BY_MODEL = 3
"""Number of the table that has a column for each backbone."""


@final
@dataclass(frozen=True, kw_only=True)
class TextTable:
    """`lines` are the header and a line a row; the first `num_words` columns are words. `notes` are whole sentences."""

    heading: str
    lines: list[list[str]]
    num_words: int
    notes: list[str]


def text_table(ablation: Ablation, number: int) -> TextTable:
    """Table `number`, as it is to be printed."""
    rows = ablation.of_table(number)
    marks = _Marks()
    what = NAMES.get(ablation.dataset, ablation.dataset)
    lines = _by_model(rows, marks) if number == _BY_MODEL else _plain(rows, marks, what)
    num_words = 1 if number == _BY_MODEL else len(rows[0].cells)
    if not any(line[-1] for line in lines[1:]):
        lines = [line[:-1] for line in lines]
    of = _measured_on(rows, has_paper=ablation.paper_dataset is not None)
    replaced = f"; all networks are {ablation.preset}, not the paper's" if ablation.preset else ""
    return TextTable(
        heading=f"Table {number}. {ablation.titles[number]}: {what}, top-1 accuracy in percent{of}{replaced}",
        lines=lines,
        num_words=num_words,
        notes=[f"[{mark}] {text[0].upper()}{text[1:]}" for text, mark in marks.of.items()],
    )


def accuracy(row: AblationRow) -> str:
    """`85.96`, or `85.96 +- 0.21` of several seeds; else its state."""
    if math.isnan(row.mean):
        return {"done": "", "cited": "", "open": "-"}.get(row.state, row.state)
    mean = f"{100 * row.mean:.2f}"
    return mean if math.isnan(row.deviation) else f"{mean} +- {100 * row.deviation:.2f}"


def percent(share: float | None) -> str:
    """`85.96` of 0.8596; nothing of None."""
    return "" if share is None else f"{100 * share:.2f}"


def _plain(rows: Sequence[AblationRow], marks: _Marks, what: str) -> list[list[str]]:
    sized = any(row.paper.num_parameters is not None for row in rows)
    more = ["layers", "paper", "parameters", "paper"] if sized else []
    lines = [[*rows[0].cells, what, "paper", *more, "note"]]
    for row in rows:
        sizes = [
            _count(row.num_layers),
            _count(row.paper.num_layers),
            _millions(row.num_parameters),
            _millions(row.paper.num_parameters),
        ]
        cells = [*row.cells.values(), accuracy(row), percent(row.paper.top1), *(sizes if sized else [])]
        lines.append([*cells, marks.text([row])])
    return lines


def _by_model(rows: Sequence[AblationRow], marks: _Marks) -> list[list[str]]:
    """A line for each first cell, with two columns for each second one."""
    by_cells = {tuple(row.cells.values()): row for row in rows}
    models = list(dict.fromkeys(cells[1] for cells in by_cells))
    lines = [["", *(text for model in models for text in (model, "paper")), "note"]]
    for first in dict.fromkeys(cells[0] for cells in by_cells):
        of_line = [by_cells[first, model] for model in models]
        figures = [text for row in of_line for text in (accuracy(row), percent(row.paper.top1))]
        lines.append([first, *figures, marks.text(of_line)])
    return lines


def _measured_on(rows: Sequence[AblationRow], *, has_paper: bool) -> str:
    measured = [row for row in rows if row.runs]
    if not measured:
        return ""
    splits, seeds = measured[0].splits, len(measured[0].seeds)
    of = f"split {splits[0]}" if len(splits) == 1 else f"mean of {len(splits)} splits"
    over = f", mean +- deviation over {seeds} seeds" if seeds > 1 else ", one seed"
    return f", {of}{over}" + (f"; the paper's: {measured[0].paper.of}" if has_paper else "")


def _count(value: int | None) -> str:
    return "" if value is None else str(value)


def _millions(value: int | None) -> str:
    return "" if value is None else f"{value / 1e6:.2f}M"


@final
class _Marks:
    """Footnotes by letter, in the order of their first use."""

    def __init__(self) -> None:
        self.of: dict[str, str] = {}

    def text(self, rows: Sequence[AblationRow]) -> str:
        """The letters of all that is to be said of some rows."""
        found = []
        for row in rows:
            of_which = f"{row.cells['Model']}: " if len(rows) > 1 else ""
            whys = [f"{of_which}{row.why}"] if row.why else []
            for sentence in (*row.notes, *whys):
                self.of.setdefault(sentence, _letters(len(self.of)))
                found.append(self.of[sentence])
        return " ".join(dict.fromkeys(found))


def _letters(index: int) -> str:
    """As spreadsheets name columns: a to z, then aa, ab, .."""
    first, last = divmod(index, 26)
    return (string.ascii_lowercase[first - 1] if first else "") + string.ascii_lowercase[last]

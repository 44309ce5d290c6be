"""Tables and bars of an ablation: the paper's columns, its figures beside ours, footnotes by letter, bars as long."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
from fusion.test_ablation_table import ablation, row, run

from flowprep.errors import BackendUnavailableError
from fusion_train.ablation_chart import draw_tables, table_figure
from fusion_train.ablation_table import Ablation, AblationRow, PaperFigures
from fusion_train.ablation_text import text_table


def one_split(name: str, method: str, *top1: float, **fields: Any) -> AblationRow:
    """A row of as many seeds as there are accuracies."""
    runs = tuple(run("1", seed, value) for seed, value in enumerate(top1))
    seeds = tuple(range(len(top1) or 1))
    cells = {"Fusion method": method, "Fusion layer": "ReLU5"}
    return row(name, **{"cells": cells, "runs": runs, "seeds": seeds, "splits": ("1",), "notes": (), **fields})


CITED = one_split("1-cited", "Others'", state="cited", num_layers=None, num_parameters=None, splits=(), seeds=())
TABLE_1 = (
    CITED,
    one_split("1-max", "Max", 0.8, 0.82, notes=("One.", "two.")),
    one_split("1-sum", "Sum", state="failed", why="the disk is on fire", notes=("two.",)),
    one_split("1-conv", "Conv", state="open"),
    one_split("1-bilinear", "Bilinear", state="left out", why="it is too large", num_layers=None, num_parameters=None),
)


def test_table_1_has_the_papers_columns() -> None:
    table = text_table(ablation(*TABLE_1), 1)
    assert table.num_words == 2
    assert table.lines == [
        ["Fusion method", "Fusion layer", "UCF101", "paper", "layers", "paper", "parameters", "paper", "note"],
        ["Others'", "ReLU5", "", "82.70", "", "13", "", "97.31M", ""],
        ["Max", "ReLU5", "81.00 +- 1.41", "82.70", "13", "13", "97.24M", "97.31M", "a b"],
        ["Sum", "ReLU5", "failed", "82.70", "13", "13", "97.24M", "97.31M", "b c"],
        ["Conv", "ReLU5", "-", "82.70", "13", "13", "97.24M", "97.31M", ""],
        ["Bilinear", "ReLU5", "left out", "82.70", "", "13", "", "97.31M", "d"],
    ]
    assert table.notes == ["[a] One.", "[b] Two.", "[c] The disk is on fire", "[d] It is too large"]
    assert table.heading == (
        "Table 1. Fusion methods: UCF101, top-1 accuracy in percent, split 1, mean +- deviation over 2 seeds; "
        "the paper's: split 1"
    )


def test_one_seed_has_no_deviation_and_no_notes_no_column() -> None:
    table = text_table(ablation(one_split("1-max", "Max", 0.8)), 1)
    assert table.lines[1] == ["Max", "ReLU5", "80.00", "82.70", "13", "13", "97.24M", "97.31M"]
    assert "split 1, one seed" in table.heading


def test_a_table_without_sizes_has_no_columns_for_them() -> None:
    figures = PaperFigures(top1=0.9, of="mean of 3 splits")
    content = ablation(row("2-ours", cells={"Method": "Ours"}, paper=figures, notes=()))
    assert text_table(content, 2).lines == [["Method", "UCF101", "paper"], ["Ours", "70.00 +- 14.14", "90.00"]]
    assert (
        "mean of 2 splits, mean +- deviation over 2 seeds; the paper's: mean of 3 splits"
        in text_table(content, 2).heading
    )


def test_backbones_stand_side_by_side() -> None:
    def cell(what: str, model: str, top1: float, **fields: Any) -> AblationRow:
        paper = PaperFigures(top1=top1 - 0.1, of="split 1")
        return one_split(f"3-{model}-{what}", "", top1, cells={"": what, "Model": model}, paper=paper, **fields)

    content = Ablation(
        dataset="folder",
        paper_dataset=None,
        manifest_sha256="",
        preset="debug",
        sets=(),
        titles={3: "Backbones"},
        rows=(
            cell("Spatial", "VGG-M", 0.7), cell("Spatial", "VGG-16", 0.8),
            cell("Temporal", "VGG-M", 0.6, why="gone"), cell("Temporal", "VGG-16", 0.9),
        ),
    )  # fmt: skip
    table = text_table(content, 3)
    assert table.lines == [
        ["", "VGG-M", "paper", "VGG-16", "paper", "note"],
        ["Spatial", "70.00", "60.00", "80.00", "70.00", ""],
        ["Temporal", "60.00", "50.00", "90.00", "80.00", "a"],
    ]
    assert table.notes == ["[a] VGG-M: gone"]
    assert table.heading.endswith(
        "folder, top-1 accuracy in percent, split 1, one seed; all networks are debug, not the paper's"
    )


def test_bars_and_marks_are_where_the_figures_are() -> None:
    axes = table_figure(ablation(*TABLE_1), 1).axes[0]
    assert [label.get_text() for label in axes.get_yticklabels()] == [
        "Others', ReLU5", "Max, ReLU5", "Sum, ReLU5", "Conv, ReLU5"
    ]  # fmt: skip
    bars = [bar for container in axes.containers if hasattr(container, "patches") for bar in container.patches]
    assert [(bar.get_y() + bar.get_height() / 2, bar.get_width()) for bar in bars] == [(1, pytest.approx(81))]
    marks = [line.get_xdata() for line in axes.lines if line.get_linewidth() == 2.5]
    assert [list(mark) for mark in marks] == [[pytest.approx(82.7)] * 2] * 4
    texts = [text.get_text() for text in axes.texts]
    assert texts == ["paper 82.70", "81.00 \N{PLUS-MINUS SIGN} 1.41   paper 82.70", "failed   paper 82.70",
                     "not yet   paper 82.70"]  # fmt: skip
    assert axes.get_xlim() == (0, 100)


def test_tables_with_measurements_become_pictures(tmp_path: Path) -> None:
    found = draw_tables(ablation(*TABLE_1, row("2-cited", state="cited", runs=())), tmp_path)
    assert found == [tmp_path / "ablation_table_1.png"]
    assert list(tmp_path.iterdir()) == found
    assert found[0].read_bytes().startswith(b"\x89PNG")


def test_without_matplotlib_the_cure_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(BackendUnavailableError, match=r"pictures need matplotlib: pip install"):
        table_figure(ablation(*TABLE_1), 1)

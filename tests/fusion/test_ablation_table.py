"""The file `ablation.json`: a round trip, means over seeds, what is refused, and that its documentation is whole."""

from __future__ import annotations

import json
import math
import re
import statistics
from pathlib import Path
from typing import Any

import pytest

from flowprep.errors import MissingDataError, StoreError
from fusion_train.ablation_table import STATES, Ablation, AblationRow, AblationRun, PaperFigures, merged, read_ablation

FORMATS = (Path(__file__).resolve().parents[2] / "docs" / "formats.md").read_text("utf-8")


def run(split: str, seed: int, top1: float) -> AblationRun:
    return AblationRun(split=split, seed=seed, num_videos=100, top1=top1, top5=1.0, mean_class=top1)


def row(name: str = "1-max", **fields: Any) -> AblationRow:
    given = {
        "table": int(name[0]),
        "cells": {"Fusion method": "Max", "Fusion layer": "ReLU5"},
        "state": "done",
        "splits": ("1", "2"),
        "seeds": (0, 1),
        "runs": (run("1", 0, 0.5), run("2", 0, 0.7), run("1", 1, 0.9), run("2", 1, 0.7)),
        "num_layers": 13,
        "num_parameters": 97_235_557,
        "paper": PaperFigures(top1=0.827, of="split 1", num_layers=13, num_parameters=97_310_000),
        "networks": ("vggm-spatial", "vggm-max-relu5"),
        "notes": ("a sentence",),
    }
    return AblationRow(name=name, **{**given, **fields})


def ablation(*rows: AblationRow) -> Ablation:
    return Ablation(
        dataset="ucf101",
        paper_dataset="ucf101",
        manifest_sha256="ab" * 32,
        preset=None,
        sets=("train.num_epochs=2",),
        titles={1: "Fusion methods", 2: "Where to fuse"},
        rows=rows,
    )


def written(path: Path, content: Ablation) -> Path:
    path.write_text(json.dumps(content.to_json()))
    return path


def test_what_is_written_is_read(tmp_path: Path) -> None:
    cited = row("2-other", state="cited", runs=(), splits=(), seeds=(), num_layers=None, num_parameters=None)
    content = ablation(row(), cited)
    found = read_ablation(written(tmp_path / "ablation.json", content))
    assert found == content
    assert found.tables == (1, 2)
    assert found.of_table(2) == (cited,)
    assert row().label == "Max, ReLU5"


def test_the_mean_is_over_seeds_and_theirs_over_splits() -> None:
    found = row()
    assert found.seed_top1 == pytest.approx((0.6, 0.8))
    assert found.mean == pytest.approx(0.7)
    assert found.deviation == pytest.approx(statistics.stdev([0.6, 0.8]))


def test_a_seed_that_lacks_a_split_does_not_count() -> None:
    found = row(runs=(run("1", 0, 0.5), run("2", 0, 0.7), run("1", 1, 0.9)))
    assert found.seed_top1 == pytest.approx((0.6,))
    assert math.isnan(found.deviation)
    assert found.to_json()["deviation"] is None
    assert math.isnan(row(runs=()).mean)
    assert row(runs=()).to_json()["mean"] is None


def test_rows_of_an_earlier_call_stay_where_they_are_not_made_anew() -> None:
    old, new = row("1-max", why="old"), row("1-max", why="new")
    found = merged([old, row("2-relu3")], [row("3-late"), new])
    assert [(one.name, one.why) for one in found] == [("1-max", "new"), ("2-relu3", ""), ("3-late", "")]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format": 2}, r"no ablation of format 1"),
        ({"kind": "fusion-train-scores"}, r"no ablation of format 1"),
        ({"rows": [{"table": 1}]}, r"is damaged \('name'\); delete it"),
        ({"rows": [row().to_json() | {"state": "great"}]}, r"damaged \(a row is 'great'\)"),
        ({"rows": None}, r"is damaged"),
    ],
)
def test_what_is_wrong_is_refused(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    path = tmp_path / "ablation.json"
    path.write_text(json.dumps(ablation(row()).to_json() | change))
    with pytest.raises(StoreError, match=message):
        read_ablation(path)


def test_no_file_and_no_json_are_said(tmp_path: Path) -> None:
    with pytest.raises(MissingDataError, match=r"there is no .*ablation.json; `fusion-train ablate` writes it"):
        read_ablation(tmp_path / "ablation.json")
    (tmp_path / "ablation.json").write_text("{")
    with pytest.raises(StoreError, match=r"ablation.json is damaged"):
        read_ablation(tmp_path / "ablation.json")


def test_the_documentation_has_every_field_and_state() -> None:
    section = FORMATS.split("\n## ablation.json\n")[1].split("\n## ")[0]
    first, second = section.split("| field of a row |")
    assert set(_first_cells(first)) == set(ablation().to_json())
    assert set(_first_cells(second)) == set(row().to_json())
    assert set(STATES) <= set(re.findall(r"`([a-z ]+)`", second))


def _first_cells(text: str) -> list[str]:
    lines = [line for line in text.splitlines() if line.startswith("| `")]
    return [name for line in lines for name in re.findall(r"`([^`]+)`", line.split("|")[1])]

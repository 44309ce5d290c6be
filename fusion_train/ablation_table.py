"""What `fusion-train ablate` has found: the file `ablation.json`, format 1, written and read here alone.

Its form is in docs/formats.md. Reading needs the standard library alone: `read_ablation(OUT / "ablation.json")`.
"""

from __future__ import annotations

import json
import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

from flowprep.errors import MissingDataError, StoreError

FORMAT = 1
FILE = "ablation.json"
_KIND = "fusion-train-ablation"

STATES = ("done", "open", "failed", "left out", "cited")
"""`done`: all of its runs are there. `open`: some or all are not yet. `failed`: the last attempt at one of them failed,
`why` says how. `left out`: it cannot be had of these networks, or another row is the same; `why` says which. `cited`:
others' work, of which there is the paper's figure alone."""


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class AblationRun:
    """One measurement: a row on the test list of one split, trained from one seed. Shares are 0 to 1."""

    split: str
    seed: int
    num_videos: int
    top1: float
    top5: float
    mean_class: float

    def to_json(self) -> dict[str, Any]:
        """A JSON object."""
        return _fields(self)


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class PaperFigures:
    """What the paper has in a row: `top1` as a share of 0 to 1, of `split 1` or the `mean of 3 splits`.

    None is what the paper does not give, for the row or for this data set.
    """

    top1: float | None
    of: str
    num_layers: int | None = None
    num_parameters: int | None = None


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class AblationRow:
    """A row of one of the paper's tables, with what was measured.

    `name` is unique in the file, as in `1-max`; `cells` are the row's words by the table's columns. `splits` and
    `seeds` are those that were asked for. `num_layers` counts layers with weights. `notes` are sentences on the row.
    `networks` are folders below `networks/` of what it is made of; a row shares them with others.
    """

    table: int
    name: str
    cells: Mapping[str, str]
    state: str
    paper: PaperFigures
    why: str = ""
    splits: tuple[str, ...] = ()
    seeds: tuple[int, ...] = ()
    runs: tuple[AblationRun, ...] = ()
    num_layers: int | None = None
    num_parameters: int | None = None
    networks: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def label(self) -> str:
        """All words of the row, for a bar or a legend."""
        return ", ".join(text for text in self.cells.values() if text)

    @property
    def seed_top1(self) -> tuple[float, ...]:
        """Top-1 accuracy by seed, each the mean over all splits; a seed that lacks a split is not in it."""
        found = []
        for seed in self.seeds:
            values = {run.split: run.top1 for run in self.runs if run.seed == seed}
            if self.splits and all(split in values for split in self.splits):
                found.append(statistics.fmean(values[split] for split in self.splits))
        return tuple(found)

    @property
    def mean(self) -> float:
        """Mean of `seed_top1`; NaN where nothing is measured."""
        return statistics.fmean(self.seed_top1) if self.seed_top1 else math.nan

    @property
    def deviation(self) -> float:
        """Standard deviation of `seed_top1` (that of a sample, n - 1); NaN of fewer than two."""
        return statistics.stdev(self.seed_top1) if len(self.seed_top1) > 1 else math.nan

    def to_json(self) -> dict[str, Any]:
        """A JSON object; `mean` and `deviation` are in it for readers without this module."""
        return {
            "table": self.table,
            "name": self.name,
            "cells": dict(self.cells),
            "state": self.state,
            "why": self.why,
            "splits": list(self.splits),
            "seeds": list(self.seeds),
            "runs": [run.to_json() for run in self.runs],
            "mean": _number(self.mean),
            "deviation": _number(self.deviation),
            "num_layers": self.num_layers,
            "num_parameters": self.num_parameters,
            "paper": _fields(self.paper),
            "networks": list(self.networks),
            "notes": list(self.notes),
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> AblationRow:
        """Raises KeyError or TypeError where something is missing."""
        row = cls(
            table=data["table"],
            name=data["name"],
            cells=dict(data["cells"]),
            state=data["state"],
            why=data["why"],
            splits=tuple(data["splits"]),
            seeds=tuple(data["seeds"]),
            runs=tuple(AblationRun(**run) for run in data["runs"]),
            num_layers=data["num_layers"],
            num_parameters=data["num_parameters"],
            paper=PaperFigures(**data["paper"]),
            networks=tuple(data["networks"]),
            notes=tuple(data["notes"]),
        )
        if row.state not in STATES:
            raise ValueError(f"a row is {row.state!r}")
        return row


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Ablation:
    """A whole file. `dataset` is the store's, `preset` what all networks were replaced by, None where nothing was.

    `paper_dataset` says whose figures the paper's are: `ucf101`, `hmdb51`, or None where the paper has none of the
    store's data set. `sets` are the settings given with --set, `titles` the headings of the tables by number.
    """

    dataset: str
    paper_dataset: str | None
    manifest_sha256: str
    preset: str | None
    sets: tuple[str, ...]
    titles: Mapping[int, str]
    rows: tuple[AblationRow, ...]

    @property
    def tables(self) -> tuple[int, ...]:
        """Numbers of the tables that there are."""
        return tuple(sorted({row.table for row in self.rows}))

    def of_table(self, number: int) -> tuple[AblationRow, ...]:
        """The rows of a table in the paper's order."""
        return tuple(row for row in self.rows if row.table == number)

    def to_json(self) -> dict[str, Any]:
        """A JSON object."""
        return {
            "kind": _KIND,
            "format": FORMAT,
            "dataset": self.dataset,
            "paper_dataset": self.paper_dataset,
            "manifest_sha256": self.manifest_sha256,
            "preset": self.preset,
            "sets": list(self.sets),
            "titles": {str(number): title for number, title in self.titles.items()},
            "rows": [row.to_json() for row in self.rows],
        }


def read_ablation(path: Path) -> Ablation:
    """What a file has.

    Raises:
        MissingDataError: There is no such file.
        StoreError: It is damaged, or of another kind or format.
    """
    try:
        data = json.loads(path.read_text("utf-8"))
        if (data["kind"], data["format"]) != (_KIND, FORMAT):
            raise StoreError(f"{path} is no ablation of format {FORMAT}; run `fusion-train ablate` with another --out")
        return Ablation(
            dataset=data["dataset"],
            paper_dataset=data["paper_dataset"],
            manifest_sha256=data["manifest_sha256"],
            preset=data["preset"],
            sets=tuple(data["sets"]),
            titles={int(number): title for number, title in data["titles"].items()},
            rows=tuple(AblationRow.from_json(row) for row in data["rows"]),
        )
    except FileNotFoundError as error:
        raise MissingDataError(f"there is no {path}; `fusion-train ablate` writes it") from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        if isinstance(error, StoreError):
            raise
        raise StoreError(f"{path} is damaged ({error}); delete it, `fusion-train ablate` makes it anew") from error


def merged(before: Sequence[AblationRow], now: Sequence[AblationRow]) -> tuple[AblationRow, ...]:
    """The rows of both, those of `now` counting where a name is in both, by table and in the order of `now`."""
    names = {row.name for row in now}
    return tuple(sorted([*now, *(row for row in before if row.name not in names)], key=lambda row: row.table))


def _fields(record: AblationRun | PaperFigures) -> dict[str, Any]:
    return {name: getattr(record, name) for name in record.__slots__}


def _number(value: float) -> float | None:
    return None if math.isnan(value) else value

"""`fusion-train run`: which store, which preset, which splits; then the stages of each, and one table of all."""

from __future__ import annotations

import json
import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

from flowprep.errors import DatasetError, MissingDataError, SettingsError
from flowprep.stores import Store
from flowprep.stores.places import MANIFEST
from flowprep.stores.splitsfile import read_splits
from fusion_train.data.splits import without_splits
from fusion_train.initial import networks_in
from fusion_train.metrics import Metrics, measure
from fusion_train.outage import whole_file
from fusion_train.paper import reported
from fusion_train.presets import PRESETS
from fusion_train.runrecord import RunRecord
from fusion_train.runtime import Runtime
from fusion_train.stages import Say, SplitRun, check_initial_weights, run_split, split_run

ROWS = ("spatial", "temporal", "late fusion", "fused spatiotemporal", "fused temporal", "fused")
_DEPTH = 3


@final
@dataclass(frozen=True, kw_only=True)
class RunResult:
    """Metrics on the test list by split and row of `ROWS`."""

    preset: str
    held_out: str
    metrics: Mapping[str, Mapping[str, Metrics]]

    @property
    def rows(self) -> tuple[str, ...]:
        """Those that there are: a fused network with one tower has one."""
        first = next(iter(self.metrics.values()))
        return tuple(row for row in ROWS if row in first)

    def mean_top1(self, row: str) -> tuple[float, float]:
        """Mean and standard deviation of the splits' top-1 accuracy; NaN of one split."""
        values = [split[row].top1.value for split in self.metrics.values()]
        return statistics.fmean(values), statistics.stdev(values) if len(values) > 1 else math.nan

    def table(self) -> list[list[str]]:
        """Header and lines."""
        several = len(self.metrics) > 1
        head = ["", *(f"split {name}" for name in self.metrics)] if several else ["", "top-1", "95 %"]
        lines = [[*head, *(["mean", "deviation"] if several else ["top-5", "mean class"]), "paper"]]
        for row in self.rows:
            paper = reported(self.preset, len(self.metrics)).get(row)
            found = [split[row] for split in self.metrics.values()]
            if several:
                mean, deviation = self.mean_top1(row)
                cells = [*(_percent(one.top1.value) for one in found), _percent(mean), _percent(deviation)]
            else:
                low, high = found[0].top1.interval
                cells = [_percent(found[0].top1.value), f"{_percent(low)} to {_percent(high)}",
                         _percent(found[0].top5.value), _percent(found[0].mean_class)]  # fmt: skip
            lines.append([row, *cells, paper.text() if paper else ""])
        return lines

    def to_json(self) -> dict[str, Any]:
        """A JSON object."""
        paper = reported(self.preset, len(self.metrics))
        return {
            "preset": self.preset,
            "held_out": self.held_out,
            "splits": {
                name: {row: metrics.to_json() for row, metrics in rows.items()} for name, rows in self.metrics.items()
            },
            "paper": {row: paper[row].text() for row in self.rows if row in paper},
        }


def run(
    store: Store,
    *,
    preset: str,
    splits: Sequence[str],
    out: Path,
    sets: Sequence[str],
    runtime: Runtime,
    say: Say,
    init_from: Sequence[Path] = (),
) -> RunResult:
    """Train and evaluate all networks of a preset on each split. Writes `run.json` and `table.json` into `out`.

    `init_from` are checkpoints that streams start from. Raises as `initial.networks_in`, `stages.check_initial_weights`
    and `stages.run_split`.
    """
    metrics: dict[str, dict[str, Metrics]] = {}
    held_out = ""
    planned_splits = plan(preset, splits, out, sets, init_from)
    check_initial_weights(store, planned_splits)
    if runtime.is_main:
        started_from = {path: network for network, path in _networks(out, init_from).items()}
        RunRecord(preset=preset, splits=tuple(splits), data=store.path.resolve(), init_from=started_from).write(out)
    for planned in planned_splits:
        tables = run_split(store, planned, runtime=runtime, say=say)
        metrics[planned.split] = {row: measure(tables[row]) for row in ROWS if row in tables}
        held_out = planned.settings["fused"].train.val
    result = RunResult(preset=preset, held_out=held_out, metrics=metrics)
    if runtime.is_main:
        with whole_file(out / "table.json") as file:
            file.write(json.dumps(result.to_json(), indent=1).encode())
    return result


def plan(
    preset: str, splits: Sequence[str], out: Path, sets: Sequence[str], init_from: Sequence[Path] = ()
) -> list[SplitRun]:
    """The runs of all splits.

    Raises SettingsError for a preset or setting that does not exist, and as `initial.networks_in` and `RunRecord.read`.
    """
    networks = _networks(out, init_from)
    return [split_run(preset, split, out / f"split_{split}", sets, networks) for split in splits]


def _networks(out: Path, init_from: Sequence[Path]) -> dict[str, Path]:
    """As `initial.networks_in`; files that the run in `out` has started from may be gone."""
    record = RunRecord.read(out) if init_from else None
    return networks_in(init_from, record.init_from if record else None)


def find_store(root: Path) -> Path:
    """The one store below `root`.

    Raises:
        MissingDataError: There is none.
        SettingsError: There are several; the message names them.
    """
    found: list[Path] = []
    for depth in range(_DEPTH):
        found += sorted(path.parent for path in root.glob("*/" * depth + MANIFEST))
    if not found:
        raise MissingDataError(f"there is no store under {root}; `flowprep extract` makes one, or name one with --data")
    if len(found) > 1:
        names = ", ".join(map(str, found))
        raise SettingsError(f"there are {len(found)} stores under {root}: {names}; name one with --data")
    return found[0]


def default_preset(store: Store) -> str:
    """The data set's networks of VGG-16. Raises SettingsError if the paper has none."""
    dataset = read_splits(store.path).dataset
    if (preset := f"{dataset}-vgg16") not in PRESETS:
        raise SettingsError(f"there is no preset for the data set {dataset}; name one of {', '.join(PRESETS)}")
    return preset


def chosen_splits(store: Store, split: str) -> tuple[str, ...]:
    """One split, or with `all` each that the store has. Raises DatasetError if it has none."""
    found = read_splits(store.path)
    names = tuple(found.splits)
    if not names:
        raise DatasetError(f"{store.path} has no split to train and test on: {without_splits(found.dataset)}")
    if split == "all":
        return names
    if split not in names:
        raise SettingsError(f"{store.path} has no split {split!r}; it has {', '.join(names)}")
    return (split,)


def _percent(value: float) -> str:
    return "" if math.isnan(value) else f"{100 * value:.2f}"

"""`fusion-train run`."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from flowprep_cli.fusion_options import (
    SET_HELP,
    device_option,
    init_from_option,
    progress_line,
    weights_options,
    with_weights,
)

if TYPE_CHECKING:
    from flowprep.stores import Store
    from fusion_train.run import RunResult
    from fusion_train.runtime import Runtime


@click.command(short_help="Train and evaluate both streams and the fused network.")
@click.option("--root", type=click.Path(path_type=Path), default=Path("data"), show_default=True,
              help="Folder in which the one store is looked for.")  # fmt: skip
@click.option("--data", type=click.Path(path_type=Path), help="The store. [default: the one under --root]")
@click.option("--split", metavar="NAME", default="1", show_default=True,
              help="Official split, or all: then with mean and deviation.")  # fmt: skip
@click.option("--preset", metavar="NAME", help="Named settings. [default: the data set's VGG-16 by the paper]")
@click.option("--out", type=click.Path(path_type=Path), help="Folder of the results. [default: runs/PRESET]")
@click.option("--set", "sets", metavar="A.B=V", multiple=True, help=SET_HELP)
@weights_options
@init_from_option
@device_option
@click.option("--dry-run", is_flag=True, help="Say what would be done, and what it would take; write nothing.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object on stdout.")
def run(
    *, root: Path, data: Path | None, split: str, preset: str | None, out: Path | None, sets: tuple[str, ...],
    weights: str | None, random_fc: bool, init_from: tuple[Path, ...], device: str, dry_run: bool, as_json: bool,
) -> int:  # fmt: skip
    """Train the spatial and the temporal stream, then the fused network from both, and evaluate all on the test list.

    What is finished is skipped, and what was stopped goes on: enter the same command again. At the end there is one
    table, with the paper's figures beside it. Under torchrun all its processes work together.
    """
    from flowprep.stores import open_store

    sets = with_weights(sets, weights, random_fc)
    if preset is not None:
        _check_settings(preset, sets)
    from fusion_train import run as runs
    from fusion_train.runtime import started

    path = data or runs.find_store(root)
    with open_store(path) as store, started(device, deterministic=is_deterministic(sets)) as runtime:
        preset = preset or runs.default_preset(store)
        out = out or Path("runs") / preset
        splits = runs.chosen_splits(store, split)
        planned = runs.plan(preset, splits, out, sets, init_from)
        if dry_run:
            _show_forecast(store, planned, runtime, as_json)
            return 0

        def say(stage: str, row: Mapping[str, Any] | None) -> None:
            if runtime.is_main:
                click.echo(stage if row is None else f"  {progress_line(row)}", err=True)

        if runtime.is_main:
            click.echo(f"{path} -> {out}: preset {preset}, split {', '.join(splits)}", err=True)
        result = runs.run(
            store, preset=preset, splits=splits, out=out, sets=sets, init_from=init_from, runtime=runtime, say=say
        )
        if runtime.is_main:
            _show(result, as_json)
    return 0


def _check_settings(preset: str, sets: tuple[str, ...]) -> None:
    """Refuse what is mistyped before PyTorch is loaded, which takes seconds."""
    from fusion_train.overrides import STAGES, overridden
    from fusion_train.protocols import full_settings

    for stage in STAGES:
        overridden(full_settings(preset, stage), sets, stage=stage)


def is_deterministic(sets: tuple[str, ...]) -> bool:
    """Presets are not; the last word on it counts."""
    values = [text.partition("=")[2].strip().lower() for text in sets if "train.deterministic" in text]
    return bool(values) and values[-1] == "true"


def _show(result: RunResult, as_json: bool) -> None:
    from flowprep_cli.tables import print_columns
    from fusion_train.heldout import HELD_OUT

    if as_json:
        click.echo(json.dumps(result.to_json(), indent=2))
        return
    print_columns(result.table())
    click.echo(f"\nTop-1 accuracy on the test list, in percent. {HELD_OUT[result.held_out]}")


def _show_forecast(store: Store, planned: list[Any], runtime: Runtime, as_json: bool) -> None:
    from flowprep_cli.tables import print_columns
    from fusion_train.forecast import forecast, memory_sentence
    from fusion_train.initial_files import missing_files
    from fusion_train.overrides import STAGES
    from fusion_train.stages import is_begun

    found = [one for run in planned for one in forecast(store, run, runtime)]
    if not runtime.is_main:
        return
    if as_json:
        import dataclasses

        click.echo(json.dumps([dataclasses.asdict(one) for one in found], indent=2))
        return
    lines = [["stage", "steps", "parameters", "trained", "memory GB", "hours", "test hours"]]
    for one in found:
        name = f"split {one.split} {one.stage}"
        if one.is_done:
            lines.append([f"{name} (done)", "0", f"{one.num_parameters:,}", "0", "", "", ""])
        else:
            lines.append([name, f"{one.num_steps:,}", f"{one.num_parameters:,}", f"{one.num_trained:,}",
                          f"{one.memory_bytes / 1e9:.1f}", f"{one.seconds / 3600:.2f}",
                          f"{one.test_seconds / 3600:.2f}"])  # fmt: skip
    print_columns(lines)
    click.echo(
        f"\nMeasured on {runtime.device} with two steps and one test video a stage; all epochs, without held-out "
        f"videos. Late fusion takes seconds. {memory_sentence(found)} Initial weights were not loaded. Nothing was "
        "written."
    )
    streams = [(run, stage) for run in planned for stage in STAGES[:2] if not is_begun(run.folder / stage)]
    for path in sorted({path for run, stage in streams for path in missing_files(run.settings[stage].model)}):
        click.echo(f"Initial weights {path} are not there; the run will not begin without them.", err=True)

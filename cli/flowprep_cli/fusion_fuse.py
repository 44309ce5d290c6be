"""`fusion-train fuse`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

from flowprep_cli.fusion_options import parsed_weights

if TYPE_CHECKING:
    from fusion_train.scores import ScoreTable

_MAX_CLASSES = 5


@click.command(short_help="Join score files: late fusion.")
@click.argument("files", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--weights", metavar="A:B|sweep",
              help="One a file, or sweep (of held-out videos alone). [default: equal]")  # fmt: skip
@click.option("--on", type=click.Choice(["scores", "softmax"]), default="scores", show_default=True,
              help="What is averaged: scores before the softmax, or probabilities.")  # fmt: skip
@click.option("--out", type=click.Path(path_type=Path), help="Write the joined scores to this file.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object on stdout.")
def fuse(*, files: tuple[Path, ...], weights: str | None, on: str, out: Path | None, as_json: bool) -> int:
    """Join the score FILES of networks by video id, and say what that gains.

    Files of other videos, classes, labels or data are refused. A sweep takes files of held-out videos, since weights
    that were swept on the test list say nothing about others: `fusion-train evaluate --part validation`.
    """
    from flowprep_cli.tables import print_columns
    from fusion_train.heldout import caution
    from fusion_train.late_fusion import fuse as join
    from fusion_train.late_fusion import sweep
    from fusion_train.metrics import gain, measure
    from fusion_train.scores import ScoreTable

    tables = [ScoreTable.load(path) for path in files]
    curve = None
    if weights == "sweep":
        curve = sweep(*_held_out_pair(tables), on=on)
    shares = curve.weights if curve is not None else parsed_weights(weights)
    fused = join(tables, shares, on=on)
    if out is not None:
        fused.save(out)
    before = max(tables, key=lambda table: measure(table).top1.value)
    gained = gain(before, fused)
    if as_json:
        content = {
            "tables": [{"name": table.name, **measure(table).to_json()} for table in tables],
            "fused": {"name": fused.name, "weights": fused.origin["weights"], "on": on, **measure(fused).to_json()},
            "gain": {"over": before.name, "top1": gained.top1, "p_value": gained.p_value,
                     "per_class": dict(gained.per_class)},
            "caution": caution([fused.origin]),
            "sweep": [[point.weight, point.top1] for point in curve.points] if curve is not None else None,
        }  # fmt: skip
        click.echo(json.dumps(content, indent=2))
        return 0
    lines = [[fused.part, "top-1", "95 %", "top-5", "mean class"]]
    for table in (*tables, fused):
        metrics = measure(table)
        low, high = metrics.top1.interval
        lines.append([table.name, f"{100 * metrics.top1.value:.2f}", f"{100 * low:.2f} to {100 * high:.2f}",
                      f"{100 * metrics.top5.value:.2f}", f"{100 * metrics.mean_class:.2f}"])  # fmt: skip
    print_columns(lines)
    if sentence := caution([fused.origin]):
        click.echo(sentence)
    if curve is not None:
        click.echo("weights " + ":".join(f"{weight:g}" for weight in curve.weights) + ", swept on these videos")
    click.echo(
        f"over {before.name}: {100 * gained.top1:+.2f} points; {gained.num_only_after} videos more are right, "
        f"{gained.num_only_before} no longer (p = {gained.p_value:.3g})"
    )
    ordered = sorted(gained.per_class.items(), key=lambda item: -abs(item[1]))[:_MAX_CLASSES]
    for name, value in ordered:
        if value:
            click.echo(f"  {name} {100 * value:+.1f}")
    return 0


def _held_out_pair(tables: list[ScoreTable]) -> tuple[ScoreTable, ScoreTable]:
    from flowprep.errors import SettingsError
    from fusion_train.heldout import held_out_by

    if len(tables) != 2:
        raise SettingsError(f"a sweep of weights takes two score files, got {len(tables)}")
    for table in tables:
        if table.part.startswith("test"):
            raise SettingsError(
                f"weights are not swept on the test list, and {table.name} is of {table.part}; sweep the scores of "
                "`fusion-train evaluate --part validation`, then give the weights"
            )
        if table.part.startswith("validation") and "test" in held_out_by(table.origin):
            raise SettingsError(
                f"weights are not swept on the test list, and {table.name} is of a network with `train.val` test, "
                "whose validation videos are that list; train with groups held out to sweep weights, or give them"
            )
    return tables[0], tables[1]

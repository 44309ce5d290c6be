"""`fusion-train ablate`."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from flowprep_cli.fusion_options import SET_HELP, device_option, progress_line
from flowprep_cli.fusion_run import is_deterministic

if TYPE_CHECKING:
    from flowprep.stores import Store
    from fusion_train.ablation_plan import AblationPlan
    from fusion_train.ablation_table import Ablation
    from fusion_train.runtime import Runtime


@click.command(short_help="The paper's tables: every row trained and evaluated.")
@click.option("--table", "tables", type=click.IntRange(1, 5), multiple=True,
              help="1 fusion methods, 2 where to fuse, 3 backbones, 4 temporal fusion, 5 state of the art. "
              "Can be given several times. [default: all]")  # fmt: skip
@click.option("--only", metavar="ROW", multiple=True,
              help="Run this row alone, as 1-max. Can be given several times; --dry-run lists them.")  # fmt: skip
@click.option("--seeds", metavar="N", type=click.IntRange(min=1), default=1, show_default=True,
              help="Train all N times, from seeds 0 to N-1.")  # fmt: skip
@click.option("--root", type=click.Path(path_type=Path), default=Path("data"), show_default=True,
              help="Folder in which the one store is looked for.")  # fmt: skip
@click.option("--data", type=click.Path(path_type=Path), help="The store. [default: the one under --root]")
@click.option("--split", metavar="NAME", help="Official split, or all. [default: 1; in table 5 all]")
@click.option("--preset", metavar="NAME", help="Networks in place of the paper's, in all rows; debug tries it out.")
@click.option("--out", type=click.Path(path_type=Path), help="Folder of the results. [default: runs/ablate-DATASET]")
@click.option("--set", "sets", metavar="A.B=V", multiple=True, help=SET_HELP)
@device_option
@click.option("--dry-run", is_flag=True, help="List rows and networks, and what they would take; write nothing.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object on stdout.")
def ablate(
    *, tables: tuple[int, ...], only: tuple[str, ...], seeds: int, root: Path, data: Path | None, split: str | None,
    preset: str | None, out: Path | None, sets: tuple[str, ...], device: str, dry_run: bool, as_json: bool,
) -> int:  # fmt: skip
    """Train and evaluate the rows of the paper's tables 1 to 5, and print them with the paper's figures beside them.

    What rows share, such as the single streams, is trained once. Rows that are finished are skipped, and one that was
    stopped goes on: enter the same command again. A row that fails is named with its reason, and the others go on.
    """
    from flowprep.stores import open_store
    from fusion_train.ablate import ablate as run_rows
    from fusion_train.ablation_plan import plan_ablation
    from fusion_train.run import find_store
    from fusion_train.runtime import started

    path = data or find_store(root)
    with open_store(path) as store, started(device, deterministic=is_deterministic(sets)) as runtime:
        plan = plan_ablation(
            store, tables=tables, only=only, num_seeds=seeds, split=split, preset=preset, sets=sets
        )  # fmt: skip
        out = out or Path("runs") / f"ablate-{plan.dataset}"
        if dry_run:
            _show_forecast(store, plan, out, runtime, as_json)
            return 0

        def say(what: str, row: Mapping[str, Any] | None) -> None:
            if runtime.is_main:
                click.echo(what if row is None else f"    {progress_line(row)}", err=True)

        say(f"{path} -> {out}: {len(plan.chosen)} rows, seeds {', '.join(map(str, plan.seeds))}", None)
        found = run_rows(store, plan, out, runtime=runtime, say=say)
        if runtime.is_main:
            _show(found, plan, out, as_json)
    failed = [row for row in found.rows if row.state == "failed" and row.name in plan.chosen]
    return 1 if failed else 0


def _show(found: Ablation, plan: AblationPlan, out: Path, as_json: bool) -> None:
    from flowprep.errors import BackendUnavailableError
    from flowprep_cli.tables import print_columns
    from fusion_train.ablation_chart import draw_tables
    from fusion_train.ablation_text import text_table

    try:
        pictures = draw_tables(found, out)
    except BackendUnavailableError as error:
        pictures = []
        click.echo(str(error), err=True)
    if as_json:
        click.echo(json.dumps(found.to_json(), indent=2))
        return
    for number in dict.fromkeys(row.paper.table for row in plan.rows):
        table = text_table(found, number)
        click.echo(f"{table.heading}\n")
        print_columns(table.lines, num_words=table.num_words)
        click.echo("".join(f"\n{note}" for note in table.notes) + "\n")
    click.echo("\n".join(map(str, [out / "ablation.json", *pictures])))


def _show_forecast(store: Store, plan: AblationPlan, out: Path, runtime: Runtime, as_json: bool) -> None:
    from flowprep_cli.tables import print_columns
    from fusion_train.ablation_forecast import forecast_ablation
    from fusion_train.forecast import memory_sentence

    found = forecast_ablation(store, plan, out, runtime)
    if not runtime.is_main:
        return
    if as_json:
        click.echo(json.dumps(found.to_json(), indent=2))
        return
    lines = [["row", "networks, trained in this order", "runs left"]]
    for row in plan.rows:
        name = row.paper.name
        if name in found.runs_left:
            lines.append([name, ", ".join(one.name for one in row.all_networks), str(found.runs_left[name])])
        elif row.left_out:
            lines.append([name, row.left_out, "left out"])
        elif row.paper.recipe is None:
            lines.append([name, "others' work", "cited"])
    print_columns(lines, num_words=2)
    click.echo()
    lines = [["network", "rows", "done", "left", "steps", "parameters", "trained", "memory GB", "hours"]]
    for one in found.networks:
        size = one.of_one
        measured = [f"{size.memory_bytes / 1e9:.1f}", f"{one.seconds / 3600:.2f}"] if one.num_left else ["", ""]
        lines.append([one.name, str(len(one.rows)), str(one.num_done), str(one.num_left), f"{size.num_steps:,}",
                      f"{size.num_parameters:,}", f"{size.num_trained:,}", *measured])  # fmt: skip
    lines.append(["together", "", "", str(sum(one.num_left for one in found.networks)), "", "", "", "",
                  f"{found.seconds / 3600:.2f}"])  # fmt: skip
    print_columns(lines)
    click.echo(
        f"\nMeasured on {runtime.device} with two steps a network; all epochs, without evaluation. Steps are those of "
        f"one training. {memory_sentence(one.of_one for one in found.networks)} Initial weights were not looked for. "
        "Nothing was written."
    )

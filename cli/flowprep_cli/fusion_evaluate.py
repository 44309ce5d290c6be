"""`fusion-train evaluate`."""

from __future__ import annotations

import json
from pathlib import Path

import click

from flowprep_cli.fusion_options import data_argument, device_option

_MAX_PAIRS = 3


@click.command(short_help="Scores and accuracies of a trained network.")
@click.argument("checkpoint", type=click.Path(path_type=Path))
@data_argument
@click.option("--part", type=click.Choice(["test", "validation"]), default="test", show_default=True,
              help="The test list, or what was held out of the training.")  # fmt: skip
@click.option("--split", metavar="NAME", help="Official split. [default: that of the training]")
@click.option("--out", type=click.Path(path_type=Path),
              help="Folder of the score files. [default: that of the checkpoint]")  # fmt: skip
@click.option("--confusion", is_flag=True, help="Write PART_TOWER_confusion.csv beside the scores too.")
@device_option
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object on stdout.")
def evaluate(
    *, checkpoint: Path, data: Path, part: str, split: str | None, out: Path | None, confusion: bool, device: str,
    as_json: bool,
) -> int:  # fmt: skip
    """Evaluate the network of the file CHECKPOINT on the store DATA, and write PART_TOWER.npz for each tower.

    Single streams see 25 frames of a video, fused networks its clips, all also mirrored, and whole frames.
    """
    from flowprep.stores import open_store
    from flowprep_cli.tables import print_columns
    from fusion_train.data.splits import seen_sentence
    from fusion_train.evaluate import evaluate as scores_of
    from fusion_train.heldout import caution
    from fusion_train.metrics import measure
    from fusion_train.outage import whole_file
    from fusion_train.runtime import started

    with open_store(data) as store, started(device) as runtime:
        tables = scores_of(checkpoint, store, part=part, split=split, runtime=runtime)
        if not runtime.is_main:
            return 0
        table = next(iter(tables.values()))
        if num := table.origin["num_seen_in_training"]:
            trained = table.origin["settings"]["train"]["split"]
            click.echo(f"Note: {seen_sentence(num, len(table.ids), table.part, trained)}", err=True)
        lines = [["tower", "top-1", "95 %", "top-5", "mean class", "scores"]]
        found = {}
        for tower, table in tables.items():
            path = (out or checkpoint.parent) / f"{part}_{tower}.npz"
            table.save(path)
            metrics = found[tower] = measure(table)
            if confusion:
                with whole_file(path.with_name(f"{path.stem}_confusion.csv")) as file:
                    file.write(metrics.confusion_csv().encode())
            low, high = metrics.top1.interval
            lines.append([tower, f"{100 * metrics.top1.value:.2f}", f"{100 * low:.2f} to {100 * high:.2f}",
                          f"{100 * metrics.top5.value:.2f}", f"{100 * metrics.mean_class:.2f}", str(path)])  # fmt: skip
    if as_json:
        said = {tower: {"held_out": tables[tower].origin["held_out"], "caution": caution([tables[tower].origin])}
                for tower in found}  # fmt: skip
        click.echo(json.dumps({tower: {**metrics.to_json(), **said[tower]} for tower, metrics in found.items()},
                              indent=2))  # fmt: skip
    else:
        print_columns(lines)
        if sentence := caution(table.origin for table in tables.values()):
            click.echo(sentence)
        for tower, metrics in found.items():
            pairs = [f"{num} of {true} for {taken}" for true, taken, num in metrics.confused[:_MAX_PAIRS]]
            if pairs:
                click.echo(f"{tower} takes {'; '.join(pairs)}")
    return 0

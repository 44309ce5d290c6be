"""`fusion-train check`."""

from __future__ import annotations

import json
from pathlib import Path

import click


@click.command(short_help="Say whether a store is fit for training.")
@click.argument("data", type=click.Path(path_type=Path))
@click.option("--split", metavar="NAME", help="Look at this split alone. [default: all]")
@click.option("--quick", is_flag=True, help="Go by the manifest; decode no image.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def check(data: Path, split: str | None, quick: bool, as_json: bool) -> int:
    """Look for what would stop a training on the store DATA or spoil its figures.

    Numbers of images and flow, streams that are missing, videos that are not stored or too short, classes without
    videos, groups in both parts of a split, flow beyond the bound. Leaves with 0 if there are only notes, 1 if there
    is more, 3 if the run that makes the store has not ended, 4 if it is damaged.
    """
    from fusion_train.check import check as look

    health = look(data, split=split, quick=quick)
    if as_json:
        click.echo(json.dumps(health.to_json(), indent=2))
        return health.exit_code
    click.echo(f"{health.path}: {health.num_videos} videos, flow bound {health.bound_px:g} px, {health.rounding}")
    for name, parts in health.parts.items():
        click.echo(f"split {name}: {', '.join(f'{count} {part}' for part, count in parts.items())}")
    for found in health.findings:
        click.echo(f"{'note' if found.is_note else 'PROBLEM'}: {found.sentence}")
    if not health.findings:
        click.echo("fit for training: nothing was found")
    return health.exit_code

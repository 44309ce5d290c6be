"""`flowprep doctor`."""

from __future__ import annotations

import json
from pathlib import Path

import click


@click.command(short_help="Show what runs on this machine, and what to install.")
@click.argument("folder", type=click.Path(path_type=Path), default=Path())
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def doctor(folder: Path, as_json: bool) -> None:
    """Examine this machine, and the disk of FOLDER, where a store would go."""
    from flowprep.doctor import examine

    health = examine(folder)
    if as_json:
        click.echo(json.dumps(health.to_json(), indent=2))
        return
    from flowprep_cli.tables import show_health

    show_health(health)

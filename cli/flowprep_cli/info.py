"""`flowprep info`."""

from __future__ import annotations

import json
from pathlib import Path

import click


@click.command(short_help="Show what a store holds.")
@click.argument("store", type=click.Path(path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def info(store: Path, as_json: bool) -> None:
    """Show the settings of a store, its videos by state and reason, and its size."""
    from flowprep.describe import describe

    found = describe(store)
    if as_json:
        click.echo(json.dumps(found.to_json(), indent=2))
        return
    from flowprep_cli.tables import show_description

    show_description(found)

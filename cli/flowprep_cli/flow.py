"""`flowprep flow`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from flowprep.config import FlowSettings
from flowprep_cli.options import parse_parameters, settings_from, settings_options


@click.command(short_help="Compute the flow between two images.")
@click.argument("source", type=click.Path(path_type=Path))
@click.argument("target", type=click.Path(path_type=Path))
@click.option("-o", "--out", type=click.Path(path_type=Path), required=True,
              help="F.flo or F.npy: flow in pixels; F.png: a colour picture with its legend.")  # fmt: skip
@settings_options("flow", FlowSettings, without=("step", "backward"))
@click.option("--param", "parameters", multiple=True, metavar="NAME=VALUE", help="A parameter of the flow algorithm.")
def flow(source: Path, target: Path, out: Path, **values: Any) -> None:
    """Compute the flow from image SOURCE to image TARGET and write it to a file."""
    settings = settings_from("flow", FlowSettings, values, parameters=parse_parameters(values["parameters"]))
    from rich.markup import escape

    from flowprep.pair import flow_of_files
    from flowprep_cli.progress import stderr_console

    result = flow_of_files(source, target, out, settings)
    console = stderr_console()
    console.print(
        f"{escape(str(out))}: {result.width}x{result.height}, mean {result.mean_px:.3f} px, "
        f"largest {result.largest_px:.3f} px, by {result.backend}{f' {result.variant}' if result.variant else ''}"
    )

"""`flowprep bench`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from flowprep.config import BenchSettings, FlowSettings, ResizeSettings
from flowprep_cli.options import parse_parameters, settings_from, settings_options


@click.command(short_help="Measure flow on videos of yours, side by side with OpenCV's.")
@click.argument("videos", type=click.Path(path_type=Path))
@settings_options("bench", BenchSettings)
@settings_options("flow", FlowSettings, without=("step", "backward"))
@click.option("--param", "parameters", multiple=True, metavar="NAME=VALUE",
              help="A parameter of the flow algorithm; with --compare, of both.")  # fmt: skip
@settings_options("resize", ResizeSettings)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def bench(videos: Path, as_json: bool, **values: Any) -> int:
    """Measure flow on pairs of VIDEOS, a video file or a folder of them.

    Shows the time of a pair on one core, and the hours that a data set would take: flow alone, as the number of its
    pairs times the mean time of a pair, divided by the jobs. With --compare, the same of the other backend, how many
    times faster the first one is, and by how much their flow differs. Interrupted, it shows what it has measured.
    """
    flow = settings_from("flow", FlowSettings, values, parameters=parse_parameters(values["parameters"]))
    settings = settings_from("bench", BenchSettings, values)
    resize = settings_from("resize", ResizeSettings, values)
    from rich.markup import escape

    from flowprep.bench import measure
    from flowprep_cli.progress import printable, stderr_console

    console = stderr_console()
    result = measure(
        videos,
        flow=flow,
        resize=resize,
        settings=settings,
        tell=lambda text: console.print(escape(printable(text))),
    )
    if as_json:
        click.echo(json.dumps(result.to_json(), indent=2))
    else:
        from flowprep_cli.tables import show_bench

        show_bench(result)
    return 0 if result.complete else 3

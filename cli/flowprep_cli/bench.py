"""`flowprep bench`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from flowprep.config import (
    BenchSettings,
    DecodeSettings,
    ExtractSettings,
    FlowSettings,
    JpegSettings,
    QuantiseSettings,
    ResizeSettings,
    StoreSettings,
)
from flowprep_cli.options import parse_parameters, settings_from, settings_options


@click.command(short_help="Measure an extraction of videos of yours, or its flow side by side with OpenCV's.")
@click.argument("videos", type=click.Path(path_type=Path))
@settings_options("bench", BenchSettings)
@click.option("--out", type=click.Path(path_type=Path),
              help="Where a store would go: its disk is measured. [default: folder for temporary files]")  # fmt: skip
@settings_options("flow", FlowSettings)
@click.option("--param", "parameters", multiple=True, metavar="NAME=VALUE",
              help="A parameter of the flow algorithm; with --compare, of both.")  # fmt: skip
@settings_options("resize", ResizeSettings)
@settings_options("store", StoreSettings, without=("flow",))
@settings_options("quantise", QuantiseSettings)
@settings_options("jpeg", JpegSettings)
@settings_options("decode", DecodeSettings)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def bench(videos: Path, out: Path | None, as_json: bool, **values: Any) -> int:
    """Measure what `extract` takes for VIDEOS, a video file or a folder of them, with the settings given.

    Shows the time of pairs of neighbouring frames on one core, and of a frame in each stage from the file to the
    store; then what bounds a run, what would help, frames a second, and the hours that a data set would take. With
    --compare only pairs are measured, with the other backend too: how many times faster the first one is, and by how
    much their flow differs. Interrupted, it shows what it has measured.
    """
    flow = settings_from("flow", FlowSettings, values, parameters=parse_parameters(values["parameters"]))
    settings = settings_from("bench", BenchSettings, values)
    resize = settings_from("resize", ResizeSettings, values)
    extract = ExtractSettings(
        flow=flow,
        resize=resize,
        store=settings_from("store", StoreSettings, values),
        quantise=settings_from("quantise", QuantiseSettings, values),
        jpeg=settings_from("jpeg", JpegSettings, values),
        decode=settings_from("decode", DecodeSettings, values),
    )
    from rich.markup import escape

    from flowprep.bench import measure
    from flowprep_cli.progress import printable, stderr_console

    console = stderr_console()

    def tell(text: str) -> None:
        console.print(escape(printable(text)))

    result = measure(videos, flow=flow, resize=resize, settings=settings, tell=tell)
    stages = None
    if settings.compare is None and result.complete:
        import tempfile

        from flowprep.stagetimes import measure_stages

        place, size = out or Path(tempfile.gettempdir()), result.dataset
        stages = measure_stages(videos, place, (size.name, size.num_frames), extract, settings, tell=tell)
    if as_json:
        click.echo(json.dumps({**result.to_json(), "stages": stages and stages.to_json()}, indent=2))
    else:
        from flowprep_cli.tables import show_bench, show_stages

        show_bench(result)
        if stages is not None:
            show_stages(stages)
    return 0 if result.complete and (stages is None or stages.complete) else 3

"""`flowprep preview`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from flowprep.config import PreviewSettings
from flowprep_cli.options import settings_from, settings_options


@click.command(short_help="Show frames and flow of a stored video.")
@click.argument("store", type=click.Path(path_type=Path))
@click.argument("video")
@click.option("-o", "--out", type=click.Path(path_type=Path), required=True,
              help="F.png: a sheet with some frames; F.mp4: a film, frame and flow side by side.")  # fmt: skip
@settings_options("preview", PreviewSettings)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object on stdout.")
def preview(store: Path, video: str, out: Path, *, as_json: bool, **values: Any) -> None:
    """Show frames, flow in colours and as arrows, and saturated pixels of the video with the id VIDEO of STORE.

    Colour is direction, paleness shortness: the wheel in the picture is the flow of its points away from its middle.
    Black and white stripes mark pixels with a code of 0 or 255, whose flow may be longer than the bound.
    """
    settings = settings_from("preview", PreviewSettings, values)
    from rich.markup import escape

    from flowprep.preview import preview as write_preview
    from flowprep_cli.progress import printable, stderr_console

    written = write_preview(store, video, out, settings)
    console = stderr_console()
    for note in written.notes:
        console.print(escape(printable(note)))
    first, last = written.frames[0], written.frames[-1]
    frames = f"{len(written.frames)} frames, {first} to {last}" if first != last else f"frame {first}"
    console.print(escape(printable(f"{out}: {frames} of {video}, scale {written.max_px:g} px")))
    if as_json:
        click.echo(json.dumps(written.to_json(), indent=2))

"""`flowprep synth`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from flowprep.config import SynthSettings
from flowprep_cli.options import settings_from, settings_options


@click.command(short_help="Make a labelled set of synthetic videos.")
@click.argument("out", type=click.Path(path_type=Path))
@settings_options("synth", SynthSettings)
def synth(out: Path, **values: Any) -> None:
    """Make a labelled set of real, encoded videos in UCF101 layout, with split lists.

    Only a network that joins appearance and motion in space and time can tell its four classes apart.
    """
    settings = settings_from("synth", SynthSettings, values)
    from rich.markup import escape
    from rich.progress import Progress

    from flowprep.datasets.synthetic import make_synthetic
    from flowprep_cli.progress import size_text, stderr_console

    console = stderr_console()
    with Progress(console=console, disable=not console.is_terminal) as progress:
        task = progress.add_task("videos", total=None)
        summary = make_synthetic(
            out, settings, progress=lambda done, total: progress.update(task, completed=done, total=total)
        )
    console.print(f"{summary.num_videos} videos, {size_text(summary.num_bytes)}, in {escape(str(out))}")

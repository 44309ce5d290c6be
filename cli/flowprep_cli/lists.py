"""`flowprep lists`."""

from __future__ import annotations

import json
from pathlib import Path

import click

from flowprep.config import LIST_STYLES
from flowprep.wording import counted


@click.command(short_help="Write annotation lists of mmaction2 or TSN.")
@click.argument("out", type=click.Path(path_type=Path))
@click.option("-o", "--out", "--output", "folder", type=click.Path(path_type=Path), required=True, metavar="DIR",
              help="Folder of the lists, which is made.")  # fmt: skip
@click.option("--style", type=click.Choice(LIST_STYLES), default=LIST_STYLES[0], show_default=True,
              help="Whose lists.")  # fmt: skip
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object on stdout.")
def lists(out: Path, *, folder: Path, style: str, as_json: bool) -> int:
    """Write a list for each part of each official split of the tree OUT, for training code that reads such lists.

    Videos without data are left out and counted.
    """
    from flowprep.lists import write_lists
    from flowprep_cli.progress import printable, stderr_console

    written = write_lists(out, folder, style)
    if as_json:
        click.echo(json.dumps({"lists": [one.to_json() for one in written]}, indent=2))
    for one in written:
        absent = f", {one.num_absent} without data were left out" if one.num_absent else ""
        empty = "; this list is empty" if not one.num_videos else ""
        text = f"{printable(str(one.path))}: {counted(one.num_videos, 'video')}{absent}{empty}"
        stderr_console().print(text, markup=False)
    return 0

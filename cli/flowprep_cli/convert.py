"""`flowprep convert`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from flowprep.config import RunSettings, StoreSettings
from flowprep_cli.options import settings_from, settings_options


@click.command(short_help="Make a store of another form, without decoding.")
@click.argument("src", type=click.Path(path_type=Path))
@click.argument("out", type=click.Path(path_type=Path))
@settings_options("store", StoreSettings, without=("shard_videos", "rgb", "flow"))
@click.option("--shard-videos", type=int, metavar="N", help="Videos in an HDF5 shard. [default: as in SRC]")
@click.option("--videos", type=click.Path(path_type=Path),
              help="Folder of the videos, for the first image of each, which layout tsn does not have.")  # fmt: skip
@click.option("--quality", type=int, metavar="Q", help="JPEG quality of these where SRC was adopted.")
@settings_options("run", RunSettings, without=("retry", "memory_gib", "stall_seconds", "part", "device"),
                  jobs="Videos that are copied at a time; 0 is one a core.")  # fmt: skip
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object on stdout.")
def convert(src: Path, out: Path, *, shard_videos: int | None, videos: Path | None, quality: int | None,
            as_json: bool, **values: Any) -> int:  # fmt: skip
    """Make the store OUT of all that is in the finished store SRC: shards, or a tree of any layout.

    JPEG bytes are copied and their checksums compared; OUT is what `extract` would have made. Run the same command
    again to resume; what is done is skipped.
    """
    run_settings = settings_from("run", RunSettings, values)

    from flowprep.convert import convert as convert_store
    from flowprep_cli.progress import show_summary, shown_progress

    with shown_progress("convert") as listener:
        summary = convert_store(
            src,
            out,
            format=values["store__format"],
            layout=values["store__layout"],
            shard_videos=shard_videos,
            videos=videos,
            quality=quality,
            run=run_settings,
            listener=listener,
        )
    if as_json:
        click.echo(json.dumps(summary.to_json(), indent=2))
    show_summary(summary)
    return summary.exit_code

"""`fusion-train report`."""

from __future__ import annotations

from pathlib import Path

import click


@click.command(short_help="Write a page about a run.")
@click.argument("run", type=click.Path(path_type=Path))
@click.option("-o", "--out", type=click.Path(path_type=Path), help="The page. [default: RUN/report.html]")
@click.option("--data", type=click.Path(path_type=Path),
              help="The store, for frames and flow. [default: where it was during the run]")  # fmt: skip
def report(run: Path, out: Path | None, data: Path | None) -> None:
    """Write one HTML page about the folder RUN of `fusion-train run`, finished or not.

    Results beside the paper's, learning curves, confusion, gains by class, weights of late fusion, the videos that are
    judged best and worst with frames and flow, settings and provenance. The page is one file and works offline.
    """
    from fusion_train.report import write_report

    written = write_report(run, out or run / "report.html", data=data)
    for note in written.notes:
        click.echo(note, err=True)
    click.echo(written.out)

"""`flowprep doctor`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from flowprep.doctor import Health

_COLOURS = {"ok": "green", "note": "yellow", "problem": "bold red"}


@click.command(short_help="Show what runs on this machine, and what to mend.")
@click.option("--out", type=click.Path(path_type=Path), default=Path(), show_default=True,
              help="Where a store would go: its disk is tried out.")  # fmt: skip
@click.option("--videos", type=click.Path(path_type=Path), help="Folder of the videos.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def doctor(out: Path, videos: Path | None, as_json: bool) -> int:
    """Examine libraries, flow backends, processor, memory and GPU of this machine, and the disk of the output.

    Each line is `ok`, a `note`, or a `problem` with its cure. Exits with 1 if a problem makes `extract` impossible.
    """
    from flowprep.doctor import examine

    health = examine(out, videos)
    if as_json:
        click.echo(json.dumps(health.to_json(), indent=2))
    else:
        _show(health)
    return 0 if health.works else 1


def _show(health: Health) -> None:
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    from flowprep_cli.progress import printable

    rows = []
    for finding in health.findings:
        cure = f". Cure: {finding.cure}" if finding.cure else ""
        rows.append((finding.state, finding.name, printable(f"{finding.text}{cure}")))
    num_problems = sum(finding.state == "problem" for finding in health.findings)
    problems = "no problem" if not num_problems else "1 problem" if num_problems == 1 else f"{num_problems} problems"
    verdict = f"{problems}; extract {'can run here' if health.works else 'cannot run here'}"
    console = Console(highlight=False)
    if not console.is_terminal:
        widths = [max(len(row[k]) for row in rows) for k in (0, 1)]
        for state, name, text in rows:
            print(f"{state:<{widths[0]}}  {name:<{widths[1]}}  {text}")
        print(verdict)
        return
    table = Table(box=None, show_header=False, pad_edge=False)
    for state, name, text in rows:
        table.add_row(f"[{_COLOURS[state]}]{state}[/]", f"[bold]{escape(name)}[/]", escape(text))
    console.print(table)
    console.print(verdict)

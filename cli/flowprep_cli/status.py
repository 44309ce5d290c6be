"""`flowprep status`."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from flowprep.status import Status, TimedVideo

_MAX_WORKERS = 20
_NUM_NAMED = 5


@click.command(short_help="Say how far a run is.")
@click.argument("out", type=click.Path(path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object on stdout.")
def status(out: Path, *, as_json: bool) -> int:
    """Say how far the store OUT is, whether a run is at work on it or not: states, rates, time left, who did what.

    Counted from the journals. A process that was killed may have done a video more than it could write down; what is in
    a finished store is said by `flowprep info`.
    """
    from flowprep.status import status as status_of

    found = status_of(out)
    if as_json:
        click.echo(json.dumps(found.to_json(), indent=2))
    else:
        _show(found)
    return 0


def _show(found: Status) -> None:
    from flowprep_cli.progress import duration_text, printable
    from flowprep_cli.tables import print_columns, print_rows

    num_left = found.states.get("pending", 0)
    at_work = sum(worker.state == "working" for worker in found.workers)
    rate = f"{found.videos_per_second:.2f} videos/s, {found.frames_per_second:.1f} frames/s"
    if at_work and found.eta_seconds is not None:
        rate += f", ETA {duration_text(found.eta_seconds)}"
    print_rows(
        [
            ("store", f"{printable(str(found.out))}: {_state(found, at_work)}"),
            ("videos", f"{found.num_videos}: {_counts(found.states)}"),
            ("reasons", _counts(found.reasons) or "none"),
            ("left", str(num_left)),
            ("rate", rate if at_work else f"{rate} when last at work"),
            ("slowest", _named(found.slowest, lambda video: duration_text(video.seconds))),
            (
                "tried again",
                f"{found.num_retried}: {_named(found.retried, lambda video: f'{video.num_attempts} times')}"
                if found.num_retried
                else "none",
            ),
        ]
    )
    lines = [["process", "part", "state", "videos", "frames", "frames/s", "last sign of life"]]
    for worker in found.workers[-_MAX_WORKERS:]:
        videos = f"{worker.num_videos}/{worker.num_todo}"
        silence = f"{duration_text(worker.silent_seconds)} ago"
        name, rate = f"{printable(worker.host)} {worker.pid}", f"{worker.frames_per_second:.1f}"
        lines.append([name, worker.part or "all", worker.state, videos, str(worker.num_frames), rate, silence])
    print()
    print_columns(lines)
    for worker in found.workers[-_MAX_WORKERS:]:
        if worker.error:
            print(f"{printable(worker.host)} {worker.pid} stopped: {printable(worker.error)}")
    if len(found.workers) > _MAX_WORKERS:
        print(f"and {len(found.workers) - _MAX_WORKERS} earlier ones; --json has all")


def _state(found: Status, at_work: int) -> str:
    if at_work:
        return f"{at_work} {'process is' if at_work == 1 else 'processes are'} at work"
    return "finished" if found.is_finished else "not finished, and nobody is at work"


def _counts(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{count} {name}" for name, count in counts.items())


def _named(videos: Sequence[TimedVideo], what: Callable[[TimedVideo], str]) -> str:
    from flowprep_cli.progress import printable

    return ", ".join(f"{printable(video.id)} ({what(video)})" for video in videos[:_NUM_NAMED]) or "none"

"""`flowprep merge`."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from flowprep.merge import Merged

_MAX_COMMANDS = 10


@click.command(short_help="End a store that was made in parts.")
@click.argument("out", type=click.Path(path_type=Path))
@click.option("--part", metavar="I/N|slurm|slurm/N",
              help="Pack the I-th of N runs of shards, and end nothing: a job of an array.")  # fmt: skip
@click.option("--allow-missing", is_flag=True,
              help="End it although videos have no outcome yet; they are pending in the manifest.")  # fmt: skip
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object on stdout.")
def merge(out: Path, *, part: str | None, allow_missing: bool, as_json: bool) -> int:
    """Pack what is left of the store OUT and write its manifest, splits and checksums.

    If videos have no outcome yet, nothing of that is written; what is missing is said, with the commands that do it.
    """
    from flowprep.merge import merge as merge_store
    from flowprep_cli.progress import show_summary, shown_progress

    with shown_progress() as listener:
        merged = merge_store(out, part=part, allow_missing=allow_missing, listener=listener)
    if as_json:
        click.echo(json.dumps({**merged.to_json(), "commands": _commands(merged)}, indent=2))
    if merged.summary is not None:
        show_summary(merged.summary)
    else:
        _show_unfinished(merged)
    return merged.exit_code


def _commands(merged: Merged) -> list[str]:
    """What would finish the store: a command for each part that nobody is at work on, or one for all."""
    from flowprep_cli.again import adopt_command, extract_command

    if merged.summary is not None or not merged.num_pending:
        return []
    if merged.is_being_adopted:
        return [] if merged.at_work else [adopt_command(merged.out, merged.settings, merged.saved)]
    if not merged.parts:
        return [extract_command(merged.out, merged.settings, merged.saved)] if not merged.at_work else []
    parts = [left.part for left in merged.parts if left.holder is None]
    return [extract_command(merged.out, merged.settings, merged.saved, part) for part in parts]


def _show_unfinished(merged: Merged) -> None:
    from flowprep_cli.progress import stderr_console

    console = stderr_console()

    def say(text: str) -> None:
        console.print(text, markup=False)

    if merged.part is not None:
        say(f"part {merged.part} of the shards of {merged.out} is packed: {merged.num_videos} videos, "
            f"{merged.num_pending} of them without an outcome yet; a merge without --part ends the store")  # fmt: skip
        return
    say(
        f"{merged.num_pending} of {merged.num_videos} videos have no outcome yet, so {merged.out} is not ended; "
        "--allow-missing ends it without them."
    )
    for left in merged.parts:
        who = f"; at work: {left.holder.text()}" if left.holder is not None else "; nobody is at work on it"
        say(f"part {left.part}: {left.num_pending} of {left.num_videos} videos are missing{who}")
    if not merged.parts:
        for holder in merged.at_work:
            say(f"at work: {holder.text()}")
    if commands := _commands(merged):
        say("To finish:")
        for command in commands[:_MAX_COMMANDS]:
            say(f"  {command}")
        if len(commands) > _MAX_COMMANDS:
            say(f"  and so on for {len(commands) - _MAX_COMMANDS} more parts")
        if merged.parts:
            say(f"  {shlex.join(['flowprep', 'merge', str(merged.out)])}")
    if idle := _array_indices(merged):
        num_parts = merged.parts[0].part.partition("/")[2]
        say(f"or as an array whose elements do `--part slurm/{num_parts}`: sbatch --array={idle}")


def _array_indices(merged: Merged) -> str:
    """The parts that nobody is at work on as SLURM writes indices, 3,7-9; nothing for one part."""
    numbers = [int(left.part.partition("/")[0]) for left in merged.parts if left.holder is None]
    runs: list[list[int]] = []
    for number in numbers:
        if runs and number == runs[-1][-1] + 1:
            runs[-1].append(number)
        else:
            runs.append([number])
    return ",".join(f"{run[0]}-{run[-1]}" if len(run) > 1 else str(run[0]) for run in runs) if len(numbers) > 1 else ""

"""`flowprep verify`."""

from __future__ import annotations

import contextlib
import json
import shlex
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from flowprep.config import VerifySettings
from flowprep.errors import FlowprepError, SettingsError
from flowprep.wording import counted
from flowprep_cli.options import settings_from, settings_options

if TYPE_CHECKING:
    from flowprep.verify import Mended, Report


@click.command(short_help="Look for damage in a store, and mend it.")
@click.argument("out", type=click.Path(path_type=Path))
@settings_options("verify", VerifySettings)
@click.option("--videos", type=click.Path(path_type=Path),
              help="Folder of the videos, for --deep; for --repair where it is not that of the run.")  # fmt: skip
@click.option("--repair", is_flag=True,
              help="Make what is broken again, and only that; what it was is kept in .flowprep/aside.")  # fmt: skip
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object on stdout.")
def verify(out: Path, *, videos: Path | None, repair: bool, as_json: bool, **values: Any) -> int:
    """Compare everything in the store OUT with its records, manifest and checksums: files, sizes, checksums, counts.

    A line on stdout for each thing that is wrong: file, what it is, video, stream and index; then the cure. Exit code
    0: nothing is wrong, or all was mended and a second look finds nothing; 4: damage was found, or is left.
    """
    settings = settings_from("verify", VerifySettings, values)
    if videos is not None and not (settings.deep or repair):
        raise SettingsError("--videos is for --deep and --repair; give one of them")
    from flowprep.verify import repair as repair_store
    from flowprep.verify import verify as verify_store
    from flowprep_cli.progress import shown_progress

    if repair:
        with shown_progress() as shown:
            mended = repair_store(out, videos=videos, settings=settings, listener=shown, progress=shown.looked)
        if as_json:
            click.echo(json.dumps(mended.to_json(), indent=2))
        else:
            _show_mended(mended)
        return mended.exit_code
    with shown_progress() as shown:
        report = verify_store(out, videos=videos, settings=settings, progress=shown.looked)
    if as_json:
        click.echo(json.dumps(report.to_json(), indent=2))
    else:
        _show_report(report)
        _show_cures(report)
    return report.exit_code


def _say(text: str) -> None:
    from flowprep_cli.progress import printable

    click.echo(printable(text))


def _show_report(report: Report) -> None:
    """A line a finding, the notes, and what was looked at."""
    from flowprep_cli.progress import duration_text, size_text

    for finding in report.findings:
        _say(str(finding))
    for note in report.notes:
        _say(f"Note: {note}")
    compared = report.compared
    if compared is not None and compared.num_pairs:
        pairs, videos = counted(compared.num_pairs, "pair"), counted(compared.num_videos, "video")
        _say(
            f"Made again from their sources: {pairs} of frames of {videos}, {compared.num_equal} of them with the same "
            f"bytes; the others differ by at most {compared.max_mean_codes:.2f} of 255 codes in the mean."
        )
    states = ", ".join(f"{count} {state}" for state, count in sorted(report.states.items())) or "none"
    kinds = ", ".join(f"{count} {kind}" for kind, count in sorted(Counter(f.kind for f in report.findings).items()))
    found = f"{counted(len(report.findings), 'finding')} ({kinds})" if kinds else "nothing is wrong"
    videos, images = counted(sum(report.states.values()), "video"), counted(report.num_jpegs, "image")
    _say(
        f"{videos} ({states}), {images}, {size_text(report.num_bytes)} "
        f"{'read and decoded' if report.deep else 'read'} in {duration_text(report.seconds)}: {found}."
    )


def _show_cures(report: Report) -> None:
    """What `--repair` would do about the findings, and what it cannot."""
    from flowprep.verify.findings import NOT_BY_US, Remedy

    cures = Counter(finding.remedy for finding in report.findings)
    by_hand = {remedy: cures.pop(remedy) for remedy in NOT_BY_US if remedy in cures}
    if cures:
        command = ["flowprep", "verify", str(report.out), "--repair"]
        if not _knows_videos(report.out) and {Remedy.VIDEO, Remedy.SHARD} & cures.keys():
            command += ["--videos", "DIR"]
        _say(f"To mend {cures.total()} of them: {shlex.join(command)}. With that:")
        for remedy, count in cures.items():
            _say(f"  {remedy.value} ({count})")
    for remedy, count in by_hand.items():
        _say(f"Not to be mended by flowprep ({count}): {remedy.value}.")


def _knows_videos(out: Path) -> bool:
    """Whether the folder that the videos were in is still there."""
    from flowprep.stores.savedlist import read_list

    with contextlib.suppress(FlowprepError, OSError):
        folder = read_list(out).videos
        return folder is not None and folder.is_dir()
    return False


def _show_mended(mended: Mended) -> None:
    if not mended.before.findings:
        _show_report(mended.before)
        return
    for finding in mended.before.findings:
        _say(str(finding))
    for text in (*mended.notes, *mended.unmended):
        _say(f"Note: {text}")
    _say(
        f"{counted(len(mended.before.findings), 'finding')}. {counted(len(mended.redone), 'video')} extracted again; "
        f"{counted(len(mended.aside), 'file or folder', 'files or folders')} moved to .flowprep/aside."
    )
    _say("A second look:")
    _show_report(mended.after)
    if mended.unmended:
        _say("Restore the files that the notes above name, then --repair again.")
    elif mended.after.findings:
        _show_cures(mended.after)

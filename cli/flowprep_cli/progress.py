"""How runs and plans are shown: a live display on a terminal, plain lines elsewhere. All of it on stderr."""

from __future__ import annotations

import contextlib
import sys
import time
from collections import Counter
from collections.abc import Iterator

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table

from flowprep.executors import Done
from flowprep.plan import Plan
from flowprep.run import Listener, Summary

_PLAIN_SECONDS = 10.0
_MAX_NAMED = 10


def stderr_console() -> Console:
    """The console for everything but results."""
    return Console(stderr=True, highlight=False, soft_wrap=True)


@contextlib.contextmanager
def shown_progress() -> Iterator[Listener]:
    """A listener that shows the run on stderr while the context lasts."""
    console = stderr_console()
    if not sys.stderr.isatty():
        yield _PlainProgress(console)
        return
    columns = (
        TextColumn("[bold]{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("videos"),
        TextColumn("{task.fields[rate]}"),
        TextColumn("{task.fields[failed]}"),
        TimeElapsedColumn(),
        TextColumn("ETA"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console) as progress:
        yield _LiveProgress(progress)


class _Tally:
    """Counts that both displays need."""

    def __init__(self) -> None:
        self.start = time.monotonic()
        self.num_total = self.num_done = self.num_frames = self.num_failed = 0

    def add(self, done: Done) -> None:
        """Count one finished video."""
        self.num_done += 1
        self.num_frames += max(done.row.frames, done.row.flows)
        self.num_failed += not done.row.state.stored

    @property
    def rate(self) -> str:
        """Frames a second so far."""
        return f"{self.num_frames / max(time.monotonic() - self.start, 1e-9):.1f} frames/s"

    @property
    def eta(self) -> str:
        """Time left, from the videos so far."""
        left = (self.num_total - self.num_done) * (time.monotonic() - self.start) / max(self.num_done, 1)
        return duration_text(left)

    @property
    def failed(self) -> str:
        """The failures so far, or nothing."""
        return f"{self.num_failed} failed" if self.num_failed else ""


class _PlainProgress:
    """A line every ten seconds, and one for each failure."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._tally = _Tally()
        self._last = time.monotonic()

    def started(self, num_videos: int, num_todo: int) -> None:
        self._tally.num_total = num_todo
        self._console.print(f"{num_videos} videos, {num_todo} to do")

    def finished(self, done: Done) -> None:
        self._tally.add(done)
        _print_failure(self._console, done)
        now = time.monotonic()
        if now - self._last >= _PLAIN_SECONDS or self._tally.num_done == self._tally.num_total:
            self._last = now
            tally = self._tally
            parts = [f"{tally.num_done}/{tally.num_total} videos", tally.rate, f"ETA {tally.eta}", tally.failed]
            self._console.print(", ".join(part for part in parts if part))

    def note(self, text: str) -> None:
        self._console.print(f"Note: {escape(text)}")


class _LiveProgress:
    """A bar with videos, frames a second, failures and the time left."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._tally = _Tally()
        self._task = progress.add_task("extract", total=None, rate="", failed="")

    def started(self, num_videos: int, num_todo: int) -> None:
        self._tally.num_total = num_todo
        self._progress.update(self._task, total=num_todo)
        if num_todo < num_videos:
            self._progress.console.print(f"{num_videos - num_todo} of {num_videos} videos are done already")

    def finished(self, done: Done) -> None:
        self._tally.add(done)
        _print_failure(self._progress.console, done)
        self._progress.update(self._task, advance=1, rate=self._tally.rate, failed=self._tally.failed)

    def note(self, text: str) -> None:
        self._progress.console.print(f"Note: {escape(text)}")


def _print_failure(console: Console, done: Done) -> None:
    row = done.row
    # Missing videos are summed up at the end: a list may name thousands.
    if not row.state.stored and all(reason.code != "missing" for reason in row.reasons):
        reasons = "; ".join(f"{reason.code}: {reason.detail}" for reason in row.reasons)
        console.print(f"{row.state} {escape(printable(row.path))}: {escape(reasons)}")


def show_summary(summary: Summary) -> None:
    """Print how a run ended."""
    console = stderr_console()
    states = ", ".join(f"{count} {state}" for state, count in sorted(summary.states.items()))
    console.print(
        f"{summary.num_videos} videos: {states or 'none'}. "
        f"This run: {summary.num_done_now} videos, {summary.num_frames_now} frames, {summary.num_flows_now} flows "
        f"in {duration_text(summary.seconds)}."
    )
    if summary.reasons:
        table = Table("reason", "videos", box=None)
        for code, count in sorted(summary.reasons.items(), key=lambda item: -item[1]):
            table.add_row(code, str(count))
        console.print(table)
    if summary.missing:
        _print_missing(console, summary)
    num_absent = summary.num_videos - summary.states.get("ok", 0) - summary.states.get("flagged", 0)
    if num_absent:
        manifest = summary.out / "manifest.jsonl"
        console.print(f"{num_absent} videos are not in the store; {escape(str(manifest))} has each one's reason.")
    if summary.num_unlisted:
        console.print(f"{summary.num_unlisted} video files are in no list and were left alone.")
    if summary.num_duplicates:
        console.print(f"{summary.num_duplicates} list lines repeat earlier ones and were dropped.")
    console.print(f"Store: {escape(str(summary.out))}")


def _print_missing(console: Console, summary: Summary) -> None:
    """Missing videos: counted by split, and the classes that miss most. run.json has every class and split."""
    by_split: Counter[str] = Counter()
    for _, split, count in summary.missing:
        by_split[split] += count
    if set(by_split) != {""}:
        splits = ", ".join(f"{split or 'in no split'} {count}" for split, count in sorted(by_split.items()))
        console.print(f"Missing by split: {escape(splits)}.")
    by_class = list(summary.missing_by_class.items())
    if [name for name, _ in by_class] != [""]:
        classes = ", ".join(f"{printable(name)} {count}" for name, count in by_class[:_MAX_NAMED])
        rest = f" and {len(by_class) - _MAX_NAMED} more classes" if len(by_class) > _MAX_NAMED else ""
        console.print(f"Missing by class: {escape(classes)}{rest} (all in run.json).")


def show_plan(plan: Plan) -> None:
    """Print a plan."""
    console = stderr_console()
    flow, has_flow = plan.settings.flow, plan.settings.store.flow
    for note in plan.notes:
        console.print(f"Note: {escape(note)}")
    rows = [
        ("videos", f"{plan.num_videos} in {plan.videos}, {plan.num_missing} missing, {plan.num_unlisted} unlisted"),
        ("to do", f"{plan.num_todo} videos, {size_text(plan.source_bytes)}"),
        ("store", f"{plan.out} ({plan.settings.store.format})"),
        ("flow", f"{' '.join(filter(None, (flow.backend, flow.variant)))}, step {flow.step}" if has_flow else "none"),
        ("sampled", f"{plan.num_sampled} videos"),
        ("frames", f"about {plan.estimated_frames}"),
        ("disk", f"about {size_text(plan.estimated_bytes)}, {size_text(plan.free_bytes)} free"),
        ("time", f"about {duration_text(plan.estimated_seconds)} with {plan.jobs} jobs"),
    ]
    table = Table(box=None, show_header=False)
    for name, text in rows:
        table.add_row(name, escape(text))
    console.print(table)
    if plan.estimated_bytes > plan.free_bytes:
        console.print("[bold]The disk is too small for this store.[/bold]")


def printable(text: str) -> str:
    """A name as it can be shown: bytes that are not UTF-8 and control characters are escaped."""
    return "".join(
        character if character.isprintable() else character.encode("unicode_escape", "backslashreplace").decode("ascii")
        for character in text
    )


def size_text(num_bytes: float) -> str:
    """Bytes with a unit."""
    for unit in ("B", "kB", "MB", "GB"):
        if num_bytes < 1000:
            return f"{num_bytes:.0f} {unit}" if unit == "B" else f"{num_bytes:.1f} {unit}"
        num_bytes /= 1000
    return f"{num_bytes:.1f} TB"


def duration_text(seconds: float) -> str:
    """Seconds as people say them."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes = round(seconds / 60)
    if minutes < 60:
        return f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min" if hours < 48 else f"{hours / 24:.1f} days"

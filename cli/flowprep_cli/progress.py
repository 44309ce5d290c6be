"""How runs and plans are shown: a live display on a terminal, plain lines elsewhere. All of it on stderr."""

from __future__ import annotations

import contextlib
import json
import sys
import threading
import time
from collections import Counter, deque
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import click
from rich.console import Console
from rich.markup import escape
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    TextColumn,
    TimeElapsedColumn,
)
from rich.table import Column, Table

from flowprep.records import RETRIED_BY_DEFAULT
from flowprep.wording import counted

if TYPE_CHECKING:  # libraries that may be broken, where `doctor` must run all the same
    from flowprep.listener import Listener, Start
    from flowprep.plan import Plan
    from flowprep.records import Row
    from flowprep.stores.savedlist import SavedList
    from flowprep.summary import Summary
    from flowprep.supervisor import Done

    class Shown(Listener, Protocol):
        """Shows a run, and a look at a store."""

        def looked(self, num_done: int, num_videos: int) -> None:
            """So many videos of a store have been looked at."""


_PLAIN_SECONDS = 10.0
_MAX_PLAIN_SECONDS = 300.0
_RATE_SECONDS = 60.0
_MAX_NAMED = 10
_FULL_WIDTH, _MEDIUM_WIDTH = 100, 80
"""Characters that a terminal needs for everything, and for all but the bar."""
_MAX_WORK = 18  # characters of what is done where a terminal has room for all but the bar


def stderr_console() -> Console:
    """The console for everything but results."""
    return Console(stderr=True, highlight=False, soft_wrap=True)


@contextlib.contextmanager
def shown_progress(work: str = "extract") -> Iterator[Shown]:
    """A listener that shows the run, or the look, on stderr while the context lasts. `work` is done to videos."""
    console = stderr_console()
    if not sys.stderr.isatty():
        yield _PlainProgress(console)
        return
    with Progress(*_columns(console.width), console=console) as progress:
        yield _LiveProgress(progress, work)


def _columns(width: int) -> Iterator[ProgressColumn]:
    """What a terminal of so many characters has room for. Count, elapsed time and time left always are whole."""

    def whole(text: str) -> TextColumn:
        return TextColumn(text, table_column=Column(no_wrap=True))

    if width >= _MEDIUM_WIDTH:
        longest = None if width >= _FULL_WIDTH else _MAX_WORK
        yield TextColumn("[bold]{task.description}", table_column=Column(no_wrap=True, max_width=longest))
    if width >= _FULL_WIDTH:
        yield BarColumn()
    yield MofNCompleteColumn(table_column=Column(no_wrap=True))
    if width >= _FULL_WIDTH:
        yield whole("videos")
    if width >= _MEDIUM_WIDTH:
        yield whole("{task.fields[rate]}")
        yield whole("{task.fields[failed]}")
    yield TimeElapsedColumn(table_column=Column(no_wrap=True))
    yield whole("{task.fields[eta]}")


class _Tally:
    """Counts that both displays need. Frames count as they get done, videos when they have ended."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._start = time.monotonic()
        self._bytes_todo = 0
        self._bytes = self._frames = 0
        self._seen: deque[tuple[float, int]] = deque([(self._start, 0)])
        self.num_todo = self.num_done = self.num_failed = 0

    def begin(self, start: Start) -> None:
        """Take the time from here."""
        self.num_todo, self._bytes_todo = start.num_todo, start.num_bytes
        self._start = time.monotonic()
        self._seen = deque([(self._start, 0)])

    def progress(self, num_frames: int) -> None:
        """Count frames; called from any thread."""
        with self._lock:
            self._frames += num_frames

    def add(self, done: Done) -> None:
        """Count one finished video."""
        with self._lock:
            self.num_done += 1
            self.num_failed += not done.row.state.stored
            self._bytes += done.row.source_bytes

    @property
    def seconds(self) -> float:
        """Time since the beginning."""
        return time.monotonic() - self._start

    @property
    def rate(self) -> str:
        """Frames a second in the last minute; the flow of a frame is done with it."""
        with self._lock:
            now = time.monotonic()
            if now - self._seen[-1][0] >= 1:
                self._seen.append((now, self._frames))
            while len(self._seen) > 1 and now - self._seen[1][0] >= _RATE_SECONDS:
                self._seen.popleft()
            since, frames = self._seen[0]
            return f"{(self._frames - frames) / max(now - since, 1e-3):.1f} frames/s"

    @property
    def eta(self) -> str:
        """Time left, by the size of the files that are done; nothing before the first one is."""
        total, done = (self._bytes_todo, self._bytes) if self._bytes else (self.num_todo, self.num_done)
        if not done:
            return ""
        return f"ETA {duration_text(max(total - done, 0) * self.seconds / done)}"

    @property
    def failed(self) -> str:
        """The failures so far, or nothing."""
        return f"{self.num_failed} failed" if self.num_failed else ""


class _PlainProgress:
    """A line every ten seconds, less often in a long run, and one for each failure."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._tally = _Tally()
        self._lock = threading.Lock()
        self._last_seconds = 0.0

    def started(self, start: Start) -> None:
        self._tally.begin(start)
        self._console.print(_start_text(start))

    def progress(self, num_frames: int) -> None:
        self._tally.progress(num_frames)
        self._show()

    def finished(self, done: Done) -> None:
        self._tally.add(done)
        _print_failure(self._console, done)
        self._show(last=self._tally.num_done == self._tally.num_todo)

    def note(self, text: str) -> None:
        self._console.print(f"Note: {escape(text)}")

    def looked(self, num_done: int, num_videos: int) -> None:
        """Say nothing: what comes of it is printed at its end."""

    def _show(self, *, last: bool = False) -> None:
        tally, seconds = self._tally, self._tally.seconds
        interval = min(max(_PLAIN_SECONDS, seconds / 60), _MAX_PLAIN_SECONDS)
        with self._lock:
            if not last and seconds - self._last_seconds < interval:
                return
            self._last_seconds = seconds
        parts = [f"{tally.num_done}/{counted(tally.num_todo, 'video')}", tally.rate, tally.eta, tally.failed]
        self._console.print(", ".join(part for part in parts if part))


class _LiveProgress:
    """A bar with videos, frames a second, failures and the time left."""

    def __init__(self, progress: Progress, work: str) -> None:
        self._progress, self._work = progress, work
        self._tally = _Tally()
        self._task = progress.add_task("listing", total=None, rate="", failed="", eta="")

    def started(self, start: Start) -> None:
        self._tally.begin(start)
        part = f" part {start.part}" if start.part else ""
        self._progress.update(self._task, total=start.num_todo, completed=0, description=f"{self._work}{part}")
        self._progress.console.print(_start_text(start))

    def progress(self, num_frames: int) -> None:
        self._tally.progress(num_frames)
        self._show()

    def finished(self, done: Done) -> None:
        self._tally.add(done)
        _print_failure(self._progress.console, done)
        self._show()

    def note(self, text: str) -> None:
        self._progress.console.print(f"Note: {escape(text)}")

    def looked(self, num_done: int, num_videos: int) -> None:
        self._progress.update(
            self._task, total=num_videos, completed=num_done, description="verify", rate="", failed="", eta=""
        )

    def _show(self) -> None:
        tally = self._tally
        self._progress.update(self._task, completed=tally.num_done, rate=tally.rate, failed=tally.failed, eta=tally.eta)


def _start_text(start: Start) -> str:
    part = f"part {start.part}: " if start.part else ""
    size = f", {size_text(start.num_bytes)}" if start.num_bytes else ""
    classes = f" of {counted(start.num_classes, 'class', 'classes')}" if start.num_classes else ""
    return f"{part}{counted(start.num_videos, 'video')}{classes}, {start.num_todo} to do{size}"


def _print_failure(console: Console, done: Done) -> None:
    # Missing videos are summed up at the end: a list may name thousands.
    if not done.row.state.stored and all(reason.code != "missing" for reason in done.row.reasons):
        _print_row(console, done.row)


def _print_row(console: Console, row: Row) -> None:
    """A line about a video that is not stored."""
    reasons = "; ".join(f"{reason.code}: {reason.detail}" for reason in row.reasons)
    console.print(f"{row.state} {escape(printable(row.path))}: {escape(reasons)}")


def show_summary(summary: Summary, *, has_retry: bool = False) -> None:
    """Print how a run ended; `has_retry` says that the command has an option --retry."""
    console = stderr_console()
    states = ", ".join(f"{count} {state}" for state, count in sorted(summary.states.items()))
    console.print(
        f"{f'Part {summary.part}: ' if summary.part else ''}{counted(summary.num_videos, 'video')}: "
        f"{states or 'none'}. This run: {counted(summary.num_done_now, 'video')}, "
        f"{counted(summary.num_frames_now, 'frame')}, {counted(summary.num_flows_now, 'flow')} "
        f"in {duration_text(summary.seconds)}."
    )
    if summary.reasons_by_state:
        table = Table("state", "reason", "videos", box=None)
        for state, reasons in summary.reasons_by_state.items():
            for code, count in sorted(reasons.items(), key=lambda item: -item[1]):
                table.add_row(state, code, str(count))
        console.print(table)
    if summary.missing:
        _print_missing(console, summary)
    if summary.interrupted or summary.part:
        _print_what_is_left(console, summary)
        return
    num_absent = summary.num_videos - summary.states.get("ok", 0) - summary.states.get("flagged", 0)
    if num_absent:
        _print_failures(console, summary, num_absent, has_retry=has_retry)
    if summary.num_unlisted:
        files = counted(summary.num_unlisted, "video file")
        console.print(f"{files} {_are(summary.num_unlisted)} in no list and left alone.")
    if summary.num_duplicates:
        dropped = f"repeat{'s' if summary.num_duplicates == 1 else ''} an earlier one, and was dropped"
        console.print(f"{counted(summary.num_duplicates, 'list line')}: each {dropped}.")
    console.print(f"Store: {escape(str(summary.out))}")


def _print_failures(console: Console, summary: Summary, num_absent: int, *, has_retry: bool) -> None:
    """The first videos that are not stored, and how they are tried again. Missing ones are summed up apart."""
    for row in summary.failed[:_MAX_NAMED]:
        _print_row(console, row)
    if len(summary.failed) > _MAX_NAMED:
        console.print(f"and {len(summary.failed) - _MAX_NAMED} more")
    manifest = escape(str(summary.out / "manifest.jsonl"))
    console.print(
        f"{counted(num_absent, 'video')} {_are(num_absent)} not in the store; {manifest} has each one's reason."
    )
    if has_retry and summary.failed:
        heal = sum(all(reason.code in RETRIED_BY_DEFAULT for reason in row.reasons) for row in summary.failed)
        by_itself = f" (a plain run {heal} of them)" if heal else ""
        console.print(f"The same command with --retry all tries these again{by_itself}.")


def _are(number: int) -> str:
    return "is" if number == 1 else "are"


def _print_what_is_left(console: Console, summary: Summary) -> None:
    """What a run that has not ended the list leaves to do."""
    if summary.interrupted:
        num_left = summary.states.get("pending", 0)
        left = f"{counted(num_left, 'video')} {_are(num_left)} left"
        console.print(f"Stopped, {left}. What was finished is kept; run the same again to resume.")
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


def show_list(saved: SavedList, out: Path, *, as_json: bool) -> None:
    """Say what the list of a store has, on stderr, or as JSON on stdout."""
    videos = saved.listing.videos
    num_failing, num_bytes = sum(video.problem is not None for video in videos), sum(saved.num_bytes or ())
    if as_json:
        data = {"out": str(out), "num_videos": len(videos), "num_failing": num_failing, "num_bytes": num_bytes}
        click.echo(json.dumps(data, indent=2))
        return
    stderr_console().print(
        f"{counted(len(videos), 'video')}, {size_text(num_bytes)}, {num_failing} of them missing or failing by the "
        f"list; recorded in {escape(str(out))}"
    )


def show_plan(plan: Plan) -> None:
    """Print a plan."""
    console = stderr_console()
    flow, has_flow = plan.settings.flow, plan.settings.store.flow
    for note in plan.notes:
        console.print(f"Note: {escape(note)}")
    rows = [
        ("videos", f"{plan.num_videos} in {plan.videos}, {plan.num_missing} missing, {plan.num_unlisted} unlisted"),
        ("classes", str(plan.num_classes)),
        ("to do", f"{counted(plan.num_todo, 'video')}, {size_text(plan.source_bytes)}"),
        ("store", f"{plan.out} ({plan.settings.store.format})"),
        ("flow", f"{' '.join(filter(None, (flow.backend, flow.variant)))}, step {flow.step}" if has_flow else "none"),
        ("sampled", counted(plan.num_sampled, "video")),
        ("frames", f"about {plan.estimated_frames}"),
        ("disk", f"about {size_text(plan.estimated_bytes)}, {size_text(plan.free_bytes)} free"),
        ("time", f"about {duration_text(plan.estimated_seconds)} with {counted(plan.jobs, 'job')}"),
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

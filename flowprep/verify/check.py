"""`verify`: everything in a store is read once and compared with all that is known of it; nothing is changed."""

from __future__ import annotations

import concurrent.futures
import dataclasses
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from flowprep import driver, journal, machine
from flowprep.config import VerifySettings
from flowprep.errors import MissingDataError, SettingsError
from flowprep.records import State
from flowprep.stores.places import shard_location
from flowprep.verify.evidence import BOOKS, Evidence, gather
from flowprep.verify.files import UNTRUSTED
from flowprep.verify.findings import Compared, Finding, Remedy, Report
from flowprep.verify.looked import Looked
from flowprep.verify.recompute import recompute
from flowprep.verify.shard import check_shard
from flowprep.verify.strays import find_strays
from flowprep.verify.top import check_top, is_behind
from flowprep.verify.tree import check_video

Progress = Callable[[int, int], None]
"""Is told how many videos have been looked at, of how many."""


def verify(
    out: Path | str,
    *,
    videos: Path | str | None = None,
    settings: VerifySettings | None = None,
    progress: Progress = lambda _done, _all: None,
) -> Report:
    """Compare everything in a store with its records, manifest and checksums. Changes nothing.

    With `settings.deep` every JPEG is decoded too, and with `videos`, the folder of the sources, flow and images of
    some pairs of frames are computed again. A store whose run has not ended is looked at as far as it is.

    Raises MissingDataError where there is no such store, or no folder `videos`, SettingsError for `videos` without
    `settings.deep`.
    """
    settings = settings or VerifySettings()
    if videos is not None and not settings.deep:
        raise SettingsError("`videos` are for `deep`, which computes flow from them again")
    if videos is not None and not Path(videos).is_dir():
        raise MissingDataError(f"there is no folder {videos}; give the one that the videos are in")
    return look(Path(out), None if videos is None else Path(videos), settings, progress)[1]


def look(
    out: Path, videos: Path | None, settings: VerifySettings, progress: Progress
) -> tuple[Evidence | None, Report]:
    """What is known of a store, and what a look at it finds, see `verify`."""
    started = time.perf_counter()
    findings: list[Finding] = []
    evidence = gather(out, findings)
    looked, notes, compared = Looked(), list[str](), None
    if evidence is not None:
        for each in _looks(evidence, settings):
            looked.add(each)
            progress(looked.states.total(), len(evidence.listing.videos))
        findings += looked.findings
        if evidence.finished:
            findings += check_top(evidence, looked)
        findings += find_strays(evidence, looked.folders)
        notes += _notes(evidence, looked)
        if settings.deep and videos is not None:
            compared = _recompute(evidence, videos, settings, findings, notes)
    why = "what it was made from is lost" if evidence is None else evidence.why_unprovable
    if why:
        notes.append(f"nothing of it can be mended: {why}")
        findings = [dataclasses.replace(finding, remedy=Remedy.NONE) for finding in findings]
    elif evidence is not None and evidence.is_adopted:
        findings = [_by_adopting(finding) for finding in findings]
    return evidence, Report(
        out=out,
        finished=evidence is not None and evidence.finished,
        findings=tuple(findings),
        notes=tuple(notes),
        states=dict(looked.states),
        num_jpegs=looked.num_jpegs,
        num_bytes=looked.num_bytes,
        deep=settings.deep,
        compared=compared,
        seconds=round(time.perf_counter() - started, 3),
    )


def _by_adopting(finding: Finding) -> Finding:
    """A finding about images of another tool, which only that tool can make again."""
    needs_source = finding.remedy in (Remedy.VIDEO, Remedy.SHARD)
    return dataclasses.replace(finding, remedy=Remedy.ADOPT) if needs_source else finding


def _looks(evidence: Evidence, settings: VerifySettings) -> Iterator[Looked]:
    """What came of a look at each video of a tree, or at each shard, in the order of the list."""

    def look_at(item: int) -> Looked:
        try:
            return (check_video if evidence.is_tree else check_shard)(evidence, item, deep=settings.deep)
        except UNTRUSTED as error:  # what changes while it is read, or what no check has thought of
            place = evidence.listing.videos[item].id if evidence.is_tree else shard_location(item)
            text = f"cannot be looked at: {type(error).__name__}: {error}"
            remedy = Remedy.VIDEO if evidence.is_tree else Remedy.SHARD
            return Looked(findings=[Finding(kind="unreadable", path=place, text=text, remedy=remedy, place=item)])

    jobs = settings.jobs or machine.num_cores()
    items = range(len(evidence.listing.videos) if evidence.is_tree else evidence.num_shards)
    with concurrent.futures.ThreadPoolExecutor(jobs) as threads:
        try:
            yield from _in_order(threads, look_at, items, 4 * jobs)
        except BaseException:  # Ctrl-C: what has not begun is not waited for
            threads.shutdown(wait=False, cancel_futures=True)
            raise


def _in_order(
    threads: concurrent.futures.Executor, work: Callable[[int], Looked], items: Iterable[int], num_ahead: int
) -> Iterator[Looked]:
    """Results in order, with at most `num_ahead` of them waiting: a list may be long."""
    waiting: deque[concurrent.futures.Future[Looked]] = deque()
    for item in items:
        waiting.append(threads.submit(work, item))
        if len(waiting) >= num_ahead:
            yield waiting.popleft().result()
    for future in waiting:
        yield future.result()


def _recompute(
    evidence: Evidence, videos: Path, settings: VerifySettings, findings: list[Finding], notes: list[str]
) -> Compared:
    """Compute pairs of those videos again in which nothing else is wrong."""
    damaged = {finding.video for finding in findings} | {finding.path for finding in findings}
    comparison = recompute(evidence, videos, settings.num_pairs, damaged)
    findings += comparison.findings
    notes += comparison.notes
    return comparison.compared


def _notes(evidence: Evidence, looked: Looked) -> Iterator[str]:
    """What is not damage."""
    num_videos, num_pending = looked.states.total(), looked.states[str(State.PENDING)]
    if not evidence.finished:
        yield f"its run has not ended: {num_videos - num_pending} of {num_videos} videos are done"
    elif is_behind(evidence, looked):
        yield "videos have changed since its manifest was written; `flowprep extract` or `merge` writes it anew"
    elif num_pending:
        yield f"{num_pending} listed videos have no outcome; `flowprep extract` does them"
    if not evidence.has_books:
        yield "it has no .flowprep and cannot be resumed; it was compared with its manifest alone"
        return
    files = evidence.files
    drivers = f"{BOOKS}/drivers"
    if files.problem(drivers, folder=True) is None and any(files.path(drivers).iterdir()):
        for holder in driver.holders(evidence.out):
            if holder.beats:
                yield f"at work on it: {holder.text()}; what changes meanwhile may be taken for damage"
    if files.problem(f"{BOOKS}/journal", folder=True) is None:
        for path in journal.journals(evidence.out):
            if num_torn := _num_torn_lines(path):
                yield f"{path.name}: {num_torn} torn or damaged lines; nothing depends on a journal"


def _num_torn_lines(path: Path) -> int:
    try:
        if path.is_symlink() or not path.is_file():
            return 1
        with path.open("rb") as file:
            num_lines = sum(1 for _ in file)
        return num_lines - sum(1 for _ in journal.read_journal(path))
    except UNTRUSTED:
        return 1

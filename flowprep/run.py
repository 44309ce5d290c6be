"""Many videos: list, skip what is done, extract the rest, pack, write the manifest, sum up.

The truth is what is on disk. A run asks the store which videos are final, does the others in any order, and writes
manifest and splits from the rows on disk at its end; hence an interrupted run that is started again gives the same
bytes as one that was not.
"""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from flowprep import commit, executors, journal, machine, overwrite, resume, source
from flowprep.config import ExtractSettings, FlowSettings, RunSettings
from flowprep.datasets import list_videos, missing_by_class_and_split
from flowprep.errors import SettingsError, StoreError
from flowprep.executors import Done, Task, Work
from flowprep.flow import resolve
from flowprep.pipeline import open_backend
from flowprep.publisher import Publisher, open_publisher
from flowprep.records import RETRIED_BY_DEFAULT, Listing, Row, State, Video, canonical_json
from flowprep.stores.finish import finish
from flowprep.stores.layouts import check_listing
from flowprep.stores.pack import pack_ready, pack_shard
from flowprep.stores.rowfile import Entry
from flowprep.stores.savedlist import SavedList

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What is asked for: where the videos are, where the store goes, and all settings."""

    videos: Path
    out: Path
    splits: Path | None = None
    settings: ExtractSettings = field(default_factory=ExtractSettings)
    run: RunSettings = field(default_factory=RunSettings)
    skip_bad_lines: bool = False
    overwrite: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """How a run ended. `states` and `reasons` count videos of the whole list, not of this run alone.

    `missing` counts missing videos by (class, split and part), one video once for each split that it is in; `failed`
    names the other ones that are not stored. `builds` counts the videos that each build of the flow backend has
    computed (`FlowBackend.build`), in this run and those before it, by the journals.
    """

    out: Path
    num_videos: int
    num_done_now: int
    num_frames_now: int
    num_flows_now: int
    seconds: float
    states: Mapping[str, int]
    reasons: Mapping[str, int]
    failed: tuple[Row, ...]
    missing: tuple[tuple[str, str, int], ...] = ()
    missing_by_class: Mapping[str, int] = field(default_factory=dict)
    num_unlisted: int = 0
    num_duplicates: int = 0
    builds: Mapping[str, int] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    exit_code: int = 0

    def to_json(self) -> dict[str, Any]:
        """A JSON object; the rows of failed videos as id, path and reasons."""
        data = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
        data["out"] = str(self.out)
        data["failed"] = [
            {"id": row.id, "path": row.path, "reasons": [dataclasses.asdict(reason) for reason in row.reasons]}
            for row in self.failed
        ]
        return data


class Listener(Protocol):
    """Hears how a run goes on."""

    def started(self, num_videos: int, num_todo: int) -> None:
        """The list is known and `num_todo` videos are to be done."""

    def finished(self, done: Done) -> None:
        """One video has ended, well or not."""

    def note(self, text: str) -> None:
        """A sentence for the user."""


class _Quiet:
    def started(self, num_videos: int, num_todo: int) -> None: ...

    def finished(self, done: Done) -> None: ...

    def note(self, text: str) -> None:
        _log.info(text)


@dataclass(slots=True)
class Prepared:
    """A request with everything resolved that must be known before work begins."""

    settings: ExtractSettings
    listing: Listing
    notes: list[str] = field(default_factory=list)


def extract(
    dataset: str = "folder",
    *,
    videos: Path | str,
    out: Path | str,
    splits: Path | str | None = None,
    settings: ExtractSettings | None = None,
    run: RunSettings | None = None,
    overwrite: bool = False,
    listener: Listener | None = None,
) -> Summary:
    """Extract a dataset into the store `out`, as `flowprep extract` does; run again to resume.

    `dataset` is a name of `flowprep.datasets.NAMES`. Videos that fail are counted in the summary and cost the others
    nothing. Raises SettingsError, DatasetError, MissingDataError or BackendUnavailableError before any work, and
    RunStoppedError where the run cannot go on.
    """
    settings = dataclasses.replace(settings or ExtractSettings(), dataset=dataset)
    request = Request(
        videos=Path(videos),
        out=Path(out),
        splits=None if splits is None else Path(splits),
        settings=settings,
        run=run or RunSettings(),
        overwrite=overwrite,
    )
    return execute(request, listener)


def prepare(request: Request) -> Prepared:
    """List the dataset and resolve the backend; every error of use shows here, before any work."""
    settings = resolved(request.settings)
    listing = list_videos(
        settings.dataset, request.videos, splits=request.splits, skip_bad_lines=request.skip_bad_lines
    )
    check_listing(settings, listing.videos)
    _check_places(request)
    return Prepared(settings=settings, listing=listing, notes=list(listing.notes))


def resolved(settings: ExtractSettings) -> ExtractSettings:
    """The settings with backend, variant and all parameters named."""
    if not settings.store.flow:
        return dataclasses.replace(settings, flow=FlowSettings())
    name, variant = resolve(settings.flow.backend, settings.flow.variant)
    settings = dataclasses.replace(settings, flow=dataclasses.replace(settings.flow, backend=name, variant=variant))
    backend = open_backend(settings)
    assert backend is not None, "the settings store flow"
    with backend:
        parameters = backend.parameters
    return dataclasses.replace(settings, flow=dataclasses.replace(settings.flow, parameters=parameters))


def _check_places(request: Request) -> None:
    """Refuse a store in the folder of the videos, and one that would contain them or their lists."""
    out, videos = request.out.resolve(), request.videos.resolve()
    if out == videos or videos in out.parents:
        raise SettingsError(
            f"the store {request.out} lies in the folder of the videos {request.videos}; give another --out"
        )
    for given in (request.videos, request.splits):
        if given is not None and out in (given.resolve(), *given.resolve().parents):
            raise SettingsError(f"the store {request.out} would contain {given}; give another --out")
    if request.overwrite:
        overwrite.check(request.out)


def execute(request: Request, listener: Listener | None = None) -> Summary:
    """Do a request, see `extract`."""
    heard = listener or _Quiet()
    started = time.perf_counter()
    prepared = prepare(request)
    videos = prepared.listing.videos
    for note in prepared.notes:
        heard.note(note)
    overwrite.recover(request.out)
    out = overwrite.begin(request.out) if request.overwrite else request.out
    publisher = _begin(out, request, prepared)
    commit.remove_leftovers(out)
    todo = to_do(request, publisher, prepared.listing)
    if todo:
        _warm_up(prepared.settings)
    heard.started(len(videos), len(todo))
    work = Work(
        videos=request.videos,
        out=out,
        settings_json=canonical_json(prepared.settings.to_json()),
        durability=request.run.durability,
    )
    tally = Counter[str]()
    with journal.Journal(out / ".flowprep" / "journal") as record:
        jobs = num_jobs(request, len(todo))
        record.append("start", versions=journal.versions(), run=request.run.to_json(), jobs=jobs, num_todo=len(todo))
        packer = _Packer(work, prepared.settings, videos, todo)
        tasks = (Task(list_index=index, video=videos[index]) for index in todo)
        for done in executors.run_tasks(work, tasks, jobs):
            tally.update(videos=1, frames=done.row.frames, flows=done.row.flows)
            record.append(
                "video",
                id=done.row.id,
                state=str(done.row.state),
                seconds=round(done.seconds, 4),
                attempts=done.num_attempts,
                worker=done.worker,
                build=done.build,
            )
            packer.finished(done.list_index)
            heard.finished(done)
        packer.pack_rest()
        counts = _Counts()
        finish(out, prepared.settings, prepared.listing, counts.passing(videos, _rows(publisher, videos)))
        seconds = round(time.perf_counter() - started, 3)
        record.append("end", seconds=seconds, states=counts.states)
    builds = _builds(out / ".flowprep" / "journal")
    mixture = _mixture(builds)
    for note in mixture:
        heard.note(note)
    missing = dataclasses.replace(prepared.listing, videos=tuple(counts.missing))
    summary = Summary(
        out=request.out,
        num_videos=len(videos),
        num_done_now=tally["videos"],
        num_frames_now=tally["frames"],
        num_flows_now=tally["flows"],
        seconds=seconds,
        states=dict(counts.states),
        reasons=dict(counts.reasons),
        failed=tuple(counts.failed),
        missing=tuple(missing_by_class_and_split(missing)),
        missing_by_class=dict(Counter(video.class_name for video in counts.missing).most_common()),
        num_unlisted=len(prepared.listing.unlisted),
        num_duplicates=prepared.listing.num_duplicates,
        builds=dict(sorted(builds.items())),
        notes=(*prepared.notes, *mixture),
        exit_code=_exit_code(counts.states, strict=request.run.strict),
    )
    commit.write_json(out / "run.json", {"versions": journal.versions(), **summary.to_json()})
    if request.overwrite:
        overwrite.swap_in(request.out)
    return summary


def _builds(folder: Path) -> Counter[str]:
    """Videos by the build that computed their flow, as the journals of this store's runs say."""
    build_of: dict[str, str] = {}
    with contextlib.suppress(OSError):
        for path in sorted(folder.glob("*.jsonl")):  # by the time at which they were begun
            for event in journal.read_journal(path):
                if event["event"] == "video":
                    build_of[event["id"]] = event.get("build", "")
    return Counter(build for build in build_of.values() if build)


def _mixture(builds: Mapping[str, int]) -> list[str]:
    """A note where unlike machines or versions have made one store."""
    if len(builds) < 2:
        return []
    return [f"flow was computed by {len(builds)} builds: {', '.join(sorted(builds))}; see docs/tvl1.md on their bits"]


def _warm_up(settings: ExtractSettings) -> None:
    """Let the backend compile here what it must, so that workers find it on the disk instead of doing it each."""
    backend = open_backend(settings)
    if backend is not None:
        with backend:
            backend.warm_up()


def _begin(out: Path, request: Request, prepared: Prepared) -> Publisher:
    """Start the store `out`, or check that it may be continued."""
    try:
        resume.check(out, prepared.settings, prepared.listing)
    except (SettingsError, StoreError):
        if not request.overwrite:
            raise
        commit.remove_tree(out)  # what an interrupted --overwrite with other settings has built
        overwrite.begin(request.out)
    publisher = open_publisher(out, prepared.settings, durability=request.run.durability)
    saved = SavedList(
        listing=prepared.listing,
        videos=request.videos.absolute(),
        splits=None if request.splits is None else request.splits.absolute(),
        skip_bad_lines=request.skip_bad_lines,
    )
    resume.begin(out, prepared.settings, saved)
    return publisher


def num_jobs(request: Request, num_todo: int) -> int:
    """Processes that a run uses."""
    return min(request.run.jobs or machine.num_cores(), max(num_todo, 1))


def _rows(publisher: Publisher, videos: Sequence[Video]) -> Iterator[Row]:
    for index, video in enumerate(videos):
        yield publisher.read_row(video, index) or Row.unstored(video, State.PENDING)


def to_do(request: Request, publisher: Publisher, listing: Listing) -> list[int]:
    """List indices of the videos that are to be done: new, changed, or failed in a way that is tried again."""
    return [
        index
        for index, video in enumerate(listing.videos)
        # What fails by the list alone is no work; its path may be a forbidden one, and is never looked at.
        if video.problem is None and _is_to_do(publisher.read_entry(video, index), request, video)
    ]


def _is_to_do(entry: Entry | None, request: Request, video: Video) -> bool:
    if entry is None or entry.row.state is State.PENDING:
        return True
    if not entry.row.state.stored:
        codes = {reason.code for reason in entry.row.reasons}
        if request.run.retry == "all" or codes & RETRIED_BY_DEFAULT:
            return True
    return _is_changed(entry, request.videos / video.path)


def _is_changed(entry: Entry, path: Path) -> bool:
    """True if the source is not the file that the outcome came from; one that is gone changes nothing.

    Another modification time alone proves nothing (files are copied and touched), so then the content decides.
    """
    try:
        version = source.fingerprint_of(path.stat())
        if version.num_bytes != entry.row.source_bytes:
            return True
        if version.mtime_ns == entry.source_mtime_ns:
            return False
        return source.sha256_of(path, version) != entry.row.source_sha256
    except (OSError, ValueError):  # VideoError is a ValueError
        return False


class _Packer:
    """Packs each shard as soon as the last of its videos is final; does nothing for trees."""

    def __init__(self, work: Work, settings: ExtractSettings, videos: Sequence[Video], todo: Sequence[int]) -> None:
        self._out, self._durability, self._settings, self._videos = work.out, work.durability, settings, videos
        self._size = settings.store.shard_videos
        self._waiting = Counter(index // self._size for index in todo)

    def finished(self, list_index: int) -> None:
        """A video of the list is final."""
        shard = list_index // self._size
        self._waiting[shard] -= 1
        if self._waiting[shard] == 0:
            self._pack(shard)

    def pack_rest(self) -> None:
        """Pack what an earlier run left complete but unpacked."""
        for shard in range(-(-len(self._videos) // self._size)):
            self._pack(shard)

    def _pack(self, shard: int) -> None:
        if self._settings.store.format == "hdf5" and pack_ready(self._out, self._settings, self._videos, shard):
            pack_shard(self._out, self._settings, self._videos, shard, durability=self._durability)


class _Counts:
    """Counts states and reasons of rows that pass by, so that 10^6 rows are never held at once."""

    def __init__(self) -> None:
        self.states: Counter[str] = Counter()
        self.reasons: Counter[str] = Counter()
        self.failed: list[Row] = []
        self.missing: list[Video] = []

    def passing(self, videos: Sequence[Video], rows: Iterator[Row]) -> Iterator[Row]:
        """The same rows, counted. Failures are kept one by one, but for those that the list alone decides."""
        for video, row in zip(videos, rows, strict=True):
            self.states[str(row.state)] += 1
            codes = [reason.code for reason in row.reasons]
            self.reasons.update(codes)
            if codes == ["missing"]:
                self.missing.append(video)
            elif not row.state.stored and video.problem is None:
                self.failed.append(row)
            yield row


def _exit_code(states: Mapping[str, int], *, strict: bool) -> int:
    bad = [State.FAILED, State.QUARANTINED, State.PENDING, *([State.FLAGGED] if strict else [])]
    return 1 if any(states.get(str(state)) for state in bad) else 0

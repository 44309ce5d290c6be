"""Many videos: list, skip what is done, extract the rest, pack, write the manifest, sum up.

The truth is what is on disk. A run asks the store which videos are final, does the others in any order, and writes
manifest and splits from the rows on disk at its end; hence an interrupted run that is started again gives the same
bytes as one that was not.
"""

from __future__ import annotations

import contextlib
import dataclasses
import threading
import time
from collections.abc import Callable, Iterator, Sequence, Set
from pathlib import Path
from typing import final

from flowprep import commit, driver, executors, journal, overwrite, resume
from flowprep.childprocess import Task, Work
from flowprep.cluster.configfile import read_config
from flowprep.cluster.settings import ClusterSettings
from flowprep.conclusion import conclude, write_run_json
from flowprep.config import ExtractSettings, RunSettings
from flowprep.errors import FlowprepError, MissingDataError, SettingsError, StoreError
from flowprep.interruption import Interruption
from flowprep.listener import Listener, Quiet, Start
from flowprep.packer import Packer
from flowprep.pipeline import open_backend
from flowprep.publisher import open_publisher
from flowprep.request import Prepared, Request, devices_of, prepare, resolved, shared_list
from flowprep.stores.places import id_hash
from flowprep.stores.savedlist import SavedList, read_list
from flowprep.summary import Counts, Summary, Tally, summarise
from flowprep.supervisor import Done, event_of
from flowprep.survey import check_mounted, sizes_of, survey
from flowprep.turns import CLUSTER_SLOTS, in_turn, num_jobs


def extract(
    dataset: str = "folder",
    *,
    videos: Path | str,
    out: Path | str,
    splits: Path | str | None = None,
    settings: ExtractSettings | None = None,
    run: RunSettings | None = None,
    cluster: ClusterSettings | None = None,
    overwrite: bool = False,
    listener: Listener | None = None,
    stop: threading.Event | None = None,
) -> Summary:
    """Extract a dataset into the store `out`, as `flowprep extract` does; run again to resume.

    `dataset` is a name of `flowprep.datasets.NAMES`. Videos that fail are counted in the summary and cost the others
    nothing. With a `cluster` its workers do the work, see docs/clusters.md. When `stop` is set, from another thread,
    the videos in work are finished, and the summary is `interrupted`. While videos are in work, and in the main thread
    alone, the first SIGINT, SIGTERM or SIGHUP does the same and ends in KeyboardInterrupt; a second one (not SIGHUP)
    does not wait for them.

    Raises SettingsError, DatasetError, MissingDataError or BackendUnavailableError before any work, and RunStoppedError
    where the run cannot go on.
    """
    settings = dataclasses.replace(settings or ExtractSettings(), dataset=dataset)
    request = Request(
        videos=Path(videos),
        out=Path(out),
        splits=None if splits is None else Path(splits),
        settings=settings,
        run=run or RunSettings(),
        cluster=cluster or ClusterSettings(),
        overwrite=overwrite,
    )
    interruption = Interruption(stop)
    summary = execute(request, listener, interruption)
    if interruption.signalled:  # what comes after us in a script or notebook is not wanted either
        raise KeyboardInterrupt(f"{out}: what was finished is kept; run again to resume")
    return summary


def execute(request: Request, listener: Listener | None = None, interruption: Interruption | None = None) -> Summary:
    """Do a request, see `extract`. A signal ends in a summary that is `interrupted`."""
    heard, started = listener or Quiet(), time.perf_counter()
    with _begun(request, heard) as (out, prepared):
        run = _Run(out, prepared, request.videos, request.run, heard, interruption or Interruption(), request.cluster)
        summary = dataclasses.replace(run.do(started), out=request.out)
        if summary.part is None and not summary.interrupted:
            write_run_json(out, summary)
    if request.overwrite and not summary.interrupted:
        overwrite.swap_in(request.out)
    return summary


def record_list(request: Request, listener: Listener | None = None) -> SavedList:
    """List the dataset and record the list in the store, anew if it has one, and do nothing else.

    For parts that begin together, which would each make one, and for those to come of a list that has grown or of
    which missing files have turned up: a part takes the list that is there. A backend that is named need not run here.
    """
    if request.run.part is not None:
        raise SettingsError("--list-only makes the list of all parts; leave out --part")
    heard, is_new = listener or Quiet(), not resume.settings_path(request.out).exists()
    with _begun(request, heard, here=False) as (_, prepared):
        flow = request.settings.flow
        if is_new and flow.backend == "auto" and flow.cpu_baseline is None and prepared.settings.store.flow:
            heard.note(
                f"`auto` is {prepared.settings.flow.backend} on this machine, and so for all parts; if those run "
                "elsewhere, as on nodes with a GPU, begin the store with the --backend of theirs"
            )
        return prepared.saved


def resume_store(
    out: Path | str,
    *,
    videos: Path | str | None = None,
    run: RunSettings | None = None,
    listener: Listener | None = None,
    interruption: Interruption | None = None,
) -> Summary:
    """Do what is left of a store, with its own settings and list; `videos` is where they lie now, if they were moved.

    Raises MissingDataError where `out` is no store or its videos are not known, StoreError where settings or list are
    damaged, SettingsError where another version of a stage has made it, and as `extract`.
    """
    out, heard, started, run = Path(out), listener or Quiet(), time.perf_counter(), run or RunSettings()
    folder, prepared = _stored_request(out, videos)
    with driver.Driver(out, run.part, takeover=run.takeover):
        summary = _Run(out, prepared, folder, run, heard, interruption or Interruption()).do(started)
        if summary.part is None and not summary.interrupted:
            write_run_json(out, summary)
    return summary


def redo(
    out: Path,
    indices: Sequence[int],
    *,
    videos: Path | None,
    run: RunSettings,
    listener: Listener | None = None,
    interruption: Interruption | None = None,
) -> Summary:
    """Do these videos of a store's list again, done or not, and pack what is then complete; the list is not ended.

    For repairs, which keep the driver file of the store meanwhile. Raises as `resume_store`.
    """
    started = time.perf_counter()
    folder, prepared = _stored_request(out, videos)
    return _Run(out, prepared, folder, run, listener or Quiet(), interruption or Interruption()).redo(indices, started)


def _stored_request(out: Path, videos: Path | str | None) -> tuple[Path, Prepared]:
    """The folder of the videos, and what a store says that it was made by."""
    saved = read_list(out)
    settings = resume.read_settings(out)
    resume.refuse_adopted(out, settings)
    resume.refuse_changed_stages(out, settings)
    folder = saved.videos if videos is None else Path(videos)
    if folder is None or not folder.is_dir():
        raise MissingDataError(f"the videos of {out} are not {f'in {folder}' if folder else 'known'}; give --videos")
    if saved.num_bytes is None:
        saved = dataclasses.replace(saved, num_bytes=sizes_of(saved.listing.videos, folder))
    prepared = Prepared(settings=resolved(settings), saved=saved, is_shared=True)
    resume.check(out, prepared.settings)
    return folder, prepared


@contextlib.contextmanager
def _begun(request: Request, heard: Listener, *, here: bool = True) -> Iterator[tuple[Path, Prepared]]:
    """The folder to work in, begun or continued and marked as ours, and the request with all that is resolved."""
    prepared = prepare(request, here=here)
    for note in prepared.saved.listing.notes:
        heard.note(note)
    part, takeover = request.run.part, request.run.takeover
    overwrite.recover(request.out)
    out = request.out
    if request.overwrite:
        if not takeover:
            driver.refuse_others(out, part)
        out, prepared = _build_folder(request, prepared)
    open_publisher(out, prepared.settings)  # a folder that cannot be written is wrong use
    with driver.Driver(out, part, takeover=takeover):
        try:
            prepared = _recorded(out, request, prepared)
        except SettingsError:
            if request.overwrite or request.settings.flow.backend != "auto":
                raise
            # Another run has begun the store meanwhile, and with that has decided what `auto` is.
            prepared = _recorded(out, request, prepare(request, here=here))
        yield out, prepared


def _build_folder(request: Request, prepared: Prepared) -> tuple[Path, Prepared]:
    """Where `--overwrite` builds: on top of what an interrupted one has left, if that was the same."""
    out = overwrite.begin(request.out)
    try:
        checked = resume.check(out, prepared.settings, prepared.saved.listing)
    except (SettingsError, StoreError):
        commit.remove_tree(out)
        out = overwrite.begin(request.out)
        checked = resume.check(out, prepared.settings, prepared.saved.listing)
    return out, dataclasses.replace(prepared, checked=checked)


def _recorded(out: Path, request: Request, prepared: Prepared) -> Prepared:
    """Record settings and list in the store. Gives the list that counts: for parts that is the first one's."""
    if prepared.is_shared:
        resume.begin_again(out, prepared.settings)
    elif request.run.part is None:
        resume.begin(out, prepared.settings, prepared.saved, checked=prepared.checked)
    elif not resume.begin_part(out, prepared.settings, prepared.saved):
        return dataclasses.replace(prepared, saved=shared_list(request), is_shared=True)
    return prepared


@final
class _Run:
    """One run over the videos of a list, or of a part of it, in a store that is begun."""

    def __init__(
        self,
        out: Path,
        prepared: Prepared,
        folder: Path,
        run: RunSettings,
        heard: Listener,
        interruption: Interruption,
        cluster: ClusterSettings | None = None,
    ) -> None:
        self._cluster = cluster or ClusterSettings()
        self._out, self._prepared, self._folder, self._run = out, prepared, folder, run
        self._heard, self._interruption = heard, interruption
        self._settings, self._listing = prepared.settings, prepared.saved.listing
        self._devices = devices_of(self._settings, run)
        self._indices = prepared.indices(run.part)
        self._publisher = open_publisher(out, self._settings, durability=run.durability)
        self._counts, self._tally = Counts(), Tally()

    def do(self, started: float) -> Summary:
        """Do what is to be done, and end the list or part. `started` is when that began, by `time.perf_counter`."""
        commit.remove_leftovers(self._out)
        if self._prepared.is_shared and (sizes := self._prepared.saved.num_bytes) is not None:
            check_mounted(self._prepared.videos, sizes, self._indices, self._folder)
        todo = survey(
            self._publisher,
            self._prepared.videos,
            self._indices,
            self._folder,
            retry=self._run.retry,
            settled=self._counts,
        )
        self._drop_aside(set(todo))
        return self._record(todo, started, self._end)

    def redo(self, indices: Sequence[int], started: float) -> Summary:
        """Do these videos, whatever the disk says of them, and end nothing."""
        return self._record(indices, started, self._summary)

    def _record(self, todo: Sequence[int], started: float, end: Callable[[float], Summary]) -> Summary:
        """Do these videos and come to an end, with a journal of it."""
        if todo and not self._devices and not self._cluster:
            _warm_up(self._settings)
        with journal.Journal(journal.journal_folder(self._out)) as record:
            summary = None
            try:
                with self._interruption.watched(self._heard.note):
                    if self._work(todo, record):
                        summary = end(started)
            except KeyboardInterrupt:
                pass  # by a second signal; what is not finished is pending
            except FlowprepError as error:
                record.append("end", error=str(error), interrupted=True)
                raise
            if summary is None:
                summary = self._summary(started, interrupted=True)
            record.append(
                "end", seconds=summary.seconds, states=summary.states, interrupted=summary.interrupted, error=""
            )
        return summary

    def _drop_aside(self, todo: Set[int]) -> None:
        """Delete what is aside of videos that are final: who published that was killed before it could."""
        if names := commit.names_aside(self._out):
            for index in self._indices:
                video = id_hash(self._prepared.videos[index].id)
                if index not in todo and video in names:
                    commit.drop_aside(self._out, video)

    def _work(self, todo: Sequence[int], record: journal.Journal) -> bool:
        """Extract and pack; False if that was stopped before its end."""
        sizes, stop = self._prepared.saved.num_bytes, self._interruption.stop
        jobs = 0 if self._cluster else num_jobs(self._run, len(todo))
        assert sizes is not None, "the list of a run has sizes"
        start = Start(
            num_videos=len(self._indices),
            num_todo=len(todo),
            num_bytes=sum(sizes[index] for index in todo),
            jobs=jobs,
            part=self._run.part,
            num_classes=len(self._listing.classes),
        )
        record.begin(**dataclasses.asdict(start), run={**self._run.to_json(), **self._cluster.to_json()})
        self._heard.started(start)
        videos = self._prepared.videos
        work = Work(
            videos=self._folder,
            out=self._out,
            settings=self._settings,
            durability=self._run.durability,
            memory_bytes=round(self._run.memory_gib * 2**30),
            stall_seconds=self._run.stall_seconds,
            devices=self._devices,
        )
        packer = Packer(
            self._out,
            self._settings,
            videos,
            durability=self._run.durability,
            packed=lambda shard: record.append("packed", shard=shard),
        )
        packer.expect(todo)
        tasks = (Task(list_index=index, video=videos[index]) for index in in_turn(todo, sizes, jobs or CLUSTER_SLOTS))
        for done in self._done(work, tasks, jobs):
            self._tally.add(done.row)
            self._counts.add(videos[done.list_index], done.row)
            record.append("video", **event_of(done))
            packer.finished(done.list_index)
            self._heard.finished(done)
        return self._tally.num_videos == len(todo) and packer.pack_rest(self._indices, stop.is_set)

    def _done(self, work: Work, tasks: Iterator[Task], jobs: int) -> Iterator[Done]:
        """Each task when it has ended, by processes of this machine or by a cluster."""
        stop, progress = self._interruption.stop, self._heard.progress
        if not self._cluster:
            return executors.run_tasks(work, tasks, jobs, stop=stop, progress=progress, loads=self._tally.loads)
        from flowprep.cluster import tasks as cluster_tasks

        config = read_config(self._cluster.config_file)
        return cluster_tasks.run_tasks(
            work, tasks, self._cluster, config, stop=stop, progress=progress, note=self._heard.note
        )

    def _end(self, started: float) -> Summary:
        """End the list, or the part."""
        if self._run.part is not None:
            note = self._what_is_left()
            self._heard.note(note)
            summary = self._summary(started)
            return dataclasses.replace(summary, notes=(*summary.notes, note))
        summary = conclude(
            self._out, self._settings, self._listing, self._publisher, self._tally, strict=self._run.strict
        )
        for note in summary.notes[len(self._listing.notes) :]:
            self._heard.note(note)
        return dataclasses.replace(summary, seconds=_seconds_since(started))

    def _what_is_left(self) -> str:
        """What has to be done after this part."""
        others = [holder.part for holder in driver.holders(self._out) if holder.beats]
        at_work = ", ".join(part for part in others if part not in (None, self._run.part))
        others_text = f", {at_work} at work" if at_work else ""
        return (
            f"part {self._run.part} is done{others_text}; `flowprep merge {self._out}` ends the list when all parts are"
        )

    def _summary(self, started: float, *, interrupted: bool = False) -> Summary:
        """The summary by what this run has seen, without reading all of the store again."""
        self._counts.complete(len(self._indices))
        self._tally.seconds = _seconds_since(started)
        return summarise(
            self._out,
            self._listing,
            self._counts,
            self._tally,
            strict=self._run.strict,
            notes=self._listing.notes,
            part=self._run.part,
            interrupted=interrupted,
        )


def _seconds_since(started: float) -> float:
    return round(time.perf_counter() - started, 3)


def _warm_up(settings: ExtractSettings) -> None:
    """Let the backend compile here what it must, so that workers find it on the disk instead of doing it each."""
    backend = open_backend(settings)
    if backend is not None:
        with backend:
            backend.warm_up()

"""`verify --repair`: exactly what is broken is made again, from what is proven; nothing is deleted.

First the books are put right, so that the store can be worked on as by any run; then all that cannot be trusted is
moved aside, and what of it is sound is put where a run would have put it; what is then missing is extracted again by a
run of those videos alone, which also packs; last the files at the top are written. A repair that dies in between leaves
a store that another repair, or a run, brings to the same end.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

from flowprep import driver, run
from flowprep.conclusion import conclude, write_run_json
from flowprep.config import RunSettings, VerifySettings
from flowprep.errors import MissingDataError, RunStoppedError, VideoError
from flowprep.interruption import Interruption
from flowprep.listener import Listener, Quiet
from flowprep.publisher import Publisher, open_publisher
from flowprep.records import Reason, Row, State
from flowprep.stores.layouts import layout_of
from flowprep.stores.packed import file_sha256
from flowprep.stores.places import CHECKSUMS, MANIFEST, shard_location, unpacked_paths
from flowprep.stores.savedlist import read_list
from flowprep.summary import Tally
from flowprep.verify.aside import Aside
from flowprep.verify.books import restore_books, restore_rows
from flowprep.verify.check import Progress, look
from flowprep.verify.evidence import LIST, SETTINGS, Evidence
from flowprep.verify.findings import NOT_BY_US, Finding, Remedy, Report
from flowprep.verify.recompute import source_sha256
from flowprep.verify.records import outcome_of
from flowprep.verify.shard import ShardLook
from flowprep.verify.shardrepair import ShardRepair


@dataclass(frozen=True, slots=True, kw_only=True)
class Mended:
    """What a repair has found and done, and what a second look finds.

    `redone` are the ids of the videos that were extracted again, `aside` what was moved, and where to, relative to the
    store. `unmended` says in a sentence each what could not be made again, and why.
    """

    before: Report
    after: Report
    redone: tuple[str, ...] = ()
    aside: tuple[tuple[str, str], ...] = ()
    unmended: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def exit_code(self) -> int:
        """0 if all was mended, else 4."""
        return 4 if self.unmended else self.after.exit_code

    def to_json(self) -> dict[str, Any]:
        """A JSON object: that of the second look, and of what was found before and done."""
        repair = {
            "found": [finding.to_json() for finding in self.before.findings],
            "redone": list(self.redone),
            "aside": [list(pair) for pair in self.aside],
            "unmended": list(self.unmended),
            "notes": list(self.notes),
        }
        return {**self.after.to_json(), "repair": repair}


def repair(
    out: Path | str,
    *,
    videos: Path | str | None = None,
    settings: VerifySettings | None = None,
    listener: Listener | None = None,
    progress: Progress = lambda _done, _all: None,
    interruption: Interruption | None = None,
) -> Mended:
    """Look at a store, mend what is wrong with it, and look again. `videos` is where its sources are.

    Raises MissingDataError where there is no such store, or videos must be extracted again and nobody knows where they
    are; RunStoppedError where the disk fails or the work is interrupted; SettingsError while a run is at work on it.
    """
    out, settings = Path(out), settings or VerifySettings()
    folder = None if videos is None else Path(videos)
    if folder is not None and not folder.is_dir():
        raise MissingDataError(f"there is no folder {folder}; give the one that the videos are in")
    evidence, before = look(out, folder, settings, progress)
    curable = [finding for finding in before.findings if finding.remedy not in NOT_BY_US]
    if evidence is None or not curable:
        return Mended(before=before, after=before)
    mending = _Mending(evidence, folder, curable, settings, listener or Quiet(), interruption or Interruption())
    mending.prepare()
    with driver.Driver(out, None):
        mending.mend()
    after = look(out, folder, settings, progress)[1]
    return dataclasses.replace(mending.result(before), after=after)


@final
class _Mending:
    """One repair. `prepare` decides what can be mended and changes nothing."""

    def __init__(
        self,
        evidence: Evidence,
        folder: Path | None,
        findings: Sequence[Finding],
        settings: VerifySettings,
        listener: Listener,
        interruption: Interruption,
    ) -> None:
        self._evidence, self._findings, self._settings = evidence, findings, settings
        self._listener, self._interruption = listener, interruption
        self._folder = folder or self._known_folder()
        self._unmended: list[str] = []
        self._notes: list[str] = []
        self._rows: dict[int, Row | None] = {}  # of the videos that are extracted again, as they were
        self._lost: dict[int, tuple[Row | None, str]] = {}  # of a shard that is made again: as they were, and why
        self._looks: dict[int, ShardLook] = {}
        self._redone: list[str] = []
        self._shards: list[ShardRepair] = []
        self._misplaced: dict[str, str] = {}  # by the place where the file of a shard lies: where it belongs
        self._asides = Aside(evidence.files)

    def _known_folder(self) -> Path | None:
        """Where the list says that the videos are."""
        if not self._evidence.list_is_own:
            return None
        folder = read_list(self._evidence.out).videos
        return folder if folder is not None and folder.is_dir() else None

    def _places(self, remedy: Remedy) -> list[int]:
        return sorted({finding.place for finding in self._findings if finding.remedy is remedy})

    # -- before anything is changed --------------------------------------------------------------------------------

    def prepare(self) -> None:
        """Find out what has to be extracted again, and whether each source is the file that it was."""
        for index in self._places(Remedy.VIDEO):
            row = self._row(index)
            if why := self._why_not(index, row):
                self._unmended.append(why)
            else:
                self._rows[index] = row
        damaged = self._places(Remedy.SHARD)
        by_digest = {look.digest: look.place for look in map(self._look, damaged) if look.digest is not None}
        for shard in damaged:
            look = self._look(shard)
            if look.expected in by_digest and by_digest[look.expected] != look.place:
                self._misplaced[by_digest[look.expected]] = look.place
                continue
            repair = ShardRepair(self._evidence, look, set(self._rows))
            rows = {index: self._row(index) for index in repair.broken}
            lost = {index: why for index, row in rows.items() if (why := self._why_not(index, row))}
            if lost.keys() == rows.keys() and lost and repair.others_are_readable:
                self._unmended += [f"{shard_location(shard)} stays as it is: {why}" for why in lost.values()]
                continue
            self._unmended += [f"{why}; it is lost, and recorded so" for why in lost.values()]
            self._lost |= {index: (rows[index], why) for index, why in lost.items()}
            self._shards.append(repair)
            self._rows |= {index: row for index, row in rows.items() if index not in lost}

    def _look(self, shard: int) -> ShardLook:
        if shard not in self._looks:
            self._looks[shard] = ShardLook(self._evidence, shard)
        return self._looks[shard]

    def _row(self, index: int) -> Row | None:
        """What became of a video, as far as that is proven."""
        if self._evidence.is_tree:
            entry = outcome_of(self._evidence, index, {}).entry
        else:
            entry = self._look(index // self._evidence.settings.store.shard_videos).outcomes[index].entry
        return None if entry is None else entry.row

    def _why_not(self, index: int, row: Row | None) -> str:
        """Why a video cannot be made again as it was, "" if it can."""
        video = self._evidence.listing.videos[index]
        if video.problem is not None and (row is None or not row.state.stored):
            return ""
        if changed := self._evidence.settings.changed_stages:
            return f"{video.id} cannot be made again as it was: another version of flowprep has made it ({changed})"
        if self._folder is None:
            raise MissingDataError(f"{video.id} must be extracted again and its source is not known; give --videos")
        if row is None or not row.source_sha256:
            return ""
        try:
            if source_sha256(self._folder / video.path) != row.source_sha256:
                return f"{video.path} is not the file any more that {video.id} was made from; bring that file back"
        except VideoError as error:
            return f"{video.path}, the source of {video.id}, cannot be read: {error.detail}"
        return ""

    # -- the work --------------------------------------------------------------------------------------------------

    def mend(self) -> None:
        """Do all of it."""
        evidence = self._evidence
        self._asides.move_all(finding.path for finding in self._findings if finding.remedy is Remedy.ASIDE)
        self._asides.move_all(finding.path for finding in self._findings if finding.path in (SETTINGS, LIST))
        restore_books(evidence, self._folder)
        publisher = open_publisher(evidence.out, evidence.settings)
        self._restore_records(publisher)
        self._asides.move_all((*self._misplaced, *self._misplaced.values()))
        for place, target in self._misplaced.items():
            self._asides.give(place, target)
        for index in self._rows:
            self._clear(index)
        for shard in self._shards:
            shard.salvage(publisher, self._asides)
        self._give_up_lost(publisher)
        if self._rows or self._shards:
            self._extract()
        for shard in self._shards:
            self._notes += shard.put_times_right(publisher, self._folder)
        self._compare(publisher)
        if evidence.finished and len(self._unmended) == len(self._lost):
            self._end(publisher)

    def _restore_records(self, publisher: Publisher) -> None:
        """Write what is recorded of videos again where only the manifest knows it."""
        evidence = self._evidence
        lost = [finding for finding in self._findings if finding.remedy is Remedy.RECORD]
        self._asides.move_all(finding.path for finding in lost)
        places = [finding.place for finding in lost]
        if not evidence.has_books:  # those that are to be made again come from elsewhere
            done = set(self._rows) if evidence.is_tree else {repair.shard for repair in self._shards}
            num_places = len(evidence.listing.videos) if evidence.is_tree else evidence.num_shards
            places = [place for place in range(num_places) if place not in done]
        self._unmended += restore_rows(evidence, publisher, places, self._folder)

    def _clear(self, index: int) -> None:
        """Move what there is of a video aside, its record first."""
        evidence, video = self._evidence, self._evidence.listing.videos[index]
        records = unpacked_paths(evidence.out, video.id)
        self._asides.move_all(path.removeprefix(f"{evidence.out}/") for path in records)
        if evidence.is_tree:
            layout = layout_of(evidence.settings)
            self._asides.move_all(layout.folders(layout.location(video), evidence.settings.streams).values())

    def _give_up_lost(self, publisher: Publisher) -> None:
        """Record videos as failed whose images and sources are gone, so that the others of their shard can be packed.

        What is left of them lies aside, and a run extracts them when their sources are back.
        """
        for index, (old, why) in self._lost.items():
            row = Row.unstored(self._evidence.listing.videos[index], State.FAILED, Reason("missing", why))
            if old is not None:
                row = dataclasses.replace(row, source_bytes=old.source_bytes, source_sha256=old.source_sha256)
            publisher.publish_row(row, index)

    def _extract(self) -> None:
        settings = RunSettings(jobs=self._settings.jobs)
        out, videos = self._evidence.out, self._evidence.listing.videos
        todo = [index for index in sorted(self._rows) if videos[index].problem is None]
        summary = run.redo(
            out,
            todo,
            videos=self._folder or out,
            run=settings,
            listener=self._listener,
            interruption=self._interruption,
        )
        if summary.interrupted:
            raise RunStoppedError(f"the repair of {out} was interrupted; run it again, what was finished is kept")
        self._redone += [videos[index].id for index in todo]

    def _compare(self, publisher: Publisher) -> None:
        """Say where a video that was extracted again is not what it was."""
        for index, old in self._rows.items():
            new = publisher.read_row(self._evidence.listing.videos[index], index)
            if new is None or (old is not None and old.state.stored and not new.state.stored):
                why = "" if new is None else "; ".join(f"{reason.code}: {reason.detail}" for reason in new.reasons)
                self._unmended.append(f"{self._evidence.listing.videos[index].id} could not be extracted again: {why}")
            elif old is not None and new != old:
                self._notes.append(f"{new.id} has other bytes than before, since another build has made them")

    def _end(self, publisher: Publisher) -> None:
        """Write the files at the top again, of the records as they are now."""
        out, top = self._evidence.out, {f.path for f in self._findings if f.remedy is Remedy.TOP}
        self._asides.move_all(sorted(top, key=lambda name: name in (MANIFEST, CHECKSUMS)))
        summary = conclude(out, self._evidence.settings, read_list(out).listing, publisher, Tally())
        write_run_json(out, summary)
        named = self._evidence.sums.get(MANIFEST)
        if not self._evidence.is_proven(MANIFEST) and named not in (None, file_sha256(out / MANIFEST)):
            self._notes.append(
                f"{MANIFEST} has not the checksum that {CHECKSUMS} had: that was damaged too, or the settings are not "
                "those that the store was made with"
            )

    def result(self, before: Report) -> Mended:
        """What was done."""
        return Mended(
            before=before,
            after=before,
            redone=tuple(self._redone),
            aside=tuple(self._asides.moved.items()),
            unmended=tuple(self._unmended),
            notes=tuple(self._notes),
        )

"""A shard and its videos: the file has the checksum of its rows; where not, which of its images are still sound."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Iterator, Mapping, Sequence
from typing import final

from flowprep.datasets.ids import raw_bytes
from flowprep.errors import StoreError
from flowprep.records import Row
from flowprep.stores.clipfile import ClipFile
from flowprep.stores.places import CHECKSUMS, MANIFEST, clip_path, packed_path, shard_location
from flowprep.stores.rowfile import Entry
from flowprep.stores.shardfile import ShardFile
from flowprep.verify.evidence import Evidence
from flowprep.verify.files import UNTRUSTED
from flowprep.verify.findings import Finding, Remedy
from flowprep.verify.looked import Looked, image_problem, num_images
from flowprep.verify.records import Outcome, PackedLook, look_at_packed, manifest_entry, outcome_of
from flowprep.verify.salvage import Salvage


def check_shard(evidence: Evidence, shard: int, *, deep: bool) -> Looked:
    """Look at a shard, and at the commits of its videos that are not packed."""
    looked = Looked()
    look = ShardLook(evidence, shard)
    for index, outcome in look.outcomes.items():
        looked.add_outcome(evidence, index, outcome)
        if not look.is_packed and outcome.lost:
            looked.findings += _about_record(evidence, index, outcome)
        else:
            looked.findings += outcome.findings
        if outcome.source == "clip" and outcome.entry is not None:
            _check_commit(evidence, outcome.entry, looked, deep=deep)
    if look.is_packed:
        looked.findings += look.about_packed()
        looked.findings += look.about_file(looked, deep=deep)
    return looked


def _about_record(evidence: Evidence, index: int, outcome: Outcome) -> Iterator[Finding]:
    """What is wrong with the commit of a video that was done and is not packed."""
    video = evidence.listing.videos[index].id
    path = str(clip_path(evidence.out, video)).removeprefix(f"{evidence.out}/")
    text = "what became of this video is recorded nowhere"
    missing = Finding(kind="missing", path=path, text=text, video=video, place=index)
    for finding in outcome.findings or (missing,):
        yield dataclasses.replace(finding, remedy=Remedy.VIDEO)


@final
class ShardLook:
    """What is known of a shard. `outcomes` are those of its videos by list index, `digest` its file's SHA-256.

    `contents` are the entries of the stored videos that its file has, or must have; `expected` is the SHA-256 that it
    must have, None where nothing says so. `problem` says why the file cannot be read.
    """

    def __init__(self, evidence: Evidence, shard: int) -> None:
        self._evidence, self.shard, self.place = evidence, shard, shard_location(shard)
        self.problem, self.digest = evidence.files.problem(self.place), None
        if self.problem is None:
            try:
                self.digest = evidence.files.sha256(self.place)
            except OSError as error:
                self.problem = "unreadable", f"cannot be read: {error}"
        self.packed: PackedLook = look_at_packed(evidence, shard, self.digest)
        is_there, is_summed = evidence.files.exists(self.place), self.place in evidence.sums
        self.is_packed = self.packed.found_any or is_there or is_summed
        if evidence.finished and not evidence.sums and not self.is_packed:
            self.is_packed = any(manifest_entry(evidence, index) for index in evidence.members(shard))
        rows = self.packed.rows
        entries: Mapping[int, Entry] = {} if rows is None else rows.entries
        self.outcomes = {index: outcome_of(evidence, index, entries) for index in evidence.members(shard)}
        self.expected = evidence.sums.get(self.place) if rows is None else rows.file_sha256
        self.contents = self._contents(entries)

    def _contents(self, packed: Mapping[int, Entry]) -> list[Entry]:
        if self.packed.rows is None:
            packed = {
                index: outcome.entry
                for index, outcome in self.outcomes.items()
                if outcome.source == "manifest" and outcome.entry is not None
            }
        return [packed[index] for index in sorted(packed) if packed[index].row.state.stored]

    @property
    def is_restorable(self) -> bool:
        """True if the packed rows, which are lost, can be written again: the file is proven, and so is the manifest."""
        evidence, is_proven = self._evidence, self.digest is not None and self.digest == self.expected
        return self.packed.rows is None and is_proven and evidence.is_proven(MANIFEST)

    def about_packed(self) -> Iterator[Finding]:
        """What is wrong with the packed rows."""
        if not self._evidence.has_books:
            return
        remedy = Remedy.RECORD if self.is_restorable else Remedy.SHARD
        if not self.packed.found_any:
            place = str(packed_path(self._evidence.out, self.shard)).removeprefix(f"{self._evidence.out}/")
            text = "the rows of this shard are not there"
            yield Finding(kind="missing", path=place, text=text, remedy=remedy, place=self.shard)
        for finding in self.packed.findings:
            yield finding if self.packed.rows is not None else dataclasses.replace(finding, remedy=remedy)

    def about_file(self, looked: Looked, *, deep: bool) -> Iterator[Finding]:
        """What is wrong with the file."""
        if self.problem is not None:
            yield self._wrong(*self.problem)
            return
        size = self._evidence.files.path(self.place).stat().st_size
        looked.num_bytes += size
        looked.num_jpegs += sum(num_images(e.row, stream) for e in self.contents for stream in self._streams)
        if self.digest is not None and self.digest == self.expected:
            looked.sums[self.place] = self.digest
            yield from self._about_index(deep=deep)
            return
        rows = self.packed.rows
        if rows is not None and rows.file_bytes != size:
            yield self._wrong("damaged", f"has {size} bytes instead of {rows.file_bytes}")
        elif self.expected is not None:
            says = CHECKSUMS if rows is None else "the record of its rows"
            yield self._wrong("damaged", f"does not have the checksum that {says} says")
        yield from self._about_images(deep=deep)

    def _about_index(self, *, deep: bool) -> Iterator[Finding]:
        """Read a file that is as it was made, as every reader does."""
        try:
            file = ShardFile(self._evidence.files.path(self.place))
        except StoreError as error:
            yield self._wrong("damaged", f"cannot be opened: {error}")
            return
        if self.contents and list(file.index.ids) != [raw_bytes(entry.row.id) for entry in self.contents]:
            yield self._wrong("disagrees", "does not hold the videos that its rows name, in their order")
            return
        for position, entry in enumerate(self.contents if deep else ()):
            for stream in self._streams:
                for index in range(num_images(entry.row, stream)):
                    problem = image_problem(entry.row, stream, file.jpeg(position, stream, index), decode=True)
                    if problem:
                        yield self._wrong("jpeg", f"an image {problem}", entry, stream, index)

    def _about_images(self, *, deep: bool) -> Iterator[Finding]:
        """Say of which videos images are damaged."""
        with Salvage(self._evidence.files.path(self.place), self._evidence.settings, self.contents) as salvage:
            for position, stream in sorted(salvage.broken):
                entry = salvage.entries[position]
                images = salvage.images(position, stream)
                if len(images) == num_images(entry.row, stream):
                    problems = (image_problem(entry.row, stream, data, decode=deep) for data in images)
                    index = next((k for k, problem in enumerate(problems) if problem), None)
                else:
                    index = None
                yield self._wrong("damaged", "images do not have the checksum of the row", entry, stream, index)

    @property
    def _streams(self) -> Sequence[str]:
        return self._evidence.settings.streams

    def _wrong(
        self, kind: str, text: str, entry: Entry | None = None, stream: str = "", index: int | None = None
    ) -> Finding:
        return Finding(
            kind=kind,
            path=self.place,
            text=text,
            video="" if entry is None else entry.row.id,
            stream=stream,
            index=index,
            remedy=Remedy.SHARD,
            place=self.shard,
        )


def _check_commit(evidence: Evidence, entry: Entry, looked: Looked, *, deep: bool) -> None:
    """Compare the images of a commit with its row."""
    path = clip_path(evidence.out, entry.row.id)
    try:
        wrong = next(_wrong_in_commit(evidence, entry.row, looked, deep=deep), None)
    except UNTRUSTED as error:
        wrong = "", None, f"cannot be read: {error}"
    if wrong is not None:
        stream, index, text = wrong
        looked.findings.append(
            Finding(
                kind="damaged" if index is None else "jpeg",
                path=str(path).removeprefix(f"{evidence.out}/"),
                text=text,
                video=entry.row.id,
                stream=stream,
                index=index,
                remedy=Remedy.VIDEO,
                place=entry.list_index,
            )
        )


def _wrong_in_commit(
    evidence: Evidence, row: Row, looked: Looked, *, deep: bool
) -> Iterator[tuple[str, int | None, str]]:
    """Stream, index (None: not known) and problem of what is wrong in a commit."""
    with ClipFile(clip_path(evidence.out, row.id)) as clip:
        places, times = clip.read_index()
        if len(times) != row.frames:
            yield "", None, f"has {len(times)} times of {row.frames} images"
        for stream in evidence.settings.streams:
            num, digest = num_images(row, stream), hashlib.sha256()
            if len(places.get(stream, ())) != num or int(places[stream][:, 1].sum()) != row.stream_bytes[stream]:
                yield stream, None, f"does not have the {num} images of {stream} that its row says"
                continue
            looked.num_jpegs += num
            for k, data in enumerate(clip.jpegs(places[stream])):
                digest.update(data)
                looked.num_bytes += len(data)
                if deep and (problem := image_problem(row, stream, data, decode=True)):
                    yield stream, k, f"an image {problem}"
            if digest.hexdigest() != row.stream_sha256[stream]:
                yield stream, None, "images do not have the checksum of the row"

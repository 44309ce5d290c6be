"""What is recorded of each video, strictly: where a run takes a torn record for none, here it is a finding."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from flowprep.config import ExtractSettings
from flowprep.errors import StoreError
from flowprep.records import Row, State, Video
from flowprep.stores.clipfile import read_clip_entry
from flowprep.stores.finals import listed_failure
from flowprep.stores.layouts import layout_of
from flowprep.stores.packed import PackedShard, read_packed
from flowprep.stores.places import (
    MANIFEST,
    checked_location,
    next_packed_path,
    packed_path,
    shard_location,
    unpacked_paths,
)
from flowprep.stores.rowfile import Entry, read_row_file
from flowprep.verify.evidence import Evidence
from flowprep.verify.files import UNTRUSTED
from flowprep.verify.findings import Finding, Remedy

_COUNTS = ("frames", "flows", "width", "height", "source_bytes")


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """The outcome of a video and where it is recorded: `clip`, `row`, `packed`, `list`, `manifest`, or nowhere: ``.

    `findings` are about its commit and row file. `lost` is set where it had an outcome, and no record says any more
    which: `entry` is then what a proven manifest says, if there is one.
    """

    entry: Entry | None = None
    source: str = ""
    findings: tuple[Finding, ...] = ()
    lost: bool = False

    @property
    def state(self) -> str:
        """Of the video, `lost` where it is not known any more."""
        if self.entry is None:
            return "lost" if self.lost else str(State.PENDING)
        return str(self.entry.row.state)


def outcome_of(evidence: Evidence, index: int, packed: Mapping[int, Entry]) -> Outcome:
    """The outcome of a video of the list. `packed` are the entries of its shard."""
    video = evidence.listing.videos[index]
    entry, source, findings = _unpacked(evidence, video, index) if evidence.has_books else (None, "", ())
    if entry is None and index in packed:
        entry, source = packed[index], "packed"
    if entry is not None:
        return Outcome(entry=entry, source=source, findings=findings)
    known = manifest_entry(evidence, index)
    if video.problem is not None and not findings and (known is None or not known.row.state.stored):
        return Outcome(entry=listed_failure(video, index), source="list")
    if not evidence.has_books:
        return Outcome(entry=known, source="manifest")
    if not findings and not _was_done(evidence, index):
        return Outcome()
    proven = known if evidence.is_proven(MANIFEST) else None
    return Outcome(entry=proven, source="manifest", findings=findings, lost=True)


def manifest_entry(evidence: Evidence, index: int) -> Entry | None:
    """What the manifest says of a video, if that makes sense; without its time stamps."""
    row = evidence.manifest_row(index)
    if row is None or row.state is State.PENDING:
        return None
    return Entry(row, index) if is_sound(evidence.settings, row, evidence.listing.videos[index], index) else None


def _was_done(evidence: Evidence, index: int) -> bool:
    """True if a video of which there is no record has had an outcome, as far as the manifest tells."""
    row, manifest = evidence.manifest_row(index), evidence.manifest
    if row is not None:
        return row.state is not State.PENDING
    has_grown = manifest is not None and evidence.is_proven(MANIFEST) and index >= manifest.num_videos
    return evidence.finished and not has_grown


def _unpacked(evidence: Evidence, video: Video, index: int) -> tuple[Entry | None, str, tuple[Finding, ...]]:
    """The outcome in a commit or row file, and where; those that cannot be believed are findings."""
    clip, row = unpacked_paths(evidence.out, video.id)
    readers: list[tuple[str, str, Callable[[Path], Entry]]] = [("row", row, read_row_file)]
    if not evidence.is_tree:
        readers.insert(0, ("clip", clip, read_clip_entry))
    findings: tuple[Finding, ...] = ()
    for source, path, read in readers:
        place = path.removeprefix(f"{evidence.out}/")
        if not evidence.files.exists(place):
            continue
        problem = evidence.files.problem(place)
        if problem is None:
            try:
                entry = read(Path(path))
                problem = _misplaced(evidence.settings, entry, video, index)
                if problem is None:
                    return entry, source, findings
            except UNTRUSTED as error:
                problem = "damaged", f"cannot be believed: {_short(error, path)}"
        found = Finding(kind=problem[0], path=place, text=problem[1], video=video.id, remedy=Remedy.ASIDE, place=index)
        findings = (*findings, found)
    return None, "", findings


@dataclass(slots=True)
class PackedLook:
    """The rows of a packed shard that are believed, if there are any, and what is wrong with the files of them."""

    rows: PackedShard | None = None
    found_any: bool = False
    findings: list[Finding] = field(default_factory=list)


def look_at_packed(evidence: Evidence, shard: int, digest: str | None) -> PackedLook:
    """The rows of a shard, whose file has the SHA-256 `digest`, None where it cannot be read.

    Of two files those count that are of the file; the others are of a packer that died. Rows of another file than that
    of `SHA256SUMS`, which is there, are no rows of it.
    """
    look = PackedLook()
    is_summed = digest is not None and evidence.sums.get(shard_location(shard)) == digest
    for path in (packed_path(evidence.out, shard), next_packed_path(evidence.out, shard)):
        place = str(path).removeprefix(f"{evidence.out}/")
        if not evidence.has_books or not evidence.files.exists(place):
            continue
        look.found_any = True
        problem = evidence.files.problem(place)
        if problem is None:
            try:
                rows = read_packed(path)
                problem = _wrong_rows(evidence, shard, rows)
                if problem is None and is_summed and rows.file_sha256 != digest and ".next." not in place:
                    problem = "disagrees", "is not of the shard, which has its checksum in SHA256SUMS"
                if problem is None and (look.rows is None or rows.file_sha256 == digest):
                    look.rows = rows
            except UNTRUSTED as error:
                problem = "damaged", f"cannot be believed: {_short(error, str(path))}"
        if problem is not None:
            look.findings.append(
                Finding(kind=problem[0], path=place, text=problem[1], remedy=Remedy.ASIDE, place=shard)
            )
    return look


def _wrong_rows(evidence: Evidence, shard: int, rows: PackedShard) -> tuple[str, str] | None:
    members, videos = evidence.members(shard), evidence.listing.videos
    for index, entry in rows.entries.items():
        if index not in members:
            return "disagrees", f"is of another shard, since it has entry {index} of the list"
        problem = _misplaced(evidence.settings, entry, videos[index], index)
        if problem is not None:
            return problem
    return None


def _misplaced(settings: ExtractSettings, entry: Entry, video: Video, index: int) -> tuple[str, str] | None:
    """Why an entry is not one of this video."""
    if entry.row.id != video.id or entry.list_index != index:
        return "disagrees", f"is the record of {entry.row.id!r}, entry {entry.list_index} of a list, not {index}"
    if not is_sound(settings, entry.row, video, index):
        return "disagrees", f"says what cannot be of {video.id!r}: place, streams or counts"
    return None


def is_sound(settings: ExtractSettings, row: Row, video: Video, index: int) -> bool:
    """True if a row has the place, streams and types that one of this video has; a checksum proves no sense."""
    if not all(isinstance(getattr(row, name), int) and getattr(row, name) >= 0 for name in _COUNTS):
        return False
    if not row.state.stored:
        return True
    if settings.store.format == "hdf5":
        location = shard_location(index // settings.store.shard_videos)
    elif settings.store.adopted:
        location = checked_location(row.location, shard=False)
    else:
        location = layout_of(settings).location(video)
    streams = set(settings.streams)
    return (
        row.location == location
        and row.stream_sha256.keys() == streams == row.stream_bytes.keys()
        and all(isinstance(num, int) and num >= 0 for num in row.stream_bytes.values())
    )


def _short(error: BaseException, path: str) -> str:
    """The text of an error, without the name of the file, which the finding has, and without a cure."""
    text = str(error) if isinstance(error, (StoreError, OSError)) else f"{type(error).__name__}: {error}"
    return text.removeprefix(f"{path} ").removeprefix(f"{path}: ").partition(";")[0]

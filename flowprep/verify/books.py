"""The books of a store, its `.flowprep`, made again from the manifest."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from flowprep import commit
from flowprep.config import ExtractSettings
from flowprep.decode import VideoReader
from flowprep.errors import VideoError
from flowprep.publisher import Publisher, TreePublisher
from flowprep.records import Row, Video
from flowprep.resume import encode_settings, settings_path
from flowprep.stores.packed import encode_packed
from flowprep.stores.places import TIMING, adopted_mark, id_hash, packed_path, shard_location, staging_folder
from flowprep.stores.rowfile import Entry
from flowprep.stores.savedlist import SavedList, list_lines, list_path
from flowprep.stores.timingfile import Timing
from flowprep.verify.evidence import Evidence
from flowprep.verify.records import manifest_entry


def restore_books(evidence: Evidence, videos: Path | None) -> None:
    """Write settings and list of a store again where they are not there. `videos` is the folder of the sources."""
    out = evidence.out
    if not settings_path(out).exists():
        commit.create_file(out, settings_path(out), encode_settings(evidence.settings))
    if evidence.is_adopted and evidence.is_tree:
        commit.create_file(out, adopted_mark(out), b"")
    if not list_path(out).exists():
        folder = None if videos is None else videos.absolute()
        commit.write_lines(list_path(out), list_lines(SavedList(listing=evidence.listing, videos=folder)))


def restore_rows(evidence: Evidence, publisher: Publisher, places: Sequence[int], videos: Path | None) -> list[str]:
    """Record what the manifest says of some videos of a tree, or of some shards. Gives what was impossible."""
    if not evidence.is_tree:
        for shard in places:
            _restore_packed(evidence, shard)
        return []
    assert isinstance(publisher, TreePublisher), "a tree is published by one"
    timing = Timing(evidence.files.path(TIMING)) if evidence.is_proven(TIMING) and places else None
    unmended = []
    for index in places:
        video, entry = evidence.listing.videos[index], manifest_entry(evidence, index)
        if entry is None or (video.problem is not None and not entry.row.state.stored):
            continue
        try:
            times = _times(evidence.settings, video, entry.row, timing, videos)
        except VideoError as error:
            unmended.append(f"the times of {video.id} are lost, and its source cannot be read: {error.detail}")
            continue
        with (
            commit.output_errors(evidence.out, video=False),
            commit.staged(evidence.out, id_hash(video.id)[:16], "verify") as staging,
        ):
            publisher.publish_row_file(Entry(entry.row, index, times), staging)
    return unmended


def _times(
    settings: ExtractSettings, video: Video, row: Row, timing: Timing | None, videos: Path | None
) -> Sequence[float]:
    if not row.frames:
        return ()
    if timing is not None:
        return [float(seconds) for seconds in timing.pts_seconds(video.id)]
    if videos is None:
        raise VideoError("missing", "give --videos")
    return source_times(settings, video, videos)[-row.frames :]


def source_times(settings: ExtractSettings, video: Video, videos: Path) -> list[float]:
    """Time of each frame of a source in seconds, found as a run finds it. Raises VideoError where it cannot be read."""
    with VideoReader(videos / video.path, settings.decode, video.segment) as reader:
        for _ in reader.frames():
            pass
        return [float(seconds) for seconds in reader.pts_seconds]


def _restore_packed(evidence: Evidence, shard: int) -> None:
    """Write the rows of a shard that is sound."""
    place = shard_location(shard)
    if evidence.files.problem(place) is not None:
        return  # none of its videos is stored, and those that failed by the list need no record
    entries = [entry for index in evidence.members(shard) if (entry := manifest_entry(evidence, index)) is not None]
    path = evidence.files.path(place)
    record = encode_packed(path.stat().st_size, evidence.sums[place], entries)
    with commit.output_errors(evidence.out, video=False):
        commit.ensure_folder(evidence.out, staging_folder(evidence.out), sync=False)
        with commit.staged(evidence.out, f"shard-{shard:05d}", "verify") as staging:
            commit.write_file(staging / "packed.jsonl", [record], sync=True)
            commit.publish_into(evidence.out, staging / "packed.jsonl", packed_path(evidence.out, shard), sync=True)

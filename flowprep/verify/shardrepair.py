"""A shard is made again: what of its file is sound becomes commits, as if it had just been extracted, and is packed."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import final

from flowprep.datasets.ids import raw_bytes
from flowprep.errors import StoreError, VideoError
from flowprep.packer import Packer
from flowprep.publisher import Publisher
from flowprep.stores.packed import PackedRows
from flowprep.stores.places import next_packed_path, packed_path
from flowprep.stores.rowfile import Entry
from flowprep.stores.shardfile import ShardFile
from flowprep.verify.aside import Aside
from flowprep.verify.books import source_times
from flowprep.verify.evidence import Evidence
from flowprep.verify.looked import num_images
from flowprep.verify.salvage import Salvage
from flowprep.verify.shard import ShardLook


@final
class ShardRepair:
    """One damaged shard. `broken` are the list indices of those of its videos that must be extracted again.

    `redo` are those that are extracted again in any case.
    """

    def __init__(self, evidence: Evidence, look: ShardLook, redo: Collection[int]) -> None:
        self._evidence, self._look, self.shard = evidence, look, look.shard
        self._path = evidence.files.path(look.place)
        self._sound: dict[int, int] = {}  # list index to position in the file
        if self._look.problem is None:
            with Salvage(self._path, evidence.settings, self._look.contents) as salvage:
                for position, entry in enumerate(salvage.entries):
                    if (
                        self._needs_file(entry.list_index)
                        and entry.list_index not in redo
                        and salvage.is_whole(position)
                    ):
                        self._sound[entry.list_index] = position
        self.broken = [
            index
            for index in self._look.outcomes
            if self._needs_file(index) and index not in redo and index not in self._sound
        ]

    def _needs_file(self, index: int) -> bool:
        """True if a video is, or was, stored in the file of the shard alone."""
        outcome = self._look.outcomes[index]
        if outcome.entry is None:  # a shard is packed when all of its videos have an outcome
            return outcome.lost or not self._evidence.finished
        return outcome.source in ("packed", "manifest") and outcome.entry.row.state.stored

    @property
    def others_are_readable(self) -> bool:
        """True if readers still get from the file what is not broken: then it may as well stay."""
        try:
            file = ShardFile(self._path)
        except (OSError, StoreError):
            return False
        ids = {raw_bytes(self._evidence.listing.videos[index].id) for index in self._sound}
        return self._look.problem is None and ids <= file.positions.keys()

    def salvage(self, publisher: Publisher, asides: Aside) -> None:
        """Publish the sound videos as commits, and move the file aside."""
        videos = self._evidence.listing.videos
        if self._sound:
            with Salvage(self._path, self._evidence.settings, self._look.contents) as salvage:
                for position in self._sound.values():
                    entry = salvage.entries[position]
                    images = {stream: salvage.images(position, stream) for stream in self._evidence.settings.streams}
                    self._commit(publisher, entry, images, salvage.pts_seconds(position).tolist())
        for index, outcome in self._look.outcomes.items():
            known = outcome.entry if outcome.source in ("packed", "manifest") else None
            if known is not None and not known.row.state.stored and videos[index].problem is None:
                publisher.publish_row(known.row, index, source_mtime_ns=known.source_mtime_ns)
        out = self._evidence.out
        records = [packed_path(out, self.shard), next_packed_path(out, self.shard)]
        asides.move_all([self._look.place, *(str(path.relative_to(out)) for path in records)])

    def _commit(
        self, publisher: Publisher, entry: Entry, images: Mapping[str, Sequence[bytes]], times: Sequence[float]
    ) -> None:
        video = self._evidence.listing.videos[entry.list_index]
        with publisher.begin(video, entry.list_index, attempt="verify") as writer:
            for stream, jpegs in images.items():
                for jpeg in jpegs:
                    writer.add(stream, jpeg)
            writer.commit(entry.row, times, source_mtime_ns=entry.source_mtime_ns)

    def put_times_right(self, publisher: Publisher, videos: Path | None) -> Iterator[str]:
        """Where the new file is not the one that was lost, take the times of the images from the sources.

        Only the checksum of the whole file covers them. Gives notes on sources that cannot be read.
        """
        rows = PackedRows(self._evidence.out).of(self.shard)
        if not self._sound or rows is None or rows.file_sha256 == self._look.expected:
            return
        settings = self._evidence.settings
        file = ShardFile(self._path)
        for index in self._sound:
            entry = rows.entries[index]
            position = file.positions[raw_bytes(entry.row.id)]
            times = file.pts_seconds(position).tolist()
            try:
                if videos is None:
                    raise VideoError("missing", "give --videos")
                right = source_times(settings, self._evidence.listing.videos[index], videos)
            except VideoError as error:
                yield f"the times of {entry.row.id} are not proven, since its source cannot be read: {error.detail}"
                continue
            if right != times and entry.row.frames:
                images = {
                    stream: [bytes(file.jpeg(position, stream, k)) for k in range(num_images(entry.row, stream))]
                    for stream in settings.streams
                }
                self._commit(publisher, entry, images, right)
        Packer(self._evidence.out, settings, self._evidence.listing.videos).pack_rest(
            self._evidence.members(self.shard)
        )

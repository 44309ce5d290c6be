"""When a run packs: each shard as soon as the last of its videos is final."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import final

from flowprep.config import ExtractSettings
from flowprep.records import Video
from flowprep.stores.pack import pack_ready, pack_shard


@final
class Packer:
    """Packs the shards of a store; does nothing for trees. `packed` is told each shard that was."""

    def __init__(
        self,
        out: Path,
        settings: ExtractSettings,
        videos: Sequence[Video],
        *,
        durability: str = "video",
        packed: Callable[[int], None] = lambda _shard: None,
    ) -> None:
        self._out, self._settings, self._videos, self._durability = out, settings, videos, durability
        self._packed = packed
        self._size = settings.store.shard_videos
        self._waiting: Counter[int] = Counter()

    def expect(self, todo: Iterable[int]) -> None:
        """Wait with a shard until all of these videos that belong to it are final."""
        self._waiting.update(index // self._size for index in todo)

    def finished(self, list_index: int) -> None:
        """A video of the list is final."""
        shard = list_index // self._size
        self._waiting[shard] -= 1
        if self._waiting[shard] == 0:
            self._pack(shard)

    def pack_rest(self, indices: range, stopped: Callable[[], bool] = lambda: False) -> bool:
        """Pack what others have left complete, as far as these videos go; False if `stopped` before the end."""
        if self._settings.store.format != "hdf5" or not indices:
            return True
        for shard in range(indices[0] // self._size, indices[-1] // self._size + 1):
            if stopped():
                return False
            self._pack(shard)
        return True

    def _pack(self, shard: int) -> None:
        if self._settings.store.format != "hdf5" or not pack_ready(self._out, self._settings, self._videos, shard):
            return
        if pack_shard(self._out, self._settings, self._videos, shard, durability=self._durability):
            self._packed(shard)

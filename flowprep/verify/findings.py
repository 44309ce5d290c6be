"""What a look at a store finds: each thing that is not as it must be, by file, video, stream and index."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

KINDS: Mapping[str, str] = {
    "missing": "a file, folder or line that must be there is not",
    "added": "nothing in the store names it",
    "link": "a link, or another thing that is not a file or folder of its own, where one must be",
    "unreadable": "the file system reports an error",
    "damaged": "the bytes are not those that were written",
    "disagrees": "it contradicts what is proven elsewhere",
    "jpeg": "an image is not whole, does not decode, or has another size than its row says",
    "flow": "image or flow is not what the source of the video gives",
}
"""Every code word that `Finding.kind` may be, with its meaning."""


class Remedy(enum.Enum):
    """What mends a finding; `Finding.place` says of which video of the list, or of which shard."""

    ASIDE = "the file or folder is moved to .flowprep/aside"
    VIDEO = "the video is extracted again"
    RECORD = "the record is written again, from the manifest"
    SHARD = "the shard is made again, of what in it is sound and of its other videos, which are extracted again"
    TOP = "the files at the top of the store are written again, from the records"
    SETTINGS = "the settings are written again"
    LIST = "the list is made from the manifest"
    ADOPT = "another tool has made it: restore the file, or run `flowprep adopt` or `convert` again"
    BY_HAND = "remove it by hand"
    NONE = "nothing in the store proves what was there: restore the file, or extract anew with --overwrite"


NOT_BY_US = frozenset({Remedy.ADOPT, Remedy.BY_HAND, Remedy.NONE})
"""What a repair leaves to others."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One thing that is wrong. `path` is relative to the store; `index` is that of an image or flow in `stream`."""

    kind: str
    path: str
    text: str
    video: str = ""
    stream: str = ""
    index: int | None = None
    remedy: Remedy = Remedy.NONE
    place: int = -1

    def __post_init__(self) -> None:
        assert self.kind in KINDS, self.kind

    def to_json(self) -> dict[str, Any]:
        """A JSON object."""
        names = ("kind", "path", "video", "stream", "index", "text")
        return {**{name: getattr(self, name) for name in names}, "cure": self.remedy.value}

    def __str__(self) -> str:
        """`path: what is wrong (video, stream and index)`."""
        index = "" if self.index is None else f" {self.index}"
        where = ", ".join(part for part in (self.video, f"{self.stream}{index}") if part)
        return f"{self.path}: {self.text}" + (f" ({where})" if where else "")


@dataclass(frozen=True, slots=True, kw_only=True)
class Compared:
    """What was computed again from the sources: pairs of frames, and how many of them gave the same bytes.

    `max_mean_codes` is the largest mean difference of a pair's decoded 8-bit planes. Videos whose source cannot be
    read, or is not the file any more that was extracted, are counted and left out.
    """

    backend: str = ""
    num_videos: int = 0
    num_pairs: int = 0
    num_equal: int = 0
    max_mean_codes: float = 0.0
    num_changed: int = 0
    num_unreadable: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What was looked at and found. `finished` is False for a store whose first run has not ended.

    `states` counts videos by what is known of them; `num_jpegs` and `num_bytes` are those that were read and hashed.
    `notes` are sentences about what is not damage.
    """

    out: Path
    finished: bool = False
    findings: tuple[Finding, ...] = ()
    notes: tuple[str, ...] = ()
    states: Mapping[str, int] = field(default_factory=dict)
    num_jpegs: int = 0
    num_bytes: int = 0
    deep: bool = False
    compared: Compared | None = None
    seconds: float = 0.0

    @property
    def exit_code(self) -> int:
        """4 if anything is damaged, as `StoreError` has."""
        return 4 if self.findings else 0

    def to_json(self) -> dict[str, Any]:
        """A JSON object."""
        compared = self.compared
        return {
            **{name: getattr(self, name) for name in ("finished", "num_jpegs", "num_bytes", "deep", "seconds")},
            "out": str(self.out),
            "findings": [finding.to_json() for finding in self.findings],
            "notes": list(self.notes),
            "states": dict(self.states),
            "compared": None if compared is None else {name: getattr(compared, name) for name in compared.__slots__},
        }

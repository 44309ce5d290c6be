"""Which code stands for no motion in stored flow, by the flow itself: 128 if it was rounded, 127 if it was cut off.

Note [where still pixels lie]: most pixels of most videos hardly move, in both directions alike, so that small flow is
symmetric about zero. Rounded, zero lies on the edge between 127 and 128: the counts of 127 and 128 are alike, as are
those of 126 and 129, but for flow that is exactly zero, which adds to 128. Cut off, zero lies within 127: the counts of
126 and 128 are alike, as are those of 125 and 129. A video whose camera moves a little contradicts that; hence each
direction of each video has one vote.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from flowprep.config import ExtractSettings
from flowprep.encode import decode_plane
from flowprep.errors import SettingsError, StoreError
from flowprep.stores.alignment import judge
from flowprep.stores.inventory import FoundVideo
from flowprep.stores.jpegfile import read_plain_file
from flowprep.stores.layouts import layout_of

ZERO_OF_RULE = {"round": 128, "truncate": 127}
_NUM_VIDEOS = 32
_NUM_FLOWS = 5  # of each of these
_MIN_PIXELS = 200
_MIN_SHARE = 0.01  # of pixels that hardly move; with less, a video says nothing
_FITS, _MISFITS = 0.1, 0.3  # asymmetry as a share of these pixels, by which a rule fits or does not
_MAJORITY = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class ZeroLevel:
    """What was measured: votes by rule, videos looked at, and how many pixels had which code about zero."""

    votes: Counter[str]
    num_videos: int
    codes: dict[int, int] = field(default_factory=dict)

    @property
    def rule(self) -> str | None:
        """The rule that the flow was made with, None where the votes do not decide."""
        for rule, other in (("round", "truncate"), ("truncate", "round")):
            if self.votes[rule] >= 2 and self.votes[rule] >= _MAJORITY * self.votes[other]:
                return rule
        return None

    @property
    def text(self) -> str:
        """What it says, for people."""
        if self.rule is None:
            return f"the zero level of its flow cannot be told from {self.num_videos} videos"
        codes = ", ".join(f"{code} {count}" for code, count in self.codes.items())
        return (
            f"the zero level of its flow is {ZERO_OF_RULE[self.rule]}, as `{self.rule}` makes it (by "
            f"{self.votes[self.rule]} of {self.votes.total()} votes of {self.num_videos} videos; pixels by code: "
            f"{codes})"
        )

    def to_json(self) -> dict[str, Any]:
        """A JSON object."""
        return {
            "rule": self.rule,
            "votes": dict(self.votes),
            "num_videos": self.num_videos,
            "codes": {str(code): count for code, count in self.codes.items()},
        }


def measure(root: Path, settings: ExtractSettings, videos: Sequence[FoundVideo]) -> ZeroLevel:
    """Measure the zero level of a tree from some of its videos; those that cannot be read say nothing."""
    usable = [found for found in videos if not judge(found, settings).failures]
    num = min(_NUM_VIDEOS, len(usable))
    chosen = [usable[(2 * k + 1) * len(usable) // (2 * num)] for k in range(num)]
    votes: Counter[str] = Counter()
    sums = np.zeros(256, np.int64)
    for found in chosen:
        for stream in ("flow_x", "flow_y"):
            codes = _histogram(root, settings, found, stream)
            sums += codes
            if rule := vote(codes):
                votes[rule] += 1
    near = {code: int(sums[code]) for code in range(125, 131)}
    return ZeroLevel(votes=votes, num_videos=num, codes=near)


def vote(codes: np.ndarray[tuple[int], np.dtype[np.int64]]) -> str | None:
    """The rule that alone fits a histogram, int64 (256,), see Note [where still pixels lie]."""
    low, c126, c127, c128, c129 = (int(codes[code]) for code in range(125, 130))
    num = c126 + c127 + c128 + c129
    if num < max(_MIN_PIXELS, _MIN_SHARE * int(codes.sum())):
        return None
    rounded = (abs(c126 - c129) + max(0, c127 - c128)) / num
    truncated = (abs(c126 - c128) + abs(low - c129)) / num
    if rounded < _FITS and truncated > _MISFITS:
        return "round"
    return "truncate" if truncated < _FITS and rounded > _MISFITS else None


def check(path: Path, settings: ExtractSettings, level: ZeroLevel, *, trust: bool) -> None:
    """Raise SettingsError where the measured level contradicts the stated rule, unless that is to be trusted."""
    stated = settings.quantise.rounding
    if level.rule in (None, stated) or trust:
        return
    raise SettingsError(
        f"`rounding` {stated} puts zero flow of {path} at {ZERO_OF_RULE[stated]}, but {level.text}; give {level.rule}, "
        f"or --trust-rounding if you know that it was {stated}"
    )


def _histogram(
    root: Path, settings: ExtractSettings, found: FoundVideo, stream: str
) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    """How many pixels have which code in some images of a stream, int64 (256,)."""
    layout, num = layout_of(settings), judge(found, settings).flows
    folders = layout.folders(found.location, settings.streams)
    codes = np.zeros(256, np.int64)
    for k in range(min(_NUM_FLOWS, num)):
        part, name = layout.file(stream, (2 * k + 1) * num // (2 * min(_NUM_FLOWS, num)))
        try:
            plane = decode_plane(read_plain_file(root / folders[part] / name))
        except StoreError:
            continue
        codes += np.bincount(plane.ravel(), minlength=256)
    return codes

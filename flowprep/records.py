"""Frozen records that pass between the stages, with their JSON forms."""

from __future__ import annotations

import enum
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

REASONS: Mapping[str, str] = {
    # why a video failed
    "empty": "the file has no bytes",
    "missing": "the listed file does not exist",
    "ambiguous": "several list rows or files match",
    "name": "the listed path is not allowed",
    "name_too_long": "the path is longer than the file system allows",
    "not_regular": "the path is not a regular file",
    "loop": "the path is a loop of symbolic links",
    "permission": "the file may not be read",
    "io": "the file system reported an error",
    "changed": "the file changed while it was read",
    "not_video": "the content is not a video",
    "format_refused": "the container is not one of those that are opened",
    "container": "the container is damaged, so that no stream can be found",
    "no_video": "there is no video stream, or it has no packets",
    "truncated": "the file ends before its announced end",
    "damaged": "coded data are damaged",
    "size_change": "the frame size changes inside the stream",
    "too_large": "a frame has more pixels than the limit",
    "too_long": "the video is longer than the limit",
    "memory": "not enough memory",
    "crash": "the process that worked on it died",
    "timeout": "it took longer than the limit, or made no progress",
    "numeric": "the flow has values that are not finite",
    "backend": "the flow backend failed",
    "gpu_memory": "one pair of its frames is too large for the memory of the GPU",
    "gpu_crash": "the process that owns the GPU died when it had this video alone",
    "internal": "an error that is ours",
    "gap": "numbers are missing in the names of its JPEG files",
    "jpeg": "a JPEG file is empty, cut, damaged or cannot be read",
    # why a video failed or, where flow is only missing at its end, was kept with a flag
    "counts": "images and flows are not as many as the layout demands",
    # why a video was kept with a flag
    "header_count": "the header announces another number of frames than the complete index holds",
    "too_short": "there are not enough frames for one flow",
    "unverified_length": "the container announces no length, so that a cut cannot be told from the end",
    "multi_stream": "the file has several video streams",
    "interlaced": "frames are interlaced",
    "askew": "frames are to be turned by an angle that is no multiple of 90 degrees",
    "pts": "time stamps step back or are missing; they were sorted, or counted from the frame rate",
    "segment_short": "the segment reaches beyond the end of the video",
    "other_files": "its folder holds files that do not belong to the layout",
}
"""Every code word that a `Reason` may carry, with its meaning. Codes that several states share stand once."""

RETRIED_BY_DEFAULT = frozenset(
    {"io", "memory", "timeout", "missing", "permission", "changed", "gpu_memory", "gpu_crash"}
)
"""Failures that may go away by themselves: a plain re-run tries these again, others need `--retry all`."""


class State(enum.StrEnum):
    """What became of a video. `ok` and `flagged` are in the store; the others are not."""

    OK = "ok"
    FLAGGED = "flagged"
    FAILED = "failed"
    QUARANTINED = "quarantined"
    PENDING = "pending"

    @property
    def stored(self) -> bool:
        """True if the video has images or flow in the store."""
        return self in (State.OK, State.FLAGGED)


@dataclass(frozen=True, slots=True)
class Reason:
    """Why a video is in its state: a code word of `REASONS` and one sentence for people."""

    code: str
    detail: str = ""

    def __post_init__(self) -> None:
        if self.code not in REASONS:
            raise ValueError(f"`code` must be one of the words in records.REASONS, got {self.code!r}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Segment:
    """A part of a video, in seconds from its first frame: frames with start <= t < end.

    `certain` is False where a list gives times but the file may already be cut to them (Kinetics files that are named
    by YouTube id alone): then the duration decides, see `timing.resolve_segment`.
    """

    start_seconds: float
    end_seconds: float
    certain: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Video:
    """One entry of a dataset: a file, or a segment of one.

    `path` is relative to the dataset's video folder, with `/` between parts; bytes that are not UTF-8 are kept as
    surrogate escapes (`os.fsencode` gives them back). `label` counts from 0, -1 where there is none. `problem` is set
    where the listing alone already decides that the video fails (missing, ambiguous).
    """

    id: str
    path: str
    class_name: str = ""
    label: int = -1
    segment: Segment | None = None
    problem: Reason | None = None

    def to_json(self) -> dict[str, Any]:
        """A JSON object; `Video.from_json` gives the video back."""
        segment, problem = self.segment, self.problem
        return {
            "id": self.id,
            "path": self.path,
            "class": self.class_name,
            "label": self.label,
            "segment": None if segment is None else [segment.start_seconds, segment.end_seconds, segment.certain],
            "problem": None if problem is None else [problem.code, problem.detail],
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Video:
        """The video of a JSON object. Raises KeyError, TypeError or ValueError on one that `to_json` did not make."""
        segment, problem = data["segment"], data["problem"]
        if segment is not None:
            start_seconds, end_seconds, certain = segment
            segment = Segment(start_seconds=start_seconds, end_seconds=end_seconds, certain=certain)
        return cls(
            id=data["id"],
            path=data["path"],
            class_name=data["class"],
            label=data["label"],
            segment=segment,
            problem=None if problem is None else Reason(*problem),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Listing:
    """All videos of a dataset in list order, and what the official lists say about them.

    `splits` maps split name ("1", "2", "3", or "official") to part ("train", "val", "test") to ids in list order.
    `unlisted` are video files below the video folder that no list names. `notes` are sentences for the user.
    `num_duplicates` counts list lines that repeat an earlier one.
    """

    dataset: str
    videos: tuple[Video, ...]
    classes: tuple[str, ...] = ()
    splits: Mapping[str, Mapping[str, tuple[str, ...]]] = field(default_factory=dict)
    unlisted: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    num_duplicates: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class DecodeFacts:
    """What the decoder saw of a file. All deterministic for one build of FFmpeg.

    `corrupt_frames` are indices (from 0) of kept frames that the decoder marked as damaged; `gaps` are indices of
    kept frames before which coded data could not be decoded. `announced_frames` is 0 where the header has no count.
    """

    container: str = ""
    codec: str = ""
    pixel_format: str = ""
    pixel_aspect: str = "1:1"
    stream: int = 0
    num_video_streams: int = 1
    announced_frames: int = 0
    packets: int = 0
    decoded_frames: int = 0
    num_errors: int = 0
    corrupt_frames: tuple[int, ...] = ()
    gaps: tuple[int, ...] = ()
    rotation: int = 0
    num_pts_repaired: int = 0
    segment_cut: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class FlowFacts:
    """Sums over the flow of a video, from which shares and means follow.

    `num_values` counts flow pixels (H * W * flows * directions), `num_saturated` those with |u| or |v| beyond the
    bound, `sum_magnitude_px` the sum of hypot(u, v) in pixels.
    """

    num_values: int = 0
    num_saturated: int = 0
    sum_magnitude_px: float = 0.0

    def plus(self, other: FlowFacts) -> FlowFacts:
        """The sums of both."""
        return FlowFacts(
            num_values=self.num_values + other.num_values,
            num_saturated=self.num_saturated + other.num_saturated,
            sum_magnitude_px=self.sum_magnitude_px + other.sum_magnitude_px,
        )

    @property
    def saturated_share(self) -> float:
        """Share of flow pixels beyond the bound, 0..1, rounded to 9 digits so that its text is short."""
        return round(self.num_saturated / self.num_values, 9) if self.num_values else 0.0

    @property
    def mean_magnitude_px(self) -> float:
        """Mean of hypot(u, v) in pixels, rounded to 6 digits."""
        return round(self.sum_magnitude_px / self.num_values, 6) if self.num_values else 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """The manifest's line of one video. Deterministic fields only: no times, hosts, attempts or versions.

    `location` is the folder of a tree or the shard file, relative to the store, or "" while there is none. `frames`
    counts images and `flows` flow fields in the store. `width` and `height` are of the stored images, `fps` of the
    source (or the rate asked for). `stream_sha256` hashes each stream's JPEG bytes, one after another.
    """

    id: str
    path: str
    class_name: str
    label: int
    state: State
    reasons: tuple[Reason, ...] = ()
    frames: int = 0
    flows: int = 0
    width: int = 0
    height: int = 0
    fps: float = 0.0
    location: str = ""
    source_bytes: int = 0
    source_sha256: str = ""
    segment: tuple[float, float] | None = None
    stream_sha256: Mapping[str, str] = field(default_factory=dict)
    stream_bytes: Mapping[str, int] = field(default_factory=dict)
    saturated_share: float = 0.0
    mean_magnitude_px: float = 0.0
    decoder: DecodeFacts | None = None

    @classmethod
    def unstored(cls, video: Video, state: State, *reasons: Reason) -> Row:
        """The row of a video of which nothing is in the store."""
        segment = video.segment
        return cls(
            id=video.id,
            path=video.path,
            class_name=video.class_name,
            label=video.label,
            state=state,
            reasons=reasons,
            segment=None if segment is None else (segment.start_seconds, segment.end_seconds),
        )

    def to_json(self) -> dict[str, Any]:
        """A JSON object; `Row.from_json` gives the row back."""
        data = _fields_of(self)
        data["class"] = data.pop("class_name")
        data["state"] = str(self.state)
        data["reasons"] = [_fields_of(reason) for reason in self.reasons]
        data["decoder"] = None if self.decoder is None else _fields_of(self.decoder)
        return data

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Row:
        """The row of a JSON object that `to_json` made. Raises KeyError, TypeError or ValueError on any other."""
        values = dict(data)
        values["class_name"] = values.pop("class")
        values["state"] = State(values["state"])
        values["reasons"] = tuple(Reason(**reason) for reason in values["reasons"])
        if values["segment"] is not None:
            values["segment"] = tuple(values["segment"])
        if values["decoder"] is not None:
            facts = dict(values["decoder"])
            facts["corrupt_frames"] = tuple(facts["corrupt_frames"])
            facts["gaps"] = tuple(facts["gaps"])
            values["decoder"] = DecodeFacts(**facts)
        return cls(**values)


def _fields_of(record: Row | Reason | DecodeFacts) -> dict[str, Any]:
    """The fields of a record; `dataclasses.asdict` copies every value and takes ten times as long."""
    return {name: getattr(record, name) for name in record.__slots__}


def canonical_json(data: Any) -> str:
    """One text for one content: sorted keys, no spaces, ASCII (surrogate escapes stay reversible), no NaN."""
    return json.dumps(data, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)

"""Whether all of a video was there, and whether it was sound: judged from counts, after it was read.

Note [decoders are silent]: most damage reaches a caller as fewer or wrong frames without any error, so three witnesses
are heard. Packets are counted against the header and the file's own length (a cut file), frames are asked for FFmpeg's
corrupt flag (flipped bits), and decoder errors are counted (holes).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import SupportsBytes, TypeVar

from flowprep.containers import Extent
from flowprep.errors import VideoError
from flowprep.records import Reason, Segment

T = TypeVar("T")

_HOLE = bytes(1024)
_MAX_REORDERED = 16  # frames, in H.264 and HEVC
_HOLE_CODECS = frozenset(
    {"vp8", "vp9", "libdav1d", "av1", "h264", "hevc", "mpeg4", "msmpeg4", "msmpeg4v2", "msmpeg4v3"}
)
"""Codecs whose data never hold a kilobyte of zeros (none of the data sets' clips has even half of one)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """What the header announced and what was counted. Times are in seconds, None where unknown.

    `announced_frames` is 0 where the header has no count; `period_seconds` is the time of one frame.
    """

    extent: Extent
    announced_frames: int
    num_index_entries: int
    num_packets: int
    num_decoded: int
    num_corrupt: int
    num_errors: int
    lacks_key_frame: bool
    is_encrypted: bool
    start_seconds: float
    last_packet_end_seconds: float | None
    stream_duration_seconds: float | None
    container_duration_seconds: float | None
    period_seconds: float

    @property
    def missing_text(self) -> str:
        """A clause about bytes that the container announces and the file lacks."""
        return f"{self.extent.missing_bytes} of {self.extent.announced_bytes} bytes are missing"

    @property
    def covers_duration(self) -> bool:
        """True if the last packet ends where the header says that the video ends, within 2 frames or 0.1 s."""
        duration = self.stream_duration_seconds or self.container_duration_seconds
        if not duration or self.last_packet_end_seconds is None:
            return False
        tolerance = max(2 * self.period_seconds, 0.1)
        return self.last_packet_end_seconds - self.start_seconds >= duration - tolerance


def truncation(evidence: Evidence) -> tuple[Reason | None, Reason | None]:
    """(why a video that was read to its end is truncated or None, what to flag it with or None).

    Packets are compared, never frames: an edit list leaves fewer frames than packets, and nothing is lost. Raises
    VideoError `no_video` where a complete file has no packet at all.
    """
    extent, packets, announced = evidence.extent, evidence.num_packets, evidence.announced_frames
    if packets == 0 and not extent.missing_bytes:
        claim = f"; the header announces {announced} frames" if announced else ""
        raise VideoError("no_video", f"the video stream has no packets{claim}")
    if announced:
        if packets >= announced:
            return None, None
        # A cut AVI gets its duration from what is left, so that the time of the last packet proves nothing there.
        if extent.complete:
            is_whole = evidence.num_index_entries == packets
        else:
            is_whole = not extent.missing_bytes and evidence.covers_duration
        if not is_whole:
            return Reason("truncated", f"{packets} of {announced} packets are there"), None
        if extent.kind == "mp4":  # samples outside an edit list are no packets
            return None, None
        return None, Reason(
            "header_count", f"the header announces {announced} frames, the complete index holds {packets}"
        )
    if extent.missing_bytes:
        return Reason("truncated", evidence.missing_text), None
    if extent.complete:
        return None, None
    if extent.kind == "matroska" and evidence.container_duration_seconds:
        if evidence.covers_duration:
            return None, None
        end, duration = evidence.last_packet_end_seconds or 0.0, evidence.container_duration_seconds
        return Reason("truncated", f"the last packet ends at {end:.2f} s of {duration:.2f} s"), None
    return None, Reason("unverified_length", "the container announces no length, so that a cut would not be seen")


def segment_truncation(evidence: Evidence, segment: Segment) -> tuple[Reason | None, Reason | None]:
    """Like `truncation`, where the file ended inside or before a segment of it."""
    if evidence.extent.missing_bytes:
        return Reason("truncated", f"{evidence.missing_text}, inside the segment"), None
    announced = evidence.extent.kind == "matroska" and evidence.container_duration_seconds and evidence.num_packets
    if announced and not evidence.extent.complete and not evidence.covers_duration:
        return truncation(evidence)
    if evidence.num_decoded == 0:
        raise VideoError("segment_short", f"the segment starts at {segment.start_seconds} s, after the video's end")
    end = (evidence.last_packet_end_seconds or 0.0) - evidence.start_seconds
    if end < segment.end_seconds - 0.5:
        return None, Reason(
            "segment_short", f"the segment reaches to {segment.end_seconds} s, the video to {end:.2f} s"
        )
    return None, None


def damage(evidence: Evidence) -> Reason | None:
    """Why a video is damaged, or None."""
    found = ((evidence.num_corrupt, "corrupt frame"), (evidence.num_errors, "decoder error"))
    counts = [f"{count} {name}{'s' if count > 1 else ''}" for count, name in found if count]
    if not counts:
        return None
    hint = "; the stream is encrypted" if evidence.is_encrypted and not evidence.num_decoded else ""
    hint = "; it begins without a key frame" if evidence.lacks_key_frame else hint
    return Reason("damaged", f"{' and '.join(counts)} among {evidence.num_packets} packets{hint}")


def has_hole(packet: SupportsBytes, codec: str) -> bool:
    """True if a coded frame holds a run of zeros that no encoder writes: a lost block of a disk or download.

    The VP8, VP9 and AV1 decoders take such data for valid and give wrong pictures without a word.
    """
    return codec in _HOLE_CODECS and _HOLE in bytes(packet)


def before_damage(frames: Iterable[T], is_b_frame: Callable[[T], bool], is_damaged: Callable[[], bool]) -> Iterator[T]:
    """The frames, which end with the first damaged one, without the B-frames right before that.

    They are shown before it, but were decoded after it and from it: their pictures are wrong, and nothing says so.
    `is_damaged` tells at the end whether damage was the reason. Few frames are held back at a time.
    """
    held: deque[T] = deque()
    for frame in frames:
        held.append(frame)
        while held and (not is_b_frame(frame) or len(held) > _MAX_REORDERED):
            yield held.popleft()
    if not is_damaged():
        yield from held

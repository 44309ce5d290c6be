"""Video file to RGB frames: streaming, one decoder thread, and no loss that stays unseen.

Note [one thread]: on damaged files the numbers of frames and of damaged frames vary from run to run where frame threads
decode (measured), so there is one decoder thread; parallel work is over videos. What is made of the counts is in
`integrity.py`.
"""

from __future__ import annotations

import contextlib
import errno
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Self

import av
import numpy as np
from av.video.frame import PictureType
from av.video.reformatter import Interpolation, VideoReformatter
from numpy.typing import NDArray

from flowprep import containers, integrity, opening, source, timing
from flowprep.beginning import Beginning
from flowprep.config import DecodeSettings
from flowprep.errors import VideoError
from flowprep.integrity import Evidence
from flowprep.opening import Header
from flowprep.orientation import Upright
from flowprep.records import DecodeFacts, Reason, Segment

_REORDERED = 4  # frames by which coding order may differ from display order in an AVI
_SEEK_AHEAD_FRAMES = 16  # the most that H.264 and HEVC reorder
_TOLERANCE_SECONDS = 1e-6
_MIN_FRAME_BYTES = 8
_SEEKABLE = ("mp4", "matroska")  # containers whose time stamps and indices can be trusted for seeking
_RGB_FLAGS = Interpolation.BICUBIC | Interpolation.BITEXACT
"""swscale's flags. With them RGB is bit for bit what OpenCV's VideoCapture gives (measured on the data sets' clips)."""

av.logging.set_level(None)


class VideoReader:
    """Reads one video, or a segment of one; use as a context manager and iterate `frames()` once, to its end.

    After the last frame `facts`, `reasons`, `pts_seconds` and `fps` describe what was read; `opened` tells whether it
    came so far that there are facts, and `num_bytes_read` how many bytes of coded frames were taken in. Opening and
    iterating raise VideoError where the video fails by `settings`.
    """

    def __init__(self, path: Path, settings: DecodeSettings, segment: Segment | None = None) -> None:
        self._path, self._settings, self._segment = path, settings, segment
        self.opened = False
        self._closed_facts: DecodeFacts | None = None
        self.reasons: list[Reason] = []
        self.pts_seconds: list[float] = []
        self._num_errors = self._num_corrupt = 0
        self._kept_corrupt, self._gaps = list[int](), list[int]()
        self._num_packets = self._num_decoded = 0
        self.num_bytes_read = 0
        self._stamps = timing.Stamps()
        self._reached_end = self._stopped = self._lacks_key_frame = False
        self._last_packet_end: float | None = None
        self._interlaced, self._pixel_format = False, ""
        self._reformatter, self._upright = VideoReformatter(), Upright()

    def __enter__(self) -> Self:
        with source.opened(self._path) as file:
            self._extent = containers.read_extent(file)
        self._container = self._open()
        try:
            self._set_up()
            self._check_limits()
        except BaseException:
            self._container.close()
            raise
        self.opened = True
        return self

    def __exit__(self, *error: object) -> None:
        # A closed container's streams are freed memory, which PyAV would read all the same.
        self._closed_facts = self.facts
        self._container.close()

    # -- opening ---------------------------------------------------------------------------------------------------

    def _open(self, *, guarded: bool = True) -> av.container.InputContainer:
        return opening.open_container(self._path, self._extent, self._settings.max_pixels, guarded=guarded)

    def _set_up(self) -> None:
        """Choose the stream, set its decoder up and read its header."""
        self._stream, self._num_streams = opening.choose_stream(self._container)
        self._context = self._stream.codec_context
        self._context.thread_type = "NONE"
        self._context.thread_count = 1
        self._context.options = {"max_pixels": str(self._settings.max_pixels)}
        self._header = Header.of(self._container, self._stream, self._extent)
        self._period = 1.0 / self._header.fps if self._header.fps else 0.04
        self._time_base = float(self._stream.time_base or 0)
        self._origin = (self._stream.start_time or 0) * self._time_base if self._extent.kind in _SEEKABLE else None

    def _check_limits(self) -> None:
        """Refuse what is too large or too long before the first frame is decoded."""
        if not self._context.width:  # the guard hides the size in some containers
            self._container.close()
            self._container = self._open(guarded=False)
            self._set_up()
        width, height = self._context.width, self._context.height
        if width * height > self._settings.max_pixels:
            raise self._too_large(width, height)
        self._cut = timing.resolve_segment(self._segment, self._header.duration_seconds, self._settings.segments)
        # Only by a count: durations may be made of time stamps that jump, as of files that were joined.
        if self._header.announced_frames and self.expected_frames > self._settings.max_frames:
            raise VideoError(
                "too_long",
                f"about {self.expected_frames} frames are more than {self._settings.max_frames}; raise --max-frames",
            )
        if self._num_streams > 1:
            self._flag(
                "multi_stream", f"of {self._num_streams} video streams, FFmpeg's choice {self._stream.index} was taken"
            )

    def _too_large(self, width: int, height: int) -> VideoError:
        limit = self._settings.max_pixels
        return VideoError("too_large", f"{width}x{height} has more than {limit} pixels; raise --max-pixels")

    @property
    def fps(self) -> float:
        """Frames a second: the rate asked for where it is the lower one, else the source's (0 where unknown)."""
        wanted = self._settings.fps
        if wanted is not None and (self._header.fps == 0 or wanted < self._header.fps):
            return wanted
        return self._header.fps

    @property
    def header_size(self) -> tuple[int, int]:
        """(width, height) of a frame as the header says, before rotation; 0 where it does not say."""
        return self._context.width, self._context.height

    @property
    def expected_frames(self) -> int:
        """About how many frames will come, from the header alone; 0 where it does not say.

        No more than the file has room for, whatever a wrong header says; `frames` counts in any case.
        """
        header = self._header
        if self._cut is not None:
            expected = round((self._cut.end_seconds - self._cut.start_seconds) * self.fps)
        else:
            expected = header.announced_frames or round((header.duration_seconds or 0) * header.fps)
            expected = round(expected * self.fps / header.fps) if header.fps else expected
        return min(expected, self._extent.num_bytes // _MIN_FRAME_BYTES)

    # -- reading ---------------------------------------------------------------------------------------------------

    def frames(self) -> Iterator[NDArray[np.uint8]]:
        """Upright RGB frames, uint8 (H, W, 3), in display order. All have one size."""
        depth = _REORDERED if self._extent.kind == "avi" else 0
        decoded = self._decoded()
        if self._settings.on_damage == "keep-prefix":
            decoded = integrity.before_damage(
                decoded, lambda item: item[1][0].pict_type == PictureType.B, lambda: self._stopped
            )
        timed = self._in_segment(timing.in_display_order(decoded, self._period, depth, self._stamps))
        if self._settings.fps is not None:
            timed = timing.pick_nearest(timed, self._settings.fps)
        size: tuple[int, int] | None = None
        for time, (frame, gap) in timed:
            index = len(self.pts_seconds)
            if index >= self._settings.max_frames:
                raise VideoError("too_long", f"more than {index} frames; raise --max-frames")
            rgb = self._upright_rgb(frame)
            if size is not None and rgb.shape[:2] != size:
                raise self._size_change(index, rgb.shape[1::-1], size[::-1])
            size = rgb.shape[0], rgb.shape[1]
            self.pts_seconds.append(time)
            if frame.is_corrupt:
                self._kept_corrupt.append(index)
            if gap:
                self._gaps.append(index)
            yield rgb
        self._finish()

    def _decoded(self) -> Iterator[tuple[float | None, tuple[av.VideoFrame, bool]]]:
        """(time stamp in seconds from the first frame or None, (frame, whether data before it were lost)).

        Once a frame is damaged, `fail` and `keep-prefix` give no further frame but read on, to count the damage. What
        lies before a segment is decoded and given, but not judged: a seek may lead into an open group of pictures.
        """
        tolerant = self._settings.on_damage == "keep-flagged"
        start = self._cut.start_seconds - _TOLERANCE_SECONDS if self._cut else float("-inf")
        size: tuple[int, int] | None = None
        in_segment = self._cut is None or self._cut.start_seconds <= 0
        pending_gap = False
        beginning = Beginning(self._container, self._context.codec)
        for packet in self._packets():
            beginning.take_packet(packet)
            if integrity.has_hole(packet, self._context.name):
                self._num_errors += in_segment
                self._stopped |= in_segment and not tolerant
            try:
                decoded = packet.decode()
            except av.FFmpegError as error:
                if error.errno == errno.ENOMEM:
                    raise VideoError("memory", "there is not enough memory to decode") from error
                self._num_errors += in_segment
                pending_gap = in_segment
                self._stopped |= in_segment and not tolerant
                continue
            for frame in decoded:
                assert isinstance(frame, av.VideoFrame)
                stamp = None if frame.pts is None else frame.pts * self._time_base
                if self._origin is None and stamp is not None:
                    self._origin = stamp
                stamp = None if stamp is None or self._origin is None else stamp - self._origin
                in_segment = in_segment or (stamp is not None and stamp >= start)
                if frame.width * frame.height > self._settings.max_pixels:
                    raise self._too_large(frame.width, frame.height)
                if size is not None and (frame.width, frame.height) != size:
                    raise self._size_change(self._num_decoded, (frame.width, frame.height), size)
                size = frame.width, frame.height
                if beginning.is_lost(frame) and in_segment:
                    self._lacks_key_frame = pending_gap = True
                    self._num_errors += 1
                    self._stopped |= not tolerant
                if in_segment:
                    self._num_decoded += 1
                    self._interlaced = self._interlaced or frame.interlaced_frame
                    self._num_corrupt += frame.is_corrupt
                    self._stopped |= frame.is_corrupt and not tolerant
                if not self._stopped:
                    yield stamp, (frame, pending_gap)
                    pending_gap = False
        self._reached_end = True

    def _in_segment(
        self, timed: Iterator[tuple[float, tuple[av.VideoFrame, bool]]]
    ) -> Iterator[tuple[float, tuple[av.VideoFrame, bool]]]:
        """The frames with start <= time < end, or all of them."""
        if self._cut is None:
            yield from timed
            return
        for time, item in timed:
            if time >= self._cut.end_seconds - _TOLERANCE_SECONDS:
                return
            if time >= self._cut.start_seconds - _TOLERANCE_SECONDS:
                yield time, item

    def _packets(self) -> Iterator[av.Packet[Any]]:
        """Packets of the stream, counted; the last one flushes the decoder."""
        if self._cut is not None and self._cut.start_seconds > 0 and self._extent.kind in _SEEKABLE:
            # FFmpeg seeks by decoding time, which runs ahead of display time by the reordering of frames; what is
            # decoded before the segment costs little.
            ahead = max(1.0, _SEEK_AHEAD_FRAMES * self._period)
            offset = round((max(self._cut.start_seconds - ahead, 0.0) + (self._origin or 0)) / self._time_base)
            with contextlib.suppress(av.FFmpegError):  # no index: read from the beginning
                self._container.seek(offset, stream=self._stream, backward=True)
        # Where the length must be found from the last packet, audio that outlasts the video counts too.
        demuxed = [self._stream] if self._extent.announced_bytes is not None else list(self._container.streams)
        flushed = False
        try:
            for packet in self._container.demux(demuxed):
                end = packet.pts if packet.pts is not None else packet.dts
                if end is not None and packet.time_base is not None:
                    seconds = float((end + (packet.duration or 0)) * packet.time_base)
                    self._last_packet_end = max(self._last_packet_end or seconds, seconds)
                if packet.stream is not self._stream:
                    continue
                flushed = not packet.size and packet.dts is None
                self._num_packets += not flushed
                self.num_bytes_read += packet.size
                yield packet
        except IndexError:  # after ours PyAV flushes streams that have turned up behind the header, and finds none
            self._num_errors += not flushed
        except av.FFmpegError as error:
            if (failure := source.failure_behind(error.errno, self._path)) is not None:
                raise failure from error
            self._num_errors += 1

    def _upright_rgb(self, frame: av.VideoFrame) -> NDArray[np.uint8]:
        """RGB of a frame, turned and mirrored as it is to be shown."""
        self._pixel_format = self._pixel_format or frame.format.name
        converted = self._reformatter.reformat(frame, format="rgb24", interpolation=_RGB_FLAGS, threads=1)
        return self._upright(np.asarray(converted.to_ndarray(), dtype=np.uint8), frame)

    def _size_change(self, index: int, here: tuple[int, ...], before: tuple[int, ...]) -> VideoError:
        return VideoError(
            "size_change",
            f"frame {index} is {here[0]}x{here[1]}, those before are {before[0]}x{before[1]}; re-encode to one size",
        )

    # -- judging ---------------------------------------------------------------------------------------------------

    def _finish(self) -> None:
        """After the last frame: decide whether all of it was there, and whether it was sound."""
        evidence = self._evidence()
        truncation, flag = None, None
        if self._cut is None:
            truncation, flag = integrity.truncation(evidence)
        elif self._reached_end:
            truncation, flag = integrity.segment_truncation(evidence, self._cut)
        if flag is not None:
            self.reasons.append(flag)
        loss = truncation or integrity.damage(evidence)
        if loss is not None:
            if self._settings.on_damage == "fail" or not self.pts_seconds:
                raise VideoError(loss.code, loss.detail)
            self._flag(loss.code, f"{loss.detail}; {len(self.pts_seconds)} frames were kept")
        if self._num_decoded == 0:
            raise VideoError("no_video", "no frame can be decoded")
        if self._stamps.problem:
            if self._settings.on_pts == "fail":
                raise VideoError("pts", self._stamps.problem)
            self._flag("pts", self._stamps.problem)
        if self._interlaced:
            self._flag("interlaced", "frames are interlaced; fields of one frame are of different times")
        if self._upright.is_askew:
            degrees = self._upright.rotation
            self._flag("askew", f"frames are to be turned by {degrees} degrees, and are left as they are")

    def _evidence(self) -> Evidence:
        duration, container = self._stream.duration, self._container.duration
        is_encrypted = False
        with contextlib.suppress(UnicodeDecodeError):  # the tag is damaged
            is_encrypted = self._context.codec_tag in ("encv", "drmi")
        return Evidence(
            extent=self._extent,
            announced_frames=self._header.announced_frames,
            num_index_entries=len(self._stream.index_entries),
            num_packets=self._num_packets,
            num_decoded=self._num_decoded,
            num_corrupt=self._num_corrupt,
            num_errors=self._num_errors,
            lacks_key_frame=self._lacks_key_frame,
            is_encrypted=is_encrypted,
            start_seconds=(self._stream.start_time or 0) * self._time_base,
            last_packet_end_seconds=self._last_packet_end,
            stream_duration_seconds=float(duration * self._time_base) if duration else None,
            container_duration_seconds=container / av.time_base if container else None,
            period_seconds=self._period,
        )

    def _flag(self, code: str, detail: str) -> None:
        self.reasons.append(Reason(code, detail))

    @property
    def facts(self) -> DecodeFacts:
        """What was seen of the file so far; complete after the last frame."""
        if self._closed_facts is not None:
            return self._closed_facts
        aspect = self._stream.sample_aspect_ratio
        return DecodeFacts(
            container=self._container.format.name.split(",")[0],
            codec=self._context.name,
            pixel_format=self._pixel_format,
            pixel_aspect=f"{aspect.numerator}:{aspect.denominator}" if aspect else "1:1",
            stream=self._stream.index,
            num_video_streams=self._num_streams,
            announced_frames=self._header.announced_frames,
            packets=self._num_packets,
            decoded_frames=self._num_decoded,
            num_errors=self._num_errors,
            corrupt_frames=tuple(self._kept_corrupt),
            gaps=tuple(self._gaps),
            rotation=self._upright.rotation,
            num_pts_repaired=self._stamps.num_repaired,
            segment_cut=self._cut is not None,
        )

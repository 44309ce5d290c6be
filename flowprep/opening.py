"""A video file opened by FFmpeg, the stream of it that is read, and what its header says about that."""

from __future__ import annotations

import errno
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import av

from flowprep import containers, source
from flowprep.containers import Extent
from flowprep.errors import VideoError

FORMATS = (
    "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,mpeg,mpegts,mpegvideo,asf,flv,ogg,h264,hevc,m4v,dv,mxf,nut,rm,ivf,"
    "yuv4mpegpipe"
)
"""FFmpeg demuxers that may open a file: no playlists, scripts, images or subtitles, so no second file or socket."""

_OPTIONS = {"format_whitelist": FORMATS, "protocol_whitelist": "file"}
_MAX_STREAMS = 64
_MAX_FPS = 1000  # what FFmpeg makes of the first time stamps may be their unit: 60000 of raw DV


@dataclass(frozen=True, slots=True, kw_only=True)
class Header:
    """What a header says of a stream, as far as it can be believed.

    `announced_frames` is 0 where there is no count, `fps` 0 where there is no rate, and `duration_seconds` None where
    neither stream nor container has one, or where it was made from a count that its writer did not know.
    """

    announced_frames: int
    fps: float
    duration_seconds: float | None

    @classmethod
    def of(cls, container: av.container.InputContainer, stream: av.VideoStream, extent: Extent) -> Self:
        """The header of the stream that was chosen."""
        num_frames, rate = containers.announced_frames(extent, stream.frames), stream.average_rate or 0
        if not 0 < rate <= _MAX_FPS:
            rate = stream.guessed_rate or rate
        duration: float | None = None
        if stream.frames and not num_frames:
            pass
        elif stream.duration:
            duration = float(stream.duration * (stream.time_base or 0))
        elif container.duration:
            duration = container.duration / av.time_base
        return cls(announced_frames=num_frames, fps=float(rate), duration_seconds=duration)


def open_container(path: Path, extent: Extent, max_pixels: int, *, guarded: bool = True) -> av.container.InputContainer:
    """The container. `file:` and the whitelists keep FFmpeg from opening anything else than this one file.

    While FFmpeg looks for stream parameters it may decode a frame; `guarded`, it refuses one beyond the limit. Raises
    VideoError.
    """
    name = "file:" + os.fspath(path)
    guards = [{"max_pixels": str(max_pixels), "threads": "1"}] * _MAX_STREAMS if guarded else []
    try:
        try:
            return av.open(name, options=_OPTIONS, stream_options=guards, metadata_errors="ignore")  # type: ignore[arg-type]
        except av.FFmpegError:
            raise
        except ValueError:  # MPEG and FLV show their streams too late for options of streams
            return av.open(name, options=_OPTIONS, metadata_errors="ignore")
    except av.FFmpegError as error:
        raise _failure(error, path, extent) from error


def _failure(error: av.FFmpegError, path: Path, extent: Extent) -> VideoError:
    if error.errno == errno.EINVAL or extent.kind == "playlist":
        return VideoError("format_refused", "this container is not opened; convert the file to MP4, MKV or AVI")
    if (failure := source.failure_behind(error.errno, path)) is not None:
        return failure
    if not extent.kind:
        return VideoError("not_video", "the content is not a video; fetch the file again")
    lost = extent.missing_bytes
    cut = f": {lost} bytes are missing at its end" if lost else ""
    kind = "" if extent.kind == "other" else f"{extent.kind} "
    return VideoError("container", f"the {kind}file has no readable index of streams{cut}; fetch it again")


def choose_stream(container: av.container.InputContainer) -> tuple[av.VideoStream, int]:
    """FFmpeg's best video stream, never an attached picture (cover art), and how many there are.

    Raises VideoError `no_video` where there is none, or none with a codec that is known.
    """
    picture = av.stream.Disposition.attached_pic
    streams = [stream for stream in container.streams.video if not stream.disposition & picture]
    if not streams:
        raise VideoError("no_video", "the file has no video stream")
    best = container.streams.best("video")
    chosen = next((stream for stream in streams if stream is best), streams[0])
    if chosen.codec_context is None:
        raise VideoError("no_video", "the video stream has a codec that is not known")
    return chosen, len(streams)

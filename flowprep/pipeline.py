"""One video through all stages: decode, resize, grey, flow, quantise, encode, store.

Reads top to bottom in the order of the data. Frames stream through in small batches, so memory does not depend on the
length of a video.
"""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import itertools
import logging
import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from flowprep import source
from flowprep.config import ExtractSettings, JpegSettings
from flowprep.decode import VideoReader
from flowprep.encode import encode_plane, encode_rgb
from flowprep.errors import FlowprepError, VideoError
from flowprep.flow import create_backend
from flowprep.flow.backend import FlowBackend
from flowprep.flowstage import FlowCodes, FlowStage
from flowprep.publisher import Publisher, VideoWriter
from flowprep.records import DecodeFacts, FlowFacts, Reason, Row, State, Video
from flowprep.resize import grey, resize, target_size
from flowprep.stores.layouts import layout_of
from flowprep.wording import counted

_log = logging.getLogger(__name__)
_BATCH_PIXELS = 2_000_000
_MAX_JPEG_SIDE = 65500  # libjpeg's limit


_Image = NDArray[np.uint8]


@dataclass(frozen=True, slots=True, kw_only=True)
class Stages:
    """What is done to frames beside flow, in the order of the data; for a benchmark to put clocks around."""

    decode: Callable[[VideoReader], Iterator[_Image]]
    resize: Callable[[_Image, tuple[int, int]], _Image]
    grey: Callable[[_Image], _Image]
    encode_rgb: Callable[[_Image, JpegSettings], bytes]
    encode_plane: Callable[[_Image, JpegSettings], bytes]


def own_stages() -> Stages:
    """The functions that `extract` runs."""
    return Stages(decode=VideoReader.frames, resize=resize, grey=grey, encode_rgb=encode_rgb, encode_plane=encode_plane)


def open_backend(settings: ExtractSettings, device: int = 0) -> FlowBackend | None:
    """The flow backend of resolved settings, for one worker; None where they store no flow.

    `device` is a CUDA device, counted from 0; CPU backends ignore it.
    """
    flow = settings.flow
    if not settings.store.flow:
        return None
    return create_backend(
        flow.backend,
        variant=flow.variant,
        parameters=flow.parameters,
        device=device,
        cpu_baseline=flow.cpu_baseline,
    )


def extract_video(
    video: Video,
    list_index: int,
    videos: Path,
    settings: ExtractSettings,
    open_flow: Callable[[], FlowStage] | None,
    publisher: Publisher,
    *,
    attempt: str,
    opened: Callable[[int, int], None] = lambda _frames, _pixels: None,
    heartbeat: Callable[[int], None] = lambda _: None,
) -> Row:
    """Extract one video and publish what became of it.

    `videos` is the folder that `video.path` is relative to; `open_flow` begins the flow of a video, and is None where
    settings.store.flow is False.
    `opened` is called with the number of frames that the header announces (0: unknown) and the pixels of one, before or
    after resizing, whichever are more; `heartbeat` with the number of frames done since its last call. Returns the
    published row; a video that fails is a row too, never an exception.

    Raises:
        MemoryError: there is not enough memory; nothing is published, whether to try again is for the caller to say.
        RunStoppedError: the store cannot be written.
        DeviceLostError: the process that computes flow has died; nothing is published.
    """
    assert video.problem is None, "a video that fails by the list alone is no work"
    reader: VideoReader | None = None
    writer: VideoWriter | None = None
    path = videos / video.path
    version: source.Fingerprint | None = None
    try:
        with source.opened(path) as file:
            version = source.fingerprint(file)
        with VideoReader(path, settings.decode, video.segment) as reader:
            opened(reader.expected_frames, _largest_num_pixels(reader.header_size, settings))
            writer = publisher.begin(video, list_index, attempt=attempt)
            with contextlib.ExitStack() as stack:
                flow = stack.enter_context(contextlib.closing(open_flow())) if open_flow is not None else None
                row = extract_frames(video, reader, settings, flow, writer.add, heartbeat)
        row = dataclasses.replace(row, source_bytes=version.num_bytes, source_sha256=source.sha256_of(path, version))
        source.check_unchanged(path, version)
        return writer.commit(row, reader.pts_seconds, source_mtime_ns=version.mtime_ns)
    except VideoError as error:
        if error.code == "memory":
            raise MemoryError(error.detail) from error
        failure = error
    except FlowprepError:  # the store's or the run's, not this video's
        raise
    except Exception as error:  # an error of ours costs one video, never the list
        if _is_want_of_memory(error):
            raise MemoryError(str(error)) from error
        _log.exception("%s: an unexpected error; please report it", path)
        failure = VideoError("internal", f"{type(error).__name__}: {error}")
    finally:
        if writer is not None:
            writer.abort()  # does nothing after a commit
    row = _failed(video, failure, path, version, reader.facts if reader is not None and reader.opened else None)
    return publisher.publish_row(row, list_index, source_mtime_ns=version.mtime_ns if version is not None else 0)


def extract_frames(
    video: Video,
    reader: VideoReader,
    settings: ExtractSettings,
    flow: FlowStage | None,
    add: Callable[[str, bytes], None],
    heartbeat: Callable[[int], None],
    batch_frames: int = 16,
    stages: Stages | None = None,
) -> Row:
    """All stages of one open video; each JPEG goes to `add(stream, jpeg)`, up to `batch_frames` frames at a time.

    The row that is returned lacks only what is known after publishing: source file, location and checksums.
    """
    stages = stages or own_stages()
    num_frames = 0
    size = (0, 0)
    encoded = _Encoded(add, settings, stages)
    for batch in _batches(stages.decode(reader), batch_frames, settings):
        size = target_size(batch[0].shape[1], batch[0].shape[0], settings.resize)
        images = [stages.resize(rgb, size) for rgb in batch]
        if settings.store.rgb:
            for image in images:
                add("rgb", stages.encode_rgb(image, settings.jpeg))
        if flow is not None:
            encoded.add(flow.add(np.stack([stages.grey(image) for image in images])))
        num_frames += len(images)
        heartbeat(len(images))
    if flow is not None:
        encoded.add(flow.finish())
    reasons = list(reader.reasons)
    if flow is not None and encoded.num_flows == 0:
        give = "gives" if num_frames == 1 else "give"
        reasons.append(
            Reason("too_short", f"{counted(num_frames, 'frame')} {give} no flow of step {settings.flow.step}")
        )
    # TSN's image k is the target of flow k, so that the first image is not stored.
    num_images = max(num_frames - layout_of(settings).first_image, 0) if settings.store.rgb else 0
    return dataclasses.replace(
        Row.unstored(video, State.FLAGGED if reasons else State.OK, *reasons),
        frames=num_images,
        flows=encoded.num_flows,
        width=size[0],
        height=size[1],
        fps=round(reader.fps, 6),
        saturated_share=encoded.sums.saturated_share,
        mean_magnitude_px=encoded.sums.mean_magnitude_px,
        decoder=reader.facts,
    )


def _batches(
    frames: Iterable[NDArray[np.uint8]], batch_frames: int, settings: ExtractSettings
) -> Iterator[list[NDArray[np.uint8]]]:
    """Lists of up to `batch_frames` frames, fewer where frames are large or become so.

    Raises VideoError `too_large` where the resized frame would be beyond the limit, or too long for a JPEG.
    """
    iterator = iter(frames)
    for first in iterator:
        height, width = first.shape[:2]
        new_width, new_height = target_size(width, height, settings.resize)
        if new_width * new_height > settings.decode.max_pixels or max(new_width, new_height) > _MAX_JPEG_SIDE:
            raise VideoError(
                "too_large", f"{width}x{height} would become {new_width}x{new_height}; use --size or --keep-size"
            )
        num_pixels = max(width * height, new_width * new_height)
        limit = max(1, min(batch_frames, _BATCH_PIXELS // num_pixels))
        yield [first, *itertools.islice(iterator, limit - 1)]


class _Encoded:
    """Encodes flow and sums it up. Sums are a direction's own, so that they do not depend on how much comes at once."""

    def __init__(self, add: Callable[[str, bytes], None], settings: ExtractSettings, stages: Stages) -> None:
        self._add, self._settings, self._stages = add, settings, stages
        self._forward, self._backward = FlowFacts(), FlowFacts()
        self.num_flows = 0

    def add(self, codes: Iterable[FlowCodes]) -> None:
        """Encode some pairs."""
        for pair in codes:
            streams = ("back_x", "back_y") if pair.backward else ("flow_x", "flow_y")
            for stream, plane in zip(streams, (pair.x, pair.y), strict=True):
                self._add(stream, self._stages.encode_plane(plane, self._settings.jpeg))
            if pair.backward:
                self._backward = self._backward.plus(pair.facts)
            else:
                self._forward = self._forward.plus(pair.facts)
                self.num_flows += 1

    @property
    def sums(self) -> FlowFacts:
        """Over all pairs."""
        return self._forward.plus(self._backward)


def _largest_num_pixels(source_size: tuple[int, int], settings: ExtractSettings) -> int:
    """Pixels of a frame before or after resizing, 0 where the size is not known."""
    if 0 in source_size:
        return 0
    return max(math.prod(source_size), math.prod(target_size(*source_size, settings.resize)))


def _is_want_of_memory(error: Exception) -> bool:
    """True for what Python, OpenCV (its own check, or C++'s) and FFmpeg raise when they cannot allocate."""
    if isinstance(error, cv2.error):
        return error.code == cv2.Error.StsNoMem or "bad_alloc" in str(error)
    return isinstance(error, MemoryError) or getattr(error, "errno", None) == errno.ENOMEM


def _failed(
    video: Video, failure: VideoError, path: Path, version: source.Fingerprint | None, facts: DecodeFacts | None
) -> Row:
    """The row of a video that could not be extracted, with what is known about its file."""
    sha256 = ""
    if version is not None and failure.code not in ("io", "changed"):
        try:
            sha256 = source.sha256_of(path, version)
        except VideoError:
            version = None
    return dataclasses.replace(
        Row.unstored(video, State.FAILED, Reason(failure.code, failure.detail)),
        source_bytes=version.num_bytes if version is not None else 0,
        source_sha256=sha256,
        decoder=facts,
    )

"""One video of a tree of another tool: every JPEG read and checked, nothing decoded, nothing changed."""

from __future__ import annotations

import dataclasses
import hashlib
from pathlib import Path

from flowprep.config import ExtractSettings
from flowprep.errors import StoreError, VideoError
from flowprep.records import Reason, Row, State, Video
from flowprep.stores.alignment import Judged, judge
from flowprep.stores.inventory import FoundVideo
from flowprep.stores.jpegfile import jpeg_size, read_plain_file
from flowprep.stores.layouts import layout_of


def check_video(root: Path, settings: ExtractSettings, found: FoundVideo, video: Video) -> Row:
    """The row of a video: counts, size and checksums, or why it cannot be used."""
    judged = judge(found, settings)
    if judged.failures:
        return Row.unstored(video, State.FAILED, *judged.failures)
    try:
        return _read_all(root, settings, found, video, judged)
    except VideoError as error:
        return Row.unstored(video, State.FAILED, Reason(error.code, error.detail))


def _read_all(root: Path, settings: ExtractSettings, found: FoundVideo, video: Video, judged: Judged) -> Row:
    layout = layout_of(settings)
    folders = layout.folders(found.location, settings.streams)
    sizes: dict[tuple[int, int], str] = {}
    sha256: dict[str, str] = {}
    num_bytes = dict.fromkeys(settings.streams, 0)
    for stream in settings.streams:
        digest = hashlib.sha256()
        for index in range(judged.frames if stream == "rgb" else judged.flows):
            part, name = layout.file(stream, index)
            place = f"{folders[part]}/{name}"
            try:
                data = read_plain_file(root / place)
                sizes.setdefault(jpeg_size(data), place)
            except StoreError as error:
                raise VideoError("jpeg", f"{place}: {error}") from error
            if len(sizes) > 1:
                (one, first), (other, second) = sizes.items()
                raise VideoError(
                    "size_change", f"{first} has {one[0]}x{one[1]} pixels and {second} {other[0]}x{other[1]}"
                )
            digest.update(data)
            num_bytes[stream] += len(data)
        sha256[stream] = digest.hexdigest()
    (width, height), _ = next(iter(sizes.items()))
    return dataclasses.replace(
        Row.unstored(video, State.FLAGGED if judged.flags else State.OK, *judged.flags),
        frames=judged.frames,
        flows=judged.flows,
        width=width,
        height=height,
        location=found.location,
        stream_sha256=sha256,
        stream_bytes=num_bytes,
    )

"""Frames of stored videos and the flow from them, as small JPEGs inside the page."""

from __future__ import annotations

import base64
import contextlib
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import final

import cv2
import numpy as np
from numpy.typing import NDArray

from flowprep.colour import flow_to_rgb
from flowprep.config import JpegSettings
from flowprep.drawing import nice_px, wheel
from flowprep.encode import encode_rgb
from flowprep.errors import MissingDataError, StoreError
from flowprep.quantise import stilled
from flowprep.stores import Store, open_store

NUM_FRAMES = 6
_WIDTH = 200
_QUALITY = 80
_SCALE_PERCENTILE = 99.5  # a few pixels that fly off shall not make all others pale
_WHEEL_RADIUS = 32


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Moment:
    """A frame and the flow from it as `data:` addresses, None where the store has not that stream."""

    caption: str
    frame: str | None
    flow: str | None


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Strip:
    """Moments of a video, spread evenly; `problem` is why there are none. `max_px` is the length with full colour."""

    moments: tuple[Moment, ...] = ()
    max_px: float | None = None
    problem: str | None = None


@contextlib.contextmanager
def opened(data: Path | None, recorded: Path | None) -> Iterator[Store | None]:
    """The store that is asked for, else the one that the run was made on, None if that is not there any more.

    Raises MissingDataError or StoreError for one that is asked for.
    """
    if data is not None:
        with open_store(data) as store:
            yield store
        return
    with contextlib.ExitStack() as stack:
        found: Store | None = None
        if recorded is not None:
            with contextlib.suppress(MissingDataError, StoreError):
                found = stack.enter_context(open_store(recorded))
        yield found


def strip_of(store: Store, video_id: str) -> Strip:
    """The strip of a video, or why it has none."""
    if store.position(video_id) is None:
        return Strip(problem="This video is not in the store.")
    try:
        return _strip(store, video_id)
    except StoreError as error:
        return Strip(problem=f"Its images cannot be read: {error}.")


def wheel_picture() -> str:
    """The colours of all directions as a `data:` address: the flow of its points away from the middle."""
    return _address(wheel(_WHEEL_RADIUS))


def _strip(store: Store, video_id: str) -> Strip:
    clip, kinds = store.clip(video_id), store.settings.store
    has_frames, has_flow = kinds.rgb and clip.num_frames > 0, kinds.flow and clip.num_flows > 0
    first = store.first_image
    times = range(first, first + clip.num_frames) if has_frames else range(clip.num_flows)
    if has_frames and has_flow and (both := range(first, min(times.stop, clip.num_flows))):
        times = both
    if not times:
        return Strip(problem="The store has no images of this video.")
    chosen = np.unique(np.linspace(times.start, times.stop - 1, NUM_FRAMES).round().astype(int)).tolist()
    fields = {
        k: stilled(store.flow_px(video_id, k), store.settings.quantise)
        for k in chosen
        if has_flow and k < clip.num_flows
    }
    longest = (np.percentile(np.hypot(field[..., 0], field[..., 1]), _SCALE_PERCENTILE) for field in fields.values())
    max_px = nice_px(max(map(float, longest), default=0.0))
    seconds = store.pts_seconds(video_id) if has_frames else np.empty(0)
    moments = tuple(
        Moment(
            caption=_caption(k, k - first, seconds, clip.fps),
            frame=_address(store.image(video_id, "rgb", k - first)) if has_frames else None,
            flow=_address(flow_to_rgb(fields[k], max_px=max_px)) if k in fields else None,
        )
        for k in chosen
    )
    return Strip(moments=moments, max_px=max_px if fields else None)


def _caption(index: int, stored: int, seconds: NDArray[np.float64], fps: float) -> str:
    if 0 <= stored < len(seconds) and math.isfinite(seconds[stored]):
        return f"{seconds[stored]:.2f} s"
    return f"{index / fps:.2f} s" if fps > 0 else f"frame {index}"


def _address(image: NDArray[np.uint8]) -> str:
    """A JPEG of at most 200 pixels' width, of RGB (H, W, 3)."""
    height, width = image.shape[:2]
    if width > _WIDTH:
        size = _WIDTH, max(1, round(height * _WIDTH / width))
        image = np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA), np.uint8)
    jpeg = JpegSettings(quality=_QUALITY)
    return f"data:image/jpeg;base64,{base64.b64encode(encode_rgb(image, jpeg)).decode()}"

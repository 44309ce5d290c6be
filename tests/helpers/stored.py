"""A small store whose flow and frames are given, by way of the real publisher."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from contracts.store import finish_all

from flowprep.config import ExtractSettings, QuantiseSettings
from flowprep.encode import encode_plane, encode_rgb
from flowprep.publisher import open_publisher
from flowprep.quantise import quantise
from flowprep.records import Listing, Reason, Row, State, Video

FRAME_RGB = (60, 120, 200)


def store_of(
    out: Path,
    flow_px: np.ndarray[Any, Any],
    settings: ExtractSettings | None = None,
    *,
    ids: Sequence[str] = ("a/one",),
    failed: Sequence[str] = (),
    fps: float = 25.0,
    seconds: float = 0.0,
    reasons: Sequence[Reason] = (),
) -> Path:
    """A store of videos with a given flow (N, H, W, 2), both ways if backward, and frames from `seconds` on."""
    settings = settings or ExtractSettings(quantise=QuantiseSettings(bound_px=20.0))
    videos = tuple(Video(id=name, path=f"{name}.avi", class_name="a", label=0) for name in (*ids, *failed))
    publisher = open_publisher(out, settings)
    ways = [(("flow_x", "flow_y"), 1), (("back_x", "back_y"), -1)][: 1 + settings.flow.backward]
    num_frames = len(flow_px) + settings.flow.step
    height, width = flow_px.shape[1:3]
    for index, video in enumerate(videos):
        if video.id in failed:
            row = Row.unstored(video, State.FAILED, Reason("truncated", "30 of 60 packets are there"))
            publisher.publish_row(row, index)
            continue
        with publisher.begin(video, index, attempt="t") as writer:
            for k in range(num_frames if settings.store.rgb else 0):
                image = np.full((height, width, 3), FRAME_RGB, np.uint8)
                image[:, : width // 8] = 10 * k  # which frame it is, in grey
                writer.add("rgb", encode_rgb(image, settings.jpeg))
            for flow in flow_px if settings.store.flow else ():
                for streams, way in ways:
                    for stream, plane in zip(streams, quantise(way * flow, settings.quantise), strict=True):
                        writer.add(stream, encode_plane(plane, settings.jpeg))
            row = dataclasses.replace(
                Row.unstored(video, State.FLAGGED if reasons else State.OK, *reasons),
                frames=num_frames - publisher.first_image if settings.store.rgb else 0,
                flows=len(flow_px) if settings.store.flow else 0,
                width=width,
                height=height,
                fps=fps,
            )
            writer.commit(row, [seconds + k / (fps or 25) for k in range(num_frames)] if settings.store.rgb else [])
    listing = Listing(dataset="folder", videos=videos, classes=("a",), splits={})
    finish_all(out, settings, listing)
    return out

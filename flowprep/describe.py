"""What a store holds, from its manifest alone."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flowprep.config import ExtractSettings
from flowprep.stores import find_manifest
from flowprep.stores.manifest import read_manifest


@dataclass(frozen=True, slots=True, kw_only=True)
class Description:
    """Counts over a manifest. Shares are over flow pixels of all videos, weighted by their number of flows."""

    path: Path
    settings: ExtractSettings
    num_videos: int
    states: Mapping[str, int]
    reasons: Mapping[str, int]
    num_classes: int
    num_frames: int
    num_flows: int
    sizes: Mapping[str, int]
    stream_bytes: Mapping[str, int]
    saturated_share: float
    mean_magnitude_px: float

    def to_json(self) -> dict[str, Any]:
        """A JSON object."""
        data = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        return {**data, "path": str(self.path), "settings": self.settings.to_json()}


def describe(path: Path) -> Description:
    """Read the manifest of a store. Raises MissingDataError or StoreError."""
    settings, rows = read_manifest(find_manifest(path))
    states: Counter[str] = Counter()
    reasons: Counter[str] = Counter()
    sizes: Counter[str] = Counter()
    stream_bytes: Counter[str] = Counter()
    classes = set()
    num_videos = num_frames = num_flows = 0
    saturated = magnitude = 0.0
    for row in rows:
        num_videos += 1
        states[str(row.state)] += 1
        reasons.update(reason.code for reason in row.reasons)
        classes.add(row.class_name)
        if row.state.stored:
            sizes[f"{row.width}x{row.height}"] += 1
            stream_bytes.update(row.stream_bytes)
            num_frames += row.frames
            num_flows += row.flows
            saturated += row.saturated_share * row.flows
            magnitude += row.mean_magnitude_px * row.flows
    return Description(
        path=path,
        settings=settings,
        num_videos=num_videos,
        states=dict(states),
        reasons=dict(reasons),
        num_classes=len(classes),
        num_frames=num_frames,
        num_flows=num_flows,
        sizes=dict(sizes.most_common()),
        stream_bytes=dict(stream_bytes),
        saturated_share=saturated / num_flows if num_flows else 0.0,
        mean_magnitude_px=magnitude / num_flows if num_flows else 0.0,
    )

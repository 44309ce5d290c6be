"""Small stores for the trainer. Every plane is of one code, which follows from video, stream and index."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pytest

from flowprep import commit
from flowprep.config import ExtractSettings, QuantiseSettings, StoreSettings
from flowprep.encode import encode_plane, encode_rgb
from flowprep.publisher import Publisher, open_publisher
from flowprep.records import Listing, Reason, Row, State, Video
from flowprep.stores.finish import finish
from flowprep.stores.pack import pack_ready, pack_shard

HEIGHT, WIDTH = 48, 64
CLASSES = ("Archery", "Biking")


@dataclasses.dataclass(frozen=True)
class Spec:
    """A video to write; `num_frames` 0 is one that failed."""

    id: str
    num_frames: int = 30
    size: tuple[int, int] = (HEIGHT, WIDTH)
    saturated_share: float = 0.0

    @property
    def label(self) -> int:
        return next(k for k, name in enumerate(CLASSES) if name in self.id)


def code(number: int, stream: str, index: int) -> int:
    """The code of all pixels of image or field `index` (of time `index` for rgb) of video `number` of a list.

    Images are 8 codes and fields 3 codes from their neighbours, more than twice what JPEG may do to them.
    """
    start, step = {"rgb": (0, 8), "flow_x": (60, 3), "flow_y": (130, 3)}[stream]
    return (7 * number + step * index + start) % 250


def shards(rounding: str = "round") -> ExtractSettings:
    return ExtractSettings(store=StoreSettings(shard_videos=3), quantise=QuantiseSettings(rounding=rounding))


def tree(layout: str) -> ExtractSettings:
    return ExtractSettings(store=StoreSettings(format="jpeg", layout=layout))


def ucf_specs(num_groups: int = 6, num_clips: int = 2) -> list[Spec]:
    """Both classes, in groups g01 .., each of some clips; ids as UCF101's."""
    return [
        Spec(f"v_{name}_g{group:02d}_c{clip:02d}")
        for name in CLASSES
        for group in range(1, num_groups + 1)
        for clip in range(1, num_clips + 1)
    ]


def ucf_splits(specs: Sequence[Spec], first_test_group: int = 5) -> dict[str, dict[str, tuple[str, ...]]]:
    """Split 1: groups from `first_test_group` on are for the test."""
    test = tuple(spec.id for spec in specs if int(spec.id.split("_g")[1][:2]) >= first_test_group)
    return {"1": {"train": tuple(spec.id for spec in specs if spec.id not in test), "test": test}}


def write_clip_store(
    out: Path,
    settings: ExtractSettings,
    specs: Sequence[Spec],
    splits: Mapping[str, Mapping[str, tuple[str, ...]]] | None = None,
    *,
    classes: tuple[str, ...] = CLASSES,
) -> Path:
    """A finished store, without waiting for the disk."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("os.fsync", lambda fd: None)
        patch.setattr(commit, "sync_file_system", lambda fd: None)
        videos = tuple(
            Video(id=spec.id, path=f"{spec.id}.avi", class_name=CLASSES[spec.label], label=spec.label) for spec in specs
        )
        publisher = open_publisher(out, settings, durability="fast")
        for k, (video, spec) in enumerate(zip(videos, specs, strict=True)):
            _write(publisher, video, spec, k)
        if settings.store.format == "hdf5":
            for shard in range(-(-len(videos) // settings.store.shard_videos)):
                if pack_ready(out, settings, videos, shard):
                    pack_shard(out, settings, videos, shard, durability="fast")
        listing = Listing(dataset="ucf101", videos=videos, classes=classes, splits=splits or {})
        rows = [publisher.read_row(video, k) for k, video in enumerate(videos)]
        finish(out, settings, listing, [row for row in rows if row is not None])
    return out


def _write(publisher: Publisher, video: Video, spec: Spec, number: int) -> None:
    settings = publisher.settings
    if not spec.num_frames:
        publisher.publish_row(Row.unstored(video, State.FAILED, Reason("truncated")), number)
        return
    num_flows = max(0, spec.num_frames - settings.flow.step) if settings.store.flow else 0
    height, width = spec.size
    with publisher.begin(video, number, attempt="a") as writer:
        for index in range(spec.num_frames):
            if settings.store.rgb:
                image = np.full((height, width, 3), code(number, "rgb", index), np.uint8)
                writer.add("rgb", encode_rgb(image, settings.jpeg))
            if index < num_flows:
                for stream in ("flow_x", "flow_y"):
                    plane = np.full((height, width), code(number, stream, index), np.uint8)
                    writer.add(stream, encode_plane(plane, settings.jpeg))
        row = Row(
            id=video.id,
            path=video.path,
            class_name=video.class_name,
            label=video.label,
            state=State.OK,
            frames=spec.num_frames - publisher.first_image if settings.store.rgb else 0,
            flows=num_flows,
            width=width,
            height=height,
            fps=25.0,
            saturated_share=spec.saturated_share,
        )
        writer.commit(row, [k / 25 for k in range(spec.num_frames)])

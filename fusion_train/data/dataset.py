"""Clips of stored videos: planned by index arithmetic and random draws, decoded into their place in a batch."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, final

import cv2
import numpy as np
from numpy.typing import NDArray

from flowprep.errors import DatasetError, SettingsError, StoreError
from flowprep.stores import Store, StoredClip
from fusion_train.config import DataSettings
from fusion_train.data import clips
from fusion_train.data.clips import Indices
from fusion_train.data.draws import Draws
from fusion_train.data.geometry import Crop, evaluation_size, strip_of, training_crop

if TYPE_CHECKING:  # PyTorch, which whoever checks a store does not wait for
    from fusion_train.data.maps import FrozenMaps

STREAMS = ("rgb", "flow")
MID_GREY = 128


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What is to be decoded of one video: C clips of T chunks, one crop for all frames of both streams."""

    id: str
    label: int
    crop: Crop
    strip: Crop
    """What is kept of each image, the crop in it."""
    output_size: tuple[int, int]
    flips: tuple[bool, ...]
    """Which clips are mirrored, C."""
    times: Indices
    """Decoded image of each chunk, int64 (C, T)."""
    images: Sequence[int]
    """Stored images that are needed, each once, rising."""
    image_index: Indices
    """Place in `images` of each chunk's, int64 (C, T)."""
    flows: Sequence[int]
    """Flow fields that are needed, each once, rising."""
    flow_index: Indices
    """Places in `flows` of each chunk's, int64 (C, T, L)."""

    @property
    def columns(self) -> slice:
        """Where in its strip the crop lies."""
        left = self.crop.left - self.strip.left
        return slice(left, left + self.crop.width)

    @property
    def num_flow_images(self) -> int:
        """Images of four planes that the flow fields fill."""
        return -(-len(self.flows) // 2)


@final
class ClipDataset:
    """Videos of an open store, by id, for a network that uses one stream or both.

    Videos without a frame that has what its chunk needs are left out, and stand in `skipped`. Threads may share it.
    With `maps`, by stream, a loader gives these in the place of images.
    """

    def __init__(
        self,
        store: Store,
        ids: Sequence[str],
        settings: DataSettings,
        *,
        streams: Sequence[str] = STREAMS,
        maps: Mapping[str, FrozenMaps] | None = None,
    ) -> None:
        """Raises SettingsError for wrong streams, StoreError if the store lacks one, DatasetError if no video fits."""
        if not streams or not set(streams) <= set(STREAMS):
            raise SettingsError(f"`streams` must be some of {', '.join(STREAMS)}, got {', '.join(streams) or 'none'}")
        for stream, stored in (("rgb", store.settings.store.rgb), ("flow", store.settings.store.flow)):
            if stream in streams and not stored:
                raise StoreError(f"{store.path} has no stream {stream}; extract it, or train the other stream alone")
        self.store = store
        self.settings = settings
        self.streams = tuple(stream for stream in STREAMS if stream in streams)
        found = {video_id: store.clip(video_id) for video_id in ids}
        self.skipped = tuple(video_id for video_id, clip in found.items() if not self._valid_times(clip))
        for video_id in self.skipped:
            del found[video_id]
        if not found:
            raise DatasetError(f"none of the {len(ids)} videos from {store.path} has a clip to train on")
        self.videos = tuple(found.values())
        self.maps = None if maps is None else {stream: maps[stream] for stream in self.streams}

    def __len__(self) -> int:
        return len(self.videos)

    @property
    def flow_zero(self) -> int:
        """The code of zero flow, by the store's rounding rule."""
        return 128 if self.store.settings.quantise.rounding == "round" else 127

    @property
    def bound_px(self) -> float:
        """Flow of this many pixels has the code 255."""
        return self.store.settings.quantise.bound_px

    @property
    def flip_sum(self) -> int:
        """A mirrored u is this less u, see Note [flow sign under flip]."""
        return 255 if self.settings.protocol == "authors" else 2 * self.flow_zero

    def plan_training(self, index: int, *, seed: int, epoch: int) -> Plan:
        """One clip, cropped and mirrored by chance: the same for the same seed, epoch and video id."""
        video = self.videos[index]
        draws = Draws(seed, epoch, video.id)
        times = clips.training_times(self._valid_times(video), self.settings, draws)
        crop, flip = training_crop(video.height, video.width, self.settings, draws)
        size = self.settings.crop_size
        return self._plan(video, times[None], (flip,), crop, (size, size))

    def plan_evaluation(self, index: int) -> Plan:
        """All clips on which a video is evaluated, whole images; each clip is followed by its mirror image."""
        video = self.videos[index]
        times = clips.evaluation_times(self._valid_times(video), self.settings)
        flips = (False, True) if self.settings.test_flip else (False,)
        whole = Crop(top=0, left=0, height=video.height, width=video.width)
        size = evaluation_size(video.height, video.width, self.settings)
        return self._plan(video, np.repeat(times, len(flips), axis=0), flips * len(times), whole, size)

    def plan_running(self, index: int, centres: Sequence[int]) -> Plan:
        """A clip around each of some times, whole images, not mirrored: what a network says as a video goes on."""
        video = self.videos[index]
        times = clips.running_times(self._valid_times(video), centres, self.settings)
        whole = Crop(top=0, left=0, height=video.height, width=video.width)
        size = evaluation_size(video.height, video.width, self.settings)
        return self._plan(video, times, (False,) * len(times), whole, size)

    def plan_frames(self, index: int, times: Sequence[int]) -> Plan:
        """Each of these times as a clip of one chunk, whole images as in evaluation."""
        video = self.videos[index]
        whole = Crop(top=0, left=0, height=video.height, width=video.width)
        size = evaluation_size(video.height, video.width, self.settings)
        return self._plan(video, np.array(times, np.int64)[:, None], (False,) * len(times), whole, size)

    def _valid_times(self, video: StoredClip) -> range:
        used = STREAMS if self.settings.same_clips else self.streams
        return clips.valid_times(
            num_images=video.num_frames if "rgb" in used else None,
            first_image=self.store.first_image,
            num_flows=video.num_flows if "flow" in used else None,
            stack_length=self.settings.stack_length,
        )

    def _plan(
        self, video: StoredClip, times: Indices, flips: tuple[bool, ...], crop: Crop, output_size: tuple[int, int]
    ) -> Plan:
        length, num_flows = self.settings.stack_length, max(video.num_flows, 1)
        images, image_index = clips.unique_rows(times - self.store.first_image)
        flows, flow_index = clips.unique_rows(clips.flow_indices(times, stack_length=length, num_flows=num_flows))
        return Plan(
            id=video.id,
            label=video.label,
            crop=crop,
            strip=strip_of(crop, video.width),
            output_size=output_size,
            flips=flips,
            times=times,
            images=images if "rgb" in self.streams else (),
            image_index=image_index,
            flows=flows if "flow" in self.streams else (),
            flow_index=flow_index,
        )

    def decode(self, plan: Plan, rgb: NDArray[np.uint8] | None, flow: NDArray[np.uint8] | None) -> None:
        """Decode what is planned, each JPEG once: rgb (images, H, W, 3) and flow (images, H, W, 4) of the strip's size.

        A stream that is to be blank is not decoded. Raises StoreError that names the video where the store is damaged.
        """
        if rgb is not None and self.settings.blank == "rgb":
            rgb[:], rgb = MID_GREY, None
        if flow is not None and self.settings.blank == "flow":
            flow[:], flow = self.flow_zero, None
        strip = plan.strip
        part = slice(strip.top, strip.top + strip.height), slice(strip.left, strip.left + strip.width)
        if rgb is not None:
            for out, image in zip(rgb, self.store.images(plan.id, "rgb", plan.images), strict=True):
                out[:] = image[part]
        if flow is not None:
            fields = zip(*(self.store.images(plan.id, name, plan.flows) for name in ("flow_x", "flow_y")), strict=True)
            for out in flow:
                planes = [plane for field in itertools.islice(fields, 2) for plane in field]
                # `merge` is five times as slow with rows that are not contiguous; where they are, this copies nothing.
                # The last image may have one field to hold, twice.
                cv2.merge([np.ascontiguousarray(plane[part]) for plane in (planes * 2)[:4]], out)

"""Maps of frozen layers in the place of images: what a stream says of a frame is computed once and trained on often.

Only `fusion_train.frozen` makes them. They are of whole images that are not mirrored, so clips must be so too.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self, final

import numpy as np
import torch
from torch import Tensor

from flowprep.errors import SettingsError
from fusion_train.data.geometry import Crop

if TYPE_CHECKING:
    from fusion_train.data.dataset import Plan


@final
@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class FrozenMaps:
    """What the first `num_layers` layers of one stream make of frames.

    `values` is (N, C, h, w) on the CPU, and `rows` has which of them is of a video (id) at a time. `image_size` is
    height and width of the frames. `fingerprint` is that of the layers, see `fusion_train.frozen.fingerprint`.
    """

    values: Tensor
    rows: Mapping[tuple[str, int], int]
    image_size: tuple[int, int]
    num_layers: int
    fingerprint: str

    def of(self, plans: Sequence[Plan]) -> Tensor:
        """The maps of all clips that are planned, (B, T, C, h, w).

        Raises:
            SettingsError: A clip is mirrored, cropped or resized, or its maps were not computed.
        """
        rows = []
        whole = Crop(top=0, left=0, height=self.image_size[0], width=self.image_size[1])
        for plan in plans:
            if any(plan.flips) or plan.crop != whole or plan.output_size != self.image_size:
                raise SettingsError(
                    f"maps of frozen layers are of whole images, and a clip of {plan.id!r} is mirrored, cropped or "
                    "resized; set `data.flip` and `data.test_flip` to false, `data.jitter` to 0, `data.crop_size` to "
                    "the size of the images"
                )
            for clip in plan.times.tolist():
                for time in clip:
                    row = self.rows.get((plan.id, time))
                    if row is None:
                        raise SettingsError(
                            f"there is no map of video {plan.id!r} at time {time}: maps were computed for other clips; "
                            "compute them for the same settings and seed"
                        )
                    rows.append(row)
        num_chunks = plans[0].times.shape[1]
        return self.values[torch.tensor(rows)].view(-1, num_chunks, *self.values.shape[1:])


@final
@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class MapBatch:
    """V videos with B clips of T chunks, as `ClipBatch`; `rgb` and `flow` are (B, T, C, h, w), or None."""

    ids: tuple[str, ...]
    video: Tensor
    labels: Tensor
    rgb: Tensor | None
    flow: Tensor | None

    def __len__(self) -> int:
        return len(self.labels)

    def to(self, device: torch.device | str) -> Self:
        """The batch on a device."""
        changed: dict[str, Any] = {
            field.name: value.to(device, non_blocking=True)
            for field in dataclasses.fields(self)
            if isinstance(value := getattr(self, field.name), Tensor)
        }
        return dataclasses.replace(self, **changed)


def map_batch(plans: Sequence[Plan], maps: Mapping[str, FrozenMaps]) -> MapBatch:
    """The clips that are planned, of maps by stream (`rgb`, `flow`). Raises as `FrozenMaps.of`."""
    counts = [len(plan.flips) for plan in plans]
    return MapBatch(
        ids=tuple(plan.id for plan in plans),
        video=torch.from_numpy(np.repeat(np.arange(len(plans)), counts)),
        labels=torch.from_numpy(np.repeat(np.array([plan.label for plan in plans], np.int64), counts)),
        rgb=maps["rgb"].of(plans) if "rgb" in maps else None,
        flow=maps["flow"].of(plans) if "flow" in maps else None,
    )

"""Where a fused network is cut and joined: layer indices, channels, and what cannot be fused."""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

from flowprep.errors import SettingsError
from fusion_train.config import ModelSettings
from fusion_train.models.backbones import backbone_of
from fusion_train.models.layers import Backbone
from fusion_train.models.stream import index_of


@final
@dataclass(frozen=True)
class Point:
    """A fusion: after which layer of each stream, how many channels each brings."""

    spatial: int
    temporal: int
    num_spatial: int
    num_temporal: int
    after_pooling: bool
    rectified: bool


@final
@dataclass(frozen=True)
class Plan:
    """Both backbones and all fusions, in order. `widened` maps a spatial layer's index to the channels it gains."""

    spatial: Backbone
    temporal: Backbone
    points: tuple[Point, ...]
    widened: dict[int, int]


def plan(settings: ModelSettings, num_classes: int) -> Plan:
    """The plan of a fused network.

    Raises:
        SettingsError: A layer does not exist, the order is wrong, or the two maps cannot become one.
    """
    spatial, temporal = (backbone_of(getattr(settings, stream), stream) for stream in ("spatial", "temporal"))
    points: list[Point] = []
    widened: dict[int, int] = {}
    for names in settings.fusion_points:
        i, j = index_of(spatial, names[0], "spatial"), index_of(temporal, names[1], "temporal")
        if points and not (i > points[-1].spatial and j > points[-1].temporal):
            raise SettingsError(f"`at` must go upwards in both streams, got {settings.at!r}")
        where = f"{names[0]} of {spatial.name} and {names[1]} of {temporal.name}"
        strides = spatial.stride_after(i), temporal.stride_after(j)
        pooled = i > spatial.last_pool - 1, j > temporal.last_pool - 1
        if strides[0] != strides[1] or pooled[0] != pooled[1]:
            raise SettingsError(
                f"`at` joins {where}, whose maps have one point every {strides[0]} and {strides[1]} pixels; "
                "choose layers with maps of one size, both below or both above the last pooling"
            )
        channels = spatial.channels_after(i, num_classes), temporal.channels_after(j, num_classes)
        if settings.fusion in ("sum", "max") and channels[0] != channels[1]:
            raise SettingsError(
                f"`fusion` {settings.fusion} needs as many channels in both maps, and {where} have {channels[0]} and "
                f"{channels[1]}; use conv or concat"
            )
        if settings.fusion == "concat":
            widened[_next_convolution(spatial, i)] = channels[1]
        rectified = spatial.layers[i].is_rectified and temporal.layers[j].is_rectified
        points.append(Point(i, j, *channels, pooled[0], rectified))
    if settings.fusion == "bilinear" and points[0].spatial >= len(spatial.layers) - 1:
        raise SettingsError("`fusion` bilinear makes features for a classifier; it cannot be `at` the prediction layer")
    return Plan(spatial, temporal, tuple(points), widened)


def _next_convolution(backbone: Backbone, index: int) -> int:
    """Index of the first layer with weights after `index`, which must be a convolution to be widened."""
    for k in range(index + 1, len(backbone.layers)):
        if backbone.layers[k].has_weights:
            if backbone.layers[k].kind == "conv":
                return k
            raise SettingsError(
                f"`fusion` concat at {backbone.names[index]} needs a convolution above it that takes more channels, "
                f"and {backbone.names[k]} of {backbone.name} is none; use conv"
            )
    raise SettingsError(f"`fusion` concat cannot be `at` {backbone.names[index]}: no layer above takes the channels")

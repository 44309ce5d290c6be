"""From settings to a network."""

from __future__ import annotations

import dataclasses
from typing import Any

from flowprep.errors import SettingsError
from fusion_train.config import ModelSettings
from fusion_train.models.two_stream import FusedNetwork, Network, SingleStream
from fusion_train.models.weights import initialise
from fusion_train.presets import preset_settings


def build_network(preset: str | ModelSettings, *, num_classes: int, **overrides: Any) -> Network:
    """The network of a preset, with its initial weights.

    Args:
        preset: A name of `fusion_train.presets.PRESETS`, or settings.
        num_classes: C, the number of logits.
        overrides: Fields of `ModelSettings` to be set otherwise; `weights` sets `spatial_weights` and
            `temporal_weights` at once. `weights="none"` is the way to random weights.

    Returns:
        A network in training mode: `network(rgb, flow)`, see `Network.forward`.

    Raises:
        SettingsError: There is no such preset or setting, or the combination cannot be built.
        MissingDataError: Initial weights are not there; the message says which file, from where, and the alternatives.
    """
    settings = preset if isinstance(preset, ModelSettings) else preset_settings(preset)
    weights = overrides.pop("weights", None)
    if weights is not None:
        overrides = {"spatial_weights": weights, "temporal_weights": weights, **overrides}
    known = [field.name for field in dataclasses.fields(ModelSettings)]
    for name in overrides:
        if name not in known:
            raise SettingsError(f"unknown setting `{name}` of a network; known are {', '.join(known)} and weights")
    network = new_network(dataclasses.replace(settings, **overrides), num_classes=num_classes)
    initialise(network)
    return network


def new_network(settings: ModelSettings, *, num_classes: int) -> Network:
    """A network with random weights: for a checkpoint that is loaded next, whatever weights `settings` name.

    Raises:
        SettingsError: The combination cannot be built.
    """
    if num_classes < 1:
        raise SettingsError(f"`num_classes` must be at least 1, got {num_classes}")
    return (FusedNetwork if settings.network == "fused" else SingleStream)(settings, num_classes)

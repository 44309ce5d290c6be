"""Initial weights into a network: from which file, into which layers, and what stays random."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import final

import torch
from torch import Tensor

from flowprep.errors import MissingDataError, SettingsError
from fusion_train.config import ModelSettings
from fusion_train.models.fusion import identities
from fusion_train.models.matconvnet import read_mat
from fusion_train.models.stream import Stream
from fusion_train.models.two_stream import Network
from fusion_train.models.weightfiles import SOURCES, StreamWeights, download, from_state_dict, read_tensors

FLOW_MEAN = 128.0
"""What no motion is in 8 bits, and so the mean that a flow stream subtracts."""


@final
@dataclass(frozen=True)
class LoadReport:
    """What became of a stream: `source`, and the names of the layers that were loaded and that are random."""

    source: str
    loaded: tuple[str, ...]
    random: tuple[str, ...]


def initialise(network: Network) -> dict[str, LoadReport]:
    """Load the weights that the network's settings name into each of its streams.

    Returns:
        A report by stream. Fusion filters, and classifiers for another number of classes, keep their initial values.

    Raises:
        MissingDataError: A file does not exist or cannot be downloaded; the message says what to do.
        SettingsError: A file is damaged, unsafe, or does not fit.
    """
    settings = network.settings
    reports = {}
    for name, stream in network.streams.items():
        weights: str = getattr(settings, f"{name}_weights")
        if weights == "none":
            reports[name] = LoadReport("random", (), tuple(layer.name for layer in stream.layers if layer.has_weights))
        else:
            reports[name] = load_stream(stream, find(weights, stream, name), settings)
    return reports


def find(weights: str, stream: Stream, name: str) -> StreamWeights:
    """The weights that a setting names, for the stream `name`. Raises as `initialise`."""
    backbone = stream.backbone
    if weights in ("torchvision", "torchvision-features"):
        return from_state_dict(*download(backbone.name, weights), backbone, name)
    path = Path(weights).expanduser()
    if not path.is_file():
        published = SOURCES.get(path.name)
        obtain = f"download it from {published}" if published else "check the path"
        raise MissingDataError(
            f"there is no file {path} with the initial weights of the {name} stream; {obtain}, set `{name}_weights` to "
            "another file, or to none for random weights"
        )
    if path.suffix == ".mat":
        return read_mat(path, backbone)
    if path.suffix in (".pt", ".pth", ".npz"):
        return from_state_dict(str(path), read_tensors(path), backbone, name)
    raise SettingsError(
        f"`{name}_weights` must be torchvision, torchvision-features, none, or a file ending in .mat, "
        f".pt, .pth or .npz, got {weights!r}"
    )


@torch.no_grad()
def load_stream(stream: Stream, weights: StreamWeights, settings: ModelSettings) -> LoadReport:
    """Copy weights into a stream, which may be cut, widened by a concatenation, or of flow instead of RGB.

    - RGB filters become flow filters by their mean over RGB for each of the 2L channels; flow enters minus 128, over
      the mean of the three scales.
    - A layer that a concatenation has widened gets its weights behind the initial filter of conv fusion: the network
      then computes what one with that fusion would, if no maximum pooling lies between.
    - A classifier for another number of classes stays random, and so do fc6 and fc7 with `settings.random_fc`.

    Raises:
        SettingsError: A layer is missing, unknown, of another shape, or not finite.
    """
    backbone = stream.backbone
    unknown = sorted({name.partition(".")[0] for name in weights.tensors} - set(backbone.names))
    if unknown:
        raise SettingsError(f"{weights.source} has layers that {backbone.name} does not have: {', '.join(unknown)}")
    full = {layer.name for layer in backbone.layers[backbone.last_pool :] if layer.kind == "conv"}
    classifier = backbone.names[-1]
    if not weights.has_fc and not settings.random_fc and full & {layer.name for layer in stream.layers}:
        raise SettingsError(f"{weights.source} has no valid fc6 and fc7; set `random_fc`, or take other weights")
    num_inputs = weights.mean.numel()
    if num_inputs not in (3, stream.in_channels) or stream.in_channels == 3 != num_inputs:
        raise SettingsError(
            f"{weights.source} is for {num_inputs} input channels, this stream has {stream.in_channels}"
        )
    loaded, random = [], []
    for index, layer in enumerate(stream.layers):
        if not layer.has_weights:
            continue
        own = {f"{layer.name}.{key}": tensor for key, tensor in getattr(stream, layer.name).state_dict().items()}
        given = {name: weights.tensors[name] for name in own if name in weights.tensors}
        other_classes = layer.name == classifier and any(given[name].shape[0] != stream.num_classes for name in given)
        if (layer.name == classifier and (other_classes or not given)) or (
            settings.random_fc and layer.name in full - {classifier}
        ):
            random.append(layer.name)
            continue
        for name, tensor in own.items():
            if name in given:
                tensor.copy_(_fitted(weights.source, name, given[name], tensor, stream, index, settings))
            elif not name.endswith("num_batches_tracked"):
                raise SettingsError(f"{weights.source} lacks {name} of {backbone.name}")
        loaded.append(layer.name)
    _set_input(stream, weights)
    return LoadReport(weights.source, tuple(loaded), tuple(random))


def _fitted(
    source: str, name: str, given: Tensor, own: Tensor, stream: Stream, index: int, settings: ModelSettings
) -> Tensor:
    """`given` in the shape of `own`. `index` is the layer's."""
    if not given.isfinite().all():
        raise SettingsError(f"{source}: {name} has values that are not finite")
    found = tuple(given.shape)
    if given.ndim == 4 and given.shape != own.shape:
        if index == 0 and given.shape[1] == 3:
            given = given.mean(1, keepdim=True).expand(-1, stream.in_channels, -1, -1)
        extra = stream.extra_inputs.get(index, 0)
        if extra and given.shape[1] + extra == own.shape[1]:
            spread = identities(given.shape[1], extra, settings).to(given)
            given = torch.einsum("oiyx,ij->ojyx", given, spread)
    if given.shape != own.shape:
        raise SettingsError(f"{source}: {name} must have the shape {tuple(own.shape)}, got {found}")
    return given


def _set_input(stream: Stream, weights: StreamWeights) -> None:
    """The normalisation with which the weights were trained."""
    mean, scale = weights.mean, weights.scale
    if mean.numel() != stream.in_channels:
        mean = torch.full((stream.in_channels,), FLOW_MEAN)
        scale = (1 / (1 / weights.scale).mean()).expand(stream.in_channels)
    stream.input.mean.copy_(mean)
    stream.input.scale.copy_(scale)

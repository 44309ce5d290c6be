"""Initial weights into a network: from which file, into which layers, and what stays random."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import final

import torch
from torch import Tensor

from flowprep.errors import MissingDataError, SettingsError
from fusion_train.config import ModelSettings
from fusion_train.models.classorder import in_order, places
from fusion_train.models.fusion import identities
from fusion_train.models.matconvnet import read_fusion_filters, read_mat
from fusion_train.models.stream import Stream
from fusion_train.models.two_stream import FusedNetwork, Network
from fusion_train.models.weightfiles import SOURCES, StreamWeights, download, from_state_dict, read_tensors

FLOW_MEAN = 128.0
"""What no motion is in 8 bits, and so the mean that a flow stream subtracts."""


@final
@dataclass(frozen=True)
class LoadReport:
    """What became of a stream, or of the fusions: `source`, and the layers that were loaded and that are random.

    `dropped` says why the last layer was not taken from the file, and is empty where it was or the file has none.
    `ordered` says in which order its classes were taken to be, where that is not the store's.
    """

    source: str
    loaded: tuple[str, ...]
    random: tuple[str, ...]
    dropped: str = ""
    ordered: str = ""

    def sentence(self, name: str) -> str:
        """What is said of the part `name` before a training."""
        if not self.loaded:
            return f"{name}: random weights" + (f" ({self.dropped})" if self.dropped else "")
        num = len(self.loaded)
        text = f"{name}: {num} {'layer' if num == 1 else 'layers'} from {self.source}"
        if self.random:
            text += f"; random: {', '.join(self.random)}"
        said = "; ".join(filter(None, (self.dropped, self.ordered)))
        return f"{text} ({said})" if said else text


def initialise(network: Network, classes: Sequence[str] | None = None) -> dict[str, LoadReport]:
    """Load the weights that the network's settings name into each of its streams, and into its fusions.

    Args:
        network: With random weights.
        classes: Names of its logits. A classifier for other names is not loaded, where the file has names.

    Returns:
        A report by stream, and one of `fusion` where its filters are loaded. Other filters, and classifiers for other
        classes, keep their initial values.

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
            reports[name] = load_stream(stream, find(weights, stream, name), settings, classes)
    if isinstance(network, FusedNetwork) and settings.fusion_weights != "none":
        reports["fusion"] = load_fusions(network, Path(settings.fusion_weights).expanduser(), classes)
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
        return read_mat(path, backbone, name)
    if path.suffix in (".pt", ".pth", ".npz"):
        tensors, classes = read_tensors(path)
        return from_state_dict(str(path), tensors, backbone, name, classes)
    raise SettingsError(
        f"`{name}_weights` must be torchvision, torchvision-features, none, or a file ending in .mat, "
        f".pt, .pth or .npz, got {weights!r}"
    )


@torch.no_grad()
def load_stream(
    stream: Stream, weights: StreamWeights, settings: ModelSettings, classes: Sequence[str] | None = None
) -> LoadReport:
    """Copy weights into a stream, which may be cut, widened by a concatenation, or of flow instead of RGB.

    - RGB filters become flow filters by their mean over RGB for each of the 2L channels; flow enters minus 128, over
      the mean of the three scales.
    - A layer that a concatenation has widened gets its weights behind the initial filter of conv fusion: the network
      then computes what one with that fusion would, if no maximum pooling lies between.
    - A classifier for other classes, by number or by name, stays random, and so do fc6 and fc7 with
      `settings.random_fc`. One for the same classes in another order is put in order.

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
    loaded, random, dropped, ordered = [], [], "", ""
    for index, layer in enumerate(stream.layers):
        if not layer.has_weights:
            continue
        own = {f"{layer.name}.{key}": tensor for key, tensor in getattr(stream, layer.name).state_dict().items()}
        given = {name: weights.tensors[name] for name in own if name in weights.tensors}
        if layer.name == classifier and given:
            num_given = next(iter(given.values())).shape[0]
            dropped = _other_classes(num_given, weights.classes, stream.num_classes, classes)
            order = weights.classes or weights.unnamed
            if not dropped and classes is not None and places(order, classes) and tuple(order) != tuple(classes):
                given = {name: in_order(tensor, order, classes) for name, tensor in given.items()}
                ordered = _ORDERED if weights.classes is None else "its classes put in the order of the store"
        if (layer.name == classifier and (dropped or not given)) or (
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
    return LoadReport(weights.source, tuple(loaded), tuple(random), dropped, ordered)


_ORDERED = "its classes, which it does not name, taken to be in the released code's order of HMDB51"


def _other_classes(num_given: int, given: Sequence[str] | None, num_wanted: int, wanted: Sequence[str] | None) -> str:
    """Why a classifier is not loaded, or nothing."""
    if num_given != num_wanted:
        return f"the file's is for {num_given} classes, not {num_wanted}"
    if given is not None and wanted is not None and places(given, wanted) is None:
        return f"the file's is for {num_given} other classes"
    return ""


@torch.no_grad()
def load_fusions(network: FusedNetwork, path: Path, classes: Sequence[str] | None = None) -> LoadReport:
    """Copy the fusion filters of another fused network, and the classifier of bilinear features if it fits.

    One for other classes, by number or by name, keeps its initial values.

    Raises:
        MissingDataError: There is no such file.
        SettingsError: The network's fusion has no filter, or the file's filters are others.
    """
    if not path.is_file():
        raise MissingDataError(
            f"there is no file {path} with fusion filters; check the path, or set `fusion_weights` to none"
        )
    own = {name: tensor for name, tensor in network.state_dict().items() if name.startswith(("fusions.", "bilinear_"))}
    if not own:
        raise SettingsError(
            f"`fusion_weights` is for `fusion` conv or bilinear, and {network.settings.fusion} has no filter; "
            "set it to none"
        )
    names: Sequence[str] | None = None
    if path.suffix == ".mat":
        filters = read_fusion_filters(path)
        given = {f"fusions.{k}.conv.{key}": pair[i] for k, pair in enumerate(filters) for i, key in enumerate(_KEYS)}
    else:
        given, names = read_tensors(path)
    loaded, random, dropped = [], [], ""
    for name, tensor in own.items():
        found = given.get(name)
        if name.startswith("bilinear_") and found is not None:
            dropped = _other_classes(found.shape[0], names, network.num_classes, classes)
            if not dropped and names is not None and classes is not None:
                found = in_order(found, names, classes)
            if dropped:
                random.append(name.rpartition(".")[0])
                continue
        if found is None or found.shape != tensor.shape or not found.isfinite().all():
            text = "none" if found is None else f"{tuple(found.shape)}"
            raise SettingsError(
                f"{path} must have {name} of shape {tuple(tensor.shape)} and finite, it has {text}; fuse at the same "
                "layers in the same way, or set `fusion_weights` to none"
            )
        tensor.copy_(found)
        loaded.append(name.rpartition(".")[0])
    return LoadReport(str(path), tuple(dict.fromkeys(loaded)), tuple(dict.fromkeys(random)), dropped)


_KEYS = ("weight", "bias")


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

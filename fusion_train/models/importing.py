"""Nets of MatConvNet as state dicts of ours: what a file is, checked whole before a training begins with it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

import torch
from torch import Tensor

from flowprep.errors import MissingDataError, SettingsError
from fusion_train.models.backbones import backbone_of
from fusion_train.models.classorder import HMDB51_CLASSES
from fusion_train.models.matconvnet import fusion_filters, is_fused, stream_weights
from fusion_train.models.matfile import MatNet, read_net
from fusion_train.models.weightfiles import StreamWeights
from fusion_train.outage import whole_file

BACKBONES = ("vgg16", "vggm", "resnet50-caffe", "debug")
"""What a stream of such a file is looked at as, in this order."""


@final
@dataclass(frozen=True, kw_only=True)
class ImportedStream:
    """A stream that was found: its backbone, channels of its first layer, layers, and logits of its classifier."""

    name: str
    backbone: str
    in_channels: int
    layers: tuple[str, ...]
    num_classes: int
    mean: tuple[float, ...]
    """What its inputs of 0..255 have subtracted, a channel."""

    def to_json(self) -> dict[str, Any]:
        """For `--json`."""
        return {
            "name": self.name,
            "backbone": self.backbone,
            "in_channels": self.in_channels,
            "layers": list(self.layers),
            "num_classes": self.num_classes,
            "mean": list(self.mean),
        }


@final
@dataclass(frozen=True, kw_only=True)
class ImportedNet:
    """The streams of a file, and the shapes of its fusion filters, (Cs, Cs + Ct, [T,] Y, X), in order."""

    streams: tuple[ImportedStream, ...]
    filters: tuple[tuple[int, ...], ...]


def import_mat(path: Path, out: Path) -> ImportedNet:
    """Write what a .mat file holds as a state dict that every setting of weights takes, under the key `network`.

    A file of one stream is of the spatial one if its first layer has 3 channels, else of the temporal one. A classifier
    of 51 classes gets the names of HMDB51's, in the order of the released code.

    Raises:
        MissingDataError: There is no such file, or `out` cannot be written.
        SettingsError: The file is damaged, has no net that we know, or numbers that are not finite; `out` exists, or
            does not end in .pt.
    """
    if out.suffix != ".pt":
        raise SettingsError(f"{out} must end in .pt, which says how weights are stored")
    if out.exists():
        raise SettingsError(f"{out} exists; delete it, or give another file to write")
    if not out.parent.is_dir():
        raise MissingDataError(f"there is no folder {out.parent} to write to; make it, or give another file to write")
    if path.suffix in (".pt", ".pth", ".npz"):
        raise SettingsError(f"{path} is read as it is, wherever weights are named; only .mat files are imported")
    if not path.is_file():
        raise MissingDataError(f"there is no file {path}; check the path")
    net = read_net(path)
    names = ("spatial", "temporal") if is_fused(net) else (_only_stream(net),)
    found = {name: _known(net, name) for name in names}
    tensors: dict[str, Tensor] = {}
    for name, (_, weights) in found.items():
        tensors |= {f"{name}.{layer}": tensor for layer, tensor in weights.tensors.items()}
        tensors |= {f"{name}.input.mean": weights.mean, f"{name}.input.scale": weights.scale}
    filters = fusion_filters(net)
    for index, (weight, bias) in enumerate(filters):
        tensors |= {f"fusions.{index}.conv.weight": weight, f"fusions.{index}.conv.bias": bias}
    for name, tensor in tensors.items():
        if not tensor.isfinite().all():
            raise SettingsError(f"{path}: {name} has values that are not finite; the file is damaged, obtain it anew")
    streams = [_described(name, backbone, weights) for name, (backbone, weights) in found.items()]
    content: dict[str, Any] = {"network": tensors}
    if any(stream.num_classes == len(HMDB51_CLASSES) for stream in streams):
        content["classes"] = list(HMDB51_CLASSES)  # Note [HMDB51's classes in the released code]
    with whole_file(out) as temporary:
        torch.save(content, temporary)
    return ImportedNet(streams=tuple(streams), filters=tuple(tuple(weight.shape) for weight, _ in filters))


def _only_stream(net: MatNet) -> str:
    """Which stream a file of one is: RGB has three channels."""
    first = next((layer for layer in net.layers if layer.kind == "conv"), None)
    return "temporal" if first is not None and first.filters()[0].shape[-2] != 3 else "spatial"


def _known(net: MatNet, stream: str) -> tuple[str, StreamWeights]:
    """The first backbone that a stream fits, and its weights."""
    refusals = []
    for name in BACKBONES:
        try:
            return name, stream_weights(net, backbone_of(name, stream), stream)
        except SettingsError as error:
            refusals.append(f"{name}: {str(error).removeprefix(f'{net.path}').lstrip(': ')}")
    raise SettingsError(f"{net.path} has no {stream} stream of a net that is known here; {'; '.join(refusals)}")


def _described(name: str, backbone: str, weights: StreamWeights) -> ImportedStream:
    layers = dict.fromkeys(tensor.partition(".")[0] for tensor in weights.tensors)
    names = backbone_of(backbone, name).names
    return ImportedStream(
        name=name,
        backbone=backbone,
        in_channels=weights.tensors[f"{names[0]}.weight"].shape[1],
        layers=tuple(layers),
        num_classes=weights.tensors[f"{names[-1]}.weight"].shape[0],
        mean=tuple(weights.mean.tolist()),
    )

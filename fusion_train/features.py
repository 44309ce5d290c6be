"""What a named layer puts out, as one vector a video; and the file of such vectors.

A vector is the mean over positions of the map, over what time steps are left, and over the clips and mirror images on
which a video is evaluated.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from flowprep.errors import MissingDataError, SettingsError, StoreError
from flowprep.records import canonical_json
from fusion_train.models.two_stream import Network
from fusion_train.outage import whole_file

FORMAT = 1
_KIND = "fusion-train-features"


def layer_names(network: Network) -> list[str]:
    """Layers that have features, as STREAM.LAYER; `fusions.N` is the map after the N-th fusion, counted from 0."""
    names = [f"{stream}.{layer.name}" for stream, module in network.streams.items() for layer in module.layers]
    fusions = getattr(network, "fusions", ())
    return names + [f"fusions.{k}" for k in range(len(fusions))]


def find_layer(network: Network, name: str) -> str:
    """The full name of a layer; STREAM may be left out where only one stream has it.

    Raises SettingsError that lists the layers for a name that no stream, or more than one, has.
    """
    names = layer_names(network)
    fitting = [full for full in names if name in (full, full.partition(".")[2])]
    if len(fitting) != 1:
        what = f"stands for {' and '.join(fitting)}" if fitting else "is not there"
        raise SettingsError(f"layer {name!r} {what}; this network has {', '.join(names)}")
    return fitting[0]


class Tap:
    """Collects what a layer puts out, clip by clip, from forward passes of one video."""

    def __init__(self) -> None:
        self._batch_size = 0
        self._clips: list[Tensor] = []

    def begin(self, _network: nn.Module, inputs: tuple[Tensor | None, ...]) -> None:
        """A hook before the network: how many clips there are."""
        self._batch_size = next(len(given) for given in inputs if given is not None)

    def take(self, _layer: nn.Module, _inputs: tuple[Any, ...], maps: Tensor) -> None:
        """A hook after the layer, whose maps are (B*T', C, h, w)."""
        means = maps.detach().double().flatten(2).mean(2)
        self._clips.append(means.reshape(self._batch_size, -1, means.shape[1]).mean(1).cpu())

    def pop(self) -> NDArray[np.float32]:
        """The mean over all clips since the last call, (C,)."""
        assert self._clips, "a layer that is listed is run"
        vector: NDArray[np.float32] = torch.cat(self._clips).mean(0).float().numpy()
        self._clips.clear()
        return vector


@contextmanager
def tapped(network: Network, layer: str) -> Iterator[Tap]:
    """A tap on the layer of the full name `layer`, until the block ends."""
    tap = Tap()
    hooks = network.register_forward_pre_hook(tap.begin), network.get_submodule(layer).register_forward_hook(tap.take)
    try:
        yield tap
    finally:
        for hook in hooks:
            hook.remove()


@final
@dataclass(frozen=True, eq=False, kw_only=True)
class FeatureTable:
    """Features float32 (N, C) by video id, of the layer `layer` of the checkpoint with this hash. `origin` is JSON."""

    layer: str
    checkpoint_sha256: str
    ids: Sequence[str]
    features: NDArray[np.float32]
    origin: Mapping[str, Any] = field(default_factory=dict)

    def save(self, path: Path) -> None:
        """Write a `.npz` without pickle, which appears whole. Raises as `outage.whole_file`."""
        head = {"kind": _KIND, "format": FORMAT, "layer": self.layer, "checkpoint_sha256": self.checkpoint_sha256,
                "origin": dict(self.origin)}  # fmt: skip
        with whole_file(path) as file:
            np.savez(file, head=np.array(canonical_json(head)), ids=np.array(self.ids, np.str_), features=self.features)

    @classmethod
    def load(cls, path: Path) -> FeatureTable:
        """Read a file. Raises MissingDataError if there is none, StoreError if it is damaged or of another format."""
        try:
            with path.open("rb") as file, np.load(file, allow_pickle=False) as data:
                head = json.loads(str(data["head"]))
                if (head["kind"], head["format"]) != (_KIND, FORMAT):
                    raise StoreError(f"{path} is not a feature file of format {FORMAT}; export again")
                return cls(
                    layer=head["layer"],
                    checkpoint_sha256=head["checkpoint_sha256"],
                    ids=tuple(data["ids"].tolist()),
                    features=data["features"],
                    origin=head["origin"],
                )
        except FileNotFoundError as error:
            raise MissingDataError(f"there is no feature file {path}; `fusion-train predict` writes it") from error
        except StoreError:
            raise
        except Exception as error:  # damage has no common class, see `weightfiles.read_tensors`
            raise StoreError(f"{path} is damaged or no feature file: {error}; export again") from error

"""One stream: a backbone's layers by name, which can be run in parts, and the normalisation of its input."""

from __future__ import annotations

from collections.abc import Mapping
from typing import final

import torch
from torch import Tensor, nn

from flowprep.errors import SettingsError
from fusion_train.models.layers import Backbone, make_layer
from fusion_train.models.pooling import TimePool, Window


@final
class Normalise(nn.Module):
    """(x - mean) * scale by channel. Whoever loads weights sets the buffers, which are saved with the network."""

    mean: Tensor
    scale: Tensor

    def __init__(self, num_channels: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.full((num_channels,), 128.0))
        self.register_buffer("scale", torch.full((num_channels,), 1 / 64))

    def forward(self, images: Tensor) -> Tensor:
        """uint8 or float (N, C, H, W) of 0..255 to the buffers' dtype, the same shape."""
        return (images.to(self.mean.dtype) - self.mean[:, None, None]) * self.scale[:, None, None]


@final
class Stream(nn.Module):
    """A backbone's first `end` layers as children by name, with `pool` over time in the place of its last pooling.

    `extra_inputs` maps the index of a convolution to channels that it takes beyond its own: what a concatenation adds.
    Weights are random: He's normal, 0.01 * normal in the last layer, as the authors initialise a new classifier.
    """

    def __init__(
        self,
        backbone: Backbone,
        *,
        in_channels: int,
        num_classes: int,
        dropout: float,
        pool: Window | None = None,
        end: int | None = None,
        extra_inputs: Mapping[int, int] | None = None,
    ) -> None:
        super().__init__()
        self.backbone = backbone
        self.in_channels = in_channels
        self.num_classes = num_classes
        self.extra_inputs = dict(extra_inputs or {})
        self.layers = backbone.layers[:end]
        self.input = Normalise(in_channels)
        channels = in_channels
        for index, layer in enumerate(self.layers):
            inputs = channels + self.extra_inputs.get(index, 0)
            if pool is not None and index == backbone.last_pool:
                self.add_module(layer.name, TimePool(layer, pool))
            else:
                self.add_module(layer.name, make_layer(layer, inputs, num_classes, dropout))
            channels = backbone.channels_after(index, num_classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
        if len(self.layers) == len(backbone.layers):
            nn.init.normal_(self.classifier.weight, std=0.01)

    @property
    def classifier(self) -> nn.Conv2d:
        """The last layer of the whole backbone, 1x1 to the classes."""
        return self.convolution(self.backbone.names[-1])

    def convolution(self, name: str) -> nn.Conv2d:
        """The layer `name`, which is a convolution."""
        layer = getattr(self, name)
        assert isinstance(layer, nn.Conv2d)
        return layer

    def run(self, maps: Tensor, batch_size: int, start: int = 0, stop: int | None = None) -> Tensor:
        """Layers `start` to `stop` (excluded) on maps of `batch_size` B clips.

        Args:
            maps: (B*T, C, H, W); before layer 0, images of 0..255.
            batch_size: B. Where a layer pools over time, (B, C', H', W') comes out.
            start: Index of the first layer.
            stop: Index after the last one; None is all.
        """
        if start == 0:
            maps = self.input(maps)
        for layer in self.layers[start:stop]:
            module = getattr(self, layer.name)
            maps = module(maps, batch_size) if isinstance(module, TimePool) else module(maps)
        return maps

    def freeze(self, num_layers: int) -> None:
        """Parameters of the first `num_layers` layers get no gradient, all others do."""
        for index, layer in enumerate(self.layers):
            getattr(self, layer.name).requires_grad_(index >= num_layers)

    def norms(self) -> list[nn.BatchNorm2d]:
        """All batch normalisations in order."""
        return [module for module in self.modules() if isinstance(module, nn.BatchNorm2d)]


def index_of(backbone: Backbone, name: str, stream: str) -> int:
    """The index of a layer. `prediction` is the last one.

    Raises:
        SettingsError: There is no such layer; the message has all names.
    """
    if name == "prediction":
        return len(backbone.layers) - 1
    if name not in backbone.names:
        raise SettingsError(
            f"`at` names the layer {name}, which {backbone.name} of the {stream} stream does not have; "
            f"it has {', '.join(backbone.names)} and prediction. Where names differ, write spatial:temporal"
        )
    return backbone.names.index(name)

"""Backbones as tables of named layers, and the PyTorch module of each layer.

All is fully convolutional: fc6 of VGG is a convolution of 7x7, so a larger image gives a map of logits.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

from torch import Tensor, nn
from torch.nn import functional
from torchvision.models.resnet import Bottleneck


@final
@dataclass(frozen=True)
class Layer:
    """A row of a backbone's table. `channels` are those that come out: 0 keeps them, -1 is the number of classes.

    Kinds: conv, relu, bn, norm (across channels), max, average, dropout, block (a residual block; rectified). `ceil`
    lets a pooling window hang over the lower and right border. `bias` is False where batch normalisation follows. A
    block has its stride in the 3x3 convolution, or with `stride_first` in the 1x1 one before it.
    """

    name: str
    kind: str
    channels: int = 0
    kernel: int = 1
    stride: int = 1
    padding: int = 0
    ceil: bool = False
    bias: bool = True
    stride_first: bool = False

    @property
    def has_weights(self) -> bool:
        """Whether there are parameters."""
        return self.kind in ("conv", "bn", "block")

    @property
    def is_rectified(self) -> bool:
        """Whether nothing that comes out is negative."""
        return self.kind in ("relu", "block")


@final
@dataclass(frozen=True)
class Backbone:
    """A backbone's layers in order. The last one gives the logits, the last pooling is where time may be pooled.

    `min_size_px` is the smallest side of an image that passes.
    """

    name: str
    layers: tuple[Layer, ...]
    min_size_px: int

    @property
    def names(self) -> tuple[str, ...]:
        """Names of all layers in order."""
        return tuple(layer.name for layer in self.layers)

    @property
    def last_pool(self) -> int:
        """Index of the last pooling layer."""
        return max(index for index, layer in enumerate(self.layers) if layer.kind in ("max", "average"))

    def channels_after(self, index: int, num_classes: int) -> int:
        """Channels of the map that layer `index` puts out."""
        channels = next(layer.channels for layer in reversed(self.layers[: index + 1]) if layer.channels)
        return num_classes if channels < 0 else channels

    def stride_after(self, index: int) -> int:
        """Pixels of the image from one point of the map after layer `index` to the next."""
        stride = 1
        for layer in self.layers[: index + 1]:
            stride *= layer.stride
        return stride


def by_clip(maps: Tensor, batch_size: int) -> Tensor:
    """(B*T, ...) as (B, T, ...)."""
    return maps.reshape(batch_size, maps.shape[0] // batch_size, *maps.shape[1:])


@final
class ResponseNorm(nn.Module):
    """Local response normalisation over 5 channels: x / (2 + 1e-4 * sum of squares) ** 0.75, as in VGG-M.

    MatConvNet's [5 2 1e-4 .75], Caffe's and PyTorch's alpha=5e-4, which both divide by 5. Note [why not PyTorch's]:
    `nn.LocalResponseNorm` pools in 3D, which has no deterministic gradient on CUDA; sums of slices do.
    """

    SIZE, KAPPA, ALPHA, BETA = 5, 2.0, 1e-4, 0.75

    def forward(self, maps: Tensor) -> Tensor:
        """(N, C, H, W) to the same shape; channels beyond the first and last count as 0."""
        channels = maps.shape[1]
        reach = self.SIZE // 2
        squares = functional.pad(maps.square(), (0, 0, 0, 0, reach, reach))
        total = sum((squares[:, k : k + channels] for k in range(1, self.SIZE)), start=squares[:, :channels])
        return maps * (self.KAPPA + self.ALPHA * total).pow(-self.BETA)


def make_layer(layer: Layer, in_channels: int, num_classes: int, dropout: float) -> nn.Module:
    """The module of a row, with PyTorch's own initial values."""
    out_channels = num_classes if layer.channels < 0 else layer.channels
    match layer.kind:
        case "conv":
            window = (layer.kernel, layer.stride, layer.padding)
            return nn.Conv2d(in_channels, out_channels, *window, bias=layer.bias)
        case "relu":
            return nn.ReLU()
        case "bn":
            return nn.BatchNorm2d(in_channels)
        case "norm":
            return ResponseNorm()
        case "max":
            return nn.MaxPool2d(layer.kernel, layer.stride, layer.padding, ceil_mode=layer.ceil)
        case "average":
            return nn.AvgPool2d(layer.kernel, layer.stride)
        case "dropout":
            return nn.Dropout(dropout)
        case "block":
            return _bottleneck(in_channels, out_channels, layer.stride, stride_first=layer.stride_first)
    raise AssertionError(layer.kind)


def _bottleneck(in_channels: int, out_channels: int, stride: int, *, stride_first: bool) -> nn.Module:
    shortcut = None
    if stride > 1 or in_channels != out_channels:
        shortcut = nn.Sequential(
            nn.Conv2d(in_channels, out_channels, 1, stride, bias=False), nn.BatchNorm2d(out_channels)
        )
    block = Bottleneck(in_channels, out_channels // Bottleneck.expansion, stride, shortcut)
    if stride_first:
        block.conv1.stride, block.conv2.stride = block.conv2.stride, block.conv1.stride
    module: nn.Module = block
    return module

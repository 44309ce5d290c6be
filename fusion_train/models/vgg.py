"""VGG-16 (Simonyan and Zisserman, ICLR 2015), VGG-M-2048 (Chatfield et al., BMVC 2014), and small nets like them.

Names are MatConvNet's; `x` features of the authors' files are these layers' outputs. Fully connected layers are
convolutions, dropout follows fc6 and fc7.
"""

from __future__ import annotations

from collections.abc import Iterator

from fusion_train.models.layers import Backbone, Layer


def _conv(name: str, channels: int, kernel: int, stride: int = 1, padding: int = 0) -> tuple[Layer, Layer]:
    """A convolution `conv<name>` and its `relu<name>`."""
    return Layer(f"conv{name}", "conv", channels, kernel, stride, padding), Layer(f"relu{name}", "relu")


def _full(number: int, channels: int, kernel: int = 1) -> tuple[Layer, Layer, Layer]:
    """A fully connected layer as a convolution, its ReLU and its dropout."""
    return (
        Layer(f"fc{number}", "conv", channels, kernel),
        Layer(f"relu{number}", "relu"),
        Layer(f"drop{number}", "dropout"),
    )


def _vgg16() -> Iterator[Layer]:
    for stage, (channels, depth) in enumerate([(64, 2), (128, 2), (256, 3), (512, 3), (512, 3)], start=1):
        for k in range(1, depth + 1):
            yield from _conv(f"{stage}_{k}", channels, kernel=3, padding=1)
        yield Layer(f"pool{stage}", "max", kernel=2, stride=2)
    yield from _full(6, 4096, kernel=7)
    yield from _full(7, 4096)
    yield Layer("fc8", "conv", -1)


def _vggm(with_norm2: bool) -> Iterator[Layer]:
    yield from _conv("1", 96, kernel=7, stride=2)  # 109x109 of 224x224
    yield Layer("norm1", "norm")
    yield Layer("pool1", "max", kernel=3, stride=2)  # 54
    yield from _conv("2", 256, kernel=5, stride=2, padding=1)  # 26
    if with_norm2:
        yield Layer("norm2", "norm")
    yield Layer("pool2", "max", kernel=3, stride=2, ceil=True)  # 13: MatConvNet pads by [0 1 0 1], Caffe rounds up
    yield from _conv("3", 512, kernel=3, padding=1)
    yield from _conv("4", 512, kernel=3, padding=1)
    yield from _conv("5", 512, kernel=3, padding=1)
    yield Layer("pool5", "max", kernel=3, stride=2)  # 6
    yield from _full(6, 4096, kernel=6)
    yield from _full(7, 2048)
    yield Layer("fc8", "conv", -1)


def _synthetic() -> Iterator[Layer]:
    yield from _conv("1", 16, kernel=5, stride=2, padding=2)  # 48x48 of 96x96
    yield Layer("pool1", "max", kernel=2, stride=2)  # 24
    yield from _conv("2", 24, kernel=3, padding=1)
    yield Layer("pool2", "max", kernel=2, stride=2)  # 12
    yield from _conv("3", 16, kernel=3, padding=1)
    yield Layer("pool3", "max", kernel=2, stride=2)  # 6
    yield from _full(4, 64, kernel=2)
    yield Layer("fc5", "conv", -1)


def _debug() -> Iterator[Layer]:
    yield from _conv("1", 16, kernel=5, stride=2, padding=2)
    yield Layer("pool1", "max", kernel=2, stride=2)
    yield from _conv("2", 32, kernel=3, padding=1)
    yield Layer("pool2", "max", kernel=2, stride=2)
    yield from _conv("3", 32, kernel=3, padding=1)
    yield Layer("pool3", "max", kernel=2, stride=2)
    yield from _full(4, 64, kernel=2)
    yield Layer("fc5", "conv", -1)


VGG16 = Backbone("vgg16", tuple(_vgg16()), min_size_px=224)
VGGM = Backbone("vggm", tuple(_vggm(with_norm2=True)), min_size_px=224)
VGGM_TEMPORAL = Backbone("vggm", tuple(_vggm(with_norm2=False)), min_size_px=224)
"""Without norm2, as in Simonyan and Zisserman's temporal net (NIPS 2014)."""
SYNTHETIC = Backbone("synthetic", tuple(_synthetic()), min_size_px=32)
DEBUG = Backbone("debug", tuple(_debug()), min_size_px=32)

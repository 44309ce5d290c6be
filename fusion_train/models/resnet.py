"""ResNet-50 (He et al., CVPR 2016), as torchvision has it and as Caffe and MatConvNet do.

Torchvision's has the stride of a stage in its 3x3 convolution and pads its first pooling all around; theirs has it in
the 1x1 convolution before and lets the pooling hang over at the bottom and right. Blocks are named as in Caffe, `res2a`
to `res5c`; each puts out a rectified map, so streams can be fused after any.
"""

from __future__ import annotations

from collections.abc import Iterator

from fusion_train.models.layers import Backbone, Layer


def _resnet50(*, caffe: bool) -> Iterator[Layer]:
    yield Layer("conv1", "conv", 64, kernel=7, stride=2, padding=3, bias=False)
    yield Layer("bn1", "bn")
    yield Layer("relu1", "relu")
    yield Layer("pool1", "max", kernel=3, stride=2, padding=0 if caffe else 1, ceil=caffe)
    for stage, (channels, depth) in enumerate([(256, 3), (512, 4), (1024, 6), (2048, 3)], start=2):
        for k in range(depth):
            stride = 2 if stage > 2 and k == 0 else 1
            yield Layer(f"res{stage}{'abcdef'[k]}", "block", channels, stride=stride, stride_first=caffe)
    yield Layer("pool5", "average", kernel=7)  # of 7x7 at 224; larger images give a map
    yield Layer("drop5", "dropout")
    yield Layer("fc", "conv", -1)


RESNET50 = Backbone("resnet50", tuple(_resnet50(caffe=False)), min_size_px=224)
RESNET50_CAFFE = Backbone("resnet50-caffe", tuple(_resnet50(caffe=True)), min_size_px=224)
"""Of `imagenet-resnet-50-dag.mat`, from which the authors' ResNet streams start."""

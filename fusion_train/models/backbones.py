"""Which table of layers a backbone's name means, by stream."""

from __future__ import annotations

from fusion_train.models.layers import Backbone
from fusion_train.models.resnet import RESNET50, RESNET50_CAFFE
from fusion_train.models.vgg import DEBUG, SYNTHETIC, VGG16, VGGM, VGGM_TEMPORAL

_TABLES = {backbone.name: backbone for backbone in (VGG16, VGGM, RESNET50, RESNET50_CAFFE, SYNTHETIC, DEBUG)}


def backbone_of(name: str, stream: str) -> Backbone:
    """The layers of `name` in `stream`, `spatial` or `temporal`: VGG-M has no norm2 in the temporal one."""
    return VGGM_TEMPORAL if name == "vggm" and stream == "temporal" else _TABLES[name]

"""Tables 1 to 5 of Feichtenhofer et al. (CVPR 2016, arXiv 1604.06573v2): each row's words, figures, and recipe.

docs/ablations.md says which row is which setting, and where the paper contradicts itself.
Note [loads nothing heavy]: as `fusion_train.config`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import final

from fusion_train.paper import ALL_SPLITS


@final
@dataclass(frozen=True, kw_only=True)
class Recipe:
    """How a row is made. `what` is a `spatial` or `temporal` stream, `late fusion` of both, or a `fused` network.

    Late fusion trains nothing: it is the mean of both streams' prediction layers, before the softmax. `at` are layers
    as VGG-M names them; `keep_temporal` keeps both towers and both losses, and their predictions are averaged.
    """

    what: str = "fused"
    spatial: str = "vggm"
    temporal: str = "vggm"
    fusion: str = "conv"
    at: tuple[str, ...] = ("relu5",)
    temporal_fusion: str = "pool2d"
    keep_temporal: bool = False


@final
@dataclass(frozen=True, kw_only=True)
class PaperRow:
    """A row as printed. Top-1 accuracies are in percent, `millions` of parameters; None is what is not there.

    Without `recipe` it is others' work. `notes` hold wherever the row is shown, `of_ucf101` on that data set alone.
    """

    name: str
    cells: Mapping[str, str]
    ucf101: float | None
    hmdb51: float | None = None
    num_layers: int | None = None
    millions: float | None = None
    recipe: Recipe | None = None
    notes: tuple[str, ...] = ()
    of_ucf101: tuple[str, ...] = ()

    @property
    def table(self) -> int:
        """Number of its table."""
        return int(self.name.partition("-")[0])

    def percent(self, dataset: str | None) -> float | None:
        """The accuracy on `ucf101` or `hmdb51`, None elsewhere."""
        return {"ucf101": self.ucf101, "hmdb51": self.hmdb51}.get(dataset or "")


@final
@dataclass(frozen=True, kw_only=True)
class PaperTable:
    """A table and how it is evaluated: mirrored clips of a fused network and single frames of a stream, a video.

    `all_splits`: the mean over all official splits instead of the first alone.
    """

    title: str
    num_test_clips: int = 1
    num_test_frames: int = 5
    all_splits: bool = False

    @property
    def of(self) -> str:
        """What the paper's figures are of."""
        return ALL_SPLITS if self.all_splits else "split 1"


TABLES: Mapping[int, PaperTable] = {
    1: PaperTable(title="Spatial fusion methods"),
    2: PaperTable(title="Where to fuse (conv fusion)"),
    3: PaperTable(title="Backbones"),
    4: PaperTable(title="Temporal fusion (spatial VGG-16, temporal VGG-M)"),
    5: PaperTable(title="State of the art", num_test_clips=10, num_test_frames=10, all_splits=True),
}
"""T = 5 frames and their mirror images for the ablations, 20 predictions of each network for table 5."""

_COUNT = "The paper counts both conv1 with 20 input channels; here that of the spatial stream has 3."
_FILTER = (
    "The paper counts both conv1 with 20 input channels and the fusion filter as 512x512; here the spatial conv1 has 3 "
    "and the filter 1024x512."
)
_UNKNOWN = (
    "The paper counts both conv1 with 20 input channels; what is left, some 0.48 M, fits no fusion filter that we know."
)


def _method(name: str, method: str, layer: str, percent: float, num_layers: int, millions: float,
            recipe: Recipe | None, *notes: str) -> PaperRow:  # fmt: skip
    return PaperRow(
        name=name,
        cells={"Fusion method": method, "Fusion layer": layer},
        ucf101=percent,
        num_layers=num_layers,
        millions=millions,
        recipe=recipe,
        notes=notes,
    )


def _where(name: str, layers: str, at: str, percent: float, num_layers: int, millions: float, *notes: str) -> PaperRow:
    return PaperRow(
        name=name,
        cells={"Fusion layers": layers},
        ucf101=percent,
        num_layers=num_layers,
        millions=millions,
        recipe=Recipe(at=tuple(at.split(","))),
        notes=notes,
    )


def _backbone(what: str, backbone: str, ucf101: float, hmdb51: float, *of_ucf101: str) -> PaperRow:
    model = {"vggm": "VGG-M-2048", "vgg16": "VGG-16"}[backbone]
    return PaperRow(
        name=f"3-{backbone}-{what.replace(' ', '-')}",
        cells={"": what.capitalize(), "Model": model},
        ucf101=ucf101,
        hmdb51=hmdb51,
        recipe=Recipe(what=what, spatial=backbone, temporal=backbone),
        of_ucf101=of_ucf101,
    )


def _temporal(name: str, method: str, pooling: str, temporal_fusion: str, ucf101: float, hmdb51: float) -> PaperRow:
    return PaperRow(
        name=name,
        cells={"Fusion method": method, "Pooling": pooling, "Fusion layers": "ReLU5 +"},
        ucf101=ucf101,
        hmdb51=hmdb51,
        recipe=Recipe(spatial="vgg16", temporal_fusion=temporal_fusion, keep_temporal=True),
    )


def _method5(name: str, method: str, ucf101: float | None, hmdb51: float | None, recipe: Recipe | None = None,
             *of_ucf101: str) -> PaperRow:  # fmt: skip
    return PaperRow(
        name=name, cells={"Method": method}, ucf101=ucf101, hmdb51=hmdb51, recipe=recipe, of_ucf101=of_ucf101
    )


_GAIN = (
    "The paper's text has 8.11 % as the gain of VGG-16 in the spatial stream, its cells 82.61 - 74.22 = 8.39 %: one of "
    "these is wrong."
)
_VGG16 = Recipe(spatial="vgg16", temporal="vgg16", temporal_fusion="conv3d+pool3d", keep_temporal=True)

PAPER_ROWS: tuple[PaperRow, ...] = (
    _method("1-sum-cited", "Sum (Simonyan and Zisserman)", "Softmax", 85.6, 16, 181.42, None),
    _method("1-sum-softmax", "Sum (ours)", "Softmax", 85.94, 16, 181.42, Recipe(what="late fusion"), _COUNT),
    _method("1-max", "Max", "ReLU5", 82.70, 13, 97.31, Recipe(fusion="max"), _COUNT),
    _method("1-concat", "Concatenation", "ReLU5", 83.53, 13, 172.81, Recipe(fusion="concat"), _COUNT),
    _method("1-bilinear", "Bilinear", "ReLU5", 85.05, 10, 6.61, Recipe(fusion="bilinear"),
            "The paper counts one convolutional tower, and not its linear SVM. Here both towers are counted, and the "
            "layer that the SVM is put into."),
    _method("1-sum", "Sum", "ReLU5", 85.20, 13, 97.31, Recipe(fusion="sum"), _COUNT),
    _method("1-conv", "Conv", "ReLU5", 85.96, 14, 97.58, Recipe(), _FILTER),
    _where("2-relu2", "ReLU2", "relu2", 82.25, 11, 91.90, _UNKNOWN),
    _where("2-relu3", "ReLU3", "relu3", 83.43, 12, 93.08, _UNKNOWN),
    _where("2-relu4", "ReLU4", "relu4", 82.55, 13, 95.48,
           "The paper counts the filter as 1024x512 here and as 512x512 at ReLU5."),
    _where("2-relu5", "ReLU5", "relu5", 85.96, 14, 97.57, _FILTER,
           "The paper has 97.57 M here and 97.58 M for the same network in table 1."),
    _where("2-relu5-fc8", "ReLU5 + FC8", "relu5,fc8", 86.04, 17, 181.68, _FILTER,
           "The paper counts one fusion filter as a layer; here both are."),
    _where("2-relu3-relu5-fc6", "ReLU3 + ReLU5 + FC6", "relu3,relu5,fc6", 81.55, 17, 190.06,
           "The paper's count is smaller than that of filters that take both maps; how it was made is not known."),
    _backbone("spatial", "vggm", 74.22, 36.77, _GAIN),
    _backbone("spatial", "vgg16", 82.61, 47.06, _GAIN),
    _backbone("temporal", "vggm", 82.34, 51.50),
    _backbone("temporal", "vgg16", 86.25, 55.23),
    _backbone("late fusion", "vggm", 85.94, 54.90),
    _backbone("late fusion", "vgg16", 90.62, 58.17),
    _temporal("4-conv2d-pool2d", "2D Conv", "2D", "pool2d", 89.35, 56.93),
    _temporal("4-conv2d-pool3d", "2D Conv", "3D", "pool3d", 89.64, 57.58),
    _temporal("4-conv3d-pool3d", "3D Conv", "3D", "conv3d+pool3d", 90.40, 58.63),
    _method5("5-karpathy", "Spatiotemporal ConvNet", 65.4, None),
    _method5("5-lrcn", "LRCN", 82.9, None),
    _method5("5-lstm", "Composite LSTM Model", 84.3, 44.0),
    _method5("5-c3d", "C3D", 85.2, None),
    _method5("5-simonyan", "Two-Stream ConvNet (VGG-M)", 88.0, 59.4),
    _method5("5-factorized", "Factorized ConvNet", 88.1, 59.1),
    _method5("5-ng", "Two-Stream Conv Pooling", 88.2, None),
    _method5("5-wang", "Two-Stream ConvNet (VGG-16, Wang et al.)", 91.4, 58.5),
    _method5("5-late-fusion", "Two-Stream ConvNet (VGG-16, ours)", 91.7, 58.7,
             Recipe(what="late fusion", spatial="vgg16", temporal="vgg16")),
    _method5("5-vgg16-vggm", "Ours (S:VGG-16, T:VGG-M)", 90.8, 62.1,
             Recipe(spatial="vgg16", temporal_fusion="conv3d+pool3d", keep_temporal=True)),
    _method5("5-one-tower", "Ours (S:VGG-16, T:VGG-16, single tower after fusion)", 91.8, 64.6,
             Recipe(spatial="vgg16", temporal="vgg16", temporal_fusion="conv3d+pool3d")),
    _method5("5-vgg16", "Ours (S:VGG-16, T:VGG-16)", 92.5, 65.4, _VGG16,
             "The author reports 91.5 % on split 1 for the released code."),
)  # fmt: skip

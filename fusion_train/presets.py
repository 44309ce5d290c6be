"""Named configurations: `<dataset>-<backbone>` is the paper's protocol, with `-authors` that of the released code.

A preset is a function; what it returns is complete. Note [loads nothing heavy]: as `fusion_train.config`.
"""

from __future__ import annotations

import dataclasses
import difflib
from collections.abc import Callable, Mapping

from flowprep.errors import SettingsError
from fusion_train.config import ModelSettings

VGGM_WEIGHTS = "weights/imagenet-vgg-m-2048.mat"
VGG16_WEIGHTS = "weights/imagenet-vgg-verydeep-16.mat"


def ucf101_vgg16() -> ModelSettings:
    """VGG-16 in both streams: 92.5 % of UCF101 in table 5, 91.8 % with the fused tower alone (mean of 3 splits).

    Conv fusion in 3D after relu5_3, 3D pooling, both towers. The single streams are table 3's 82.61 and 86.25 %.
    """
    return ModelSettings()


def ucf101_vgg16_authors() -> ModelSettings:
    """The same network as `cnn_ucf101_fusion.m` builds it; its author reports 91.5 % on split 1.

    All chunks are pooled at once by 2x2x5, dropout is 0.85 in both towers, weights are MatConvNet's.
    """
    return dataclasses.replace(
        ucf101_vgg16(),
        pool_kernel="all,own,own",
        pool_stride="2,own,own",
        pool_padding="0,own,own",
        fused_dropout=0.85,
        spatial_weights=VGG16_WEIGHTS,
        temporal_weights=VGG16_WEIGHTS,
    )


def ucf101_vggm() -> ModelSettings:
    """VGG-M-2048 in both streams, 2D conv fusion at relu5, one tower: table 1's last row, 85.96 % of split 1.

    The single streams are table 3's 74.22 and 82.34 %. The filter is 1x1 and begins as the sum of both maps.
    """
    return ModelSettings(
        spatial="vggm",
        temporal="vggm",
        at="relu5",
        temporal_fusion="pool2d",
        init_spatial=1.0,
        init_temporal=1.0,
        keep_temporal=False,
        spatial_weights=VGGM_WEIGHTS,
        temporal_weights=VGGM_WEIGHTS,
    )


def ucf101_vgg16_vggm() -> ModelSettings:
    """Spatial VGG-16, temporal VGG-M: table 4's last row, 90.40 % of split 1; table 5's 90.8 %."""
    return dataclasses.replace(ucf101_vgg16(), temporal="vggm", at="relu5_3:relu5", temporal_weights=VGGM_WEIGHTS)


def ucf101_resnet50() -> ModelSettings:
    """ResNet-50 in both streams, fused at its last block; not in the paper.

    All layers and the first normalisation are trained. The filter is 1x1: with 3x3x3 it would have 226 M weights.
    """
    return ModelSettings(
        spatial="resnet50",
        temporal="resnet50",
        at="res5c",
        temporal_fusion="pool3d",
        pool_kernel="all,own,own",
        pool_padding="0,own,own",
        spatial_dropout=0.8,
        temporal_dropout=0.8,
        backprop_to="input",
        batch_norm="partial",
    )


def hmdb51_vgg16() -> ModelSettings:
    """Table 5's 65.4 % of HMDB51 (64.6 % with the fused tower alone); single streams 47.06 and 55.23 % in table 3.

    The paper starts HMDB51's temporal stream from UCF101's: give that checkpoint as `temporal_weights`.
    """
    return ucf101_vgg16()


def hmdb51_vgg16_authors() -> ModelSettings:
    """As `ucf101_vgg16_authors`; the authors released neither the script nor nets for HMDB51."""
    return ucf101_vgg16_authors()


def hmdb51_vggm() -> ModelSettings:
    """VGG-M-2048 on HMDB51; table 3 has the single streams, 36.77 and 51.50 %, and their late fusion, 54.90 %."""
    return ucf101_vggm()


def hmdb51_vgg16_vggm() -> ModelSettings:
    """Table 4's last row, 58.63 % of HMDB51's split 1; table 5's 62.1 %."""
    return ucf101_vgg16_vggm()


def hmdb51_resnet50() -> ModelSettings:
    """As `ucf101_resnet50`."""
    return ucf101_resnet50()


def synthetic() -> ModelSettings:
    """Small nets for the clips of `flowprep synth`, fused once by a convolution in 3D; in no table but docs/proof.md's.

    Convolutions below the fusion stay as they are in single streams too. Random ones say nothing, so give those of the
    pretext task as `spatial_weights` and `temporal_weights`.
    """
    return ModelSettings(
        spatial="synthetic",
        temporal="synthetic",
        at="relu3",
        init_spatial=1.0,
        init_temporal=1.0,
        pool_kernel="all,own,own",
        pool_padding="0,own,own",
        keep_temporal=False,
        spatial_dropout=0.0,
        temporal_dropout=0.0,
        backprop_to="at",
        spatial_weights="none",
        temporal_weights="none",
    )


def debug() -> ModelSettings:
    """A few narrow layers, all trained, from random weights: for tests and demonstrations, in no table."""
    return ModelSettings(
        spatial="debug",
        temporal="debug",
        at="relu3",
        spatial_dropout=0.2,
        temporal_dropout=0.2,
        backprop_to="input",
        spatial_weights="none",
        temporal_weights="none",
    )


PRESETS: Mapping[str, Callable[[], ModelSettings]] = {
    function.__name__.replace("_", "-"): function
    for function in (
        ucf101_vgg16,
        ucf101_vgg16_authors,
        ucf101_vggm,
        ucf101_vgg16_vggm,
        ucf101_resnet50,
        hmdb51_vgg16,
        hmdb51_vgg16_authors,
        hmdb51_vggm,
        hmdb51_vgg16_vggm,
        hmdb51_resnet50,
        synthetic,
        debug,
    )
}


def preset_settings(name: str) -> ModelSettings:
    """The settings of a preset. Raises SettingsError with all names if there is none such."""
    if name not in PRESETS:
        near = difflib.get_close_matches(name, PRESETS, n=1)
        meant = f"; did you mean {near[0]}?" if near else ""
        raise SettingsError(f"`preset` must be one of {', '.join(PRESETS)}, got {name!r}{meant}")
    return PRESETS[name]()

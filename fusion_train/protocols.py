"""All settings of a preset's three networks: the presets' models with what they see and how they are trained.

The paper gives batch, rates and dropout of the fused network, and little of the single streams; what it leaves open is
taken from the released code (docs/fusion-training.md). Note [loads nothing heavy]: as `fusion_train.config`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

from fusion_train.config import DataSettings, EvaluateSettings, FusionSettings, ModelSettings, TrainSettings
from fusion_train.presets import preset_settings

SPATIAL_RATES = "3x1e-3,5x5e-4,2x5e-5,2x5e-6"
TEMPORAL_RATES = "10x5e-4,5x5e-5,5e-6"
FUSED_RATES = "2x1e-3,1e-4,1e-5,1e-6"


def full_settings(preset: str, stage: str) -> FusionSettings:
    """Settings of the network `stage` (spatial, temporal or fused) of a preset.

    Raises:
        SettingsError: There is no such preset.
    """
    model = dataclasses.replace(preset_settings(preset), network=stage)
    if preset in ("debug", "synthetic"):
        data, train = debug(stage) if preset == "debug" else synthetic()
    else:
        data, train = authors(stage) if preset.endswith("-authors") else paper(stage, model)
    if preset == "debug":  # flow of a pixel or less is weak beside a bound of 20
        model = dataclasses.replace(model, init_spatial=1.0, init_temporal=6.0)
    single = {"num_chunks": 1, "num_test_clips": 25} if stage != "fused" else {}
    return FusionSettings(
        model=model,
        data=dataclasses.replace(data, **single),  # type: ignore[arg-type]
        train=train,
        evaluate=EvaluateSettings(clips_at_once=25 if single else 5),
    )


def paper(stage: str, model: ModelSettings) -> tuple[DataSettings, TrainSettings]:
    """Rates are a tenth when held-out accuracy saturates; where nothing is held out, they are the released code's.

    Fused networks start at 1e-3, with VGG-16 at 5e-4 (the PDF has 50^-4), and their batches are of 96 clips with tau
    from 1 to 10. Of the single streams the paper says that they are trained as Simonyan and Zisserman do but for the
    plateau, and of VGG-16's crops. The rest is the released code's: rates from 1e-3 (spatial) and 5e-4 (temporal), and
    an epoch of 10 and of 100 passes. Flow needs the more of them since no network begins with weights for it: the
    code's 16 epochs are some 119,000 steps, and Simonyan and Zisserman take 80,000 of 256 clips from random weights.
    """
    if stage == "fused":
        deep = "vgg16" in (model.spatial, model.temporal)
        rates = "2x5e-4,5e-5,5e-6,5e-7" if deep else FUSED_RATES
        return DataSettings(), TrainSettings(rates=rates, passes=10, batch_size=96)
    deep = (model.spatial if stage == "spatial" else model.temporal) == "vgg16"
    rates, passes = (SPATIAL_RATES, 10) if stage == "spatial" else (TEMPORAL_RATES, 100)
    return (
        DataSettings(crops="borders+corners" if deep else "borders"),
        TrainSettings(rates=rates, passes=passes, batch_size=128, videos_at_once=16),
    )


def authors(stage: str) -> tuple[DataSettings, TrainSettings]:
    """`cnn_ucf101_fusion.m`, `cnn_ucf101_spatial.m`, `cnn_ucf101_temporal.m`: fixed rates, the test list is looked at.

    A training ends with its list of rates: the 2000 epochs of the fusion script are "a filler", says its author, and
    5 are enough. Biases learn twice as fast and do not decay (`setLrWd.m`), and every epoch begins without momentum.
    """
    data = DataSettings(protocol="authors")
    train = TrainSettings(val="test", bias_rate=2.0, bias_decay=False, reset_momentum=True)
    changes: Mapping[str, object]
    match stage:
        case "spatial":
            changes = {"rates": SPATIAL_RATES, "passes": 10, "head_epochs": 3}
        case "temporal":
            changes = {"rates": TEMPORAL_RATES, "passes": 100}
            data = dataclasses.replace(data, crops="corners")
        case _:
            return data, dataclasses.replace(train, rates=FUSED_RATES, passes=10, batch_size=96)
    return data, dataclasses.replace(train, batch_size=128, videos_at_once=16, **changes)  # type: ignore[arg-type]


def synthetic() -> tuple[DataSettings, TrainSettings]:
    """Whole frames of 96 pixels, not mirrored, since left and right are classes of the pretext task.

    With tau 10 a clip of five stacks holds both phases. See docs/proof.md for how the rate was chosen.
    """
    data = DataSettings(
        crop_size=96, jitter=0.0, flip=False, test_flip=False, tau_min=10, tau_max=10, test_tau=10, num_test_clips=1
    )
    train = TrainSettings(
        val="none", batch_size=32, videos_at_once=32, rates="6x2e-2,2x2e-3", weight_decay=1e-4, num_epochs=8
    )
    return data, train


def debug(stage: str) -> tuple[DataSettings, TrainSettings]:
    """A few small clips for a minute on two cores; nothing is held out of so few videos."""
    data = DataSettings(
        crop_size=80, border=0.5, tau_min=8, tau_max=10, test_tau=9, num_test_clips=2, interpolation="bilinear"
    )
    train = TrainSettings(val="none", batch_size=8, rates="3x1e-2,3e-3", weight_decay=1e-4, num_epochs=4)
    return data, dataclasses.replace(train, passes=25 if stage == "fused" else 10)

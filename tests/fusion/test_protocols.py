"""The numbers of the paper and of the released code, preset by stage, written down again as digits."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import pytest

from fusion_train.config import TrainSettings
from fusion_train.overrides import STAGES, overridden
from fusion_train.presets import PRESETS
from fusion_train.protocols import full_settings


@dataclass(frozen=True, kw_only=True)
class Numbers:
    """Of one training: of paper and code what a table of docs/fusion-training.md has, and the network's dropout."""

    rates: tuple[float, ...]
    passes: int
    batch_size: int = 128
    dropout: tuple[float, ...]
    crops: str
    num_chunks: int = 1
    num_test_clips: int = 25
    is_authors: bool = False
    head_epochs: int = 0


SPATIAL = (1e-3, 1e-3, 1e-3, 5e-4, 5e-4, 5e-4, 5e-4, 5e-4, 5e-5, 5e-5, 5e-6, 5e-6)
TEMPORAL = (5e-4, 5e-4, 5e-4, 5e-4, 5e-4, 5e-4, 5e-4, 5e-4, 5e-4, 5e-4, 5e-5, 5e-5, 5e-5, 5e-5, 5e-5, 5e-6)
FUSED = (1e-3, 1e-3, 1e-4, 1e-5, 1e-6)
FUSED_VGG16 = (5e-4, 5e-4, 5e-5, 5e-6, 5e-7)


def spatial(crops: str = "borders+corners", dropout: float = 0.85) -> Numbers:
    return Numbers(rates=SPATIAL, passes=10, dropout=(dropout,), crops=crops)


def temporal(crops: str = "borders+corners", dropout: float = 0.9) -> Numbers:
    return Numbers(rates=TEMPORAL, passes=100, dropout=(dropout,), crops=crops)


def fused(rates: tuple[float, ...], dropout: tuple[float, float] = (0.85, 0.9)) -> Numbers:
    return Numbers(rates=rates, passes=10, batch_size=96, dropout=dropout, crops="borders", num_chunks=5,
                   num_test_clips=10)  # fmt: skip


PAPER = {
    "vgg16": (spatial(), temporal(), fused(FUSED_VGG16)),
    "vggm": (spatial("borders"), temporal("borders"), fused(FUSED)),
    "vgg16-vggm": (spatial(), temporal("borders"), fused(FUSED_VGG16)),
    "resnet50": (spatial("borders", 0.8), temporal("borders", 0.8), fused(FUSED, (0.8, 0.8))),
}
AUTHORS = (
    dataclasses.replace(spatial("diagonal"), is_authors=True, head_epochs=3),
    dataclasses.replace(temporal("corners"), is_authors=True),
    dataclasses.replace(fused(FUSED, (0.85, 0.85)), is_authors=True, crops="diagonal"),
)
TABLE = {
    (f"{dataset}-{name}", stage): numbers
    for dataset in ("ucf101", "hmdb51")
    for name, row in {**PAPER, "vgg16-authors": AUTHORS}.items()
    for stage, numbers in zip(("spatial", "temporal", "fused"), row, strict=True)
}


def test_every_preset_of_the_paper_and_the_released_code_is_in_the_table() -> None:
    assert {preset for preset, _ in TABLE} == set(PRESETS) - {"synthetic", "debug"}


@pytest.mark.parametrize(("preset", "stage"), TABLE)
def test_a_protocol_has_its_numbers(preset: str, stage: str) -> None:
    numbers, settings = TABLE[preset, stage], full_settings(preset, stage)
    train, data, model = settings.train, settings.data, settings.model
    assert train.rate_of_epochs() == numbers.rates
    assert (train.passes, train.batch_size, train.head_epochs) == (
        numbers.passes,
        numbers.batch_size,
        numbers.head_epochs,
    )
    assert (train.momentum, train.weight_decay) == (0.9, 0.0005)
    assert (data.crops, data.crop_size, data.jitter, data.border) == (numbers.crops, 224, 0.25, 0.25)
    assert (data.num_chunks, data.num_test_clips, data.stack_length) == (numbers.num_chunks, numbers.num_test_clips, 10)
    assert (data.flip, data.test_flip, data.interpolation) == (True, True, "bicubic")
    streams = ("spatial", "temporal") if stage == "fused" else (stage,)
    assert tuple(map(model.dropout_of, streams)) == numbers.dropout
    if numbers.is_authors:
        assert (data.protocol, data.taus, data.test_tau) == ("authors", (5, 15), 15)
        assert (train.val, train.by_plateau, train.reset_momentum) == ("test", False, True)
        assert (train.bias_rate, train.bias_decay) == (2.0, False)
        assert model.fused_dropout == 0.85
    else:
        assert (data.protocol, data.taus, data.test_tau) == ("paper", (1, 10), 10)
        assert (train.val, train.by_plateau, train.reset_momentum) == ("groups", True, False)
        assert (train.bias_rate, train.bias_decay) == (1.0, True)
        assert model.fused_dropout is None
        assert (train.patience, train.num_drops, train.max_epochs) == (2, 2, 20)


@pytest.mark.parametrize(("preset", "stage"), TABLE)
def test_fixed_rates_end_with_their_list(preset: str, stage: str) -> None:
    """Also where the paper's presets hold nothing out; a number of epochs that is given counts all the same."""
    settings = full_settings(preset, stage)
    if settings.train.val == "groups":
        settings = overridden(settings, ["train.val=none"], stage=stage)
    assert (
        settings.train.max_epochs
        == len(TABLE[preset, stage].rates)
        == {"spatial": 12, "temporal": 16, "fused": 5}[stage]
    )
    assert overridden(settings, ["train.num_epochs=30"], stage=stage).train.max_epochs == 30


def test_small_presets_keep_their_epochs() -> None:
    assert [full_settings("debug", stage).train.max_epochs for stage in STAGES] == [4] * 3
    assert [full_settings("synthetic", stage).train.max_epochs for stage in STAGES] == [8] * 3
    assert TrainSettings(val="none", rates="2x1e-3,1e-4").max_epochs == 3
    assert TrainSettings(val="groups", rates="2x1e-3,1e-4").max_epochs == 20
    assert TrainSettings(val="groups", schedule="fixed", rates="2x1e-3,1e-4").max_epochs == 3

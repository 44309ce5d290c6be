"""Settings of a training: presets of all stages, overrides, and learning rates."""

from __future__ import annotations

import json

import pytest

from flowprep.errors import SettingsError
from fusion_train.config import FusionSettings, TrainSettings
from fusion_train.overrides import STAGES, overridden
from fusion_train.presets import PRESETS
from fusion_train.protocols import full_settings
from fusion_train.schedule import Schedule


@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize("stage", STAGES)
def test_presets_are_complete_and_survive_json(preset: str, stage: str) -> None:
    settings = full_settings(preset, stage)
    assert settings.model.network == stage
    assert FusionSettings.from_json(json.loads(json.dumps(settings.to_json()))) == settings
    assert (settings.data.num_chunks, settings.data.num_test_clips)[0] == (5 if stage == "fused" else 1)
    assert (settings.train.val == "test") == preset.endswith("-authors")


@pytest.mark.parametrize(
    ("text", "section", "name", "value"),
    [
        ("train.batch_size=32", "train", "batch_size", 32),
        ("fused.train.rates=1e-4", "train", "rates", "1e-4"),
        ("data.flip=false", "data", "flip", False),
        ("model.conv_kernel=none", "model", "conv_kernel", None),
        ("model.spatial_weights=none", "model", "spatial_weights", "none"),
        ("train.momentum=0", "train", "momentum", 0.0),
    ],
)
def test_a_setting_is_set_by_its_path(text: str, section: str, name: str, value: object) -> None:
    settings = overridden(full_settings("debug", "fused"), [text], stage="fused")
    assert getattr(getattr(settings, section), name) == value


def test_a_setting_of_another_network_is_left_alone() -> None:
    settings = full_settings("debug", "spatial")
    assert overridden(settings, ["fused.train.rates=1e-4"], stage="spatial") == settings


def test_the_stack_length_of_a_model_is_that_of_its_data() -> None:
    assert overridden(full_settings("debug", "fused"), ["model.stack_length=4"], stage="fused").data.stack_length == 4
    with pytest.raises(
        SettingsError, match=r"`model.stack_length` and `data.stack_length` must be equal, got 10 and 4"
    ):
        overridden(full_settings("debug", "fused"), ["data.stack_length=4"], stage="fused")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("train.bach_size=3", "no setting of train 'bach_size'; did you mean batch_size"),
        ("trian.batch_size=3", "no section 'trian'; did you mean train"),
        ("fusd.train.rates=1", "no stage 'fusd'; did you mean fused"),
        ("train.batch_size", r"SECTION.NAME=VALUE.* got 'train.batch_size'"),
        ("train.batch_size=many", r"`train.batch_size` must be a whole number, got 'many'"),
        ("data.flip=yes", r"`data.flip` must be true or false, got 'yes'"),
        ("train.momentum=2", r"`momentum` must be at most 1, got 2"),
        ("train.videos_at_once=5", r"`batch_size` must be a multiple of `videos_at_once`, got 8 and 5"),
        ("train.rates=fast", r"`rates` must be rates above 0 as in .* got 'fast'"),
        ("train.schedule=plateau", r"`schedule` plateau needs held-out videos; set `val` to groups"),
    ],
)
def test_a_wrong_setting_is_refused_with_its_cure(text: str, message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        overridden(full_settings("debug", "fused"), [text], stage="fused")


def test_fixed_rates_step_where_they_should() -> None:
    schedule = Schedule(TrainSettings(val="none", rates="2x1e-3,1e-4", num_epochs=5, head_epochs=1))
    seen = []
    while not schedule.is_over:
        seen.append((schedule.rate, schedule.trains_head_only))
        schedule.end_epoch(None)
    assert seen == [(1e-3, True), (1e-3, False), (1e-4, False), (1e-4, False), (1e-4, False)]


def test_fixed_rates_end_with_their_list_unless_epochs_are_given() -> None:
    schedule = Schedule(TrainSettings(val="none", rates="2x1e-3,1e-4"))
    seen = []
    while not schedule.is_over:
        seen.append(schedule.rate)
        schedule.end_epoch(None)
    assert seen == [1e-3, 1e-3, 1e-4]


def test_a_plateau_lowers_the_rate_and_then_ends() -> None:
    schedule = Schedule(TrainSettings(rates="1e-2", num_epochs=50, patience=2, num_drops=1))
    rates, best = [], []
    for accuracy in (0.1, 0.3, 0.3, 0.2, 0.4, 0.4, 0.4):
        rates.append(schedule.rate)
        best.append(schedule.end_epoch(accuracy))
    assert rates == pytest.approx([1e-2] * 4 + [1e-3] * 3)
    assert best == [True, True, False, False, True, False, False]
    assert schedule.is_over
    assert (schedule.best, schedule.best_epoch) == (0.4, 4)


def test_epochs_of_the_prediction_layer_alone_do_not_wear_out_the_patience() -> None:
    schedule = Schedule(TrainSettings(rates="1e-2", num_epochs=50, patience=2, head_epochs=2))
    rates = []
    for accuracy in (0.6, 0.5, 0.4, 0.3, 0.2):
        rates.append(schedule.rate)
        schedule.end_epoch(accuracy)
    assert rates == pytest.approx([1e-2] * 4 + [1e-3])


def test_a_schedule_goes_on_from_its_state() -> None:
    settings = TrainSettings(rates="1e-2", patience=2)
    first, second = Schedule(settings), Schedule(settings)
    for accuracy in (0.5, 0.4):
        first.end_epoch(accuracy)
    second.load_state_dict(first.state_dict())
    for schedule in (first, second):
        schedule.end_epoch(0.4)
    assert first.state_dict() == second.state_dict()
    assert second.num_drops == 1

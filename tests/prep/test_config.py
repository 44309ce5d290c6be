import dataclasses
import json
from typing import Any

import pytest

from flowprep import config
from flowprep.config import (
    DecodeSettings,
    ExtractSettings,
    FlowSettings,
    JpegSettings,
    QuantiseSettings,
    ResizeSettings,
    RunSettings,
    StoreSettings,
)
from flowprep.errors import SettingsError
from flowprep.settings import differences

UNUSUAL = ExtractSettings(
    dataset="list",
    decode=DecodeSettings(on_damage="keep-prefix", fps=12.5),
    resize=ResizeSettings(short_side=None, width=112, height=84),
    flow=FlowSettings(backend="dis", step=3, backward=True, parameters={"preset": "fast", "alpha": 2.5}),
    quantise=QuantiseSettings(bound_px=15, rounding="truncate"),
    jpeg=JpegSettings(quality=90),
    store=StoreSettings(format="jpeg", layout="denseflow", shard_videos=7),
)


WITH_BASELINE = ExtractSettings(flow=FlowSettings(backend="native", variant="cpu", cpu_baseline="x86-64-v3"))


@pytest.mark.parametrize("settings", [ExtractSettings(), UNUSUAL, WITH_BASELINE])
def test_settings_survive_json(settings: ExtractSettings) -> None:
    assert ExtractSettings.from_json(json.loads(json.dumps(settings.to_json()))) == settings


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: QuantiseSettings(bound_px=0), "`bound_px` must be above 0, got 0"),
        (lambda: QuantiseSettings(bound_px=float("nan")), "`bound_px` must be"),
        (lambda: FlowSettings(step=0), "`step` must be at least 1, got 0"),
        (lambda: FlowSettings(step=1.5), "`step` must be a whole number, got 1.5"),  # type: ignore[arg-type]
        (lambda: FlowSettings(step=True), "`step` must be a whole number, got True"),
        (lambda: JpegSettings(quality=101), "`quality` must be at most 100, got 101"),
        (lambda: JpegSettings(progressive=True), "`progressive` must be false"),
        (lambda: DecodeSettings(on_damage="ignore"), "`on_damage` must be one of fail, keep-prefix, keep-flagged"),
        (lambda: FlowSettings(backend="brox"), "`backend` must be one of auto, native, native-cuda, opencv"),
        (lambda: FlowSettings(backend="dis", variant="cpu"), "`variant` is for TV-L1"),
        (
            lambda: FlowSettings(backend="opencv", variant="cuda"),
            "not cuda; cuda needs native or native-cuda or opencv-cuda",
        ),
        (lambda: FlowSettings(cpu_baseline="x86-64-v9"), "`cpu_baseline` must be one of x86-64-v3, got 'x86-64-v9'"),
        *(
            (
                lambda backend=backend: FlowSettings(backend=backend, cpu_baseline="x86-64-v3"),
                f"`cpu_baseline` is for the backend native and not for {backend}; leave it out",
            )
            for backend in ("native-cuda", "opencv", "opencv-cuda", "dis", "farneback")
        ),
        (lambda: ResizeSettings(width=3), "`width` and `height` go together"),
        (lambda: ResizeSettings(width=3, height=3), "not both"),
        (lambda: StoreSettings(layout="tsn"), "is a JPEG tree's; use it with --format jpeg"),
        (lambda: StoreSettings(rgb=False, flow=False), "neither images nor flow"),
        (
            lambda: ExtractSettings(flow=FlowSettings(step=2), store=StoreSettings(format="jpeg", layout="tsn")),
            "layout tsn has no names for step 2",
        ),
        (
            lambda: ExtractSettings(
                flow=FlowSettings(backward=True), store=StoreSettings(format="jpeg", layout="mmaction2")
            ),
            "no names for backward flow",
        ),
        (lambda: ExtractSettings.from_json({**ExtractSettings().to_json(), "bund": 1}), "unknown setting `bund`"),
        (lambda: QuantiseSettings.from_json({"bound_px": 20}), "`rounding` is missing"),
    ],
)
def test_wrong_settings_are_one_sentence(make: Any, message: str) -> None:
    with pytest.raises(SettingsError, match=message.replace("(", r"\(")):
        make()


def test_json_from_before_a_setting_was_added_is_read_and_written_as_it_was() -> None:
    """Shards repeat their manifest's settings as text: the text of an old store must not change."""
    old = {"backend": "opencv", "variant": "cpu", "step": 1, "backward": False, "parameters": {}}
    settings = FlowSettings.from_json(old)
    assert settings.cpu_baseline is None
    assert settings.to_json() == old
    assert WITH_BASELINE.flow.to_json()["cpu_baseline"] == "x86-64-v3"


def test_a_settings_error_is_a_value_error() -> None:
    with pytest.raises(ValueError, match="at least 1"):
        FlowSettings(step=0)


def test_settings_cannot_be_changed() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        QuantiseSettings().bound_px = 3  # type: ignore[misc]


def test_every_setting_has_a_help_text() -> None:
    nested = (DecodeSettings, ResizeSettings, FlowSettings, QuantiseSettings, JpegSettings, StoreSettings, RunSettings)
    for settings in nested:
        for field in dataclasses.fields(settings):
            if field.name != "parameters":
                assert field.metadata["help"].endswith((".", "]", ")")), f"{settings.__name__}.{field.name}"


def test_differences_name_what_differs() -> None:
    other = dataclasses.replace(ExtractSettings(), quantise=QuantiseSettings(bound_px=15))
    assert differences(ExtractSettings().to_json(), other.to_json()) == [
        "quantise.bound_px: 20.0 there, 15.0 asked for"
    ]


def test_every_stage_has_an_algorithm_number() -> None:
    assert ExtractSettings().to_json()["algorithms"] == dict(config.ALGORITHMS)

"""Settings of networks, presets, and what is loaded when."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import pytest

import fusion_train
from flowprep.errors import SettingsError
from fusion_train.config import ModelSettings
from fusion_train.models.build import build_network, new_network
from fusion_train.presets import PRESETS, preset_settings


@pytest.mark.parametrize("preset", PRESETS)
def test_presets_make_the_round_trip_through_json(preset: str) -> None:
    settings = preset_settings(preset)
    assert ModelSettings.from_json(json.loads(json.dumps(settings.to_json()))) == settings


def test_presets_name_their_table() -> None:
    for name, function in PRESETS.items():
        assert function.__doc__
        own = "table" in function.__doc__.lower() or "As `" in function.__doc__ or "author" in function.__doc__
        assert own or "not in the paper" in function.__doc__, name


def test_presets_of_the_design_exist() -> None:
    datasets = [f"{dataset}-{backbone}" for dataset in ("ucf101", "hmdb51") for backbone in ("vgg16", "vggm")]
    assert {*datasets, "ucf101-vgg16-authors", "hmdb51-vgg16-authors", "debug"} <= set(PRESETS)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"network": "both"}, "`network` must be one of spatial, temporal, fused"),
        ({"conv_kernel": 2}, "`conv_kernel` must be odd, so that maps keep their place, got 2"),
        ({"fusion": "sum"}, "conv3d.pool3d is for fusion conv and not for sum; use pool3d or pool2d"),
        ({"at": "relu3,relu3"}, "`at` must name each layer once, got 'relu3,relu3'"),
        ({"at": "relu3,"}, "`at` must name layers as in relu5_3 or relu5_3:relu5, got 'relu3,'"),
        ({"at": "relu3:"}, "`at` must name layers as in"),
        (
            {"fusion": "bilinear", "temporal_fusion": "pool3d", "at": "relu4_3,relu5_3"},
            "bilinear ends its tower and goes at one layer",
        ),
        ({"pool_kernel": "3,3"}, r"`pool_kernel` must be three of t,y,x: .* all \(t\) or own \(y, x\), got '3,3'"),
        ({"pool_kernel": "own,2,2"}, "`pool_kernel` must be three of t,y,x"),
        ({"pool_kernel": "0,2,2"}, "`pool_kernel` must be three of t,y,x: numbers of at least 1"),
        ({"pool_stride": "all,2,2"}, "`pool_stride` must be three of t,y,x"),
        ({"pool_padding": "1,2,x"}, "`pool_padding` must be three of t,y,x: numbers of at least 0"),
        ({"spatial_dropout": 1.0}, "`spatial_dropout` must be at most 0.99"),
        ({"spatial_weights": "torchvision-features"}, "torchvision-features has no valid fc6 and fc7; set `random_fc`"),
        (
            {"temporal": "vggm"},
            r"no weights for `temporal` vggm: set `temporal_weights` to a file .imagenet-vgg-m-2048",
        ),
    ],
)
def test_wrong_settings_are_named(values: dict[str, Any], message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        ModelSettings(**values)


def test_single_stream_may_have_what_only_the_other_lacks() -> None:
    ModelSettings(network="spatial", temporal="vggm")
    ModelSettings(network="spatial", fusion="sum")


def test_fusion_points_and_windows_are_read() -> None:
    settings = ModelSettings(at="relu4_3, relu5_3:relu5,prediction")
    assert settings.fusion_points == (("relu4_3", "relu4_3"), ("relu5_3", "relu5"), ("prediction", "prediction"))
    assert settings.pool_window == ((3, 3, 3), (2, "own", "own"), (1, "own", "own"))
    assert preset_settings("ucf101-vgg16-authors").pool_window[0] == ("all", "own", "own")


def test_networks_are_built_by_name_or_from_settings() -> None:
    network = fusion_train.build_network("debug", num_classes=3, network="temporal", stack_length=4)
    assert network.settings == build_network(network.settings, num_classes=3).settings
    assert network.streams["temporal"].in_channels == 8
    assert new_network(ModelSettings(**{**network.settings.to_json(), "temporal_weights": "gone.pt"}), num_classes=3)


@pytest.mark.parametrize(
    ("preset", "options", "message"),
    [
        ("ucf101", {}, "`preset` must be one of ucf101-vgg16, .*, debug, got 'ucf101'"),
        ("debug", {"fuse": "sum"}, "unknown setting `fuse` of a network; known are network, .*, random_fc and weights"),
        ("debug", {"num_classes": 0}, "`num_classes` must be at least 1, got 0"),
    ],
)
def test_wrong_use_is_named(preset: str, options: dict[str, Any], message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        build_network(preset, **{"num_classes": 3, **options})


def test_package_presets_and_settings_load_no_library() -> None:
    code = (
        "import sys, fusion_train.presets; print([m for m in sys.modules if m in ('torch', 'numpy', 'scipy', 'cv2')])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
    assert dir(fusion_train) == ["build_network"]
    with pytest.raises(AttributeError, match="has no attribute 'builder'"):
        fusion_train.builder  # noqa: B018

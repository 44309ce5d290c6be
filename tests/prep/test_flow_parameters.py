"""Names, limits, messages and JSON of flow parameters, and the pyramid sizes that follow from them."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flowprep.errors import SettingsError
from flowprep.flow.parameters import DISParameters, FarnebackParameters, parameter_names, parse_parameters
from flowprep.flow.tvl1.params import TVL1CPUParameters, TVL1CUDAParameters

SHARED = ("tau", "lambda", "theta", "num_scales", "num_warps", "epsilon", "scale_step", "gamma")


def test_names_of_both_variants() -> None:
    for backend in ("native", "native-cuda", "opencv"):
        assert parameter_names(backend, "cpu") == (*SHARED, "inner_iterations", "outer_iterations", "median_filtering")
    for backend in ("native", "native-cuda", "opencv-cuda"):
        assert parameter_names(backend, "cuda") == (*SHARED, "iterations")


def test_defaults_are_opencvs() -> None:
    assert TVL1CUDAParameters().to_json() == {
        "tau": 0.25,
        "lambda": 0.15,
        "theta": 0.3,
        "num_scales": 5,
        "num_warps": 5,
        "epsilon": 0.01,
        "scale_step": 0.8,
        "gamma": 0.0,
        "iterations": 300,
    }
    cpu = TVL1CPUParameters()
    assert (cpu.inner_iterations, cpu.outer_iterations, cpu.median_filtering) == (30, 10, 5)


@pytest.mark.parametrize(
    "parameters",
    [
        TVL1CPUParameters(lambda_=0.05, num_warps=2),
        TVL1CUDAParameters(iterations=7),
        DISParameters(preset="medium", patch_stride=2),
        FarnebackParameters(gaussian_window=True),
    ],
    ids=lambda value: type(value).__name__,
)
def test_json_round_trip(parameters: Any) -> None:
    data = json.loads(json.dumps(parameters.to_json()))
    assert type(parameters).from_json(data) == parameters


@pytest.mark.parametrize("name", ["lambda", "lambda_"])
def test_lambda_has_two_spellings_but_one_value(name: str) -> None:
    assert parse_parameters("opencv", "cpu", {name: 0.05}).to_json()["lambda"] == 0.05
    with pytest.raises(SettingsError, match="given twice"):
        parse_parameters("opencv", "cpu", {"lambda": 0.05, "lambda_": 0.05})


@pytest.mark.parametrize(
    ("backend", "variant", "values", "message"),
    [
        ("opencv", "cpu", {"num_warps": 0}, "`num_warps` must be at least 1, got 0"),
        ("opencv", "cpu", {"lambda": 0}, "`lambda` must be above 0, got 0"),
        ("opencv", "cpu", {"lambda": float("inf")}, "`lambda` must be finite, got inf"),
        ("opencv", "cpu", {"tau": float("nan")}, "`tau` must be"),
        ("opencv", "cpu", {"scale_step": 1.0}, "`scale_step` must be below 1, got 1.0"),
        ("opencv", "cpu", {"median_filtering": 4}, "`median_filtering` must be 1, 3 or 5, got 4"),
        ("opencv", "cpu", {"median_filtering": 7}, "`median_filtering` must be at most 5, got 7"),
        ("opencv", "cpu", {"num_scales": "5"}, "`num_scales` must be a whole number, got '5'"),
        (
            "opencv",
            "cpu",
            {"num_warp": 3},
            r"`num_warp` for opencv \(variant cpu\) \(did you mean `num_warps`\?\); known are tau, lambda",
        ),
        (
            "opencv",
            "cpu",
            {"iterations": 3},
            r"`iterations` .*it is one of native \(variant cuda\), native-cuda .*, opencv-cuda \(variant cuda\)",
        ),
        (
            "native",
            "cpu",
            {"iterations": 3},
            r"`iterations` for native \(variant cpu\); it is one of native \(variant cu",
        ),
        ("native", "cuda", {"median_filtering": 3}, r"`median_filtering` for native \(variant cuda\); it is one of"),
        ("opencv", "cpu", {"tau_": 3}, "unknown flow parameter `tau_`"),
        ("dis", None, {"num_warps": 3}, r"`num_warps` for dis; it is one of native"),
        ("dis", None, {"preset": "slow"}, "`preset` must be one of ultrafast, fast, medium, got 'slow'"),
        ("dis", None, {"patch_stride": 9}, r"`patch_stride` must be at most `patch_size` \(8\), got 9"),
        ("dis", None, {"coarsest_scale": 1}, r"`coarsest_scale` must be at least `finest_scale` \(2\), got 1"),
        ("farneback", None, {"pyramid_scale": 1.0}, "`pyramid_scale` must be at most 0.99"),
    ],
)
def test_wrong_parameters_are_refused_in_one_sentence(
    backend: str, variant: str | None, values: dict[str, Any], message: str
) -> None:
    with pytest.raises(SettingsError, match=message):
        parse_parameters(backend, variant, values)


def test_a_dis_preset_fills_in_what_is_not_given() -> None:
    medium = DISParameters(preset="medium", patch_stride=2)
    assert (medium.finest_scale, medium.patch_stride, medium.gradient_descent_iterations) == (1, 2, 25)
    assert None not in DISParameters().to_json().values()


@pytest.mark.parametrize(
    ("size", "expected"), [((1, 1), 1), ((18, 18), 1), ((20, 20), 2), ((31, 31), 4), ((48, 48), 5), ((256, 340), 5)]
)
def test_number_of_levels(size: tuple[int, int], expected: int) -> None:
    """The numbers that OpenCV 5.0.0 has in its object after a pair of this size."""
    assert TVL1CPUParameters().num_levels(*size) == expected


@given(st.integers(12, 16384), st.integers(12, 16384), st.integers(4, 8), st.integers(0, 9))
def test_dis_levels_exist_and_hold_a_patch(height: int, width: int, patch_size: int, finest_scale: int) -> None:
    values = DISParameters(patch_size=patch_size, patch_stride=1, finest_scale=finest_scale)
    finest, coarsest = values.level_range(height, width)
    assert 0 <= finest <= finest_scale
    assert finest <= coarsest <= 9
    assert min(height, width) >> coarsest >= patch_size

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from flowprep.config import QuantiseSettings
from flowprep.errors import VideoError
from flowprep.quantise import dequantise, flow_facts, quantise

BOUNDS = [15.0, 20.0, 25.0, 32.0, 7.3]


def by_definition(values: NDArray[np.float32], settings: QuantiseSettings) -> NDArray[np.uint8]:
    """The formula of the design, in double precision, one operation after another."""
    bound = settings.bound_px
    scaled = 255.0 * (np.clip(values.astype(np.float64), -bound, bound) + bound) / (2.0 * bound)
    return (np.rint(scaled) if settings.rounding == "round" else np.floor(scaled)).astype(np.uint8)


def as_flow(values: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.stack([values, -values], axis=-1)[None]


@pytest.mark.parametrize("rounding", ["round", "truncate"])
@pytest.mark.parametrize("bound", BOUNDS)
def test_codes_are_the_formulas_at_and_beside_every_threshold(bound: float, rounding: str) -> None:
    settings = QuantiseSettings(bound_px=bound, rounding=rounding)
    codes = np.arange(0, 256, 0.5)
    edges = (codes * 2 * bound / 255 - bound).astype(np.float32)
    up, down = np.nextafter(edges, np.float32(np.inf)), np.nextafter(edges, np.float32(-np.inf))
    special = np.array([0, -0.0, 1e-30, -1e-30, bound, -bound, 1e6, -1e6], np.float32)
    flow = as_flow(np.concatenate([edges, up, down, special]))
    x, y = quantise(flow, settings)
    np.testing.assert_array_equal(x, by_definition(flow[..., 0], settings))
    np.testing.assert_array_equal(y, by_definition(flow[..., 1], settings))


@given(st.lists(st.floats(-60, 60, width=32), min_size=1, max_size=50), st.sampled_from(BOUNDS))
def test_rounding_stays_within_the_error_bound(values: list[float], bound: float) -> None:
    for rounding in ("round", "truncate"):
        settings = QuantiseSettings(bound_px=bound, rounding=rounding)
        flow = as_flow(np.array(values, np.float32))
        x, _ = quantise(flow, settings)
        error = np.abs(dequantise(x, settings) - np.clip(flow[..., 0], -bound, bound))
        assert error.max() <= bound / 255 + 1e-6 * bound  # float32 rounds too


@pytest.mark.parametrize(("rounding", "code"), [("round", 128), ("truncate", 127)])
def test_zero_has_its_code(rounding: str, code: int) -> None:
    x, y = quantise(np.zeros((3, 4, 2), np.float32), QuantiseSettings(rounding=rounding))
    assert x.shape == y.shape == (3, 4)
    assert np.unique(x).tolist() == np.unique(y).tolist() == [code]


def test_planes_are_x_then_y() -> None:
    flow = np.zeros((2, 3, 2), np.float32)
    flow[..., 0], flow[..., 1] = 20, -20
    x, y = quantise(flow, QuantiseSettings())
    assert (x.min(), y.max()) == (255, 0)


def test_facts_count_pixels_beyond_the_bound() -> None:
    settings = QuantiseSettings(bound_px=10)
    flow = np.zeros((2, 4, 2), np.float32)
    flow[0, 0] = (10.0, -10.0)  # at the bound, not beyond
    flow[0, 1] = (10.1, 0)
    flow[1, 2] = (3, -400)
    facts = flow_facts(flow, *quantise(flow, settings), settings)
    assert (facts.num_values, facts.num_saturated) == (8, 2)
    expected = np.hypot(flow[..., 0], flow[..., 1]).sum()
    assert facts.sum_magnitude_px == pytest.approx(expected, rel=1e-5)
    assert facts.saturated_share == 0.25


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_flow_that_is_not_finite_fails_the_video(value: float) -> None:
    flow = np.zeros((2, 2, 2), np.float32)
    flow[1, 1, 0] = value
    settings = QuantiseSettings()
    with np.errstate(invalid="ignore"), pytest.raises(VideoError, match="not finite"):
        flow_facts(flow, *quantise(flow, settings), settings)


@pytest.mark.parametrize("shape", [(256, 340, 2), (33, 21, 2)])
def test_facts_do_not_depend_on_where_the_array_lies(shape: tuple[int, int, int]) -> None:
    """OpenCV's vectorised magnitude may differ in its last bits with the alignment of memory."""
    flow = np.random.default_rng(0).normal(scale=5, size=shape).astype(np.float32)
    settings = QuantiseSettings()
    sums = set()
    for offset in range(32):
        place = np.empty(flow.size + 32, np.float32)[offset : offset + flow.size].reshape(shape)
        place[...] = flow
        sums.add(flow_facts(place, *quantise(place, settings), settings).sum_magnitude_px)
    assert len(sums) == 1

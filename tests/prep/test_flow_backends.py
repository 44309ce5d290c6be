"""The OpenCV backends of the CPU: the contract, and that every parameter reaches OpenCV."""

from __future__ import annotations

import threading
from typing import Any

import cv2
import numpy as np
import pytest
from contracts.flow_backend import FlowBackendContract, moving_texture

from flowprep.errors import FlowprepError, SettingsError, VideoError
from flowprep.flow import create_backend
from flowprep.flow.backend import FlowBackend


class TestTVL1(FlowBackendContract):
    def make_backend(self) -> FlowBackend:
        return create_backend("opencv")


class TestDIS(FlowBackendContract):
    def make_backend(self) -> FlowBackend:
        return create_backend("dis")


class TestDISMedium(FlowBackendContract):
    def make_backend(self) -> FlowBackend:
        return create_backend("dis", parameters={"preset": "medium", "patch_size": 12})


class TestFarneback(FlowBackendContract):
    still_border_px = 0.3  # OpenCV does not compare the last row and column with the other frame

    def make_backend(self) -> FlowBackend:
        return create_backend("farneback")


def flow_of(name: str, frames: np.ndarray[Any, Any], **parameters: Any) -> np.ndarray[Any, Any]:
    with create_backend(name, parameters=parameters) as backend:
        prepared = backend.prepare(frames)
        return backend.compute(prepared[:1], prepared[1:])[0]


@pytest.fixture
def difficult_pair() -> np.ndarray[Any, Any]:
    """uint8 (2, 112, 128) in which no algorithm reaches its end: different motion, contrast and noise by region."""
    frames = moving_texture(6, 112, 128)[[0, 5]]
    frames[1, 40:80, 30:90] = frames[0, 38:78, 33:93] // 2
    frames[1] += np.random.default_rng(2).integers(0, 20, frames[1].shape, np.uint8)
    return frames


@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        *(
            ("opencv", {key: value})
            for key, value in {
                "tau": 0.1,
                "lambda": 0.05,
                "theta": 0.5,
                "num_scales": 2,
                "num_warps": 2,
                "epsilon": 0.1,
                "inner_iterations": 5,
                "outer_iterations": 2,
                "scale_step": 0.5,
                "gamma": 0.5,
                "median_filtering": 1,
            }.items()
        ),
        *(
            ("dis", {key: value})
            for key, value in {
                "preset": "ultrafast",
                "finest_scale": 0,
                "patch_size": 6,
                "patch_stride": 2,
                "gradient_descent_iterations": 1,
                "use_mean_normalization": False,
                "use_spatial_propagation": False,
                "variational_refinement_iterations": 1,
                "variational_refinement_alpha": 1.0,
                "variational_refinement_delta": 50.0,
                "variational_refinement_gamma": 0.0,
            }.items()
        ),
        *(
            ("farneback", {key: value})
            for key, value in {
                "num_levels": 0,
                "pyramid_scale": 0.8,
                "window_size": 7,
                "num_iterations": 1,
                "poly_n": 7,
                "poly_sigma": 1.5,
                "gaussian_window": True,
            }.items()
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else next(iter(value)),
)
def test_every_parameter_changes_the_flow(name: str, parameters: Any, difficult_pair: np.ndarray[Any, Any]) -> None:
    quick = {"num_warps": 1, "outer_iterations": 3} if name == "opencv" else {}
    usual = flow_of(name, difficult_pair, **quick)
    assert not np.array_equal(flow_of(name, difficult_pair, **{**quick, **parameters}), usual)


@pytest.mark.skipif(int(cv2.__version__.split(".")[0]) < 5, reason="OpenCV 4 has no setters for these")
@pytest.mark.parametrize("parameters", [{"coarsest_scale": 1}, {"variational_refinement_epsilon": 0.5}], ids=str)
def test_dis_parameters_of_opencv_5_change_the_flow(parameters: Any, difficult_pair: np.ndarray[Any, Any]) -> None:
    usual = flow_of("dis", difficult_pair, finest_scale=0)
    assert not np.array_equal(flow_of("dis", difficult_pair, finest_scale=0, **parameters), usual)


@pytest.mark.parametrize(
    ("name", "parameters", "factory"),
    [
        ("opencv", {}, lambda: cv2.optflow.DualTVL1OpticalFlow_create()),
        ("dis", {"preset": "medium"}, lambda: cv2.DISOpticalFlow_create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)),
        ("farneback", {}, lambda: cv2.FarnebackOpticalFlow_create()),
    ],
    ids=["opencv", "dis", "farneback"],
)
def test_defaults_are_those_of_opencv(
    name: str, parameters: Any, factory: Any, difficult_pair: np.ndarray[Any, Any]
) -> None:
    ipp = cv2.ipp.useIPP()
    cv2.ipp.setUseIPP(False)
    pair = np.ascontiguousarray(difficult_pair[:, 30:90, 20:84])
    try:
        expected = factory().calc(*pair, None)
    finally:
        cv2.ipp.setUseIPP(ipp)
    np.testing.assert_array_equal(flow_of(name, pair, **parameters), expected)


@pytest.mark.parametrize("size", [(18, 18), (24, 40), (31, 33)])
def test_fewer_levels_give_what_opencv_gives(size: tuple[int, int]) -> None:
    """OpenCV cuts its pyramid while it runs, we beforehand."""
    frames = moving_texture(2, *size)
    ipp = cv2.ipp.useIPP()
    cv2.ipp.setUseIPP(False)
    try:
        expected = cv2.optflow.DualTVL1OpticalFlow_create().calc(*frames, None)
    finally:
        cv2.ipp.setUseIPP(ipp)
    np.testing.assert_array_equal(flow_of("opencv", frames), expected)


@pytest.mark.parametrize(("height", "width"), [(1, 1), (1, 90), (100, 1), (2, 3), (40, 40)])
@pytest.mark.parametrize("scale_step", [0.01, 0.5, 0.99])
def test_tvl1_levels_without_pixels_are_never_asked_for(height: int, width: int, scale_step: float) -> None:
    """OpenCV raises where a level rounds to no pixels."""
    flow = flow_of("opencv", moving_texture(2, height, width), scale_step=scale_step, num_warps=1)
    assert flow.shape == (height, width, 2)
    assert np.isfinite(flow).all()


def test_the_callers_ipp_setting_is_kept_and_changes_nothing() -> None:
    frames = moving_texture(2)
    before = cv2.ipp.useIPP()
    flows = []
    try:
        for use in (True, False):
            cv2.ipp.setUseIPP(use)
            flows.append(flow_of("opencv", frames, num_warps=1))
            assert cv2.ipp.useIPP() == (use and before)
    finally:
        cv2.ipp.setUseIPP(before)
    np.testing.assert_array_equal(*flows)


def test_the_number_of_opencv_threads_changes_nothing() -> None:
    frames = moving_texture(2, 96, 120)
    before = cv2.getNumThreads()
    flows: dict[str, list[np.ndarray[Any, Any]]] = {"opencv": [], "dis": [], "farneback": []}
    try:
        for num_threads in (1, 2, 3):
            cv2.setNumThreads(num_threads)
            for name, of_name in flows.items():
                of_name.append(flow_of(name, frames, **({"num_warps": 1} if name == "opencv" else {})))
    finally:
        cv2.setNumThreads(before)
    for one, *others in flows.values():
        for other in others:
            np.testing.assert_array_equal(other, one)


def test_one_backend_a_thread_works() -> None:
    frames = moving_texture(2)
    expected = flow_of("dis", frames)
    flows: list[np.ndarray[Any, Any]] = []
    threads = [threading.Thread(target=lambda: flows.append(flow_of("dis", frames))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(flows) == 4
    for flow in flows:
        np.testing.assert_array_equal(flow, expected)


@pytest.mark.parametrize(
    ("message", "code"),
    [("(-4:Insufficient memory) Failed to allocate 9 bytes", "memory"), ("(-215:Assertion failed) a > b", "backend")],
)
def test_errors_of_opencv_become_video_errors(monkeypatch: pytest.MonkeyPatch, message: str, code: str) -> None:
    class Broken:
        def calc(self, *_: Any) -> None:
            raise cv2.error(f"OpenCV(5.0.0) error: {message}")

    with create_backend("farneback") as backend:
        frames = backend.prepare(moving_texture(2))
        monkeypatch.setattr(backend, "_create_algorithm", lambda *_: Broken())
        with pytest.raises(VideoError, match=r"farneback failed on frames of 64x48: OpenCV") as caught:
            backend.compute(frames[:1], frames[1:])
    assert caught.value.code == code
    assert isinstance(caught.value, FlowprepError)


def test_dis_coarsest_scale_needs_an_opencv_that_has_it(monkeypatch: pytest.MonkeyPatch) -> None:
    class Old:
        def __getattr__(self, name: str) -> Any:
            if name in ("setCoarsestScale", "setVariationalRefinementEpsilon"):
                raise AttributeError(name)
            return lambda *_: np.zeros((48, 64, 2), np.float32)

    monkeypatch.setattr(cv2, "DISOpticalFlow_create", lambda preset: Old())
    assert flow_of("dis", moving_texture(2)).shape == (48, 64, 2)
    with pytest.raises(SettingsError, match="cannot set `coarsest_scale`"):
        flow_of("dis", moving_texture(2), coarsest_scale=3)

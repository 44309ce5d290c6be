"""`opencv-cuda` against a stand-in of `cv2.cuda`: order of calls, types, parameters, objects, streams, threads."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from contracts.flow_backend import FlowBackendContract, moving_texture
from helpers.fake_cv2_cuda import FakeCuda

from flowprep.errors import BackendUnavailableError, SettingsError, VideoError
from flowprep.flow import backends, create_backend, resolve
from flowprep.flow.backend import FlowBackend


@pytest.fixture(autouse=True)
def cuda(monkeypatch: pytest.MonkeyPatch) -> FakeCuda:
    fake = FakeCuda()
    monkeypatch.setattr(cv2, "cuda", fake)
    return fake


class TestOpenCVCUDA(FlowBackendContract):
    translation_tolerance_px = 0.4  # the stand-in's, not OpenCV's

    def make_backend(self) -> FlowBackend:
        return create_backend("opencv-cuda")


def test_each_frame_is_uploaded_once_as_8_bit_grey(cuda: FakeCuda) -> None:
    with create_backend("opencv-cuda") as backend:
        frames = backend.prepare(moving_texture(4, 30, 40))
        backend.compute(frames[:-1], frames[1:])
        backend.compute(frames[1:], frames[:-1])
    uploads = cuda.named("upload")
    assert [(upload["shape"], upload["dtype"]) for upload in uploads] == [((30, 40), "uint8")] * 4
    assert len(cuda.named("calc")) == len(cuda.named("download")) == 6
    assert {(download["shape"], download["dtype"]) for download in cuda.named("download")} == {((30, 40, 2), "float32")}


def test_uploads_are_waited_for_once_a_batch_of_frames(cuda: FakeCuda) -> None:
    with create_backend("opencv-cuda") as backend:
        backend.prepare(moving_texture(5, 30, 40))
    assert [name for name, _ in cuda.calls] == ["upload"] * 5 + ["wait"]


def test_a_pair_is_computed_downloaded_and_waited_for_on_one_stream(cuda: FakeCuda) -> None:
    with create_backend("opencv-cuda") as backend:
        frames = backend.prepare(moving_texture(2, 30, 40))
        cuda.calls.clear()
        backend.compute(frames[:1], frames[1:])
    assert [name for name, _ in cuda.calls] == ["create", "calc", "download", "wait"]
    assert len({facts["stream"] for _, facts in cuda.calls[1:]}) == 1
    assert cuda.named("calc")[0]["source"] is frames[0].data
    assert cuda.named("calc")[0]["target"] is frames[1].data


def test_all_parameters_reach_the_object(cuda: FakeCuda) -> None:
    parameters = {
        "tau": 0.2,
        "lambda": 0.1,
        "theta": 0.4,
        "num_scales": 3,
        "num_warps": 4,
        "epsilon": 0.02,
        "iterations": 50,
        "scale_step": 0.7,
        "gamma": 0.5,
    }
    with create_backend("opencv-cuda", parameters=parameters) as backend:
        assert backend.parameters == parameters
        frames = backend.prepare(moving_texture(2, 60, 60))
        backend.compute(frames[:1], frames[1:])
    (created,) = cuda.named("create")
    assert created["parameters"] == {
        "tau": 0.2,
        "lambda_": 0.1,
        "theta": 0.4,
        "nscales": 3,
        "warps": 4,
        "epsilon": 0.02,
        "iterations": 50,
        "scaleStep": 0.7,
        "gamma": 0.5,
        "useInitialFlow": False,
    }


def test_defaults_are_those_of_opencv(cuda: FakeCuda) -> None:
    defaults = cuda.OpticalFlowDual_TVL1_create().parameters
    with create_backend("opencv-cuda") as backend:
        frames = backend.prepare(moving_texture(2))
        backend.compute(frames[:1], frames[1:])
    assert cuda.algorithms[-1].parameters == defaults


def test_one_object_a_lane_and_a_size(cuda: FakeCuda) -> None:
    with create_backend("opencv-cuda") as backend:
        for size in ((30, 40), (30, 40), (40, 30)):
            frames = backend.prepare(moving_texture(9, *size))
            backend.compute(frames[:-1], frames[1:])
    assert len(cuda.algorithms) == 8  # 4 lanes, 2 sizes; the stand-in refuses an object that meets two
    assert {len(algorithm.sizes) for algorithm in cuda.algorithms} == {1}
    used = {(calc["algorithm"], calc["stream"]) for calc in cuda.named("calc")}
    assert len(used) == 8
    assert len({stream for _, stream in used}) == 4


def test_small_frames_get_fewer_scales(cuda: FakeCuda) -> None:
    """As many as OpenCV would end with; it would keep that number for later sizes."""
    with create_backend("opencv-cuda") as backend:
        for size in ((18, 18), (20, 20), (31, 40), (48, 64)):
            frames = backend.prepare(moving_texture(2, *size))
            backend.compute(frames[:1], frames[1:])
    assert [created["parameters"]["nscales"] for created in cuda.named("create")] == [1, 2, 4, 5]


def test_results_keep_the_order_of_the_pairs() -> None:
    texture = moving_texture(10)
    with create_backend("opencv-cuda") as backend:
        frames = backend.prepare(texture)
        # Pair k moves by k + 1 px, so that an exchange of two results would show.
        flow = backend.compute([frames[0]] * 9, frames[1:])
    np.testing.assert_allclose(flow[:, 0, 0, 0], np.arange(1, 10), atol=0.7)


def test_the_chosen_device_is_set_in_every_thread(cuda: FakeCuda) -> None:
    cuda.num_devices = 3
    with create_backend("opencv-cuda", device=2) as backend:
        cuda.setDevice(0)  # as another library in this thread may do
        frames = backend.prepare(moving_texture(6, 30, 40))
        cuda.setDevice(1)
        assert backend.compute(frames[:-1], frames[1:]).shape == (5, 30, 40, 2)


@pytest.mark.parametrize("device", [-1, 1])
def test_a_device_that_is_not_there_is_named(device: int) -> None:
    with pytest.raises(BackendUnavailableError, match=f"no device {device}: there are 1"):
        create_backend("opencv-cuda", device=device)


@pytest.mark.parametrize(
    ("message", "code"),
    [("(-217:Gpu API call) out of memory in function 'allocate'", "memory"), ("(-217:Gpu API call) launch", "backend")],
)
def test_errors_on_the_device_become_video_errors_and_the_backend_lives_on(
    cuda: FakeCuda, message: str, code: str
) -> None:
    with create_backend("opencv-cuda") as backend:
        frames = backend.prepare(moving_texture(6))
        cuda.fail_calc = message
        with pytest.raises(VideoError, match="opencv-cuda failed on frames of 64x48") as caught:
            backend.compute(frames[:-1], frames[1:])
        assert caught.value.code == code
        cuda.fail_calc = ""
        assert backend.compute(frames[:-1], frames[1:]).shape == (5, 48, 64, 2)


def test_auto_never_takes_it_although_cuda_answers() -> None:
    assert resolve("opencv-cuda") == ("opencv-cuda", "cuda")
    assert resolve("auto")[0] in ("native-cuda", "native")


@pytest.mark.parametrize(
    ("num_devices", "reason"), [(0, "no CUDA device"), (-1, "no usable NVIDIA driver")], ids=["none", "no driver"]
)
def test_without_a_device_the_reason_is_told_and_nothing_falls_back(
    cuda: FakeCuda, num_devices: int, reason: str
) -> None:
    cuda.num_devices = num_devices
    (status,) = (status for status in backends() if status.name == "opencv-cuda")
    assert not status.available
    assert reason in status.reason
    assert status.cure
    with pytest.raises(BackendUnavailableError, match=reason):
        create_backend("opencv-cuda")


def test_parameters_of_the_other_variant_are_refused() -> None:
    with pytest.raises(
        SettingsError,
        match=r"`inner_iterations` for opencv-cuda .*one of native \(variant cpu\), native-cuda .*, opencv",
    ):
        create_backend("opencv-cuda", parameters={"inner_iterations": 3})

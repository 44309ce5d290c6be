"""OpenCV's dual TV-L1 on a CUDA device; needs an OpenCV that was built with CUDA (docs/opencv-cuda.md).

Every frame is uploaded once. Several pairs are in flight: each lane has a stream, an algorithm object and an output of
its own, and a host thread works it, because `calc` itself waits for the device at each convergence check. An explicit
stream also avoids a device synchronisation after every kernel, which OpenCV does on the default stream.

`useInitialFlow` is never set: OpenCV's CUDA code reads uninitialised memory then.
"""

from __future__ import annotations

import concurrent.futures
from collections.abc import Sequence
from typing import Any, final

import cv2
import numpy as np
import numpy.typing as npt

from flowprep.errors import BackendUnavailableError
from flowprep.flow.backend import FlowBackend, padded
from flowprep.flow.opencv import opencv_failures
from flowprep.flow.tvl1.params import MIN_SIDE, TVL1CUDAParameters

NUM_LANES = 4
"""Pairs in flight (assumed, not yet tuned on a device). A lane holds roughly 30 float32 planes of a frame."""


@final
class TVL1CUDABackend(FlowBackend):
    """`opencv-cuda`: `cv2.cuda.OpticalFlowDual_TVL1`, variant `cuda`. Sides below 3 px are padded to 3.

    `device` counts from 0. Raises BackendUnavailableError if there is no such device.
    """

    name = "opencv-cuda"
    variant = "cuda"

    def __init__(self, parameters: TVL1CUDAParameters, *, device: int = 0, num_lanes: int = NUM_LANES) -> None:
        num_devices = _cuda().getCudaEnabledDeviceCount()
        if not 0 <= device < num_devices:
            raise BackendUnavailableError(
                f"flow backend opencv-cuda has no device {device}: there are {num_devices}, counted from 0; "
                "choose another, or check CUDA_VISIBLE_DEVICES"
            )
        assert num_lanes >= 1
        self.parameters = parameters.to_json()
        self.build = f"opencv {cv2.__version__} cuda"
        self._device = device
        _cuda().setDevice(device)
        self._upload_stream = _cuda().Stream()
        self._lanes = [_Lane(parameters, device) for _ in range(num_lanes)]
        self._threads = concurrent.futures.ThreadPoolExecutor(num_lanes, thread_name_prefix="opencv-cuda")

    def _prepare(self, frames: npt.NDArray[np.uint8]) -> list[Any]:
        uploads: list[Any] = []
        with opencv_failures(self.name, *frames.shape[1:]):
            _cuda().setDevice(self._device)  # the current device is a thread's
            for frame in frames:
                upload = _cuda().GpuMat()
                upload.upload(padded(frame, MIN_SIDE), self._upload_stream)
                uploads.append(upload)
            # The lanes' streams do not wait for this one.
            self._upload_stream.waitForCompletion()
        return uploads

    def _compute(
        self,
        sources: Sequence[Any],
        targets: Sequence[Any],
        height: int,
        width: int,
        initial_flow: npt.NDArray[np.float32] | None,
    ) -> npt.NDArray[np.float32]:
        flow = np.empty((len(sources), height, width, 2), np.float32)
        pairs = list(zip(sources, targets, flow, strict=True))
        num_lanes = min(len(self._lanes), len(pairs))
        running = [
            self._threads.submit(lane.run, pairs[k::num_lanes]) for k, lane in enumerate(self._lanes[:num_lanes])
        ]
        # A lane is free for the next batch, and for an error's cleaning up, only when all are still.
        concurrent.futures.wait(running)
        with opencv_failures(self.name, height, width):
            for lane in running:
                lane.result()
        return flow

    def close(self) -> None:
        """End the lanes' threads and drop their streams, objects and buffers."""
        self._threads.shutdown()
        self._lanes.clear()


@final
class _Lane:
    """A stream and what may be used on it only. One thread at a time runs it."""

    def __init__(self, parameters: TVL1CUDAParameters, device: int) -> None:
        self._parameters = parameters
        self._device = device
        self._stream = _cuda().Stream()
        self._output = _cuda().GpuMat()
        self._size: tuple[int, int] | None = None
        self._algorithm: Any = None

    def run(self, pairs: Sequence[tuple[Any, Any, npt.NDArray[np.float32]]]) -> None:
        """Compute each (source, target) and write its flow into the array (H, W, 2) beside it."""
        _cuda().setDevice(self._device)
        for source, target, result in pairs:
            width, height = source.size()
            if (height, width) != self._size:
                self._algorithm, self._size = self._create_algorithm(height, width), (height, width)
            self._output = self._algorithm.calc(source, target, self._output, self._stream)
            flow = self._output.download(self._stream)
            self._stream.waitForCompletion()
            result[...] = flow[: result.shape[0], : result.shape[1]]

    def _create_algorithm(self, height: int, width: int) -> Any:
        values = self._parameters
        return _cuda().OpticalFlowDual_TVL1_create(
            tau=values.tau,
            lambda_=values.lambda_,
            theta=values.theta,
            nscales=values.num_levels(height, width),
            warps=values.num_warps,
            epsilon=values.epsilon,
            iterations=values.iterations,
            scaleStep=values.scale_step,
            gamma=values.gamma,
            useInitialFlow=False,
        )


def _cuda() -> Any:
    """`cv2.cuda`; its type stubs are those of a build without CUDA."""
    return cv2.cuda

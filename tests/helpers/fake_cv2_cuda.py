"""A stand-in of `cv2.cuda` that records what is done, and is as strict about order and types as the real thing.

Work on a stream is done when the stream is waited for, not before: an upload that another stream uses too early, or a
download that is read too early, shows. An algorithm object that is used by two threads at once, or for two sizes,
raises. Flow is the whole frame's translation, so that results can be checked.
"""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable
from typing import Any

import cv2
import numpy as np


class FakeCuda:
    """Use with `monkeypatch.setattr(cv2, "cuda", FakeCuda())`."""

    def __init__(self, num_devices: int = 1, fail_calc: str = "") -> None:
        self.num_devices = num_devices
        self.fail_calc = fail_calc
        self.calls: list[tuple[str, dict[str, Any]]] = []
        self.algorithms: list[FakeDualTVL1] = []
        self.thread = threading.local()
        self._ids = itertools.count()

    def record(self, name: str, **facts: Any) -> None:
        self.calls.append((name, facts))

    def named(self, name: str) -> list[dict[str, Any]]:
        return [facts for call, facts in self.calls if call == name]

    def new_id(self) -> int:
        return next(self._ids)

    def current_device(self) -> int:
        return getattr(self.thread, "device", 0)

    # The names below are OpenCV's.

    def getCudaEnabledDeviceCount(self) -> int:  # noqa: N802
        return self.num_devices

    def setDevice(self, device: int) -> None:  # noqa: N802
        self.thread.device = device

    def Stream(self) -> FakeStream:  # noqa: N802
        return FakeStream(self)

    def GpuMat(self) -> FakeGpuMat:  # noqa: N802
        return FakeGpuMat(self)

    def OpticalFlowDual_TVL1_create(  # noqa: N802
        self,
        tau: float = 0.25,
        lambda_: float = 0.15,
        theta: float = 0.3,
        nscales: int = 5,
        warps: int = 5,
        epsilon: float = 0.01,
        iterations: int = 300,
        scaleStep: float = 0.8,  # noqa: N803
        gamma: float = 0.0,
        useInitialFlow: bool = False,  # noqa: N803
    ) -> FakeDualTVL1:
        parameters = {name: value for name, value in locals().items() if name != "self"}
        algorithm = FakeDualTVL1(self, parameters)
        self.algorithms.append(algorithm)
        self.record("create", parameters=parameters)
        return algorithm


class FakeStream:
    def __init__(self, cuda: FakeCuda) -> None:
        self.cuda, self.id, self.device = cuda, cuda.new_id(), cuda.current_device()
        self._pending: list[Callable[[], None]] = []

    def enqueue(self, work: Callable[[], None]) -> None:
        assert self.device == self.cuda.current_device(), "the stream is another device's"
        self._pending.append(work)

    def waitForCompletion(self) -> None:  # noqa: N802
        self.cuda.record("wait", stream=self.id)
        while self._pending:
            self._pending.pop(0)()


class FakeGpuMat:
    def __init__(self, cuda: FakeCuda) -> None:
        self.cuda = cuda
        self.array: np.ndarray[Any, Any] | None = None
        self.pending: FakeStream | None = None
        self.shape: tuple[int, ...] = ()

    def upload(self, array: np.ndarray[Any, Any], stream: FakeStream) -> None:
        assert array.flags["C_CONTIGUOUS"]
        self.shape, self.pending = array.shape, stream
        self.cuda.record("upload", stream=stream.id, shape=array.shape, dtype=str(array.dtype))

        def work() -> None:
            self.array, self.pending = array.copy(), None

        stream.enqueue(work)

    def size(self) -> tuple[int, int]:
        return self.shape[1], self.shape[0]

    def download(self, stream: FakeStream) -> np.ndarray[Any, Any]:
        host = np.full(self.shape, np.nan, np.float32)
        self.cuda.record("download", stream=stream.id, shape=self.shape, dtype="float32")

        def work() -> None:
            assert self.array is not None
            host[...] = self.array

        stream.enqueue(work)
        return host


class FakeDualTVL1:
    def __init__(self, cuda: FakeCuda, parameters: dict[str, Any]) -> None:
        self.cuda, self.id, self.parameters = cuda, cuda.new_id(), parameters
        self.sizes: set[tuple[int, ...]] = set()
        self._in_use = threading.Lock()

    def calc(self, source: FakeGpuMat, target: FakeGpuMat, flow: FakeGpuMat, stream: FakeStream) -> FakeGpuMat:
        assert self._in_use.acquire(blocking=False), "two threads use one algorithm object"
        try:
            for image in (source, target):
                assert image.pending in (None, stream), "an image is used before its upload has finished"
                assert image.array is not None
                assert image.array.dtype == np.uint8
                assert image.array.ndim == 2
            self.sizes.add(source.shape)
            assert len(self.sizes) == 1, "one algorithm object for two sizes"
            self.cuda.record(
                "calc", algorithm=self.id, stream=stream.id, source=source, target=target, thread=threading.get_ident()
            )
            if self.cuda.fail_calc:
                raise cv2.error(self.cuda.fail_calc)
            flow.shape = (*source.shape, 2)

            def work() -> None:
                assert source.array is not None
                assert target.array is not None
                flow.array = np.broadcast_to(_translation(source.array, target.array), flow.shape).astype(np.float32)

            stream.enqueue(work)
            return flow
        finally:
            self._in_use.release()


def _translation(source: np.ndarray[Any, Any], target: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    if np.array_equal(source, target):
        return np.zeros(2)
    shift, _ = cv2.phaseCorrelate(source.astype(np.float32), target.astype(np.float32))
    return np.nan_to_num(np.array(shift))

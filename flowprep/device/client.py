"""The worker's side of a lane: flow of one video, computed by the owner of a device."""

from __future__ import annotations

import os
import socket
from collections import deque
from collections.abc import Iterator
from typing import Any, final

import numpy as np
from numpy.typing import NDArray

from flowprep import wire
from flowprep.config import ExtractSettings
from flowprep.device.lane import NUM_SLOTS, LaneMemory, LaneShape
from flowprep.errors import DeviceLostError, VideoError
from flowprep.flowstage import FlowCodes
from flowprep.records import FlowFacts


@final
class DeviceFlow:
    """Implements `FlowStage`: frames go to the owner, and codes come back a batch or two later.

    Raises DeviceLostError where the owner is not there any more, and VideoError where it says so of this video.
    """

    def __init__(self, address: str, settings: ExtractSettings) -> None:
        self._step, self._backward = settings.flow.step, settings.flow.backward
        self._shape: LaneShape | None = None
        self._memory: LaneMemory | None = None
        self._waiting: deque[int] = deque()  # slots that have been sent, oldest first
        self._next_slot = 0
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            self._socket.connect(address)
        except OSError as error:
            self._socket.close()
            raise DeviceLostError(f"the owner of the device does not answer: {error}") from error
        self._stream = self._socket.makefile("rb")

    def add(self, frames: NDArray[np.uint8]) -> Iterator[FlowCodes]:
        """See `FlowStage`."""
        if self._shape is None:
            self._open(frames)
        assert self._shape is not None, "it has been opened"
        for start in range(0, len(frames), self._shape.frames):
            if len(self._waiting) == NUM_SLOTS:
                yield from self._receive()
            self._send(frames[start : start + self._shape.frames])

    def finish(self) -> Iterator[FlowCodes]:
        """See `FlowStage`."""
        while self._waiting:
            yield from self._receive()

    def close(self) -> None:
        """See `FlowStage`."""
        self._stream.close()
        self._socket.close()
        if self._memory is not None:
            self._memory.close()
            self._memory = None

    def _open(self, frames: NDArray[np.uint8]) -> None:
        num, height, width = frames.shape
        self._shape = LaneShape(height=height, width=width, frames=num, directions=1 + self._backward)
        self._memory, descriptor = LaneMemory.create(self._shape)
        try:
            self._tell({"open": self._shape.to_json()}, [descriptor])
        finally:
            os.close(descriptor)

    def _send(self, frames: NDArray[np.uint8]) -> None:
        assert self._memory is not None, "it has been opened"
        self._memory.frames(self._next_slot, len(frames))[...] = frames
        self._tell({"add": len(frames), "slot": self._next_slot})
        self._waiting.append(self._next_slot)
        self._next_slot = (self._next_slot + 1) % NUM_SLOTS

    def _receive(self) -> list[FlowCodes]:
        """Codes of the oldest slot, copied so that the slot is free."""
        assert self._memory is not None, "it has been opened"
        slot = self._waiting.popleft()
        message = self._hear()
        if "error" in message:
            raise VideoError(message["error"], message["detail"])
        assert message["slot"] == slot, "slots are answered in order"
        facts = [FlowFacts(num_values=n, num_saturated=s, sum_magnitude_px=m) for n, s, m in message["codes"]]
        planes = self._memory.codes(slot, len(facts)).copy()
        num_forward = len(facts) // (1 + self._backward)
        return [FlowCodes(k >= num_forward, planes[k, 0], planes[k, 1], one) for k, one in enumerate(facts)]

    def _tell(self, message: dict[str, Any], descriptors: list[int] | None = None) -> None:
        data = wire.encode(message)
        try:
            if descriptors:
                sent = socket.send_fds(self._socket, [data], descriptors)
                assert sent == len(data), "the buffer of a new socket has room for it"
            else:
                self._socket.sendall(data)
        except OSError as error:
            raise DeviceLostError(f"the owner of the device has gone: {error}") from error

    def _hear(self) -> dict[str, Any]:
        try:
            message = wire.read(self._stream)
        except (OSError, ValueError) as error:
            raise DeviceLostError(f"the owner of the device has gone: {error}") from error
        if message is None:
            raise DeviceLostError("the owner of the device has gone")
        return message

"""Want of memory on a device: what fits is computed, and no video fails for its neighbours' sake."""

from __future__ import annotations

import contextlib
import os
import socket
import threading
import weakref
from collections.abc import Iterator
from typing import Any, final

import numpy as np
import pytest
from helpers.processes import eventually

from flowprep import wire
from flowprep.config import ExtractSettings, FlowSettings
from flowprep.device.client import DeviceFlow
from flowprep.device.server import Server
from flowprep.errors import VideoError
from flowprep.flow.backend import FlowBackend

SETTINGS = ExtractSettings(flow=FlowSettings(backend="dis"))
NUM_FRAMES = 4


@final
class SmallDevice(FlowBackend):
    """Has memory for `room` frames at a time. Its flow is 0, and the first batch takes until `may_go_on`."""

    name = "dis"
    variant = None
    build = "small"

    def __init__(self, room: int) -> None:
        self.parameters = {}
        self.may_go_on = threading.Event()
        self._room, self._num_held = room, 0

    def _let_go(self) -> None:
        self._num_held -= 1

    def _prepare(self, frames: Any) -> list[Any]:
        prepared = []
        for frame in frames:
            if self._num_held == self._room:
                raise VideoError("memory", "out of memory")
            prepared.append(frame.copy())
            self._num_held += 1
            weakref.finalize(prepared[-1], self._let_go)
        return prepared

    def _compute(self, sources: Any, targets: Any, height: int, width: int, initial_flow: Any) -> Any:
        assert self.may_go_on.wait(20)
        return np.zeros((len(sources), height, width, 2), np.float32)

    def close(self) -> None:
        """Nothing is held."""


@contextlib.contextmanager
def serving(backend: FlowBackend) -> Iterator[tuple[Server, str]]:
    """The owner of a device, in a thread; with its address."""
    (requests, end), (replies, tell) = os.pipe(), os.pipe()
    with os.fdopen(requests, "rb") as hears, os.fdopen(replies, "rb") as told, os.fdopen(tell, "wb") as tells:
        server = Server(backend, SETTINGS, hears, tells)
        thread = threading.Thread(target=server.run)
        thread.start()
        try:
            ready = wire.read(told)
            assert ready is not None
            yield server, ready["address"]
        finally:
            os.close(end)
            thread.join()
            for key in list(server._selector.get_map().values()):
                if isinstance(key.fileobj, socket.socket):
                    key.fileobj.close()
            server._selector.close()


def codes_of_lanes(room: int, num_lanes: int) -> list[int | str]:
    """What becomes of videos of NUM_FRAMES frames that wait together: how many codes of flow, or why they failed."""
    backend = SmallDevice(room)
    frames = np.arange(NUM_FRAMES * 64, dtype=np.uint8).reshape(NUM_FRAMES, 8, 8)
    with serving(backend) as (server, address):
        first, *others = lanes = [DeviceFlow(address, SETTINGS) for _ in range(num_lanes + 1)]
        try:
            assert eventually(lambda: len(server._selector.get_map()) == 2 + len(lanes))
            assert list(first.add(frames[:2])) == []
            for lane in others:
                assert list(lane.add(frames)) == []
            backend.may_go_on.set()
            found: list[int | str] = [len(list(first.finish()))]
            for lane in others:
                try:
                    found.append(len(list(lane.finish())))
                except VideoError as error:
                    found.append(error.code)
        finally:
            backend.may_go_on.set()
            for lane in lanes:
                lane.close()
    return found


@pytest.mark.parametrize("room", [8, 10, 13, 40])
def test_videos_that_fit_one_after_another_all_get_their_flow(room: int) -> None:
    """Each video keeps its last frame for its next pair."""
    assert codes_of_lanes(room, 4) == [1, 3, 3, 3, 3]


def test_a_request_that_does_not_fit_alone_fails_its_video() -> None:
    assert codes_of_lanes(NUM_FRAMES, 1) == [1, "gpu_memory"]

"""The owner of a device: a supervised process that computes flow for all workers of a run, in large batches.

It speaks with the run as a child does (`flowprep.child`), and with workers through lanes:

    run    {"work": {"settings": .., "device": ..}}        once
    owner  {"event": "ready", "address": .., "build": ..}  or {"event": "unusable", ..} and ends
    owner  {"event": "begun", "pixels": .., "pairs": ..}   a batch: pixels of a frame, pairs at most; it may hang now
    owner  {"event": "done", "waited": .., "busy": ..}     seconds before this batch, after the last one, and of it

A batch is all that waits of the frame size that has waited longest, up to what the device has memory for. If memory
runs out the batches are halved, down to one pair; a video of which one pair is too much fails. A backend that fails
otherwise has a broken context: the process ends, and what was in work is done again with a new one.
"""

from __future__ import annotations

import os
import secrets
import selectors
import socket
import struct
import sys
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import IO, Any, TypeAlias, final

import numpy as np

from flowprep import wire
from flowprep.child import settle_in
from flowprep.config import ExtractSettings
from flowprep.device.lane import LaneMemory, LaneShape
from flowprep.errors import BackendUnavailableError, VideoError
from flowprep.flow.backend import FlowBackend, PreparedFrame
from flowprep.flowstage import FlowCodes, Pairs, codes_of_pairs
from flowprep.pipeline import open_backend

COMMAND: Sequence[str] = (sys.executable, "-P", "-m", "flowprep.device.server")
"""What the run starts, followed by its own process number."""

MAX_BATCH_PIXELS = 32 << 20
"""Of the frames of a batch together: some 380 pairs of 340x256."""

PROBE_SIDE = 32
"""Of the frames that a device is tried out with, in pixels."""

_BACKLOG = 1024
_MESSAGE_BYTES = 1 << 16


def main(arguments: Sequence[str]) -> None:
    """Serve until the run closes our input. `arguments` is the process number of the run."""
    replies = settle_in(int(arguments[0]))
    hello = wire.read(sys.stdin.buffer)
    if hello is None:
        return
    settings = ExtractSettings.from_json(hello["work"]["settings"])
    try:
        backend = open_backend(settings, hello["work"]["device"])
        assert backend is not None, "a device is for stores with flow"
        backend.warm_up()
        _try_out(backend)
    except (BackendUnavailableError, VideoError) as error:  # the second one of our own frames: no memory for two
        _send(replies, {"event": "unusable", "error": str(error)})
        return
    with backend:
        Server(backend, settings, sys.stdin.buffer, replies).run()


@final
@dataclass(eq=False)
class _Lane:
    """A worker's video."""

    socket: socket.socket
    splitter: wire.Splitter
    pairs: Pairs
    shape: LaneShape | None = None
    memory: LaneMemory | None = None
    requests: deque[_Request] = field(default_factory=deque)
    failed: bool = False


@final
@dataclass(eq=False, slots=True)
class _Request:
    """Frames of a slot that wait."""

    lane: _Lane
    slot: int
    num_frames: int
    codes: list[FlowCodes] = field(default_factory=list)


_Pair: TypeAlias = tuple[_Request, PreparedFrame, PreparedFrame]
"""Whose it is, source and target."""


@final
class Server:
    """Listens, batches, computes and answers, all in one thread: while it computes, requests gather in the sockets."""

    def __init__(
        self, backend: FlowBackend, settings: ExtractSettings, requests: IO[bytes], replies: IO[bytes]
    ) -> None:
        self._backend, self._settings = backend, settings
        self._run, self._replies = requests, replies
        self._selector = selectors.DefaultSelector()
        self._waiting: deque[_Request] = deque()
        self._max_pixels = MAX_BATCH_PIXELS
        self._ended: float | None = None  # when the last batch did
        self._door = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)

    def run(self) -> None:
        """Serve until the run closes our input."""
        # A name without a file: nothing is left of it however we end. Who else may connect is looked at.
        address = f"\0flowprep-{secrets.token_hex(16)}"
        self._door.bind(address)
        self._door.listen(_BACKLOG)
        self._selector.register(self._door, selectors.EVENT_READ)
        self._selector.register(self._run, selectors.EVENT_READ)
        _send(self._replies, {"event": "ready", "address": address, "build": self._backend.build})
        while True:
            for key, _ in self._selector.select(0 if self._waiting else None):
                if key.fileobj is self._run:
                    return
                if key.fileobj is self._door:
                    self._accept()
                else:
                    self._read(key.data)
            if self._waiting:
                self._compute(self._next_batch())

    # -- lanes ---------------------------------------------------------------------------------------------------------

    def _accept(self) -> None:
        connection, _ = self._door.accept()
        _, uid, _ = struct.unpack("3i", connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
        if uid != os.getuid():
            connection.close()
            return
        lane = _Lane(connection, wire.Splitter(), Pairs(self._settings.flow.step))
        self._selector.register(connection, selectors.EVENT_READ, lane)

    def _read(self, lane: _Lane) -> None:
        """Take what a worker has sent. One that sends nonsense, or has gone, is left."""
        descriptors: list[int] = []
        try:
            data, descriptors, _, _ = socket.recv_fds(lane.socket, _MESSAGE_BYTES, 1)
            if not data:
                raise ConnectionResetError
            for message in lane.splitter.feed(data):
                self._take(lane, message, descriptors)
        except (OSError, ValueError, KeyError, TypeError):
            self._leave(lane)
        finally:
            for descriptor in descriptors:
                os.close(descriptor)

    def _take(self, lane: _Lane, message: dict[str, Any], descriptors: Sequence[int]) -> None:
        if lane.shape is None:
            lane.shape = LaneShape.from_json(message["open"])
            if len(descriptors) != 1:
                raise ValueError("a lane comes with its memory")
            lane.memory = LaneMemory(lane.shape, descriptors[0])
            return
        slot, num_frames = int(message["slot"]), int(message["add"])
        if not 1 <= num_frames <= lane.shape.frames or slot not in (0, 1):
            raise ValueError("there is no such slot")
        self._waiting.append(_Request(lane, slot, num_frames))

    def _leave(self, lane: _Lane) -> None:
        self._selector.unregister(lane.socket)
        lane.socket.close()
        lane.failed = True
        self._waiting = deque(request for request in self._waiting if request.lane is not lane)
        if lane.memory is not None:
            lane.memory.close()
            lane.memory = None

    def _answer(self, lane: _Lane, message: dict[str, Any]) -> None:
        try:
            lane.socket.sendall(wire.encode(message))
        except OSError:
            self._leave(lane)

    # -- batches -------------------------------------------------------------------------------------------------------

    def _next_batch(self) -> list[_Request]:
        """Requests of the size that has waited longest, oldest first, as many as the device may take at a time."""
        shape = self._waiting[0].lane.shape
        assert shape is not None, "only an open lane has requests"
        size, batch, rest = (shape.height, shape.width), list[_Request](), deque[_Request]()
        num_pixels = 0
        for request in self._waiting:
            assert request.lane.shape is not None, "only an open lane has requests"
            more = request.num_frames * size[0] * size[1]
            fits = not batch or num_pixels + more <= self._max_pixels
            if fits and (request.lane.shape.height, request.lane.shape.width) == size:
                batch.append(request)
                num_pixels += more
            else:
                rest.append(request)
        self._waiting = rest
        return batch

    def _compute(self, batch: list[_Request]) -> None:
        """Compute the pairs that the frames of a batch complete, and answer each worker."""
        shape = batch[0].lane.shape
        assert shape is not None, "only an open lane has requests"
        begun = time.perf_counter()
        waited = 0.0 if self._ended is None else begun - self._ended
        num_pairs = sum(request.num_frames for request in batch) * (1 + self._settings.flow.backward)
        _send(self._replies, {"event": "begun", "pixels": shape.height * shape.width, "pairs": num_pairs})
        pairs: list[_Pair] = []
        prepared = self._prepared(batch)
        for request, frames in prepared:
            sources, targets = request.lane.pairs.add(frames)
            pairs += [(request, source, target) for source, target in zip(sources, targets, strict=True)]
        self._compute_codes(pairs)
        if self._settings.flow.backward:
            self._compute_codes([(request, target, source) for request, source, target in pairs], backward=True)
        for request, _ in prepared:
            if not request.lane.failed:
                self._answer_codes(request)
        self._ended = time.perf_counter()
        _send(self._replies, {"event": "done", "waited": waited, "busy": self._ended - begun})

    def _prepared(self, batch: list[_Request]) -> list[tuple[_Request, list[PreparedFrame]]]:
        """Prepared frames of each request.

        Where there is no memory for all of them, the later half waits for the next batch, when that of the first half
        is free again; a request for which alone there is none fails.
        """
        while True:
            frames = []
            for request in batch:
                assert request.lane.memory is not None, "a lane that has gone has no requests"
                frames.append(request.lane.memory.frames(request.slot, request.num_frames))
            try:
                prepared = iter(self._backend.prepare(np.concatenate(frames)))
            except VideoError as error:
                _check_is_memory(error)
                detail = error.detail
            else:
                return [(request, [next(prepared) for _ in range(request.num_frames)]) for request in batch]
            # Not in the handler: until its end the error holds the frames for which there was memory.
            if len(batch) == 1:
                self._fail(batch[0].lane, "gpu_memory", detail)
                return []
            self._max_pixels = max(1, self._max_pixels // 2)
            half = len(batch) // 2
            self._waiting.extendleft(reversed(batch[half:]))
            batch = batch[:half]

    def _compute_codes(self, pairs: list[_Pair], *, backward: bool = False) -> None:
        """Codes of pairs, into their requests, in batches that are halved as long as memory runs out."""
        waiting = deque([pairs])
        while waiting:
            batch = [pair for pair in waiting.popleft() if not pair[0].lane.failed]
            if not batch:
                continue
            sources, targets = [source for _, source, _ in batch], [target for _, _, target in batch]
            try:
                found = codes_of_pairs(self._backend, sources, targets, self._settings.quantise, backward=backward)
            except VideoError as error:
                _check_is_memory(error)
                if len(batch) == 1:
                    self._fail(batch[0][0].lane, "gpu_memory", error.detail)
                else:
                    self._max_pixels = max(1, self._max_pixels // 2)
                    half = len(batch) // 2
                    waiting.extendleft((batch[half:], batch[:half]))
                continue
            for (request, _, _), codes in zip(batch, found, strict=True):
                try:
                    request.codes.append(codes())
                except VideoError as error:
                    self._fail(request.lane, error.code, error.detail)

    def _fail(self, lane: _Lane, code: str, detail: str) -> None:
        """This video has failed, and no other."""
        if not lane.failed:
            lane.failed = True
            self._answer(lane, {"error": code, "detail": detail})

    def _answer_codes(self, request: _Request) -> None:
        memory = request.lane.memory
        assert memory is not None, "a lane that has gone has failed"
        planes = memory.codes(request.slot, len(request.codes))
        for plane, codes in zip(planes, request.codes, strict=True):
            plane[0], plane[1] = codes.x, codes.y
        facts = [
            [codes.facts.num_values, codes.facts.num_saturated, codes.facts.sum_magnitude_px] for codes in request.codes
        ]
        self._answer(request.lane, {"codes": facts, "slot": request.slot})


def _try_out(backend: FlowBackend) -> None:
    """Compute one pair of nothing in particular: what a broken device dies of here, no video is blamed for."""
    values = np.arange(2 * PROBE_SIDE**2) % 251
    prepared = backend.prepare(values.astype(np.uint8).reshape(2, PROBE_SIDE, PROBE_SIDE))
    backend.compute(prepared[:1], prepared[1:])


def _check_is_memory(error: VideoError) -> None:
    """Let anything but want of memory end this process."""
    if error.code != "memory":
        raise error


def _send(stream: IO[bytes], message: dict[str, Any]) -> None:
    stream.write(wire.encode(message))
    stream.flush()


if __name__ == "__main__":
    main(sys.argv[1:])

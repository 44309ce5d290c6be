"""A lane: shared memory and a socket between one video's worker and the owner of a device.

The memory has two slots, so that frames of the next batch can be decoded while the last one is computed; that is also
all that a worker may have waiting. Messages are JSON objects (`flowprep.wire`):

    worker  {"open": {"height": .., "width": .., "frames": .., "directions": ..}}   with the memory's descriptor
    worker  {"add": frames, "slot": ..}              frames of the slot are filled
    owner   {"codes": [facts, ..], "slot": ..}       codes of the slot are, or {"error": code, "detail": ..}

The first message says how many frames a slot holds at most; each frame completes one pair a direction at most.
"""

from __future__ import annotations

import contextlib
import mmap
import os
from dataclasses import dataclass
from typing import Any, final

import numpy as np
from numpy.typing import NDArray

NUM_SLOTS = 2
MAX_LANE_BYTES = 4 << 30
"""A lane that would be larger is refused: two slots of one frame of 8k video, both directions, take 330 MB."""


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class LaneShape:
    """Size of a lane's frames in pixels, frames a slot at most, and directions of flow (1, or 2 with backward flow)."""

    height: int
    width: int
    frames: int
    directions: int

    def to_json(self) -> dict[str, int]:
        """A JSON object."""
        return {"height": self.height, "width": self.width, "frames": self.frames, "directions": self.directions}

    @classmethod
    def from_json(cls, data: Any) -> LaneShape:
        """The shape of a JSON object. Raises ValueError on one that makes no sense."""
        names = ("height", "width", "frames", "directions")
        if not isinstance(data, dict) or not all(type(data.get(name)) is int for name in names):
            raise ValueError("a lane must have four whole numbers")
        shape = cls(**{name: data[name] for name in names})
        if min(shape.height, shape.width, shape.frames) < 1 or shape.directions not in (1, 2):
            raise ValueError(f"{shape} is no lane")
        if shape.num_bytes > MAX_LANE_BYTES:
            raise ValueError(f"a lane of {shape.num_bytes} bytes is too large")
        return shape

    @property
    def num_bytes(self) -> int:
        """Bytes of the memory: for each frame of a slot itself, and two planes a direction."""
        return NUM_SLOTS * self.frames * self.height * self.width * (1 + 2 * self.directions)


@final
class LaneMemory:
    """The memory of a lane as arrays. Both sides map it; it is gone when both have closed it, or died."""

    def __init__(self, shape: LaneShape, descriptor: int) -> None:
        if os.fstat(descriptor).st_size < shape.num_bytes:
            raise ValueError("the memory of a lane is smaller than its shape says")
        self._map = mmap.mmap(descriptor, shape.num_bytes)
        planes = np.frombuffer(self._map, np.uint8).reshape(NUM_SLOTS, -1, shape.height, shape.width)
        self._frames = planes[:, : shape.frames]
        self._codes = planes[:, shape.frames :].reshape(NUM_SLOTS, -1, 2, shape.height, shape.width)

    @classmethod
    def create(cls, shape: LaneShape) -> tuple[LaneMemory, int]:
        """New memory, and its descriptor, which the caller closes."""
        descriptor = os.memfd_create("flowprep-lane", os.MFD_CLOEXEC)
        try:
            os.ftruncate(descriptor, shape.num_bytes)
            return cls(shape, descriptor), descriptor
        except BaseException:
            os.close(descriptor)
            raise

    def frames(self, slot: int, num: int) -> NDArray[np.uint8]:
        """The first frames of a slot, uint8 (num, H, W), grey."""
        return self._frames[slot, :num]

    def codes(self, slot: int, num: int) -> NDArray[np.uint8]:
        """Codes of a slot, uint8 (num, 2, H, W), x then y; those of forward pairs come first."""
        return self._codes[slot, :num]

    def close(self) -> None:
        """Let go of the memory. Where somebody still has an array of it, it goes with that."""
        del self._frames, self._codes
        with contextlib.suppress(BufferError):
            self._map.close()

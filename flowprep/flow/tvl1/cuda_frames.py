"""Frames on the device: uploaded once as 8-bit grey, made a pyramid with gradients, kept while somebody holds them."""

from __future__ import annotations

import weakref
from typing import Any, final

import numpy as np
import numpy.typing as npt
from numba import cuda

from flowprep.flow.tvl1 import cuda_images
from flowprep.flow.tvl1.cuda_context import mark
from flowprep.flow.tvl1.cuda_failures import allocated
from flowprep.flow.tvl1.cuda_images import NUM_PLANES
from flowprep.flow.tvl1.cuda_kernel import PIXEL_BLOCK, pixel_grid
from flowprep.flow.tvl1.cuda_levels import DeviceGeometry

_UPLOAD_BYTES = 16 << 20
_MAX_UPLOAD = 256
"""Frames that go up at a time: as many as that, ten launches for all of them; 192 of 340x256, 8 of 1920x1080."""

_FIRST_SLOTS = 32


@final
class FrameOnDevice:
    """A frame's slot in the pool; it is free again when nobody holds this object."""

    def __init__(self, pool: FramePool, slot: int) -> None:
        self.pool, self.slot = pool, slot
        weakref.finalize(self, pool.release, slot)


@final
class DeviceTables:
    """The tables of a geometry on the device."""

    def __init__(self, geometry: DeviceGeometry) -> None:
        self.first = cuda.to_device(geometry.first)
        self.second = cuda.to_device(geometry.second)
        self.weight = cuda.to_device(geometry.weight)

    @property
    def arrays(self) -> tuple[Any, Any, Any]:
        """As the kernels take them."""
        return self.first, self.second, self.weight


@final
class _Lane:
    """One of two buffers for uploads: while the device copies from one, the host fills the other."""

    def __init__(self, num_frames: int, num_bytes: int) -> None:
        self.pinned = cuda.pinned_array(num_bytes, np.uint8)
        self.grey = cuda.device_array(num_bytes, np.uint8)
        self.pinned_slots = cuda.pinned_array(num_frames, np.int32)
        self.slots = cuda.device_array(num_frames, np.int32)
        self.copied, self.used = mark(), mark()
        self.is_busy = False


@final
class FramePool:
    """The frames of one size. `images` is float32: NUM_PLANES planes of all levels, slot by slot.

    The pool doubles when it is full, which takes twice its memory for a moment. All kernels run on one stream, so a
    slot may be given away while work on its last frame is still queued: what is done with it comes later there.
    """

    def __init__(self, geometry: DeviceGeometry, tables: DeviceTables, kernels: Any, stream: Any) -> None:
        self.geometry = geometry
        self.slot_elements = NUM_PLANES * geometry.num_plane_elements
        self._tables, self._kernels, self._stream = tables, kernels, stream
        self._copies = cuda.stream()
        self._free: list[int] = []
        self._num_slots = 0
        self.images: Any = None
        self._lanes: list[_Lane] = []
        height, width = geometry.size
        self.upload_frames = max(1, min(_MAX_UPLOAD, _UPLOAD_BYTES // (height * width)))

    @property
    def num_held(self) -> int:
        """Frames that somebody holds."""
        return self._num_slots - len(self._free)

    def release(self, slot: int) -> None:
        """Take a slot back."""
        self._free.append(slot)

    def upload(self, frames: npt.NDArray[np.uint8]) -> list[FrameOnDevice]:
        """Frames uint8 (T, H, W) of the geometry's size, with all that both of their pairs need."""
        held: list[FrameOnDevice] = []
        for start in range(0, len(frames), self.upload_frames):
            part = frames[start : start + self.upload_frames]
            slots = self._acquire(len(part))
            held += [FrameOnDevice(self, slot) for slot in slots]
            self._upload_part(part, slots, start // self.upload_frames)
        return held

    def _acquire(self, num: int) -> list[int]:
        if len(self._free) < num:
            self._grow(num - len(self._free))
        taken, self._free = self._free[:num], self._free[num:]
        return taken

    def _grow(self, num_missing: int) -> None:
        height, width = self.geometry.size

        def allocate(num: int) -> Any:
            return cuda.device_array((self._num_slots + num) * self.slot_elements, np.float32)

        wanted = max(num_missing, _FIRST_SLOTS, self._num_slots)
        images, more = allocated((wanted, num_missing), allocate, height, width, "frames")
        if self.images is not None:
            used = self._num_slots * self.slot_elements
            images[:used].copy_to_device(self.images, stream=self._stream)
            self._stream.synchronize()  # the old array may be freed
        self.images = images
        self._free += range(self._num_slots, self._num_slots + more)
        self._num_slots += more

    def _upload_part(self, frames: npt.NDArray[np.uint8], slots: list[int], number: int) -> None:
        height, width = self.geometry.size
        while len(self._lanes) < 2:
            self._lanes.append(_Lane(self.upload_frames, self.upload_frames * height * width))
        lane = self._lanes[number % 2]
        if lane.is_busy:
            lane.copied.synchronize()  # the host may fill its pinned memory
        num_bytes = frames.size
        lane.pinned[:num_bytes] = frames.reshape(-1)
        lane.pinned_slots[: len(slots)] = slots
        if lane.is_busy:
            lane.used.wait(self._copies)  # the device may overwrite the copy
        lane.grey[:num_bytes].copy_to_device(lane.pinned[:num_bytes], stream=self._copies)
        lane.slots[: len(slots)].copy_to_device(lane.pinned_slots[: len(slots)], stream=self._copies)
        lane.copied.record(self._copies)
        lane.copied.wait(self._stream)
        self._make_pyramids(lane, len(slots))
        lane.used.record(self._stream)
        lane.is_busy = True

    def _make_pyramids(self, lane: _Lane, num: int) -> None:
        levels, planes = self.geometry.levels, self.geometry.num_plane_elements
        height, width, stride, _ = levels[0]
        block, stream = PIXEL_BLOCK, self._stream
        grid = pixel_grid(height, width, num)
        self._kernels[cuda_images.expand](
            grid, block, stream, lane.grey, lane.slots, self.images, height, width, stride, self.slot_elements
        )
        for number, level in enumerate(levels):
            grid = pixel_grid(level.height, level.width, num)
            finer, tables = levels[number - 1], self.geometry.down[number]
            if tables is not None:
                self._kernels[cuda_images.shrink](
                    grid,
                    block,
                    stream,
                    lane.slots,
                    self.images,
                    *self._tables.arrays,
                    *tables,
                    finer.start,
                    finer.stride,
                    level.start,
                    level.height,
                    level.width,
                    level.stride,
                    self.slot_elements,
                )
            self._kernels[cuda_images.differentiate](
                grid,
                block,
                stream,
                lane.slots,
                self.images,
                level.start,
                level.height,
                level.width,
                level.stride,
                planes,
                self.slot_elements,
            )

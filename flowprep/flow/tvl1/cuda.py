"""`native-cuda`: TV-L1 on an NVIDIA GPU, both variants, many pairs a launch, by kernels that Numba compiles."""

from __future__ import annotations

import contextlib
import importlib.metadata
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, final

import numpy as np
import numpy.typing as npt
from numba import cuda

from flowprep.config import QuantiseSettings
from flowprep.errors import BackendUnavailableError, VideoError
from flowprep.flow.backend import FlowBackend, PreparedFrame, QuantisedFlow, padded
from flowprep.flow.cuda_driver import CudaDriver
from flowprep.flow.probe_cuda import find_card_obstacle
from flowprep.flow.tvl1 import cuda_check
from flowprep.flow.tvl1.cuda_arithmetic import SIMULATED
from flowprep.flow.tvl1.cuda_batch import SHARE_OF_MEMORY, most_pairs
from flowprep.flow.tvl1.cuda_context import free_bytes, give_up, make_current, starting
from flowprep.flow.tvl1.cuda_download import Download, codes_of, flow_of
from flowprep.flow.tvl1.cuda_failures import DeviceError, allocated, cuda_failures, halves
from flowprep.flow.tvl1.cuda_frames import DeviceTables, FrameOnDevice, FramePool
from flowprep.flow.tvl1.cuda_kernel import Kernels, kernels_of, num_multiprocessors
from flowprep.flow.tvl1.cuda_levels import DeviceGeometry
from flowprep.flow.tvl1.cuda_rooms import Lane, Rooms, pair_bytes
from flowprep.flow.tvl1.cuda_solver import Solver
from flowprep.flow.tvl1.cuda_tiles import Tile
from flowprep.flow.tvl1.params import MIN_SIDE, TVL1CPUParameters, TVL1CUDAParameters


@final
class NativeCUDABackend(FlowBackend):
    """TV-L1 by Numba CUDA kernels; the parameters' type decides the variant. Sides below 3 px are padded to 3.

    The device is first touched when frames are prepared or by `warm_up`. Prepared frames stay on it; pairs are computed
    as many at once as its memory allows. Neither that nor a pair's neighbours change a bit of its flow. After an error
    of the device other than want of memory (BackendUnavailableError) the process has to be replaced.

    Attributes:
        values: The parameters as they were given.
        num_iterations: Of the last batch, int64 (B, levels, warps), finest level first.
    """

    name = "native-cuda"
    takes_initial_flow = True
    pairs_at_a_time = 128  # four times as many as hide the launches (`cuda_batch.py`); flow of so many is held twice

    def __init__(
        self,
        parameters: TVL1CPUParameters | TVL1CUDAParameters,
        *,
        device: int = 0,
        max_pairs: int | None = None,
        tile: Tile | None = None,
    ) -> None:
        """Check that the device exists. `max_pairs` are computed at once, if memory allows; `tile` is for tests."""
        self.values, self._device, self._max_pairs, self._tile = parameters, device, max_pairs, tile
        self._kernels = kernels_of(device)
        self._sizes: dict[tuple[int, int], _Size] = {}
        self._stream: Any = None
        self._downloads: Any = None
        self._lost = ""
        self.variant = "cpu" if isinstance(parameters, TVL1CPUParameters) else "cuda"
        self.parameters = parameters.to_json()
        self.build = _build(device)
        self.num_iterations = np.zeros((0, 0, 0), np.int64)

    def warm_up(self) -> None:
        """Compile all kernels that the parameters need, and check them against the reference on a small pair."""
        self._open()

    def _open(self) -> None:
        if self._lost:
            raise self._lost_device()
        with self._failures(0, 0) if self._stream is not None else starting(self.name, self._device):
            if not SIMULATED:
                make_current(self._device)
            if self._stream is None:
                stream, downloads = cuda.stream(), cuda.stream()
                if not SIMULATED:
                    cuda_check.check_once(self._device, self.values, self._kernels, stream)
                self._stream, self._downloads = stream, downloads

    def _prepare(self, frames: npt.NDArray[np.uint8]) -> list[Any]:
        if not len(frames):
            return []
        self._open()
        images = np.stack([padded(frame, MIN_SIDE) for frame in frames])
        height, width = images.shape[1:]
        with self._failures(height, width):
            size = self._size_of(height, width)
            try:
                return list(size.pool.upload(images))
            except VideoError:
                if not any(other.rooms for other in self._sizes.values()):
                    raise
            for other in self._sizes.values():  # what can be made again makes room
                other.rooms = None
            return list(size.pool.upload(images))

    def _compute(
        self,
        sources: Sequence[Any],
        targets: Sequence[Any],
        height: int,
        width: int,
        initial_flow: npt.NDArray[np.float32] | None,
    ) -> npt.NDArray[np.float32]:
        flow = np.empty((len(sources), height, width, 2), np.float32)

        def store(first: int, num: int, lane: Lane, rooms: Rooms) -> Download:
            return flow_of(self._kernels, rooms, lane, num, (height, width), flow[first : first + num])

        self._run(sources, targets, height, width, initial_flow, store)
        return flow

    def compute_quantised(
        self, sources: Sequence[PreparedFrame], targets: Sequence[PreparedFrame], settings: QuantiseSettings
    ) -> QuantisedFlow:
        """`compute`, and the flow made 8-bit codes on the device, as `flowprep.quantise` makes them."""
        height, width = sources[0].height, sources[0].width
        num_pairs = len(sources)
        result = QuantisedFlow(
            np.empty((num_pairs, 2, height, width), np.uint8), np.empty(num_pairs), np.empty(num_pairs, np.int64)
        )

        def store(first: int, num: int, lane: Lane, rooms: Rooms) -> Download:
            parts = tuple(array[first : first + num] for array in result)
            return codes_of(self._kernels, rooms, lane, num, (height, width), parts, settings)

        frames = [frame.data for frame in sources], [frame.data for frame in targets]
        self._run(*frames, height, width, None, store)
        return result

    def _run(
        self,
        sources: Sequence[FrameOnDevice],
        targets: Sequence[FrameOnDevice],
        height: int,
        width: int,
        initial_flow: npt.NDArray[np.float32] | None,
        store: Callable[[int, int, Lane, Rooms], Download],
    ) -> None:
        """Compute pairs, as many at once as fit; one batch comes down while the next is computed."""
        self._open()
        with self._failures(height, width):
            size = self._size_of(max(height, MIN_SIDE), max(width, MIN_SIDE))
            rooms = self._rooms_for(size, len(sources))
            counts: list[npt.NDArray[np.int64]] = []
            running: list[Download] = []
            self.download_seconds = 0.0
            for number, first in enumerate(range(0, len(sources), rooms.capacity)):
                pairs = slice(first, min(first + rooms.capacity, len(sources)))
                if len(running) == 2:
                    counts.append(self._finish(running.pop(0)))
                lane = rooms.lanes[number % 2]
                start = None if initial_flow is None else _padded_flow(initial_flow[pairs])
                slots = [[frame.slot for frame in frames[pairs]] for frames in (sources, targets)]
                size.solver.solve(rooms, lane, size.pool, slots[0], slots[1], start)
                download = store(first, len(slots[0]), lane, rooms)
                download.start(self._stream, self._downloads)
                running.append(download)
            counts += [self._finish(download) for download in running]
            self.num_iterations = np.concatenate(counts).reshape(
                len(sources), size.geometry.num_levels, self.values.num_warps
            )

    def _finish(self, download: Download) -> npt.NDArray[np.int64]:
        """Wait for a download and use it, with a clock."""
        start = time.perf_counter()
        counts = download.finish()
        self.download_seconds += time.perf_counter() - start
        return counts

    def wait(self) -> None:
        """Wait for what is on the stream."""
        if self._stream is not None and not self._lost:
            with self._failures(0, 0):
                self._stream.synchronize()

    @contextlib.contextmanager
    def _failures(self, height: int, width: int) -> Iterator[None]:
        """CUDA's errors as ours; one that loses the device is remembered."""
        try:
            with cuda_failures(height, width):
                yield
        except DeviceError as error:
            self._lost = f"{error}, with frames of {width}x{height}"
            give_up()
            raise self._lost_device() from error

    def _lost_device(self) -> BackendUnavailableError:
        return BackendUnavailableError(
            f"flow backend {self.name} has lost its device ({self._lost}); start a new process"
        )

    def _size_of(self, height: int, width: int) -> _Size:
        """What is kept for a size. Of the others only frames that somebody holds stay."""
        for key, other in list(self._sizes.items()):
            if key != (height, width):
                self._stream.synchronize()
                other.rooms = None
                if not other.pool.num_held:
                    del self._sizes[key]
        if (height, width) not in self._sizes:
            self._sizes[height, width] = _Size(
                self.values, height, width, self.variant == "cpu", self._kernels, self._stream, self._tile
            )
        return self._sizes[height, width]

    def _rooms_for(self, size: _Size, num_pairs: int) -> Rooms:
        """Rooms for so many pairs, or for as many as are computed at once."""
        height, width = size.geometry.size
        most = self._max_pairs or most_pairs(height, width, num_multiprocessors())
        wanted = min(num_pairs, most)
        if size.rooms is None or (size.rooms.capacity < wanted and not size.is_limited):
            size.rooms = None  # before its successor is made
            if not SIMULATED:
                free = free_bytes()
                num_slots = max(size.solver.tile.halos) if size.solver.is_cpu else 1
                fitting = int(free * SHARE_OF_MEMORY) // pair_bytes(
                    size.geometry, size.solver.num_components, num_slots
                )
                size.is_limited = fitting < wanted
                wanted = max(1, min(wanted, fitting))
            size.rooms, capacity = allocated(halves(wanted), size.solver.make_rooms, height, width, "pairs")
            size.is_limited = size.is_limited or capacity < wanted
        assert size.rooms is not None
        return size.rooms

    def close(self) -> None:
        """Free what is on the device."""
        if self._stream is not None and not self._lost:
            self._stream.synchronize()
        self._sizes.clear()
        self._stream = self._downloads = None


@final
class _Size:
    """What is kept for frames of a size."""

    def __init__(
        self,
        parameters: TVL1CPUParameters | TVL1CUDAParameters,
        height: int,
        width: int,
        centred: bool,
        kernels: Kernels,
        stream: Any,
        tile: Tile | None,
    ) -> None:
        self.geometry = DeviceGeometry(height, width, parameters, centred=centred)
        tables = DeviceTables(self.geometry)
        self.pool = FramePool(self.geometry, tables, kernels, stream)
        self.solver = Solver(parameters, self.geometry, tables, kernels, stream, tile)
        self.rooms: Rooms | None = None
        self.is_limited = False  # the device's memory allows no larger rooms


def _padded_flow(flow: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """An initial flow (B, H, W, 2) with its last row and column repeated up to MIN_SIDE."""
    below, right = max(MIN_SIDE - flow.shape[1], 0), max(MIN_SIDE - flow.shape[2], 0)
    return np.pad(flow, ((0, 0), (0, below), (0, right), (0, 0)), mode="edge")


def _build(device: int) -> str:
    """What compiles, and for which processor. Raises BackendUnavailableError for no such device or an unfit one."""
    version = importlib.metadata.version("numba-cuda")
    if SIMULATED:
        return f"numba-cuda {version} simulator"
    driver = CudaDriver.load()
    num_devices = len(driver.capabilities)
    if not 0 <= device < num_devices:
        raise BackendUnavailableError(
            f"flow backend native-cuda has no device {device}: there are {num_devices}, counted from 0; "
            "choose another, or check CUDA_VISIBLE_DEVICES"
        )
    obstacle = find_card_obstacle(driver.capabilities[device])
    if obstacle is not None:
        reason, cure = obstacle
        raise BackendUnavailableError(f"flow backend native-cuda cannot run on device {device}: {reason}; {cure}")
    major, minor = driver.capabilities[device]
    return f"numba-cuda {version} sm_{major}{minor}"

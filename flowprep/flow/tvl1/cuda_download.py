"""Results of a batch on their way to the host: flow in float32, or 8-bit codes with what their facts need.

The copy runs on a stream of its own into page-locked memory, while the next batch is computed.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, final

import numpy as np
import numpy.typing as npt

from flowprep.config import QuantiseSettings
from flowprep.flow.tvl1 import cuda_fields, cuda_quantise
from flowprep.flow.tvl1.cuda_kernel import PIXEL_BLOCK, Kernels, pixel_grid
from flowprep.flow.tvl1.cuda_rooms import Lane, Rooms


@final
class Download:
    """Arrays that come down from a lane after its batch, and what is done with them on the host.

    `launch` puts the kernels that make them on a stream; `pairs` are (device array, page-locked array).
    """

    def __init__(
        self,
        lane: Lane,
        launch: Callable[[Any], None],
        pairs: list[tuple[Any, Any]],
        finish: Callable[[], npt.NDArray[np.int64]],
    ) -> None:
        self._lane, self._launch, self._pairs, self._finish = lane, launch, pairs, finish

    def start(self, stream: Any, downloads: Any) -> None:
        """Make the arrays on `stream`, and copy them on `downloads` when they are there."""
        self._launch(stream)
        self._lane.computed.record(stream)
        self._lane.computed.wait(downloads)
        for device, pinned in self._pairs:
            device.copy_to_host(pinned, stream=downloads)
        self._lane.downloaded.record(downloads)

    def finish(self) -> npt.NDArray[np.int64]:
        """Wait for the copies and use them; gives the numbers of iterations, one pair after another."""
        self._lane.downloaded.synchronize()
        return self._finish()


def flow_of(
    kernels: Kernels, rooms: Rooms, lane: Lane, num: int, size: tuple[int, int], flow: npt.NDArray[np.float32]
) -> Download:
    """The flow of `num` pairs into `flow`, float32 (num, H, W, 2)."""
    height, width = size
    counts, pinned_counts = _counts(rooms, lane, num)
    out, pinned_out = lane.out[: flow.size], lane.pinned_out[: flow.size]

    def launch(stream: Any) -> None:
        kernels[cuda_fields.gather](
            pixel_grid(height, width, num),
            PIXEL_BLOCK,
            stream,
            rooms.status,
            rooms.flow,
            out,
            rooms.num_components,
            height,
            width,
            rooms.stride,
            rooms.num_pixels,
        )
        counts.copy_to_device(rooms.counts[: counts.size], stream=stream)

    def finish() -> npt.NDArray[np.int64]:
        flow[...] = pinned_out.reshape(flow.shape)
        return np.asarray(pinned_counts, np.int64)

    return Download(lane, launch, [(out, pinned_out), (counts, pinned_counts)], finish)


def codes_of(
    kernels: Kernels,
    rooms: Rooms,
    lane: Lane,
    num: int,
    size: tuple[int, int],
    results: tuple[npt.NDArray[Any], ...],
    settings: QuantiseSettings,
) -> Download:
    """Codes uint8 (num, 2, H, W), sums of lengths (num,) and numbers of saturated pixels (num,) into `results`."""
    height, width = size
    codes, sums, numbers = results
    counts, pinned_counts = _counts(rooms, lane, num)
    pairs = [
        (device[:used], pinned[:used])
        for (device, pinned), used in zip(lane.codes, (codes.size, num * height, num * height), strict=True)
    ]
    fields = (rooms.num_components, height, width, rooms.stride, rooms.num_pixels)

    def launch(stream: Any) -> None:
        kernels[cuda_quantise.quantise](
            pixel_grid(height, width, num),
            PIXEL_BLOCK,
            stream,
            rooms.status,
            rooms.flow,
            pairs[0][0],
            settings.bound_px,
            settings.rounding == "truncate",
            *fields,
        )
        kernels[cuda_quantise.measure](
            (height, num),
            cuda_quantise.NUM_THREADS,
            stream,
            rooms.status,
            rooms.flow,
            pairs[1][0],
            pairs[2][0],
            settings.bound_px,
            *fields,
        )
        counts.copy_to_device(rooms.counts[: counts.size], stream=stream)

    def finish() -> npt.NDArray[np.int64]:
        codes[...] = pairs[0][1].reshape(codes.shape)
        sums[...] = pairs[1][1].reshape(num, height).sum(axis=1)
        numbers[...] = pairs[2][1].reshape(num, height).sum(axis=1)
        return np.asarray(pinned_counts, np.int64)

    return Download(lane, launch, [*pairs, (counts, pinned_counts)], finish)


def _counts(rooms: Rooms, lane: Lane, num: int) -> tuple[Any, Any]:
    size = num * rooms.counts.size // rooms.capacity
    return lane.counts[:size], lane.pinned_counts[:size]

"""A small pair computed on the device and by the reference, before anything else is: wrong flow must not go unseen."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import numpy.typing as npt
from numba import cuda

from flowprep.errors import BackendUnavailableError
from flowprep.flow.tvl1.cuda_download import flow_of
from flowprep.flow.tvl1.cuda_frames import DeviceTables, FramePool
from flowprep.flow.tvl1.cuda_kernel import Kernels
from flowprep.flow.tvl1.cuda_levels import DeviceGeometry
from flowprep.flow.tvl1.cuda_solver import Solver
from flowprep.flow.tvl1.params import TVL1CPUParameters, TVL1CUDAParameters
from flowprep.flow.tvl1.reference import tvl1_flow

_HEIGHT, _WIDTH = 61, 150
"""More than one tile in each direction, and no multiple of anything."""

MEDIAN_PX, LARGEST_PX = 1e-4, 0.1
"""Differences up to which last bits are to blame. A wrong index or order gives ten times as much and more."""


_checked: set[tuple[int, type, bool, int]] = set()
"""What has been checked in this process: device, variant, illumination, median filter."""


def check_once(device: int, parameters: TVL1CPUParameters | TVL1CUDAParameters, kernels: Kernels, stream: Any) -> None:
    """`check`, unless it has been done for these kernels in this process."""
    median = parameters.median_filtering if isinstance(parameters, TVL1CPUParameters) else 1
    key = device, type(parameters), parameters.gamma != 0, median
    if key not in _checked:
        check(parameters, kernels, stream)
        _checked.add(key)


def check(parameters: TVL1CPUParameters | TVL1CUDAParameters, kernels: Kernels, stream: Any) -> None:
    """Compile and run what pairs of these parameters need. Raises BackendUnavailableError where the flow is wrong."""
    values: TVL1CPUParameters | TVL1CUDAParameters
    if isinstance(parameters, TVL1CPUParameters):
        median = parameters.median_filtering
        values = TVL1CPUParameters(inner_iterations=7, outer_iterations=2, median_filtering=median)
    else:
        values = TVL1CUDAParameters(iterations=10)
    values = dataclasses.replace(values, num_scales=2, num_warps=2, gamma=0.1 if parameters.gamma else 0.0)
    frames = _frames()
    expected = tvl1_flow(frames[0], frames[1], values)
    flow = np.empty((1, _HEIGHT, _WIDTH, 2), np.float32)
    geometry = DeviceGeometry(_HEIGHT, _WIDTH, values, centred=isinstance(values, TVL1CPUParameters))
    tables = DeviceTables(geometry)
    pool = FramePool(geometry, tables, kernels, stream)
    solver = Solver(values, geometry, tables, kernels, stream)
    rooms = solver.make_rooms(1)
    source, target = pool.upload(frames)
    solver.solve(rooms, rooms.lanes[0], pool, [source.slot], [target.slot], None)
    download = flow_of(kernels, rooms, rooms.lanes[0], 1, (_HEIGHT, _WIDTH), flow)
    download.start(stream, cuda.stream())
    download.finish()
    difference = np.abs(flow[0] - expected)
    middle, largest = float(np.median(difference)), float(difference.max())
    if not (middle <= MEDIAN_PX and largest <= LARGEST_PX):
        raise BackendUnavailableError(
            f"flow backend native-cuda computes wrong flow on this GPU (a small pair differs from the reference by "
            f"{middle:.2g} px in the median and {largest:.2g} px at most); use the backend native, and "
            "please report this"
        )


def _frames() -> npt.NDArray[np.uint8]:
    """Two frames of a texture of waves that moves by about a pixel, uint8 (2, H, W)."""
    y, x = np.mgrid[:_HEIGHT, :_WIDTH].astype(np.float64)
    images = []
    for shift in (0.0, 1.0):
        u, v = x - 0.9 * shift, y + 0.6 * shift
        waves = np.sin(u / 3.1) + np.sin(v / 4.3 + 1) + np.sin((u + v) / 5.7) + np.sin((u - 2 * v) / 9.1)
        images.append(np.rint(127.5 + 30 * waves))
    return np.stack(images).clip(0, 255).astype(np.uint8)

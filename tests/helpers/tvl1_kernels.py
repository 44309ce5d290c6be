"""The parts of the CPU kernels, each callable on its own: all that tests know about how the kernels are called.

Functions of kernels have no Python entry of their own; here each has a small `Kernel` around it, which is kept in the
cache of compiled code like the product's.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from flowprep.flow.tvl1.cpu_kernels import build_pyramid
from flowprep.flow.tvl1.cpu_levels import HEIGHT, IMAGE, STRIDE, WIDTH, Geometry, aligned_zeros, make_rooms
from flowprep.flow.tvl1.cpu_median import median_of_sorted_columns, median_rows, sort3, sort5
from flowprep.flow.tvl1.cpu_resize import resize_rows
from flowprep.flow.tvl1.cpu_warp import MARGIN, fill_planes, warp_rows
from flowprep.flow.tvl1.jit import Kernel, device_function
from flowprep.flow.tvl1.params import TVL1CPUParameters, TVL1Parameters
from flowprep.flow.tvl1.pointwise import damping
from flowprep.flow.tvl1.simd import LANES, load, pointer_to, splat, store

Image = npt.NDArray[np.float32]


def geometry_of(height: int, width: int, parameters: TVL1Parameters) -> Geometry:
    return Geometry(height, width, parameters, centred=isinstance(parameters, TVL1CPUParameters))


def padded_rows(image: Image, stride: int, num_before: int = LANES) -> Image:
    """The rows of (H, W) at `stride`, flat, zeros beyond, with zeros before and behind."""
    height, width = image.shape
    flat = aligned_zeros(num_before + height * stride + LANES)
    flat[num_before : num_before + height * stride].reshape(height, stride)[:, :width] = image
    return flat


# -- pyramid -----------------------------------------------------------------------------------------------------------


def pyramid(frame: npt.NDArray[np.uint8], parameters: TVL1Parameters) -> list[Image]:
    """All levels of a frame, finest first."""
    geometry = geometry_of(*frame.shape, parameters)
    image = aligned_zeros(geometry.num_image_elements)
    build_pyramid(frame, geometry.down, geometry.down_tables, image, np.empty(2 * geometry.stride, np.float32))
    return [
        image[level[IMAGE] : level[IMAGE] + level[HEIGHT] * level[STRIDE]].reshape(level[HEIGHT], -1)[:, : level[WIDTH]]
        for level in geometry.down
    ]


@Kernel
def _resize(source: Any, source_stride: Any, target: Any, shape: Any, tables: Any, lines: Any, factor: Any) -> None:
    height, width, stride, columns, rows = shape
    pointers = (pointer_to(tables.first), pointer_to(tables.second), pointer_to(tables.weight))
    resize_rows(
        pointer_to(source),
        source_stride,
        pointer_to(target),
        stride,
        width,
        0,
        height,
        pointers,
        columns,
        rows,
        pointer_to(lines),
        factor,
    )


def upsampled(component: Image, height: int, width: int, parameters: TVL1Parameters, factor: float) -> Image:
    """A flow component of level 1 of (height, width) at level 0, times the factor."""
    geometry = geometry_of(height, width, parameters)
    assert component.shape == geometry.sizes[1]
    level = geometry.up[0]
    stride, source_stride = int(level[STRIDE]), int(geometry.up[1, STRIDE])
    target = aligned_zeros(height * stride + LANES)
    source = padded_rows(component, source_stride, 0)
    lines = np.empty(2 * stride, np.float32)
    _resize(
        source, source_stride, target, (height, width, stride, *map(int, level[4:])), geometry.up_tables, lines, factor
    )
    return target[: height * stride].reshape(height, stride)[:, :width]


# -- warp --------------------------------------------------------------------------------------------------------------


class Warped(NamedTuple):
    """What a warp leaves for the iterations, float32 (H, W) each."""

    i1x: Image
    i1y: Image
    rho_c: Image
    minus_square: Image


@Kernel
def _warp(image0: Any, image1: Any, shape: Any, rooms: Any, cubic: Any, replicate: Any) -> None:
    height, width, stride = shape
    planes = pointer_to(rooms.planes)
    fill_planes(pointer_to(image1), stride, height, width, planes, 0, height + 2 * MARGIN + 1, replicate)
    warp_rows(
        pointer_to(image0),
        stride,
        height,
        width,
        planes,
        pointer_to(rooms.flow),
        2 * stride,
        pointer_to(rooms.constants),
        0,
        height,
        cubic,
        replicate,
        pointer_to(rooms.lines),
        pointer_to(rooms.corners),
    )


def warp(i0: Image, i1: Image, flow: Image, *, variant: str) -> Warped:
    """Constants of the iterations for images (H, W) and a flow (H, W, 2)."""
    height, width = i0.shape
    geometry = geometry_of(height, width, TVL1CPUParameters(num_scales=1))
    stride = geometry.stride
    rooms = make_rooms(geometry, 2, 1)
    rooms.flow[: height * 2 * stride].reshape(height, 2, stride)[..., :width] = flow.transpose(0, 2, 1)
    # A pixel's left neighbour is read, so that the images begin behind some room.
    images = [padded_rows(image, stride)[LANES:] for image in (i0, i1)]
    is_cpu = variant == "cpu"
    _warp(*images, (height, width, stride), rooms, np.float32(-0.75 if is_cpu else -0.5), not is_cpu)
    lines = rooms.constants[: height * 4 * stride].reshape(height, 4, stride)
    assert not lines[:, :2, width:].any(), "the iterations need zero gradients beyond the image"
    return Warped(*(lines[:, k, :width] for k in range(4)))


# -- median ------------------------------------------------------------------------------------------------------------


@Kernel
def _median(source: Any, target: Any, shape: Any, num_components: Any, size: Any, lines: Any) -> None:
    height, width, stride = shape
    row = num_components * stride
    median_rows(pointer_to(source), pointer_to(target), row, stride, height, width, 0, height, size, pointer_to(lines))


def median(components: Image, size: int) -> Image:
    """Components (N, H, W) of a flow, N 2 or 3, after the median filter."""
    num_components, height, width = components.shape
    stride = (width + LANES) // LANES * LANES
    source, target = (aligned_zeros(height * num_components * stride + LANES) for _ in range(2))
    rows = (height, num_components, stride)
    source[: -LANES or None].reshape(rows)[..., :width] = components.transpose(1, 0, 2)
    _median(source, target, (height, width, stride), num_components, size, aligned_zeros(5 * (stride + 2 * LANES)))
    result = target[:-LANES].reshape(rows).transpose(1, 0, 2)
    assert not result[:2, :, width:].any(), "what is beyond the image must stay 0"
    return result[..., :width]


@device_function
def _five(values: Any, i: Any, step: Any) -> Any:
    return (
        load(values, i),
        load(values, i + step),
        load(values, i + 2 * step),
        load(values, i + 3 * step),
        load(values, i + 4 * step),
    )


@Kernel
def _networks(values: Any, out: Any, size: Any) -> None:
    """Flat (size, N): sorted along the first axis, or for a size of 25 the median of five rows of five columns."""
    v, o = pointer_to(values), pointer_to(out)
    step = values.size // size
    for x in range(0, step, LANES):
        if size == 3:
            low, middle, high = sort3(load(v, x), load(v, step + x), load(v, 2 * step + x))
            store(o, x, low)
            store(o, step + x, middle)
            store(o, 2 * step + x, high)
        elif size == 5:
            a, b, c, d, e = _five(v, x, step)
            a, b, c, d, e = sort5(a, b, c, d, e)
            store(o, x, a)
            store(o, step + x, b)
            store(o, 2 * step + x, c)
            store(o, 3 * step + x, d)
            store(o, 4 * step + x, e)
        else:
            value = median_of_sorted_columns(
                _five(v, x, step),
                _five(v, x + 5 * step, step),
                _five(v, x + 10 * step, step),
                _five(v, x + 15 * step, step),
                _five(v, x + 20 * step, step),
            )
            store(o, x, value)


def network(values: Image) -> Image:
    """Values (3 or 5, N) sorted along the first axis; of (25, N), five rows of five, the median (N,)."""
    size, num = values.shape
    padded = np.zeros((size, -(-num // LANES) * LANES), np.float32)
    padded[:, :num] = values
    out = np.zeros_like(padded)
    _networks(padded.reshape(-1), out.reshape(-1), size)
    return out[0, :num] if size == 25 else out[:, :num]


# -- arithmetic --------------------------------------------------------------------------------------------------------


@Kernel
def _damp(x: Any, y: Any, factor: Any, out: Any) -> None:
    for i in range(0, x.size, LANES):
        value = damping(load(pointer_to(x), i), load(pointer_to(y), i), splat(factor))
        store(pointer_to(out), i, value)


def damp(x: Image, y: Image, factor: float) -> Image:
    """1 / (1 + factor * sqrt(x^2 + y^2)) for arrays (N,), N a multiple of 16."""
    out = np.zeros_like(x)
    _damp(x, y, np.float32(factor), out)
    return out

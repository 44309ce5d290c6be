"""Images and flow from one pyramid level to another, by bilinear interpolation.

Horizontal first, then vertical, each `first * (1 - w) + second * w` in float32: OpenCV's own order, so that the images
of variant `cpu` are OpenCV's to the bit. The variants differ in where a pixel's source lies, see `resize_tables.py`.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from flowprep.flow.tvl1.jit import compiled_function, device_function
from flowprep.flow.tvl1.pointwise import linear
from flowprep.flow.tvl1.simd import LANES, load, splat, store


@compiled_function
def resize_rows(
    source: Any,
    source_stride: Any,
    target: Any,
    target_stride: Any,
    width: Any,
    begin: Any,
    end: Any,
    tables: Any,
    columns: Any,
    rows: Any,
    lines: Any,
    factor: Any,
) -> None:
    """Rows `begin` to `end` of the target, `width` columns, times `factor`.

    The tables of columns and rows begin at `columns` and `rows` of `tables` (pointers). `lines` is room for two target
    rows, rounded up to whole vectors. The target's columns beyond the image, up to whole vectors, are set to 0.
    """
    first, second, weight = tables
    padded = (width + LANES) // LANES * LANES
    above, below = -1, -1  # the source rows whose horizontal interpolation the two lines hold
    upper, lower = 0, padded
    for y in range(begin, end):
        wanted_above, wanted_below = first[rows + y], second[rows + y]
        if wanted_above != above:
            if wanted_above == below:
                upper, lower = lower, upper
                above, below = below, above
            else:
                _resize_line(source, wanted_above * source_stride, lines, upper, width, tables, columns)
                above = wanted_above
        if wanted_below != below:
            _resize_line(source, wanted_below * source_stride, lines, lower, width, tables, columns)
            below = wanted_below
        vertical = splat(weight[rows + y])
        out = y * target_stride
        for x in range(0, padded, LANES):
            value = linear(load(lines, upper + x), load(lines, lower + x), vertical)
            store(target, out + x, value * splat(factor))
        for x in range(width, padded):
            target[out + x] = np.float32(0.0)


@device_function
def _resize_line(source: Any, row: Any, lines: Any, line: Any, width: Any, tables: Any, columns: Any) -> None:
    first, second, weight = tables
    one = np.float32(1.0)
    for x in range(width):
        w = weight[columns + x]
        lines[line + x] = source[row + first[columns + x]] * (one - w) + source[row + second[columns + x]] * w

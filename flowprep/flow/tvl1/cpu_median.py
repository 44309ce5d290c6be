"""The median of 3 x 3 or 5 x 5 pixels of each flow component, by minima and maxima on 16 pixels at once.

Columns of a window are sorted first, once for all windows that share them. Sorting the rows of what results leaves few
pixels that can be the median: an element with 13 of the 25 below it, or above it, by the two sortings cannot. Of the 13
that are left, three are always too small and three too large on the diagonals. That it is the median for every order of
25 numbers is tested on all that matter (0-1 principle). Borders are repeated, as OpenCV's `medianBlur` has it.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from flowprep.flow.tvl1.jit import compiled_function, device_function
from flowprep.flow.tvl1.pointwise import select
from flowprep.flow.tvl1.simd import LANES, lane_numbers, load, splat, store


@compiled_function
def median_rows(
    source: Any,
    target: Any,
    row: Any,
    stride: Any,
    height: Any,
    width: Any,
    begin: Any,
    end: Any,
    size: Any,
    lines: Any,
) -> None:
    """Rows `begin` to `end` of u1 and u2 of the target; u3, where there is one, is copied.

    `row` is the elements from one row to the next, `stride` those from one component to the next. `lines` is room for
    five lines of stride + 2 * LANES elements.
    """
    for y in range(begin, end):
        for component in range(2):
            base = component * stride
            if size == 5:
                _median5_row(source, target, base, row, stride, height, width, y, lines)
            else:
                _median3_row(source, target, base, row, stride, height, width, y, lines)
        for x in range(2 * stride, row, LANES):
            store(target, y * row + x, load(source, y * row + x))


@compiled_function
def _median5_row(
    source: Any, target: Any, base: Any, row: Any, stride: Any, height: Any, width: Any, y: Any, lines: Any
) -> None:
    line = stride + 2 * LANES
    r0 = base + max(y - 2, 0) * row
    r1 = base + max(y - 1, 0) * row
    r2 = base + y * row
    r3 = base + min(y + 1, height - 1) * row
    r4 = base + min(y + 2, height - 1) * row
    for x in range(0, stride, LANES):
        s = sort5(
            load(source, r0 + x), load(source, r1 + x), load(source, r2 + x), load(source, r3 + x), load(source, r4 + x)
        )
        out = LANES + x
        store(lines, out, s[0])
        store(lines, line + out, s[1])
        store(lines, 2 * line + out, s[2])
        store(lines, 3 * line + out, s[3])
        store(lines, 4 * line + out, s[4])
    _repeat_borders(lines, 5, line, width, 2)
    for x in range(0, stride, LANES):
        i = LANES + x - 2
        value = median_of_sorted_columns(
            _five(lines, i),
            _five(lines, i + line),
            _five(lines, i + 2 * line),
            _five(lines, i + 3 * line),
            _five(lines, i + 4 * line),
        )
        store(target, r2 + x, _inside(value, x, width))


@device_function
def _five(lines: Any, i: Any) -> Any:
    return load(lines, i), load(lines, i + 1), load(lines, i + 2), load(lines, i + 3), load(lines, i + 4)


@compiled_function
def _median3_row(
    source: Any, target: Any, base: Any, row: Any, stride: Any, height: Any, width: Any, y: Any, lines: Any
) -> None:
    line = stride + 2 * LANES
    r0 = base + max(y - 1, 0) * row
    r1 = base + y * row
    r2 = base + min(y + 1, height - 1) * row
    for x in range(0, stride, LANES):
        s = sort3(load(source, r0 + x), load(source, r1 + x), load(source, r2 + x))
        out = LANES + x
        store(lines, out, s[0])
        store(lines, line + out, s[1])
        store(lines, 2 * line + out, s[2])
    _repeat_borders(lines, 3, line, width, 1)
    for x in range(0, stride, LANES):
        i = LANES + x - 1
        j, k = i + line, i + 2 * line
        low = max(max(load(lines, i), load(lines, i + 1)), load(lines, i + 2))
        middle = sort3(load(lines, j), load(lines, j + 1), load(lines, j + 2))[1]
        high = min(min(load(lines, k), load(lines, k + 1)), load(lines, k + 2))
        store(target, r1 + x, _inside(sort3(low, middle, high)[1], x, width))


@device_function
def _repeat_borders(lines: Any, num_lines: Any, line: Any, width: Any, num_columns: Any) -> None:
    for k in range(num_lines):
        first = k * line + LANES
        for x in range(num_columns):
            lines[first - 1 - x] = lines[first]
            lines[first + width + x] = lines[first + width - 1]


@device_function
def _inside(value: Any, x: Any, width: Any) -> Any:
    """The value, and 0 beyond the image."""
    if x + LANES <= width:
        return value
    return select(lane_numbers() + np.float32(x) < np.float32(width), value, splat(0.0))


@device_function
def sort3(a: Any, b: Any, c: Any) -> Any:
    """Three values in ascending order."""
    a, b = min(a, b), max(a, b)
    b, c = min(b, c), max(b, c)
    a, b = min(a, b), max(a, b)
    return a, b, c


@device_function
def sort5(a: Any, b: Any, c: Any, d: Any, e: Any) -> Any:
    """Five values in ascending order."""
    a, d = min(a, d), max(a, d)
    b, e = min(b, e), max(b, e)
    a, c = min(a, c), max(a, c)
    b, d = min(b, d), max(b, d)
    a, b = min(a, b), max(a, b)
    c, e = min(c, e), max(c, e)
    b, c = min(b, c), max(b, c)
    d, e = min(d, e), max(d, e)
    c, d = min(c, d), max(c, d)
    return a, b, c, d, e


@device_function
def median_of_sorted_columns(r0: Any, r1: Any, r2: Any, r3: Any, r4: Any) -> Any:
    """The median of 25 values whose columns are sorted: `r0` has the five columns' minima, `r4` their maxima."""
    # Rows sorted, only what may be the median: the largest two of the minima, three, three, three, the smallest two.
    a3, a4 = _largest2(r0)
    b2, b3, b4 = _largest3(r1)
    _, c1, c2, c3, _ = sort5(r2[0], r2[1], r2[2], r2[3], r2[4])
    d0, d1, d2 = _smallest3(r3)
    e0, e1 = _smallest2(r4)
    low = max(max(a3, b2), max(c1, d0))
    high = min(min(b4, c3), min(d2, e1))
    _, m1, m2, m3, _ = sort5(a4, b3, c2, d1, e0)
    low, high = min(low, high), max(low, high)
    # The fourth of seven: those of the diagonal in order, and the two.
    return min(m3, min(max(m2, low), max(m1, high)))


@device_function
def _largest2(r: Any) -> Any:
    second, first = min(r[0], r[1]), max(r[0], r[1])
    second = max(second, min(first, r[2]))
    first = max(first, r[2])
    second = max(second, min(first, r[3]))
    first = max(first, r[3])
    second = max(second, min(first, r[4]))
    return second, max(first, r[4])


@device_function
def _smallest2(r: Any) -> Any:
    first, second = min(r[0], r[1]), max(r[0], r[1])
    second = min(second, max(first, r[2]))
    first = min(first, r[2])
    second = min(second, max(first, r[3]))
    first = min(first, r[3])
    second = min(second, max(first, r[4]))
    return min(first, r[4]), second


@device_function
def _largest3(r: Any) -> Any:
    third, second, first = sort3(r[0], r[1], r[2])
    rest = min(first, r[3])
    first = max(first, r[3])
    third = max(third, min(second, rest))
    second = max(second, rest)
    rest = min(first, r[4])
    first = max(first, r[4])
    return max(third, min(second, rest)), max(second, rest), first


@device_function
def _smallest3(r: Any) -> Any:
    first, second, third = sort3(r[0], r[1], r[2])
    rest = max(first, r[3])
    first = min(first, r[3])
    third = min(third, max(second, rest))
    second = min(second, rest)
    rest = max(first, r[4])
    first = min(first, r[4])
    return first, min(second, rest), min(third, max(second, rest))

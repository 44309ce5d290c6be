"""Each operation on vectors of 16 floats against NumPy, to the bit; the accuracy of `damping`; state of the thread."""

from __future__ import annotations

import math
import os
import platform
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numba
import numpy as np
import numpy.typing as npt
import pytest
from helpers.tvl1 import Image, float32
from helpers.tvl1_kernels import damp

from flowprep.flow.tvl1 import reference_sampling
from flowprep.flow.tvl1.pointwise import fma, select
from flowprep.flow.tvl1.simd import (
    LANES,
    any_lane,
    flush_denormals,
    lane_min,
    lane_numbers,
    lane_sum,
    load,
    offset,
    pointer_to,
    restore_state,
    shifted,
    splat,
    store,
    without,
)

compiled = numba.njit(error_model="numpy")

OPERATIONS: dict[str, Callable[[Image, Image, Image], Any]] = {
    "x + y": lambda x, y, z: x + y,
    "x - y": lambda x, y, z: x - y,
    "x * y": lambda x, y, z: x * y,
    "x / y": lambda x, y, z: x / y,
    "-x": lambda x, y, z: -x,
    "abs(x)": lambda x, y, z: np.abs(x),
    "floor(x)": lambda x, y, z: np.floor(x),
    # Where a lane is not a number, or both are zero, min and max give the second.
    "min(x, y)": lambda x, y, z: np.where(x < y, x, y),
    "max(x, y)": lambda x, y, z: np.where(x > y, x, y),
    "fma(x, y, z)": reference_sampling.fma,
    "x < y": lambda x, y, z: np.where(x < y, x, z),
    "x <= y": lambda x, y, z: np.where(x <= y, x, z),
    "x > y": lambda x, y, z: np.where(x > y, x, z),
    "x >= y": lambda x, y, z: np.where(x >= y, x, z),
    "x < y and y < z": lambda x, y, z: np.where((x < y) & (y < z), x, z),
    "x < y and not y < z": lambda x, y, z: np.where((x < y) & ~(y < z), x, z),
    "1.5 + x": lambda x, y, z: np.float32(1.5) + x,
    "x * 2": lambda x, y, z: x * np.float32(2),
    "1 / x": lambda x, y, z: np.float32(1) / x,
    "min(x, 1)": lambda x, y, z: np.where(x < 1, x, np.float32(1)),
    "x shifted": lambda x, y, z: np.concatenate(
        [y.reshape(-1, LANES)[:, -1:], x.reshape(-1, LANES)[:, :-1]], 1
    ).ravel(),
}


@compiled
def compute_all(x: Any, y: Any, z: Any, out: Any) -> None:
    """Row k of `out` becomes the operation k of OPERATIONS."""
    px, py, pz, o = pointer_to(x), pointer_to(y), pointer_to(z), pointer_to(out)
    n = x.size
    for i in range(0, n, LANES):
        a, b, c = load(px, i), load(py, i), load(pz, i)
        store(o, i, a + b)
        store(o, n + i, a - b)
        store(o, 2 * n + i, a * b)
        store(o, 3 * n + i, a / b)
        store(o, 4 * n + i, -a)
        store(o, 5 * n + i, abs(a))
        store(o, 6 * n + i, math.floor(a))
        store(o, 7 * n + i, min(a, b))
        store(o, 8 * n + i, max(a, b))
        store(o, 9 * n + i, fma(a, b, c))
        store(o, 10 * n + i, select(a < b, a, c))
        store(o, 11 * n + i, select(a <= b, a, c))
        store(o, 12 * n + i, select(a > b, a, c))
        store(o, 13 * n + i, select(a >= b, a, c))
        store(o, 14 * n + i, select((a < b) & (b < c), a, c))
        store(o, 15 * n + i, select(without(a < b, b < c), a, c))
        store(o, 16 * n + i, np.float32(1.5) + a)
        store(o, 17 * n + i, a * 2)
        store(o, 18 * n + i, 1.0 / a)
        store(o, 19 * n + i, min(a, 1.0))
        store(o, 20 * n + i, shifted(b, a))


def numbers() -> tuple[Image, Image, Image]:
    """Every pair of special values, then random ones of all magnitudes; (N,) with N a multiple of 16."""
    special = float32(
        [0.0, -0.0, 1, -1, 0.5, -2.5, 1e-45, 1e-38, 3e38, np.inf, -np.inf, np.nan, 2**23 + 0.5, -7.999999]
    )
    pairs = np.stack(np.meshgrid(special, special, special)).reshape(3, -1)
    rng = np.random.default_rng(0)
    random = rng.normal(size=(3, 4096)) * 10.0 ** rng.integers(-20, 20, (3, 4096))
    near = rng.normal(size=(3, 4096))
    everything = float32(np.concatenate([pairs, random, near], axis=1))
    x, y, z = everything[:, : everything.shape[1] // LANES * LANES]
    return np.ascontiguousarray(x), np.ascontiguousarray(y), np.ascontiguousarray(z)


@pytest.fixture(scope="module")
def results() -> dict[str, tuple[Image, Image]]:
    """Of each operation, what it gave and what NumPy gives."""
    x, y, z = numbers()
    out = np.zeros((len(OPERATIONS), x.size), np.float32)
    compute_all(x, y, z, out)
    with np.errstate(all="ignore"):
        return {name: (row, f(x, y, z)) for row, (name, f) in zip(out, OPERATIONS.items(), strict=True)}


def bits(values: Image) -> npt.NDArray[np.uint32]:
    """The bits, all NaN made one."""
    return np.where(np.isnan(values), float32(np.nan), values).view(np.uint32)


@pytest.mark.parametrize("operation", OPERATIONS)
def test_an_operation_is_numpys_to_the_bit(operation: str, results: dict[str, tuple[Image, Image]]) -> None:
    ours, expected = results[operation]
    assert expected.dtype == np.float32
    np.testing.assert_array_equal(bits(ours), bits(expected))


@compiled
def reduce(x: Any, y: Any, sums: Any, smallest: Any, less: Any) -> None:
    for k in range(sums.size):
        vector = load(pointer_to(x), k * LANES)
        sums[k] = lane_sum(vector)
        smallest[k] = lane_min(vector)
        less[k] = any_lane(vector < load(pointer_to(y), k * LANES))


def test_reductions() -> None:
    rng = np.random.default_rng(0)
    x = float32(rng.normal(size=(500, LANES)) * 10.0 ** rng.integers(-3, 3, (500, LANES)))
    y = np.where(rng.random((500, LANES)) < 0.04, np.float32(1e9), np.float32(-1e9))
    sums, smallest, less = np.zeros(500, np.float32), np.zeros(500, np.float32), np.zeros(500, np.bool_)
    reduce(x.ravel(), y.ravel(), sums, smallest, less)
    tree = x
    while tree.shape[1] > 1:  # 0-7 + 8-15, then 0-3 + 4-7, ..
        tree = tree[:, : tree.shape[1] // 2] + tree[:, tree.shape[1] // 2 :]
    np.testing.assert_array_equal(sums, tree[:, 0])
    assert (sums != np.cumsum(x, axis=1)[:, -1]).any(), "the order is not seen in these numbers"
    np.testing.assert_array_equal(smallest, x.min(axis=1))
    assert 0.3 < less.mean() < 0.7
    np.testing.assert_array_equal(less, (y == 1e9).any(axis=1))


@compiled
def copy_unaligned(source: Any, target: Any, begin: Any) -> None:
    store(offset(pointer_to(target), begin), 1, load(pointer_to(source), begin))
    store(pointer_to(target), begin + 1 + LANES, lane_numbers())
    store(pointer_to(target), begin + 1 + 2 * LANES, splat(begin))
    pointer_to(target)[begin + 1 + 3 * LANES] = pointer_to(source)[begin]


@pytest.mark.parametrize("begin", range(LANES))
def test_loads_and_stores_at_every_offset(begin: int) -> None:
    source = np.arange(100, 100 + 3 * LANES, dtype=np.float32)
    target = np.full(6 * LANES, -1, np.float32)
    copy_unaligned(source, target, begin)
    expected = np.full(6 * LANES, -1, np.float32)
    expected[begin + 1 :][: 3 * LANES + 1] = [
        *source[begin : begin + LANES],
        *range(LANES),
        *[begin] * LANES,
        source[begin],
    ]
    np.testing.assert_array_equal(target, expected)


# -- damping -----------------------------------------------------------------------------------------------------------


def gradients() -> tuple[Image, Image]:
    """Gradients of all decades in which squares are finite, and zeros."""
    rng = np.random.default_rng(0)
    x, y = float32(rng.normal(size=(2, 60_000)) * 10.0 ** rng.uniform(-25, 17, (2, 60_000)))
    x[::7], y[::5] = 0, 0
    return x, y


def every_mantissa() -> tuple[Image, Image]:
    """Gradients for which 1 + |grad| is every float from 1 to 2."""
    x = np.arange(2**23, dtype=np.float32) * np.float32(2**-23)
    return x, np.zeros_like(x)


@pytest.mark.parametrize("factor", [1e-3, 0.25, 0.8333333, 10.0, 8765.4321])
def test_damping_is_good_to_22_bits(factor: float) -> None:
    x, y = gradients()
    damped = damp(x, y, factor)
    length = np.hypot(x.astype(np.float64), y.astype(np.float64))
    expected = 1 / (1 + float(np.float32(factor)) * length)
    assert (np.abs(damped - expected) / expected).max() < 2**-22
    assert (length == 0).any()
    np.testing.assert_array_equal(damped[length == 0], 1)
    root = np.sqrt(reference_sampling.fma(x, x, y * y))
    ieee = np.float32(1) / reference_sampling.fma(root, np.float32(factor), np.ones_like(root))
    assert (damped != ieee).mean() < 1e-4


def test_inverse_of_damping_is_correctly_rounded_but_for_three_mantissas() -> None:
    x, y = every_mantissa()
    damped, ieee = damp(x, y, 1.0), np.float32(1) / (np.float32(1) + x)
    wrong = damped != ieee
    assert wrong.sum() <= 3
    np.testing.assert_array_equal(np.abs(damped[wrong].view(np.int32) - ieee[wrong].view(np.int32)), 1)


@compiled
def refine(divisor: Any, inverse: Any) -> None:
    """The two Newton steps, from any estimate."""
    for i in range(0, divisor.size, LANES):
        minus, value = -load(pointer_to(divisor), i), load(pointer_to(inverse), i)
        for _ in range(2):
            value = fma(value, fma(minus, value, splat(1.0)), value)
        store(pointer_to(inverse), i, value)


@pytest.mark.parametrize("error", [2.0**-12, 2.0**-13, 2.0**-14, 2.0**-17, 2.0**-20, 3 * 2.0**-23])
@pytest.mark.parametrize("sign", [1, -1])
def test_every_estimate_leads_to_the_same_inverse(error: float, sign: int) -> None:
    """Processors differ in the last bits of their estimates, which are good to 14 bits."""
    x, y = every_mantissa()
    divisor = np.float32(1) + x
    inverse = float32((1 + sign * error) / divisor.astype(np.float64))
    refine(divisor, inverse)
    np.testing.assert_array_equal(inverse, damp(x, y, 1.0))


BASELINE = """
import sys
import numpy as np
from flowprep.flow.tvl1.jit import select_target, target
select_target("x86-64-v3")
from helpers.tvl1_kernels import damp
from test_tvl1_simd import every_mantissa, gradients
np.save("mantissas.npy", damp(*every_mantissa(), 1.0))
np.save("gradients.npy", damp(*gradients(), 0.8333333))
print("avx512" in target()[2])
"""


@pytest.mark.skipif(platform.machine() != "x86_64", reason="a baseline of x86-64")
def test_estimates_change_no_bit(tmp_path: Path) -> None:
    """What the processor at hand computes, with AVX-512 from an estimate, a baseline without it computes too."""
    here = Path(__file__).parent
    done = subprocess.run(
        [sys.executable, "-c", BASELINE],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": f"{here.parent}:{here}"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.split() == ["False"]
    np.testing.assert_array_equal(np.load(tmp_path / "mantissas.npy"), damp(*every_mantissa(), 1.0))
    np.testing.assert_array_equal(np.load(tmp_path / "gradients.npy"), damp(*gradients(), 0.8333333))


# -- denormals ---------------------------------------------------------------------------------------------------------


@compiled
def multiply_flushed(x: Any, factor: Any, out: Any, nested: Any) -> None:
    before = flush_denormals()
    if nested:
        restore_state(flush_denormals())
    store(pointer_to(out), 0, load(pointer_to(x), 0) * splat(factor))
    restore_state(before)
    store(pointer_to(out), LANES, load(pointer_to(x), 0) * splat(factor))


@pytest.mark.skipif(platform.machine() != "x86_64", reason="nothing is flushed on other processors")
@pytest.mark.parametrize("nested", [False, True])
@pytest.mark.parametrize(("value", "factor"), [(1e-30, 1e-10), (1e-40, 1.0)], ids=["result", "operand"])
def test_denormals_count_as_zero_between_flush_and_restore_only(value: float, factor: float, nested: bool) -> None:
    x = np.full(LANES, value, np.float32)
    out = np.ones(2 * LANES, np.float32)
    multiply_flushed(x, np.float32(factor), out, nested)
    np.testing.assert_array_equal(out[:LANES], 0)
    np.testing.assert_array_equal(out[LANES:], x * np.float32(factor))
    assert (x * np.float32(factor) != 0).all(), "the state of this thread was not restored"

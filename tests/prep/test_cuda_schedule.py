"""Passes of variant `cuda` against the reference's rule: which iterations are looked at, and where a warp ends."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

pytest.importorskip("numba_cuda", reason="the kernels are of numba-cuda: pip install numba-cuda")

from flowprep.flow.tvl1.cuda_stop import next_pass


def looks_by_the_rule(changes: list[float], limit: float, iterations: int, *, checks: bool) -> tuple[list[int], int]:
    """The reference's loop (`iterate_cuda`): which iterations are looked at, and how many there are."""
    feed = iter(changes)
    error, expected, n = float("inf"), 0.0, 0
    looked = []
    while error > limit and n < iterations:
        if checks and n % 2 == 1 and expected < limit:
            error = expected = next(feed)
            looked.append(n)
        else:
            error = float("inf")
            expected -= limit
        n += 1
    return looked, n


def looks_by_passes(
    changes: list[float], limit: float, iterations: int, longest: int, *, checks: bool
) -> tuple[list[int], int, Iterator[int]]:
    """The same by passes, as the kernels do it."""
    feed = iter(changes)
    expected, count = 0.0, 0
    looked, lengths = [], []
    while count < iterations:
        length, looks, expected = next_pass(count, expected, limit, int(checks), iterations, longest)
        assert 1 <= length <= longest
        lengths.append(length)
        count += length
        if looks:
            looked.append(count - 1)
            expected = next(feed)
            if not expected > limit:
                break
    return looked, count, iter(lengths)


@given(
    ratios=st.lists(st.floats(0.01, 400), min_size=200, max_size=200),
    iterations=st.integers(1, 300),
    longest=st.sampled_from([1, 4, 8, 12]),
    epsilon=st.sampled_from([0.01, 0.1, 0.0]),
)
def test_passes_look_where_the_rule_looks(ratios: list[float], iterations: int, longest: int, epsilon: float) -> None:
    limit = epsilon * epsilon * 340 * 256
    changes = [ratio * (limit or 1.0) for ratio in ratios]
    expected = looks_by_the_rule(changes, limit, iterations, checks=epsilon > 0)
    looked, count, _ = looks_by_passes(changes, limit, iterations, longest, checks=epsilon > 0)
    assert (looked, count) == expected


def test_a_change_that_is_not_a_number_ends_the_warp() -> None:
    assert looks_by_passes([float("nan")], 1.0, 300, 8, checks=True)[:2] == ([1], 2)


def test_after_a_large_change_passes_are_as_long_as_they_may_be() -> None:
    looked, count, lengths = looks_by_passes([1000.0], 1.0, 300, 8, checks=True)
    assert (looked, count) == ([1], 300)
    assert list(lengths) == [2, *[8] * 37, 2]

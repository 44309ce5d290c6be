import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flowprep.timing import Stamps, in_display_order, pick_nearest


def ordered(stamps: list[float | None], depth: int = 4) -> tuple[list[float], Stamps]:
    found = Stamps()
    result = list(in_display_order([(stamp, index) for index, stamp in enumerate(stamps)], 0.1, depth, found))
    assert [index for _, index in result] == list(range(len(stamps)))
    return [time for time, _ in result], found


def test_sound_times_are_left_alone() -> None:
    times, found = ordered([0.0, 0.1, 0.1, 0.5])
    assert times == [0.0, 0.1, 0.1, 0.5]
    assert (found.num_repaired, found.problem) == (0, "")


def test_a_missing_time_follows_its_predecessor() -> None:
    times, found = ordered([0.0, None, 0.2, None])
    assert times == pytest.approx([0.0, 0.1, 0.2, 0.3])
    assert (found.num_repaired, found.problem) == (2, "")


def test_coding_order_is_sorted() -> None:
    times, found = ordered([1.0, 4.0, 3.0, 5.0, 7.0, 6.0])
    assert times == [1, 3, 4, 5, 6, 7]
    assert (found.num_repaired, found.problem) == (4, "time stamps step back 2 times")


def test_no_times_at_all_are_counted() -> None:
    times, found = ordered([None] * 3)
    assert times == pytest.approx([0, 0.1, 0.2])
    assert (found.num_repaired, found.problem) == (3, "no frame has a time stamp")


@given(st.lists(st.none() | st.integers(0, 50).map(float), max_size=40), st.integers(0, 6))
def test_times_never_step_back(stamps: list[float | None], depth: int) -> None:
    times, found = ordered(stamps, depth)
    assert times == sorted(times)
    assert found.num_frames == len(stamps)


@given(st.permutations(range(5)).flatmap(lambda order: st.lists(st.just(order), min_size=1, max_size=6)))
def test_any_order_within_the_depth_is_sorted_wholly(blocks: list[list[int]]) -> None:
    stamps: list[float | None] = [5.0 * number + place for number, order in enumerate(blocks) for place in order]
    assert ordered(stamps, 4)[0] == sorted(stamps)  # type: ignore[type-var]


def by_brute_force(times: list[float], fps: float) -> list[int]:
    """For each target time the nearest index, the earlier one of two; each index once."""
    chosen: list[int] = []
    for k in range(int((times[-1] - times[0]) * fps + 1e-9) + 1):
        target = times[0] + k / fps
        distances = np.abs(np.array(times) - target)
        index = int(np.flatnonzero(distances <= distances.min() + 1e-9)[0])
        if index not in chosen:
            chosen.append(index)
    return chosen


@given(
    st.lists(st.integers(1, 40), min_size=1, max_size=40),
    st.sampled_from([1.0, 2.5, 5.0, 10.0, 24.0, 100.0]),
)
def test_pick_nearest_is_the_brute_force_choice(gaps: list[int], fps: float) -> None:
    times = np.cumsum([0, *gaps]) / 25.0
    picked = [index for _, index in pick_nearest(zip(times.tolist(), range(len(times)), strict=True), fps)]
    expected = by_brute_force(times.tolist(), fps)
    assert picked[: len(expected)] == expected
    assert len(picked) - len(expected) in (0, 1)  # the last frame stands for a target just after it


def test_a_gap_of_a_year_costs_nothing() -> None:
    assert [index for _, index in pick_nearest([(0.0, 0), (3e7, 1), (3e7 + 1, 2)], 1000)] == [0, 1, 2]

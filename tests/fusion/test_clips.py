"""Which frames a clip has: tables by hand, and what must hold for every video."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flowprep.errors import SettingsError
from fusion_train.config import DataSettings
from fusion_train.data.clips import (
    authors_samples,
    evaluation_times,
    flow_indices,
    running_times,
    training_times,
    valid_times,
)
from fusion_train.data.draws import Draws
from fusion_train.data.geometry import evaluation_size, training_crop

PAPER, AUTHORS = DataSettings(), DataSettings(protocol="authors")


def times_of(num_frames: int, *, step: int = 1, first_image: int = 0, length: int = 10) -> range:
    """Valid times of a video of both streams, of which `num_frames` were decoded."""
    return valid_times(
        num_images=num_frames - first_image,
        first_image=first_image,
        num_flows=max(0, num_frames - step),
        stack_length=length,
    )


# -- times at which a chunk is whole -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("num_frames", "options", "first", "last"),
    [
        (240, {}, 5, 234),  # 6 .. N-5 counted from 1
        (11, {}, 5, 5),
        (12, {}, 5, 6),
        (240, {"first_image": 1}, 5, 234),  # tsn: the image that is missing is never needed
        (240, {"step": 3}, 5, 232),  # 237 flow fields; field 236 is the last
        (240, {"length": 1}, 0, 238),
        (240, {"length": 1, "first_image": 1}, 1, 238),
        (240, {"length": 5}, 2, 236),
        (10, {}, 4, 4),  # 9 flow fields: the middle, with the ends repeated
        (2, {}, 0, 0),
    ],
)
def test_valid_times(num_frames: int, options: dict[str, int], first: int, last: int) -> None:
    assert times_of(num_frames, **options) == range(first, last + 1)


def test_a_video_without_what_a_stream_needs_has_no_times() -> None:
    assert not times_of(1)
    assert not valid_times(num_images=0, first_image=0, num_flows=None, stack_length=10)


def test_one_stream_alone_needs_only_what_it_has() -> None:
    assert valid_times(num_images=7, first_image=1, num_flows=None, stack_length=10) == range(1, 8)
    assert valid_times(num_images=None, first_image=0, num_flows=20, stack_length=10) == range(5, 16)


def test_the_stack_around_a_frame() -> None:
    stacks = flow_indices(np.array([5, 234]), stack_length=10, num_flows=239)
    assert stacks.tolist() == [list(range(10)), list(range(229, 239))]
    assert flow_indices(np.array([4]), stack_length=10, num_flows=9).tolist() == [[0, *range(9)]]
    assert flow_indices(np.array([7]), stack_length=1, num_flows=9).tolist() == [[7]]


# -- the released code's numbers, from 1 -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("num_frames", "stride", "samples"),
    [
        (29, 11, [6, 17, 6, 10, 14]),  # two points, then the front of a grid of 4
        (29, 5, [6, 11, 16, 21, 6]),
        (60, 15, [6, 21, 36, 51, 6]),
        (100, 10, list(range(6, 96, 10))),
        (12, 5, [6, 6, 6, 7, 7, 7]),  # no group of five fits: evenly spread
    ],
)
def test_samples_of_the_released_code(num_frames: int, stride: int, samples: list[int]) -> None:
    assert authors_samples(6, num_frames - 5, stride, 5, 5) == samples


def test_chunks_of_the_released_evaluation() -> None:
    clips = evaluation_times(times_of(180), AUTHORS) + 1
    assert clips.shape == (10, 5)
    assert clips[0].tolist() == [6, 40, 6, 58, 6]
    assert clips[9].tolist() == [141, 175, 132, 175, 114]


def test_the_first_grid_point_is_never_used_where_there_are_more() -> None:
    seen = set()
    for seed in range(300):
        clip = training_times(times_of(82), AUTHORS, Draws(seed)) + 1
        tau = clip[1] - clip[0]
        assert (np.diff(clip) == tau).all()
        assert 5 <= tau <= 15
        assert (clip[0] - 6) % tau == 0
        seen.add(int(clip[0]))
    assert 6 in seen  # only where the grid has exactly five points
    assert all(training_times(times_of(1000), AUTHORS, Draws(seed))[0] + 1 > 6 for seed in range(300))
    settings = DataSettings(protocol="authors", tau_min=10, tau_max=10)
    starts = {int(training_times(times_of(100), settings, Draws(seed))[0]) + 1 for seed in range(60)}
    assert starts == {16, 26, 36, 46}, "of a grid from 6 to 86"


# -- the paper ---------------------------------------------------------------------------------------------------------


def test_training_clips_of_the_paper() -> None:
    valid = times_of(61)  # 51 times: every tau up to 10 fits
    taus, starts = set(), set()
    for seed in range(500):
        clip = training_times(valid, PAPER, Draws(seed))
        (tau,) = set(np.diff(clip).tolist())
        assert clip[0] in valid
        assert clip[-1] in valid
        taus.add(tau)
        starts.add(int(clip[0]))
    assert taus == set(range(1, 11))
    assert min(starts) == 5
    assert max(starts) > 45
    clips = {tuple(training_times(times_of(16), PAPER, Draws(seed)).tolist()) for seed in range(60)}
    assert clips == {(5, 6, 7, 8, 9), (6, 7, 8, 9, 10)}, "the last start too"


@pytest.mark.parametrize(
    ("num_frames", "clip"),
    [(11, [5, 5, 5, 5, 5]), (13, [5, 6, 6, 7, 7]), (15, [5, 6, 7, 8, 9]), (10, [4, 4, 4, 4, 4])],
)
def test_short_videos(num_frames: int, clip: list[int]) -> None:
    assert training_times(times_of(num_frames), PAPER, Draws(0)).tolist() == clip


def test_a_tau_that_does_not_fit_is_not_drawn() -> None:
    valid = times_of(11 + 4 * 3)
    assert {int(np.diff(training_times(valid, PAPER, Draws(seed)))[0]) for seed in range(60)} == {1, 2, 3}
    large = DataSettings(tau_min=8)
    assert {int(np.diff(training_times(valid, large, Draws(seed)))[0]) for seed in range(60)} == {3}


@pytest.mark.parametrize(
    ("settings", "num_frames", "clips"),
    [
        (DataSettings(num_chunks=1, num_test_clips=5), 30, [[5], [10], [15], [19], [24]]),
        (DataSettings(num_test_clips=1), 101, [[30, 40, 50, 60, 70]]),  # in the middle
        (DataSettings(num_test_clips=3), 101, [[5 + s + 10 * k for k in range(5)] for s in (0, 25, 50)]),
        (DataSettings(num_test_clips=2, test_tau=4), 19, [[5, 7, 9, 11, 13], [5, 7, 9, 11, 13]]),
        (DataSettings(num_test_clips=2), 12, [[5, 5, 6, 6, 6], [5, 5, 6, 6, 6]]),
    ],
)
def test_evaluation_clips(settings: DataSettings, num_frames: int, clips: list[list[int]]) -> None:
    assert evaluation_times(times_of(num_frames), settings).tolist() == clips


def test_25_positions_are_uniform() -> None:
    times = evaluation_times(times_of(240), DataSettings(num_chunks=1, num_test_clips=25))[:, 0]
    assert (times[0], times[-1], len(times)) == (5, 234, 25)
    assert set(np.diff(times).tolist()) <= {9, 10}


# -- as a video goes on ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "num_frames", "centres", "clips"),
    [
        (DataSettings(), 101, [50], [[30, 40, 50, 60, 70]]),
        (DataSettings(), 101, [0, 25, 26, 75, 76, 100],  # moved inwards at both ends, by whole frames elsewhere
         [[5 + s + 10 * k for k in range(5)] for s in (0, 0, 1, 50, 50, 50)]),
        (DataSettings(num_chunks=1), 30, [0, 5, 17, 29], [[5], [5], [17], [24]]),
        (DataSettings(), 21, [10], [[6, 8, 10, 12, 14]]),  # tau as far as the video allows
        (DataSettings(num_chunks=2, test_tau=3), 30, [10], [[9, 12]]),  # no frame is in the middle
        (DataSettings(), 12, [0, 11], [[5, 5, 6, 6, 6], [5, 5, 6, 6, 6]]),  # fewer times than chunks
        (DataSettings(), 2, [0, 1], [[0, 0, 0, 0, 0], [0, 0, 0, 0, 0]]),
    ],
)  # fmt: skip
def test_clips_around_times(
    settings: DataSettings, num_frames: int, centres: list[int], clips: list[list[int]]
) -> None:
    assert running_times(times_of(num_frames), centres, settings).tolist() == clips


@given(st.integers(2, 400), st.integers(1, 6), st.integers(1, 20), st.integers(0, 1))
def test_clips_around_times_lie_inside_and_do_not_step_back(
    num_frames: int, num_chunks: int, tau: int, first_image: int
) -> None:
    valid = times_of(num_frames, first_image=first_image)
    if not valid:
        return
    settings = DataSettings(num_chunks=num_chunks, test_tau=tau)
    times = running_times(valid, range(num_frames), settings)
    assert times.shape == (num_frames, num_chunks)
    assert valid[0] <= times.min() <= times.max() <= valid[-1]
    assert (np.diff(times, axis=0) >= 0).all()
    assert (np.diff(times, axis=1) >= 0).all()


@given(st.integers(2, 400), st.sampled_from([PAPER, AUTHORS]), st.integers(0, 2**32), st.integers(0, 1))
def test_every_index_is_there(num_frames: int, settings: DataSettings, seed: int, first_image: int) -> None:
    valid = times_of(num_frames, first_image=first_image)
    if not valid:
        return
    training, evaluation = training_times(valid, settings, Draws(seed)), evaluation_times(valid, settings)
    assert training.shape == (5,)
    assert evaluation.shape == (10, 5)
    for times in (training, evaluation):
        assert first_image <= times.min() <= times.max() < num_frames
        stacks = flow_indices(times, stack_length=10, num_flows=num_frames - 1)
        assert 0 <= stacks.min() <= stacks.max() < num_frames - 1
        if num_frames > 10:
            assert (np.diff(stacks) == 1).all()
    if settings is PAPER:
        assert (np.diff(training) >= 0).all()


# -- crops -------------------------------------------------------------------------------------------------------------


def test_crops_of_the_paper() -> None:
    crops = [training_crop(256, 340, PAPER, Draws(seed)) for seed in range(2000)]
    heights, widths = ({getattr(crop, side) for crop, _ in crops} for side in ("height", "width"))
    assert (min(heights), max(heights)) == (168, 256)
    assert (min(widths), max(widths)) == (168, 280)
    corners = set()
    for crop, _ in crops:
        y, x = (256 - crop.height), (340 - crop.width)
        assert crop.top <= y / 4 or crop.top + 1 >= 0.75 * y
        assert crop.left <= x / 4 or crop.left + 1 >= 0.75 * x
        if y > 8:
            corners.add((crop.top > y / 2, crop.left > x / 2))
    assert len(corners) == 4
    assert 900 < sum(flip for _, flip in crops) < 1100


def test_crops_of_the_released_code_lie_on_one_diagonal() -> None:
    crops = [training_crop(256, 340, AUTHORS, Draws(seed))[0] for seed in range(500)]
    tall = [
        (crop.top > (256 - crop.height) / 2, crop.left > (340 - crop.width) / 2) for crop in crops if crop.height < 250
    ]
    assert set(tall) == {(True, True), (False, False)}


def test_crops_at_corners_and_centre() -> None:
    settings = DataSettings(crops="corners")
    crops = [training_crop(256, 340, settings, Draws(seed))[0] for seed in range(500)]
    assert {crop.height for crop in crops} == {crop.width for crop in crops} == {256, 224, 192, 168}
    assert {(crop.top, crop.left) for crop in crops if (crop.height, crop.width) == (192, 168)} == {
        (0, 0), (64, 172), (0, 172), (64, 0), (32, 86),
    }  # fmt: skip


def test_every_second_crop_of_vgg16_lies_at_a_corner_or_in_the_centre() -> None:
    """Of the others none does, but by chance; sizes are those of the paper's other crops."""
    settings = DataSettings(crops="borders+corners")
    crops = [training_crop(256, 340, settings, Draws(seed))[0] for seed in range(2000)]
    assert {min(crop.height for crop in crops), min(crop.width for crop in crops)} == {168}
    assert (max(crop.height for crop in crops), max(crop.width for crop in crops)) == (256, 280)
    found: dict[tuple[float, float] | None, int] = {}
    for crop in crops:
        y, x = 256 - crop.height, 340 - crop.width
        if y < 20:  # too little room to tell
            continue
        places = {(0.0, 0.0): (0, 0), (0.0, 1.0): (0, x), (1.0, 0.0): (y, 0), (1.0, 1.0): (y, x),
                  (0.5, 0.5): (y // 2, x // 2)}  # fmt: skip
        at = next((name for name, place in places.items() if place == (crop.top, crop.left)), None)
        if at is None:
            assert crop.top <= y / 4 or crop.top + 1 >= 0.75 * y
            assert crop.left <= x / 4 or crop.left + 1 >= 0.75 * x
        found[at] = found.get(at, 0) + 1
    num = sum(found.values())
    assert len(found) == 6
    assert 0.45 * num < found.pop(None) < 0.55 * num
    assert all(0.07 * num < count < 0.13 * num for count in found.values())


@given(
    st.integers(1, 400),
    st.integers(1, 400),
    st.sampled_from(["borders", "diagonal", "corners", "borders+corners"]),
    st.integers(0, 99),
)
def test_crops_lie_inside(height: int, width: int, crops: str, seed: int) -> None:
    crop, _ = training_crop(height, width, DataSettings(crops=crops), Draws(seed))
    assert min(crop.top, crop.left) >= 0
    assert min(crop.height, crop.width) >= 1
    assert crop.top + crop.height <= height
    assert crop.left + crop.width <= width


def test_without_flip_nothing_is_mirrored_and_the_crops_are_the_same() -> None:
    for seed in range(20):
        crop, flip = training_crop(256, 340, DataSettings(flip=False), Draws(seed))
        assert (crop, flip) == (training_crop(256, 340, PAPER, Draws(seed))[0], False)


@pytest.mark.parametrize(
    ("size", "expected"), [((256, 340), (256, 340)), ((240, 600), (240, 448)), ((200, 64), (224, 224))]
)
def test_size_in_evaluation(size: tuple[int, int], expected: tuple[int, int]) -> None:
    assert evaluation_size(*size, PAPER) == expected


# -- draws and settings ------------------------------------------------------------------------------------------------


GOLDEN = [12462684292024712823, 11506920300704281502, 16962257591479599971]


def test_draws_are_fixed_for_ever() -> None:
    """A checkpoint of today is resumed by the version of tomorrow."""
    draws = Draws(1, 2, "v_Archery_g01_c01")
    assert [draws.bits() for _ in range(9)][::4] == GOLDEN
    assert Draws(1, 2, "v_Archery_g01_c01").uniform() == (GOLDEN[0] >> 11) / 2**53


def test_draws_are_uniform_and_apart() -> None:
    values = np.array([Draws(seed, "x").uniform() for seed in range(4000)])
    assert abs(values.mean() - 0.5) < 0.02
    assert values.min() >= 0
    assert values.max() < 1
    draws = Draws("y")
    assert np.bincount([draws.between(3, 5) for _ in range(3000)], minlength=6)[3:].min() > 900
    assert Draws(1, "2").bits() != Draws("1", 2, "").bits()
    assert Draws("ab", "c").bits() != Draws("a", "bc").bits()
    assert Draws("v_\udcff").bits() != Draws("v_\udcfe").bits()


@pytest.mark.parametrize(
    "settings", [PAPER, AUTHORS, DataSettings(crops="corners", tau_min=2, interpolation="bilinear")]
)
def test_settings_round_trip(settings: DataSettings) -> None:
    assert DataSettings.from_json(json.loads(json.dumps(settings.to_json()))) == settings


def test_the_protocol_decides_what_is_left_out() -> None:
    assert (AUTHORS.taus, AUTHORS.test_tau, AUTHORS.crops) == ((5, 15), 15, "diagonal")
    assert (PAPER.taus, PAPER.test_tau, PAPER.crops) == ((1, 10), 10, "borders")
    assert DataSettings(protocol="authors", tau_max=9).taus == (5, 9)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"protocol": "tsn"}, "`protocol` must be one of paper, authors, got 'tsn'"),
        ({"tau_min": 11}, "`tau_min` must be at most `tau_max`, got 11 and 10; left out, protocol paper has 1 and 10"),
        ({"num_chunks": 0}, "`num_chunks` must be at least 1"),
        ({"border": 0.6}, "`border` must be at most 0.5"),
        ({"crops": "centre"}, "`crops` must be one of borders, diagonal, corners"),
    ],
)
def test_wrong_settings(values: dict[str, object], message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        DataSettings(**values)

"""Benchmarks of a user's own videos: which pairs, what is compared, what is said when something is wrong."""

from pathlib import Path

import cv2
import numpy as np
import pytest
from helpers.media import moving_frames, write_video
from helpers.shared_data import VIDEOS, needs_shared

from flowprep import bench
from flowprep.bench import DATASET_SIZES, BenchResult, DatasetSize, difference, measure
from flowprep.config import BenchSettings, DecodeSettings, FlowSettings, ResizeSettings
from flowprep.decode import VideoReader
from flowprep.errors import (
    BackendUnavailableError,
    DatasetError,
    MissingDataError,
    RunStoppedError,
    SettingsError,
)
from flowprep.flow import selection
from flowprep.resize import grey, resize
from flowprep.sample import FramePair, Unreadable, sample_pairs, spread

DIS = FlowSettings(backend="dis")
SMALL = ResizeSettings(short_side=48)


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two videos of 9 and 30 frames."""
    folder = tmp_path_factory.mktemp("videos")
    write_video(folder / "a.mp4", moving_frames(9, 96, 64))
    write_video(folder / "b.mp4", moving_frames(30, 96, 64, seed=1))
    return folder


def pairs_of(videos: Path, num_pairs: int) -> list[tuple[str, int]]:
    found = list(sample_pairs(videos, num_pairs, SMALL))
    assert not [pair for pair in found if isinstance(pair, Unreadable)]
    return [(pair.video, pair.index) for pair in found if isinstance(pair, FramePair)]


# -- pairs -------------------------------------------------------------------------------------------------------------


def test_spread() -> None:
    assert spread(1, 9) == [4]
    assert spread(4, 8) == [1, 3, 5, 7]
    assert spread(5, 3) == [0, 1, 2]


def test_pairs_lie_in_the_middle_of_equal_parts_of_each_video(videos: Path) -> None:
    assert pairs_of(videos, 4) == [("a.mp4", 2), ("a.mp4", 6), ("b.mp4", 7), ("b.mp4", 21)]
    assert pairs_of(videos, 3) == [("a.mp4", 4), ("b.mp4", 7), ("b.mp4", 21)]
    assert pairs_of(videos, 1) == [("b.mp4", 14)]
    assert pairs_of(videos / "a.mp4", 1) == [("a.mp4", 4)]
    assert pairs_of(videos / "a.mp4", 100) == [("a.mp4", k) for k in range(8)]


def test_frames_are_those_of_extract(videos: Path) -> None:
    with VideoReader(videos / "a.mp4", DecodeSettings()) as reader:
        frames = [grey(resize(rgb, (72, 48))) for rgb in reader.frames()]
    found = list(sample_pairs(videos / "a.mp4", 8, SMALL))
    for k, pair in enumerate(found):
        assert isinstance(pair, FramePair)
        np.testing.assert_array_equal(pair.frames, frames[k : k + 2])


@needs_shared
@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("odd/qcif_RGB.avi", "ends before frame 1"),
        ("odd/audio_only.mp4", "no video stream"),
        ("odd/zero_bytes.webm", "no bytes"),
    ],
)
def test_videos_without_a_pair_say_why(name: str, why: str) -> None:
    (found,) = sample_pairs(VIDEOS / name, 2, SMALL)
    assert isinstance(found, Unreadable)
    assert why in found.why


@needs_shared
def test_a_video_that_does_not_announce_its_length() -> None:
    assert len(pairs_of(VIDEOS / "sthv2" / "166766.mp4", 3)) == 3


# -- one backend -------------------------------------------------------------------------------------------------------


def test_times_and_hours_of_one_backend(videos: Path) -> None:
    settings = BenchSettings(num_pairs=4, num_repeats=2, hours_for="1000x37", jobs=3)
    result = measure(videos, flow=DIS, resize=SMALL, settings=settings)
    assert [(pair.video, pair.index) for pair in result.pairs] == pairs_of(videos, 4)
    assert {(pair.width, pair.height) for pair in result.pairs} == {(72, 48)}
    seconds = result.measured.pair_seconds
    assert len(seconds) == 4
    assert all(value > 0 for value in seconds)
    assert result.measured.median_seconds == np.median(seconds)
    assert result.measured.hours == pytest.approx(1000 * 36 * np.mean(seconds) / 3 / 3600)
    assert result.measured.title == "dis"
    assert result.comparison is None
    assert result.complete
    assert result.to_json()["measured"]["parameters"]["preset"] == "fast"


def test_hours_are_those_of_the_flow_that_is_asked_for(videos: Path) -> None:
    settings = BenchSettings(num_pairs=1, num_repeats=1, hours_for="1000x37", jobs=3)
    flow = FlowSettings(backend="dis", step=5, backward=True)
    measured = measure(videos, flow=flow, resize=SMALL, settings=settings).measured
    assert measured.hours == pytest.approx(1000 * 2 * 32 * measured.pair_seconds[0] / 3 / 3600)


def test_opencv_uses_one_thread_and_has_its_own_number_back(videos: Path) -> None:
    seen = []
    before = cv2.getNumThreads()
    cv2.setNumThreads(2)
    try:
        measure(
            videos,
            flow=DIS,
            resize=SMALL,
            settings=BenchSettings(num_pairs=1),
            tell=lambda _: seen.append(cv2.getNumThreads()),
        )
        assert (seen, cv2.getNumThreads()) == ([1], 2)
    finally:
        cv2.setNumThreads(before)


@pytest.mark.parametrize("name", DATASET_SIZES)
def test_data_sets_have_sizes(name: str) -> None:
    size = DatasetSize.parse(name)
    assert size.name == name
    assert size.num_pairs(FlowSettings()) == size.num_videos * (size.mean_frames - 1) > 500_000


@pytest.mark.parametrize("text", ["", "ucf102", "100", "x", "0x10", "10x1", "-1x5", "1.5x10", "10x10x10", "²x10"])
def test_a_size_that_is_none(videos: Path, text: str) -> None:
    with pytest.raises(SettingsError, match=r"`hours_for` must be one of ucf101.*13320x185, got"):
        measure(videos, flow=DIS, settings=BenchSettings(hours_for=text))


@pytest.mark.parametrize("field", ["num_pairs", "num_repeats"])
def test_nothing_to_measure(field: str) -> None:
    with pytest.raises(SettingsError, match=f"`{field}` must be at least 1, got 0"):
        BenchSettings(**{field: 0})


# -- side by side ------------------------------------------------------------------------------------------------------


def compared(videos: Path, **flow: object) -> BenchResult:
    settings = BenchSettings(num_pairs=2, num_repeats=1, compare="opencv", jobs=1)
    return measure(videos, flow=FlowSettings(**flow), resize=SMALL, settings=settings)  # type: ignore[arg-type]


@pytest.mark.parametrize("backend", ["auto", "native"])
def test_the_same_algorithm_is_compared(videos: Path, backend: str) -> None:
    result = compared(videos, backend=backend)
    assert (result.measured.title, result.measured.parameters["median_filtering"]) == ("native cpu", 5)
    assert result.comparison is not None
    other = result.comparison.other
    assert (other.title, other.parameters) == ("opencv cpu", result.measured.parameters)
    assert len(result.notes) == 1
    assert "native runs variant cpu" in result.notes[0]
    assert "it would run variant cuda" in result.notes[0]
    times = zip(result.measured.pair_seconds, other.pair_seconds, result.comparison.ratios, strict=True)
    for seconds, other_seconds, ratio in times:
        assert ratio == pytest.approx(other_seconds / seconds)
    assert result.comparison.ratio_quartiles[1] == pytest.approx(np.median(result.comparison.ratios))
    for found in result.comparison.differences:
        assert found.median_px <= found.max_px
        assert found.mean_px < 0.01
        assert found.equal_codes > 0.98


def test_a_baseline_means_native_where_there_is_a_gpu_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(selection, "find_obstacle", lambda _name: None)  # every backend runs here
    (first, other), _ = bench._choose(FlowSettings(cpu_baseline="x86-64-v3"), "opencv")
    assert (first.backend, first.cpu_baseline, other.backend) == ("native", "x86-64-v3", "opencv")


def test_parameters_are_those_of_both(videos: Path) -> None:
    result = compared(videos, variant="cpu", parameters={"lambda_": 0.1, "num_warps": 2})
    assert result.comparison is not None
    assert result.comparison.other.parameters == result.measured.parameters
    assert result.measured.parameters["lambda"] == 0.1
    assert result.notes == ()


def test_two_algorithms_are_said_to_be_two(videos: Path) -> None:
    result = compared(videos, backend="native", variant="cuda", parameters={"iterations": 20, "num_warps": 2})
    assert result.comparison is not None
    assert (result.measured.title, result.comparison.other.title) == ("native cuda", "opencv cpu")
    assert result.comparison.other.parameters["num_warps"] == 2
    assert "two algorithms" in result.notes[0]
    assert "opencv has no parameter iterations" in result.notes[1]
    assert max(found.max_px for found in result.comparison.differences) > 0.001
    assert "dis and opencv are two algorithms" in compared(videos, backend="dis").notes[0]


def test_a_backend_is_not_compared_with_itself(videos: Path) -> None:
    with pytest.raises(SettingsError, match="would compare opencv with itself"):
        compared(videos, backend="opencv")


def test_difference_of_flow() -> None:
    flow = np.zeros((4, 4, 2), np.float32)
    other = flow.copy()
    other[0, 0] = 3, 4
    other[1, 1] = 0.001, 0
    found = difference(flow, other)
    assert found.median_px == 0
    assert found.max_px == 5
    assert found.mean_px == pytest.approx(5.001 / 16)
    assert found.equal_codes == 30 / 32
    assert difference(flow, flow).equal_codes == 1


# -- what goes wrong ---------------------------------------------------------------------------------------------------


@pytest.fixture
def bad_and_good(tmp_path: Path) -> Path:
    (tmp_path / "a.mp4").write_bytes(b"no video")
    write_video(tmp_path / "b.mp4", moving_frames(5))
    write_video(tmp_path / "c.mp4", moving_frames(5))
    return tmp_path


def test_an_unreadable_video_is_left_out_and_named(bad_and_good: Path) -> None:
    result = measure(bad_and_good, flow=DIS, resize=SMALL, settings=BenchSettings(num_pairs=3))
    assert [pair.video for pair in result.pairs] == ["b.mp4", "c.mp4"]
    assert len(result.notes) == 1
    assert result.notes[0].startswith("a.mp4 was left out: ")
    assert result.complete


def test_videos_that_are_none(tmp_path: Path) -> None:
    with pytest.raises(MissingDataError, match="nowhere cannot be read"):
        measure(tmp_path / "nowhere", flow=DIS)
    with pytest.raises(DatasetError, match="holds no video file"):
        measure(tmp_path, flow=DIS)
    (tmp_path / "a.mp4").write_bytes(b"no video")
    for place in (tmp_path, tmp_path / "a.mp4"):
        with pytest.raises(DatasetError, match=r"no video of .* can be read: a\.mp4 was left out: "):
            measure(place, flow=DIS)


def test_a_backend_that_cannot_run_says_why(videos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cv2, "cuda", None)
    with pytest.raises(BackendUnavailableError, match="opencv-cuda cannot run here"):
        measure(videos, flow=FlowSettings(backend="opencv-cuda"))


def test_interrupted_it_gives_what_it_has(bad_and_good: Path) -> None:
    def stop_at(text: str) -> None:
        if word in text:
            raise KeyboardInterrupt

    settings = BenchSettings(num_pairs=3)
    word = "Pair 1"
    result = measure(bad_and_good, flow=DIS, resize=SMALL, settings=settings, tell=stop_at)
    assert not result.complete
    assert [pair.video for pair in result.pairs] == ["b.mp4"]
    assert result.notes[-1] == "Stopped after 1 of 3 pairs."
    word = "left out"
    with pytest.raises(RunStoppedError, match="before the first pair"):
        measure(bad_and_good, flow=DIS, resize=SMALL, settings=settings, tell=stop_at)

"""Times of all stages: which there are, that they add up, what bounds a run, what is advised; no time is asserted."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import pytest
from helpers.media import moving_frames, write_video

from flowprep import stagetimes
from flowprep.bench import DatasetSize
from flowprep.config import BenchSettings, ExtractSettings, FlowSettings, ResizeSettings, StoreSettings
from flowprep.decode import VideoReader
from flowprep.errors import DatasetError, MissingDataError, RunStoppedError, SettingsError
from flowprep.flow import create_backend
from flowprep.flowstage import LocalFlow
from flowprep.pipeline import extract_frames
from flowprep.records import Video
from flowprep.stagebound import StageTime, advice, busy_note, find_bound
from flowprep.stagetimes import STAGES, Clock, StageTimes, measure_stages


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("videos")
    write_video(folder / "a.mp4", moving_frames(30, 96, 64))
    (folder / "b.mp4").write_bytes(b"no video")
    write_video(folder / "c.mp4", moving_frames(9, 96, 64))
    return folder


def settings_of(backend: str = "dis", **store: Any) -> ExtractSettings:
    flow = FlowSettings(backend=backend, backward=bool(store.pop("backward", False)))
    return ExtractSettings(flow=flow, resize=ResizeSettings(short_side=48), store=StoreSettings(**store))


def measured(videos: Path, out: Path, settings: ExtractSettings | None = None, **bench: Any) -> StageTimes:
    return measure_stages(videos, out, ("some", 36_000), settings or settings_of(), BenchSettings(**bench))


def test_stages_add_up_and_nothing_is_left(videos: Path, tmp_path: Path) -> None:
    found = measured(videos, tmp_path / "not" / "yet", num_frames=12, jobs=1)
    assert list(tmp_path.iterdir()) == []
    assert (found.num_videos, found.num_frames, found.complete) == (2, 12 + 9, True)
    assert [time.stage for time in found.stages] == list(STAGES)
    assert all(time.seconds >= 0 for time in found.stages)
    assert sum(time.seconds for time in found.stages) == pytest.approx(found.frame_seconds)
    assert sum(time.share for time in found.stages) == pytest.approx(1)
    assert found.frames_per_second == pytest.approx(1 / found.frame_seconds)
    assert found.jobs_frames_per_second == pytest.approx(found.frames_per_second)
    assert found.hours == pytest.approx(10 / found.frames_per_second)
    assert found.stored_bytes > 1000
    assert found.notes[0].startswith("b.mp4 was left out: ")
    assert found.to_json()["stages"][0]["stage"] == "decode"


@pytest.mark.parametrize(
    ("store", "missing"),
    [
        ({"format": "jpeg"}, {"pack"}),
        ({"format": "jpeg", "layout": "tsn"}, {"pack"}),
        ({"rgb": False}, {"encode frames"}),
        ({"backward": True, "shard_videos": 1}, set()),
    ],
    ids=str,
)
def test_stages_are_those_of_the_settings(
    videos: Path, tmp_path: Path, store: dict[str, Any], missing: set[str]
) -> None:
    found = measured(videos, tmp_path, settings_of(**store), num_frames=8)
    assert {time.stage for time in found.stages} == set(STAGES) - missing


def test_several_jobs_divide_the_time_but_cores_are_shared(
    videos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stagetimes.machine, "num_cores", lambda: 4)
    found = measured(videos, tmp_path, num_frames=8, jobs=2)
    assert found.jobs_frames_per_second == pytest.approx(2 * found.frames_per_second)
    found = measured(videos, tmp_path, num_frames=8, jobs=400)
    assert found.jobs_frames_per_second <= 4 / found.cpu_seconds * 1.001
    assert measured(videos, tmp_path, num_frames=8).jobs == 4


def test_clocks_change_no_byte(videos: Path) -> None:
    settings = settings_of(backward=True)
    made: list[list[tuple[str, bytes]]] = [[], []]
    for jpegs, clock in zip(made, (None, Clock()), strict=True):
        video = Video(id="a", path="a.mp4")
        with VideoReader(videos / "a.mp4", settings.decode) as reader, create_backend("dis") as backend:
            flow = LocalFlow(backend, settings) if clock is None else clock.flow(backend, settings)
            row = extract_frames(
                video,
                reader,
                settings,
                flow,
                lambda stream, jpeg, jpegs=jpegs: jpegs.append((stream, jpeg)),  # type: ignore[misc]
                lambda _: None,
                stages=None if clock is None else clock.stages(1000),
            )
        assert (row.frames, row.flows) == (30, 29)
    assert made[0] == made[1]
    assert len(made[0]) == 30 + 4 * 29


def test_a_slow_video_is_left_early(videos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stagetimes, "_VIDEO_SECONDS", 0.0)
    assert measured(videos, tmp_path).num_frames == 2 * 2


def times(**ms: float | tuple[float, float]) -> tuple[StageTime, ...]:
    """Stages by name, `_` for a blank: wall milliseconds, or those and the processor's."""
    both = {name.replace("_", " "): value if isinstance(value, tuple) else (value, value) for name, value in ms.items()}
    total = sum(wall for wall, _ in both.values())
    return tuple(
        StageTime(stage=stage, seconds=wall / 1000, cpu_seconds=cpu / 1000, share=wall / total)
        for stage, (wall, cpu) in both.items()
    )


@pytest.mark.parametrize(
    ("stages", "expected"),
    [
        (times(decode=1, flow=20, encode_frames=2, write=1), "flow"),
        (times(decode=9, flow=3, encode_frames=2, write=1), "decode"),
        (times(decode=1, flow=3, encode_frames=4, write=1, other=9), "encode frames"),
        (times(decode=1, flow=4, write=2, commit=2, pack=2), "disk"),  # together they are most
        (times(decode=1, flow=10, commit=(8, 1)), "disk"),  # it waits
        (times(decode=(8, 1), flow=10), "disk"),  # for the videos
        (times(decode=1, flow=(30, 10), commit=2), "flow"),  # others took the core
    ],
)
def test_what_bounds_a_run(stages: tuple[StageTime, ...], expected: str) -> None:
    assert find_bound(stages) == expected


def test_advice() -> None:
    def told(bound_by: str, backend: str = "native", **ms: float) -> str:
        return " ".join(advice(bound_by, times(**ms), settings_of(backend)))

    flow = told("flow", decode=1, flow=20, encode_frames=0.5, write=0.5)
    assert "Cores bound it" in flow
    assert "A faster disk would not help" in flow
    assert "--no-rgb" not in flow
    assert "--backend native" in told("flow", "opencv", flow=20)
    assert "--no-rgb would leave out 3.00 ms a frame" in told("flow", flow=4, encode_frames=3)
    assert "faster disk would not" not in told("flow", flow=4, commit=2)
    assert "easier to decode" in told("decode", decode=5)
    disk = told("disk", commit=5)
    assert "--durability fast" in disk
    assert "Cores" not in disk


def test_time_that_others_took_is_told() -> None:
    assert busy_note(times(decode=(8, 1), flow=(30, 29), commit=(20, 1))) is None  # it waits for the disk
    note = busy_note(times(decode=2, flow=(30, 10), encode_flow=(8, 2)))
    assert note == "Other processes took 65 % of the time: on an idle machine a frame takes about 14.0 ms."


# -- what goes wrong ---------------------------------------------------------------------------------------------------


def test_nothing_to_measure(videos: Path, tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"no video of .* can be read: b\.mp4 was left out"):
        measured(videos / "b.mp4", tmp_path)
    with pytest.raises(MissingDataError, match="cannot be read"):
        measured(tmp_path / "none", tmp_path)
    with pytest.raises(MissingDataError, match=r"cannot be written: .*; give another --out"):
        measured(videos, Path("/proc/nothing"))
    with pytest.raises(SettingsError, match="`num_frames` must be at least 2, got 1"):
        BenchSettings(num_frames=1)
    assert list(tmp_path.iterdir()) == []


def test_interrupted_it_gives_what_it_has(videos: Path, tmp_path: Path) -> None:
    def stop_at(text: str) -> None:
        if word in text:
            raise KeyboardInterrupt

    word = "All stages of a.mp4"
    dataset, bench = ("some", 1000), BenchSettings(num_frames=8)
    found = measure_stages(videos, tmp_path, dataset, settings_of(), bench, tell=stop_at)
    assert (found.complete, found.num_videos, found.notes[-1]) == (False, 1, "Stopped after 8 frames.")
    word = "left out"
    with pytest.raises(RunStoppedError, match="before the first video"):
        measure_stages(videos / "b.mp4", tmp_path, dataset, settings_of(), bench, tell=stop_at)
    assert list(tmp_path.iterdir()) == []


def test_opencv_has_its_threads_back(videos: Path, tmp_path: Path) -> None:
    before = cv2.getNumThreads()
    cv2.setNumThreads(2)
    try:
        measured(videos, tmp_path, num_frames=2)
        assert cv2.getNumThreads() == 2
    finally:
        cv2.setNumThreads(before)


def test_frames_of_a_data_set() -> None:
    assert DatasetSize.parse("100x20").num_frames == 2000

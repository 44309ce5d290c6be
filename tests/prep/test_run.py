import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import ClassVar

import cv2
import numpy as np
import pytest
from helpers.media import moving_frames, write_video
from numpy.typing import NDArray

import flowprep
from flowprep import executors, pipeline, source
from flowprep.config import ExtractSettings, FlowSettings, ResizeSettings, RunSettings
from flowprep.datasets import list_videos
from flowprep.decode import VideoReader
from flowprep.errors import MissingDataError, RunStoppedError, SettingsError, VideoError
from flowprep.executors import Done, Task, Work
from flowprep.flow.backend import FlowBackend
from flowprep.journal import Journal, read_journal
from flowprep.records import Video, canonical_json

CHEAP = ExtractSettings(flow=FlowSettings(backend="dis"), resize=ResizeSettings(short_side=None))
ONE = RunSettings(jobs=1, durability="fast")


@pytest.fixture
def videos(tmp_path: Path) -> Path:
    folder = tmp_path / "videos"
    for name in ("a", "b", "c"):
        (folder / name).mkdir(parents=True)
        write_video(folder / name / "x.avi", moving_frames(4, 32, 32))
    return folder


def test_extract_from_python(videos: Path, tmp_path: Path) -> None:
    heard: list[str] = []

    class Listener:
        def started(self, num_videos: int, num_todo: int) -> None:
            heard.append(f"{num_todo} of {num_videos}")

        def finished(self, done: Done) -> None:
            heard.append(done.row.id)

        def note(self, text: str) -> None:
            heard.append(text)

    summary = flowprep.extract(
        "folder", videos=videos, out=tmp_path / "out", settings=CHEAP, run=ONE, listener=Listener()
    )
    assert (summary.exit_code, summary.states, summary.num_flows_now) == (0, {"ok": 3}, 9)
    assert heard == ["3 of 3", "a/x", "b/x", "c/x"]
    with flowprep.open_store(tmp_path / "out") as store:
        assert store.stack("b/x", 0, 3).shape == (6, 32, 32)


def test_errors_of_use_are_the_builtins_that_a_caller_expects(videos: Path, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        flowprep.extract(videos=tmp_path / "nothing", out=tmp_path / "out")
    with pytest.raises(ValueError, match="lies in the folder of the videos"):
        flowprep.extract(videos=videos, out=videos / "out", settings=CHEAP)
    assert issubclass(MissingDataError, FileNotFoundError)
    assert issubclass(SettingsError, ValueError)
    with pytest.raises(AttributeError, match="no attribute 'flow_everything'"):
        _ = flowprep.flow_everything


@pytest.fixture
def work(videos: Path, tmp_path: Path) -> Iterator[Work]:
    executors._equipment.cache_clear()
    yield Work(videos=videos, out=tmp_path / "out", settings_json=canonical_json(CHEAP.to_json()), durability="fast")
    executors._equipment.cache_clear()


@pytest.mark.parametrize("code", ["io", "changed"])
def test_what_may_heal_gets_a_second_try(work: Work, videos: Path, monkeypatch: pytest.MonkeyPatch, code: str) -> None:
    monkeypatch.setattr(executors, "_BACK_OFF_SECONDS", 0.0)
    real, calls = source.check_unchanged, []

    def failing_once(path: Path, before: source.Fingerprint) -> None:
        calls.append(path)
        if len(calls) == 1:
            raise VideoError(code, "for once")
        real(path, before)

    monkeypatch.setattr(pipeline.source, "check_unchanged", failing_once)
    done = executors.perform(work, Task(list_index=0, video=list_videos("folder", videos).videos[0]))
    assert (done.num_attempts, done.row.state) == (2, "ok")
    monkeypatch.setattr(
        pipeline.source, "check_unchanged", lambda *_: (_ for _ in ()).throw(VideoError(code, "always"))
    )
    done = executors.perform(work, Task(list_index=1, video=list_videos("folder", videos).videos[1]))
    assert (done.num_attempts, done.row.state, done.row.reasons[0].code) == (2, "failed", code)


def test_a_file_that_changes_under_the_reader_is_found(
    work: Work, videos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(executors, "_BACK_OFF_SECONDS", 0.0)
    video = list_videos("folder", videos).videos[0]
    real = pipeline.extract_frames

    def meddled(*arguments: object) -> object:
        row = real(*arguments)  # type: ignore[arg-type]
        path = videos / video.path
        path.write_bytes(path.read_bytes() + b"x")
        return row

    monkeypatch.setattr(pipeline, "extract_frames", meddled)
    done = executors.perform(work, Task(list_index=0, video=video))
    assert done.row.reasons[0].code == "changed"


def test_unexpected_errors_cost_one_video(work: Work, videos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    listed = list_videos("folder", videos).videos
    for error, code in ((MemoryError(), "memory"), (cv2.error("no luck"), "internal"), (KeyError("x"), "internal")):

        def failing(*_: object, error: Exception = error) -> None:
            raise error

        monkeypatch.setattr(pipeline, "grey", failing)
        done = executors.perform(work, Task(list_index=0, video=listed[0]))
        assert (done.row.state, done.row.reasons[0].code) == ("failed", code)


def _die(work: Work, task: Task, parent: int) -> Done:
    os._exit(3)


@pytest.mark.filterwarnings("ignore:A worker stopped while some jobs")
def test_a_dead_worker_ends_the_run_with_a_sentence(work: Work, videos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(executors, "_perform_in_child", _die)
    tasks = [Task(list_index=k, video=video) for k, video in enumerate(list_videos("folder", videos).videos)]
    with pytest.raises(RunStoppedError, match="a worker process died"):
        list(executors.run_tasks(work, tasks, 2))


def test_journal_lines_that_are_torn_or_altered_are_left_out(tmp_path: Path) -> None:
    with Journal(tmp_path / "journal") as journal:
        for number in range(4):
            journal.append("video", id=f"v{number}", worker="w\u00e4\udcff")
    data = bytearray(journal.path.read_bytes())
    data[data.index(b'"v1"') + 2] = ord("9")
    journal.path.write_bytes(data[:-10])
    events = list(read_journal(journal.path))
    assert [event["id"] for event in events] == ["v0", "v2"]
    assert events[0]["worker"] == "w\u00e4\udcff"


@pytest.mark.parametrize(("step", "batch_frames"), [(1, 1), (2, 1), (3, 1), (3, 2), (5, 2), (20, 16), (35, 16)])
def test_every_flow_joins_images_that_are_a_step_apart(tmp_path: Path, step: int, batch_frames: int) -> None:
    """Also where a batch has fewer frames than a step, as with large frames or large steps."""
    path = write_video(tmp_path / "x.avi", moving_frames(40, 32, 32))
    settings = ExtractSettings(
        flow=FlowSettings(backend="dis", step=step, backward=True), resize=ResizeSettings(short_side=None)
    )
    pairs: list[tuple[int, int]] = []

    class Numbered(FlowBackend):
        """Gives zero flow, and notes the numbers of the images that it is asked to join."""

        name = "numbered"
        variant = None
        parameters: ClassVar[dict[str, int]] = {}
        num_prepared = 0

        def _prepare(self, frames: NDArray[np.uint8]) -> list[int]:
            first, Numbered.num_prepared = Numbered.num_prepared, Numbered.num_prepared + len(frames)
            return list(range(first, first + len(frames)))

        def _compute(
            self, sources: Sequence[int], targets: Sequence[int], height: int, width: int, initial_flow: object
        ) -> object:
            pairs.extend(zip(sources, targets, strict=True))
            return np.zeros((len(sources), height, width, 2), np.float32)

        def close(self) -> None: ...

    with VideoReader(path, settings.decode) as reader, Numbered() as backend:
        row = pipeline.extract_frames(
            Video(id="x", path="x.avi"), reader, settings, backend, lambda *_: None, lambda _: None, batch_frames
        )
    forward = [(k, k + step) for k in range(40 - step)]
    assert sorted(pairs) == sorted([*forward, *((b, a) for a, b in forward)])
    assert row.flows == 40 - step

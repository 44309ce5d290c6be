import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

import cv2
import numpy as np
import pytest
from helpers.command import store_bytes
from helpers.media import moving_frames, write_video
from numpy.typing import NDArray

import flowprep
from flowprep import pipeline, resume
from flowprep.config import ExtractSettings, FlowSettings, ResizeSettings, RunSettings
from flowprep.datasets import list_videos
from flowprep.decode import VideoReader
from flowprep.errors import MissingDataError, RunStoppedError, SettingsError
from flowprep.flow import create_backend
from flowprep.flow.backend import FlowBackend
from flowprep.flowstage import LocalFlow
from flowprep.journal import journals, read_journal
from flowprep.listener import Start
from flowprep.publisher import Publisher, open_publisher
from flowprep.records import Reason, Row, State, Video
from flowprep.run import resume_store
from flowprep.stores.places import row_path
from flowprep.supervisor import Done
from flowprep.turns import in_turn

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
    frames: list[int] = []

    class Listener:
        def started(self, start: Start) -> None:
            heard.append(f"{start.num_todo} of {start.num_videos}, {start.num_bytes > 1000}")

        def progress(self, num_frames: int) -> None:
            frames.append(num_frames)

        def finished(self, done: Done) -> None:
            heard.append(done.row.id)

        def note(self, text: str) -> None:
            heard.append(text)

    summary = flowprep.extract(
        "folder", videos=videos, out=tmp_path / "out", settings=CHEAP, run=ONE, listener=Listener()
    )
    assert (summary.exit_code, summary.states, summary.num_flows_now) == (0, {"ok": 3}, 9)
    assert (heard, sum(frames)) == (["3 of 3, True", "a/x", "b/x", "c/x"], 12)
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
def publisher(tmp_path: Path) -> Publisher:
    return open_publisher(tmp_path / "out", CHEAP, durability="fast")


def extract_one(videos: Path, publisher: Publisher) -> Row:
    """The pipeline on the first video, in this process."""
    with create_backend("dis") as backend:
        return pipeline.extract_video(
            list_videos("folder", videos).videos[0],
            0,
            videos,
            CHEAP,
            lambda: LocalFlow(backend, CHEAP),
            publisher,
            attempt="a",
        )


def test_unexpected_errors_cost_one_video(videos: Path, publisher: Publisher, monkeypatch: pytest.MonkeyPatch) -> None:
    for error in (cv2.error("no luck"), KeyError("x")):

        def failing(*_: object, error: Exception = error) -> None:
            raise error

        monkeypatch.setattr(pipeline, "grey", failing)
        row = extract_one(videos, publisher)
        assert (row.state, row.reasons[0].code) == ("failed", "internal")


def test_what_is_done_counts_in_the_summary_of_a_later_run(videos: Path, tmp_path: Path) -> None:
    (videos / "a" / "bad.avi").write_bytes(b"no video")
    for num_done_now in (4, 0):
        summary = flowprep.extract(videos=videos, out=tmp_path / "out", settings=CHEAP, run=ONE)
        assert (summary.num_done_now, summary.states, summary.exit_code) == (num_done_now, {"ok": 3, "failed": 1}, 1)
        assert [row.id for row in summary.failed] == ["a/bad"]


def test_only_failures_that_may_heal_are_tried_again(videos: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    flowprep.extract(videos=videos, out=out, settings=CHEAP, run=ONE)
    listed = list_videos("folder", videos).videos
    expected = {"crash": (0, 1), "memory": (1, 0), "timeout": (1, 0), "damaged": (0, 1), "io": (1, 0)}
    for code, numbers in expected.items():
        row_path(out, "a/x").unlink(missing_ok=True)
        path = videos / "a" / "x.avi"
        row = dataclasses.replace(
            Row.unstored(listed[0], State.QUARANTINED, Reason(code)),
            source_bytes=path.stat().st_size,
            source_sha256="0" * 64,
        )
        mtime_ns = path.stat().st_mtime_ns
        open_publisher(out, CHEAP).publish_row(row, 0, source_mtime_ns=mtime_ns)
        done = [
            flowprep.extract(
                videos=videos, out=out, settings=CHEAP, run=RunSettings(jobs=1, durability="fast", retry=retry)
            ).num_done_now
            for retry in ("transient", "all")
        ]
        assert (code, *done) == (code, *numbers)


def test_a_store_can_be_resumed_by_itself(videos: Path, tmp_path: Path) -> None:
    out, whole = tmp_path / "out", tmp_path / "whole"
    flowprep.extract(videos=videos, out=whole, settings=CHEAP, run=ONE)
    flowprep.extract(videos=videos, out=out, settings=CHEAP, run=ONE)
    for path in (out / ".flowprep" / "packed").iterdir():
        path.unlink()
    videos.rename(tmp_path / "moved")
    with pytest.raises(MissingDataError, match="give --videos"):
        resume_store(out)
    summary = resume_store(out, videos=tmp_path / "moved", run=ONE)
    assert (summary.num_done_now, summary.states, summary.exit_code) == (3, {"ok": 3}, 0)
    assert store_bytes(out) == store_bytes(whole)
    with pytest.raises(MissingDataError, match="no store"):
        resume_store(tmp_path / "nothing")


def test_a_long_list_is_compared_once(videos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Reading 10^6 lines takes seconds; a second look is due only if another process has written meanwhile."""
    out = tmp_path / "out"
    flowprep.extract(videos=videos, out=out, settings=CHEAP, run=ONE)
    looks = []
    real = resume.read_identities
    monkeypatch.setattr(resume, "read_identities", lambda folder: looks.append(folder) or real(folder))
    flowprep.extract(videos=videos, out=out, settings=CHEAP, run=ONE)
    assert len(looks) == 1


def test_a_run_that_cannot_go_on_writes_so_in_its_journal(
    videos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> None:
        raise RunStoppedError("the disk is full")

    monkeypatch.setattr("flowprep.packer.pack_shard", full)
    with pytest.raises(RunStoppedError):
        flowprep.extract(videos=videos, out=tmp_path / "out", settings=CHEAP, run=ONE)
    assert not (tmp_path / "out" / "manifest.jsonl").exists()
    (path,) = journals(tmp_path / "out")
    last = list(read_journal(path))[-1]
    assert (last["event"], last["error"], last["interrupted"]) == ("end", "the disk is full", True)


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
            Video(id="x", path="x.avi"),
            reader,
            settings,
            LocalFlow(backend, settings),
            lambda *_: None,
            lambda _: None,
            batch_frames,
        )
    forward = [(k, k + step) for k in range(40 - step)]
    assert sorted(pairs) == sorted([*forward, *((b, a) for a, b in forward)])
    assert row.flows == 40 - step


def test_the_last_ones_are_done_largest_first() -> None:
    sizes = [(7 * k) % 100 for k in range(100)]
    todo = [k for k in range(100) if k % 2 == 0]
    order = in_turn(todo, sizes, 2)
    assert order[:45] == todo[:45]
    assert sorted(order[45:]) == todo[45:]
    assert [sizes[k] for k in order[45:]] == [86, 72, 58, 44, 30]
    assert in_turn([3, 5], sizes, 2) == [3, 5]


@pytest.mark.parametrize(("num_slots", "num_last"), [(1, 4), (16, 64), (100_000, 1000)])
def test_of_a_long_list_few_shards_wait_for_its_end(num_slots: int, num_last: int) -> None:
    sizes = [(7919 * k) % 10_007 for k in range(10_000)]
    order = in_turn(range(10_000), sizes, num_slots)
    assert order[:-num_last] == list(range(10_000 - num_last))
    assert order[-num_last:] == sorted(range(10_000 - num_last, 10_000), key=lambda k: -sizes[k])

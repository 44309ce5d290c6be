"""Which build of the flow backend has computed a store's videos."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import pytest
from helpers.media import moving_frames, write_video

from flowprep import extract, open_store
from flowprep.config import ExtractSettings, FlowSettings, ResizeSettings, RunSettings
from flowprep.flow import create_backend
from flowprep.journal import Journal, journal_folder, journals, read_journal

SETTINGS = ExtractSettings(flow=FlowSettings(backend="dis"), resize=ResizeSettings(short_side=None))
ONE = RunSettings(jobs=1, durability="fast")
HERE = f"opencv {cv2.__version__}"


@pytest.fixture
def videos(tmp_path: Path) -> Path:
    for name in ("a", "b"):
        (tmp_path / "videos" / name).mkdir(parents=True)
        write_video(tmp_path / "videos" / name / "x.avi", moving_frames(4, 32, 32))
    return tmp_path / "videos"


def test_journal_and_run_json_say_which_build_computed(videos: Path, tmp_path: Path) -> None:
    summary = extract("folder", videos=videos, out=tmp_path / "out", settings=SETTINGS, run=ONE)
    assert dict(summary.builds) == {HERE: 2}
    assert json.loads((tmp_path / "out" / "run.json").read_text())["builds"] == {HERE: 2}
    (journal,) = (tmp_path / "out" / ".flowprep" / "journal").iterdir()
    assert [event["build"] for event in read_journal(journal) if event["event"] == "video"] == [HERE, HERE]


def test_a_store_of_several_builds_is_noted(videos: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    extract("folder", videos=videos, out=out, settings=SETTINGS, run=ONE)
    (path,) = journals(out)
    events = list(read_journal(path))
    path.unlink()
    with Journal(journal_folder(out)) as elsewhere:  # as if another machine had done the first two
        for event in events:
            if event["event"] == "video":
                elsewhere.append("video", id=event["id"], build="opencv 4.10.0")
    (videos / "c").mkdir()
    write_video(videos / "c" / "x.avi", moving_frames(4, 32, 32))
    summary = extract("folder", videos=videos, out=out, settings=SETTINGS, run=ONE)
    assert dict(summary.builds) == {"opencv 4.10.0": 2, HERE: 1}
    assert [note for note in summary.notes if "2 builds: opencv 4.10.0, " in note]


def test_a_video_counts_for_the_build_that_computed_it_last(videos: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    extract("folder", videos=videos, out=out, settings=SETTINGS, run=ONE)
    write_video(videos / "b" / "x.avi", moving_frames(5, 32, 32))  # changed, so it is done again
    summary = extract("folder", videos=videos, out=out, settings=SETTINGS, run=ONE)
    assert (summary.num_done_now, dict(summary.builds)) == (1, {HERE: 2})


def test_a_store_says_which_backend_and_variant_made_it(videos: Path, tmp_path: Path) -> None:
    settings = ExtractSettings(resize=ResizeSettings(short_side=None))  # backend auto
    summary = extract("folder", videos=videos, out=tmp_path / "out", settings=settings, run=ONE)
    with open_store(tmp_path / "out") as store, create_backend("native") as backend:
        flow = store.settings.flow
        assert (flow.backend, flow.variant, flow.parameters) == ("native", "cuda", backend.parameters)
        assert dict(summary.builds) == {backend.build: 2}

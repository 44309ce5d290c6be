"""Files by themselves are extracted as those of a run are, to the byte, and nothing is left of them."""

from __future__ import annotations

import os
import pickle
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from helpers.media import cut, moving_frames, write_video
from helpers.processes import children_of, eventually

import flowprep
from flowprep import videofiles
from flowprep.config import ExtractSettings, FlowSettings, ResizeSettings, RunSettings, StoreSettings
from flowprep.device import server
from flowprep.errors import BackendUnavailableError, FrameIndexError, StoreError, UnknownVideoError, VideoError
from flowprep.stores.onevideo import OneVideoStore
from flowprep.videofiles import FileExtractor

FAULTY_DEVICE = Path(__file__).parents[1] / "helpers" / "faulty_device.py"
SHARDS = ExtractSettings(flow=FlowSettings(backend="dis"), resize=ResizeSettings(short_side=40))
TSN = replace(SHARDS, store=StoreSettings(format="jpeg", layout="tsn"))
WITHOUT_FLOW = replace(SHARDS, store=StoreSettings(flow=False))
RUN = RunSettings(jobs=1, durability="fast")
NUM_FRAMES = 6


@pytest.fixture(autouse=True)
def _nothing_is_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(scratch))
    children = children_of(os.getpid())
    yield
    assert list(scratch.iterdir()) == []
    assert eventually(lambda: set(children_of(os.getpid())) <= set(children))


@pytest.fixture
def video(tmp_path: Path) -> Path:
    (tmp_path / "videos" / "a").mkdir(parents=True)
    return write_video(tmp_path / "videos" / "a" / "one.avi", moving_frames(NUM_FRAMES))


@pytest.mark.parametrize("settings", [SHARDS, TSN, WITHOUT_FLOW], ids=["shards", "tsn", "without flow"])
def test_a_file_is_what_a_run_would_store(settings: ExtractSettings, video: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    flowprep.extract("folder", videos=tmp_path / "videos", out=out, settings=settings, run=RUN)
    with flowprep.open_store(out) as stored, FileExtractor(stored.settings) as extractor:
        name = "a/one"
        with extractor.extract(video, name) as found:
            assert found.settings == stored.settings
            assert (found.path, found.first_image) == (video, stored.first_image)
            mine, its = found.clip(name), stored.clip(name)
            assert (mine.num_frames, mine.num_flows) == (its.num_frames, its.num_flows)
            assert (mine.width, mine.height, mine.fps) == (its.width, its.height, its.fps)
            assert mine.num_frames == NUM_FRAMES - stored.first_image
            np.testing.assert_array_equal(found.pts_seconds(name), stored.pts_seconds(name))
            for stream in settings.streams:
                for index in range(its.num_frames if stream == "rgb" else its.num_flows):
                    assert found.jpeg(name, stream, index) == bytes(stored.jpeg(name, stream, index))


def test_its_store_says_what_is_not_there(video: Path) -> None:
    with FileExtractor(WITHOUT_FLOW) as extractor, extractor.extract(video, "one") as found:
        assert found.jpeg_name("one", "rgb", 3) == f"{video} rgb 3"
        with pytest.raises(FrameIndexError, match="has 6 JPEGs in rgb, 0 to 5; asked for 6"):
            found.jpeg("one", "rgb", NUM_FRAMES)
        with pytest.raises(StoreError, match="no stream 'flow_x'"):
            found.stack("one", 0, 1)
        with pytest.raises(UnknownVideoError, match="no stored video 'two'"):
            found.pts_seconds("two")
        with pytest.raises(TypeError, match="cannot be pickled"):
            pickle.dumps(found)


def test_one_extractor_reads_file_after_file_even_of_one_id(video: Path, tmp_path: Path) -> None:
    torn, other = cut(video, tmp_path / "torn.avi", 0.7), write_video(tmp_path / "b.avi", moving_frames(4, seed=1))
    others = children_of(os.getpid())
    with FileExtractor(WITHOUT_FLOW) as extractor:
        first = extractor.extract(video, "x")
        with pytest.raises(VideoError, match=r"^container: .* bytes are missing at its end"):
            extractor.extract(torn, "x")
        with pytest.raises(VideoError, match=r"^missing: "):
            extractor.extract(tmp_path / "gone.avi", "x")
        second = extractor.extract(other, "x")
        assert len(set(children_of(os.getpid())) - set(others)) == 1
        with first, second:
            assert first.clip("x").num_frames == NUM_FRAMES
            assert second.clip("x").num_frames == 4
            # That of the first is still there, though its file has been deleted.
            assert first.image("x", "rgb", 5).shape == second.image("x", "rgb", 3).shape


def test_a_backend_that_is_not_here_is_no_fault_of_the_file(video: Path) -> None:
    settings = replace(SHARDS, flow=FlowSettings(backend="opencv-cuda", variant="cuda"))
    with FileExtractor(settings) as extractor, pytest.raises(BackendUnavailableError, match="opencv-cuda"):
        extractor.extract(video, "one")


@pytest.mark.parametrize("share", [0.0, 0.5, 0.99])
def test_a_commit_that_is_torn_is_refused(share: float, video: Path, tmp_path: Path) -> None:
    whole = tmp_path / "out"
    flowprep.extract("folder", videos=tmp_path / "videos", out=whole, settings=WITHOUT_FLOW, run=RUN)
    shard = next((whole / "shards").iterdir())  # bytes enough, and no commit
    torn = cut(shard, tmp_path / "torn.clip", share)
    with pytest.raises(StoreError, match=r"torn\.clip is torn or altered"):
        OneVideoStore(torn, WITHOUT_FLOW, video)


def test_who_kills_the_owner_of_the_device_is_given_up_and_the_next_goes_on(
    video: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """DIS stands for a GPU, and its owner dies of grey frames."""
    with FileExtractor(SHARDS) as here, here.extract(video, "one") as found:
        expected = [found.jpeg("one", "flow_x", index) for index in range(NUM_FRAMES - 1)]
    monkeypatch.setattr(videofiles, "DEVICE_BACKENDS", ("dis",))
    monkeypatch.setattr(server, "COMMAND", (sys.executable, str(FAULTY_DEVICE)))
    monkeypatch.setenv("FAULTS", "crash=60")
    monkeypatch.setenv("FAULT_MARK", str(tmp_path / "mark"))
    poison = write_video(tmp_path / "poison.avi", np.full((NUM_FRAMES, 32, 48, 3), 60, np.uint8))
    with FileExtractor(SHARDS) as extractor:
        with pytest.raises(VideoError, match=r"^gpu_crash: .*SIGSEGV"):
            extractor.extract(poison, "poison")
        with extractor.extract(video, "one") as found:
            assert [found.jpeg("one", "flow_x", index) for index in range(NUM_FRAMES - 1)] == expected

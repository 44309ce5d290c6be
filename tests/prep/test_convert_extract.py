"""A converted store is the one that `extract` would have made, and `extract` goes on with it; also from layout tsn."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from helpers.command import manifest, store_bytes
from helpers.media import moving_frames, write_video

import flowprep
from flowprep.config import ExtractSettings, FlowSettings, ResizeSettings, RunSettings, StoreSettings
from flowprep.convert import convert
from flowprep.errors import MissingDataError, SettingsError
from flowprep.records import State
from flowprep.stores import open_store

ONE = RunSettings(jobs=1, durability="fast")
SETTINGS = ExtractSettings(flow=FlowSettings(backend="dis"), resize=ResizeSettings(short_side=24))
FORMS = {
    "shards": StoreSettings(),
    "flowprep": StoreSettings(format="jpeg"),
    "tsn": StoreSettings(format="jpeg", layout="tsn"),
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Videos, one of a single frame, one in frames out of order, one that is none, and a store of them in each form."""
    folder = tmp_path_factory.mktemp("extracted")
    for name, num_frames in {"a/one": 1, "a/some": 5, "b/more": 7}.items():
        path = folder / "videos" / f"{name}.avi"
        path.parent.mkdir(parents=True, exist_ok=True)
        write_video(path, moving_frames(num_frames, 48, 32, seed=num_frames))
    write_video(folder / "videos/b/late.mkv", moving_frames(6, 48, 32), pts=[3, 4, 6, 7, 9, 10], max_b_frames=2)
    (folder / "videos/b/none.avi").write_bytes(b"no video")
    for name, store in FORMS.items():
        settings = dataclasses.replace(SETTINGS, store=store)
        flowprep.extract(videos=folder / "videos", out=folder / name, settings=settings, run=ONE)
    return folder


@pytest.mark.parametrize(("source", "target"), [(a, b) for a in FORMS for b in FORMS if a != b])
def test_it_is_what_extract_makes(folder: Path, tmp_path: Path, source: str, target: str) -> None:
    store, out = FORMS[target], tmp_path / "out"
    convert(folder / source, out, format=store.format, layout=store.layout, videos=folder / "videos", run=ONE)
    assert store_bytes(out) == store_bytes(folder / target)
    settings = dataclasses.replace(SETTINGS, store=store)
    retrying = dataclasses.replace(ONE, retry="all")
    summary = flowprep.extract(videos=folder / "videos", out=out, settings=settings, run=retrying)
    assert (summary.num_done_now, summary.states) == (1, {"ok": 3, "flagged": 1, "failed": 1})  # the one that failed
    assert store_bytes(out) == store_bytes(folder / target)


def test_only_the_first_image_is_made(folder: Path, tmp_path: Path) -> None:
    convert(folder / "tsn", tmp_path / "out", format="hdf5", videos=folder / "videos", run=ONE)
    with open_store(tmp_path / "out") as store, open_store(folder / "tsn") as source:
        assert (store.clip("a/one").num_frames, source.clip("a/one").num_frames) == (1, 0)
        assert bytes(store.jpeg("b/late", "rgb", 1)) == source.jpeg("b/late", "rgb", 0)
        assert np.array_equal(store.pts_seconds("b/late")[1:], source.pts_seconds("b/late"))
        assert store.pts_seconds("b/late")[0] < source.pts_seconds("b/late")[0]


def test_another_video_than_the_one_of_the_store_is_refused(folder: Path, tmp_path: Path) -> None:
    videos = tmp_path / "videos"
    for path in (folder / "videos").rglob("*.*"):
        (videos / path.parent.name).mkdir(parents=True, exist_ok=True)
        (videos / path.parent.name / path.name).write_bytes(path.read_bytes())
    write_video(videos / "a/some.avi", moving_frames(5, 48, 32, seed=9))
    (videos / "b/more.avi").unlink()
    summary = convert(folder / "tsn", tmp_path / "out", format="hdf5", videos=videos, run=ONE)
    assert summary.states == {"ok": 1, "flagged": 1, "failed": 3}
    _, rows = manifest(tmp_path / "out")
    found = {row["id"]: row["reasons"][-1] for row in rows if row["state"] == State.FAILED}
    assert (found["a/some"]["code"], found["b/more"]["code"]) == ("changed", "missing")
    assert "is not the file that the store was made of, by its SHA-256" in found["a/some"]["detail"]
    with pytest.raises(MissingDataError, match=r"there is no folder .*nowhere; give that of the videos"):
        convert(folder / "tsn", tmp_path / "no", format="hdf5", videos=tmp_path / "nowhere", run=ONE)
    with pytest.raises(SettingsError, match="the store has JPEG quality 95, not 80; leave --quality out"):
        convert(folder / "tsn", tmp_path / "no", format="hdf5", videos=videos, quality=80, run=ONE)

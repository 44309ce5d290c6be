"""The JPEG tree: the store contract in several layouts, and what only trees do."""

from __future__ import annotations

import dataclasses
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from contracts.store import (
    StoreContract,
    add_all,
    make_listing,
    open_publisher,
    pts_of,
    published,
    stored_row,
    without_flushes,
    write_store,
)

from flowprep.config import ExtractSettings, FlowSettings, JpegSettings, StoreSettings
from flowprep.encode import encode_plane
from flowprep.errors import DatasetError, StoreError, VideoError
from flowprep.records import Row, State, Video
from flowprep.stores import TreeStore, check_listing, open_store
from flowprep.stores.rowtable import FoundRows


def tree(layout: str = "flowprep", *, step: int = 1, backward: bool = False, **store: bool) -> ExtractSettings:
    return ExtractSettings(
        flow=FlowSettings(step=step, backward=backward),
        store=StoreSettings(format="jpeg", layout=layout, **store),
    )


@pytest.fixture(autouse=True)
def _no_flushes(monkeypatch: pytest.MonkeyPatch) -> None:
    without_flushes(monkeypatch)


class TestFlowprepTree(StoreContract):
    @pytest.fixture(scope="class")
    @classmethod
    def settings(cls) -> ExtractSettings:
        return tree(backward=True)


class TestTsnTree(StoreContract):
    @pytest.fixture(scope="class")
    @classmethod
    def settings(cls) -> ExtractSettings:
        return tree("tsn")


class TestFeichtenhoferTree(StoreContract):
    @pytest.fixture(scope="class")
    @classmethod
    def settings(cls) -> ExtractSettings:
        return tree("feichtenhofer")


@pytest.mark.parametrize(
    ("settings", "files"),
    [
        (
            tree(),
            {
                "class0/v_a_g01/": "img_00001 img_00002 img_00003 img_00004 flow_x_00001 flow_x_00002 flow_x_00003 "
                "flow_y_00001 flow_y_00002 flow_y_00003"
            },
        ),
        (
            tree(step=2, backward=True),
            {
                "class0/v_a_g01/": "img_00001 img_00002 img_00003 img_00004 flow_x_00001 flow_x_00002 "
                "flow_y_00001 flow_y_00002 back_x_00001 back_x_00002 back_y_00001 back_y_00002"
            },
        ),
        (
            tree("denseflow"),
            {
                "class0/v_a_g01/": "img_00000 img_00001 img_00002 img_00003 flow_x_00000 flow_x_00001 flow_x_00002 "
                "flow_y_00000 flow_y_00001 flow_y_00002"
            },
        ),
        (
            tree("denseflow", step=2, backward=True),
            {
                "class0/v_a_g01/": "img_00000 img_00001 img_00002 img_00003 flow_x_p2_00000 flow_x_p2_00001 "
                "flow_y_p2_00000 flow_y_p2_00001 flow_x_m2_00002 flow_x_m2_00003 flow_y_m2_00002 flow_y_m2_00003"
            },
        ),
        (
            tree("mmaction2"),
            {
                "class0/v_a_g01/": "img_00001 img_00002 img_00003 img_00004 x_00001 x_00002 x_00003 "
                "y_00001 y_00002 y_00003"
            },
        ),
        (
            tree("tsn"),
            {
                "class0/v_a_g01/": "img_00001 img_00002 img_00003 flow_x_00001 flow_x_00002 flow_x_00003 "
                "flow_y_00001 flow_y_00002 flow_y_00003"
            },
        ),
        (
            tree("feichtenhofer"),
            {
                "jpegs_256/v_a_g01/": "frame000001 frame000002 frame000003 frame000004",
                "tvl1_flow/u/v_a_g01/": "frame000001 frame000002 frame000003",
                "tvl1_flow/v/v_a_g01/": "frame000001 frame000002 frame000003",
            },
        ),
        (tree("feichtenhofer", flow=False), {"jpegs_256/v_a_g01/": "frame000001 frame000002 frame000003 frame000004"}),
    ],
    ids=lambda value: value.store.layout if isinstance(value, ExtractSettings) else "",
)
def test_the_files_of_each_layout(tmp_path: Path, settings: ExtractSettings, files: dict[str, str]) -> None:
    write_store(tmp_path, settings, make_listing(1))
    expected = {f"{folder}{name}.jpg" for folder, names in files.items() for name in names.split()}
    at_the_top = {"manifest.jsonl", "splits.json", "timing.h5", "SHA256SUMS"}
    assert published(tmp_path).keys() == expected | at_the_top


def test_tsn_drops_the_first_image_and_its_time(tmp_path: Path) -> None:
    listing = write_store(tmp_path / "tsn", tree("tsn"), make_listing(1))
    write_store(tmp_path / "ours", tree(), make_listing(1))
    with open_store(tmp_path / "tsn") as tsn, open_store(tmp_path / "ours") as ours:
        video_id = listing.videos[0].id
        assert (tsn.first_image, ours.first_image) == (1, 0)
        assert tsn.jpeg(video_id, "rgb", 0) == ours.jpeg(video_id, "rgb", 1)
        assert tsn.jpeg(video_id, "flow_x", 0) == ours.jpeg(video_id, "flow_x", 0)
        assert tsn.pts_seconds(video_id).tolist() == ours.pts_seconds(video_id).tolist()[1:]


def test_feichtenhofer_refuses_two_ids_with_one_stem() -> None:
    videos = [Video(id=f"{name}/clip", path=f"{name}/clip.avi", class_name=name) for name in ("run", "walk")]
    with pytest.raises(DatasetError, match="'run/clip' and 'walk/clip' into one folder, 'clip'"):
        check_listing(tree("feichtenhofer"), videos)
    check_listing(tree(), videos)
    check_listing(ExtractSettings(), videos)


def test_folders_that_would_lie_inside_one_another_are_refused() -> None:
    videos = [Video(id="run", path="run.avi"), Video(id="b", path="run/b.avi", class_name="run")]
    with pytest.raises(DatasetError, match="'b' would lie inside that of 'run'"):
        check_listing(tree(), videos)


def test_images_that_are_not_what_the_manifest_says_are_refused(tmp_path: Path) -> None:
    write_store(tmp_path, tree())
    folder = tmp_path / "class0" / "v_a_g01"
    (folder / "flow_x_00001.jpg").write_bytes(encode_plane(np.zeros((8, 8), np.uint8), JpegSettings()))
    (folder / "flow_x_00002.jpg").write_bytes(b"")
    with open_store(tmp_path) as store:
        with pytest.raises(StoreError, match="'v_a_g01' flow_x 0 is 8x8 where the manifest says 16x12"):
            store.stack("v_a_g01", 0, 1)
        with pytest.raises(StoreError, match="'v_a_g01' flow_x 1: 0 bytes are not a JPEG"):
            store.stack("v_a_g01", 1, 1)


def test_a_stream_that_the_settings_do_not_have(tmp_path: Path) -> None:
    publisher = open_publisher(tmp_path, tree(flow=False))
    video = make_listing().videos[0]
    with publisher.begin(video, 0, attempt="a1") as writer, pytest.raises(ValueError, match="must be one of rgb, got"):
        writer.add("flow_x", b"x")


def test_a_failed_row_cannot_be_committed_as_stored(tmp_path: Path) -> None:
    publisher = open_publisher(tmp_path, tree())
    video = make_listing().videos[0]
    with publisher.begin(video, 0, attempt="a1") as writer:
        add_all(writer, 4)
        row = dataclasses.replace(stored_row(publisher, video, 4), state=State.FAILED)
        with pytest.raises(VideoError, match="failed was committed as stored"):
            writer.commit(row, pts_of(4))


def test_folders_of_videos_that_are_read_in_turns_are_made_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As by the threads of a loader."""
    rows = []
    for name in ("a", "b", "c"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "img_00001.jpg").write_bytes(name.encode())
        video = Video(id=name, path="", class_name="", label=0)
        rows.append(dataclasses.replace(Row.unstored(video, State.OK), frames=1, location=name))
    made: list[str] = []
    with TreeStore(tmp_path, FoundRows(tree(flow=False), rows)) as store:
        folders = type(store._layout).folders

        def counted(layout: object, location: str, streams: object) -> dict[str, str]:
            made.append(location)
            return folders(layout, location, streams)

        monkeypatch.setattr(type(store._layout), "folders", counted)
        for _ in range(3):
            assert [store.jpeg(name, "rgb", 0) for name in "abc"] == [b"a", b"b", b"c"]
    assert made == ["a", "b", "c"]


def test_reading_many_videos_keeps_hardly_anything_of_them(tmp_path: Path) -> None:
    num_videos = 400
    rows = []
    for index in range(num_videos):
        video = Video(id=f"class/video-{index:05d}", path="", class_name="class", label=0)
        folder = tmp_path / video.id
        folder.mkdir(parents=True)
        (folder / "img_00001.jpg").write_bytes(b"jpeg")
        rows.append(dataclasses.replace(Row.unstored(video, State.OK), frames=1, location=video.id))
    with TreeStore(tmp_path, FoundRows(tree(flow=False), rows)) as store:
        assert store.jpeg(rows[0].id, "rgb", 0) == b"jpeg"
        tracemalloc.start()
        try:
            before, _ = tracemalloc.get_traced_memory()
            for row in rows:
                store.jpeg(row.id, "rgb", 0)
            after, _ = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
    assert after - before < 100 * num_videos

"""The JPEG tree: the store contract in several layouts, and what only trees do."""

from __future__ import annotations

import dataclasses
import errno
import shutil
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
    staged,
    stored_row,
    without_flushes,
    write_store,
    write_video,
)

from flowprep.config import ExtractSettings, FlowSettings, JpegSettings, StoreSettings
from flowprep.encode import encode_plane
from flowprep.errors import DatasetError, StoreError, VideoError
from flowprep.publisher import Publisher
from flowprep.records import State, Video
from flowprep.stores import check_listing, open_store
from flowprep.stores.places import row_path


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


def test_a_final_folder_without_its_row_is_moved_aside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    listing = make_listing(1)
    publisher = open_publisher(tmp_path, tree())
    foreign = tmp_path / "class0" / "v_a_g01"
    foreign.mkdir(parents=True)
    (foreign / "img_00001.jpg").write_bytes(b"half of a picture")
    assert publisher.read_row(listing.videos[0], 0) is None
    with monkeypatch.context() as patch:
        patch.setattr(Publisher, "publish_row_file", _die)
        with pytest.raises(VideoError, match="the power failed"):
            write_video(publisher, listing.videos[0], 0)
    aside = [path.read_bytes() for path in (tmp_path / ".flowprep" / "aside").rglob("img_00001.jpg")]
    assert aside == [b"half of a picture"]
    write_video(publisher, listing.videos[0], 0)
    assert len(list(foreign.iterdir())) == 10
    assert not list((tmp_path / ".flowprep" / "aside").iterdir()), "the video has an outcome now"


def _die(*_: object) -> None:
    raise OSError(errno.EIO, "the power failed")


def test_a_row_without_its_folder_is_pending(tmp_path: Path) -> None:
    listing = make_listing(1)
    publisher = open_publisher(tmp_path, tree("feichtenhofer"))
    row = write_video(publisher, listing.videos[0], 0)
    shutil.rmtree(tmp_path / "tvl1_flow" / "v" / row.location)
    assert publisher.read_row(listing.videos[0], 0) is None
    assert write_video(publisher, listing.videos[0], 0) == row
    assert publisher.read_row(listing.videos[0], 0) == row


@pytest.mark.parametrize("damage", [lambda data: data[:-20], lambda data: b"", lambda data: data.replace(b"ok", b"OK")])
def test_a_torn_or_altered_row_is_pending(tmp_path: Path, damage) -> None:
    listing = make_listing(1)
    publisher = open_publisher(tmp_path, tree())
    row = write_video(publisher, listing.videos[0], 0)
    path = row_path(tmp_path, row.id)
    path.write_bytes(damage(path.read_bytes()))
    assert publisher.read_row(listing.videos[0], 0) is None
    assert write_video(publisher, listing.videos[0], 0) == row


def test_links_in_the_tree_are_refused(tmp_path: Path) -> None:
    out, elsewhere = tmp_path / "out", tmp_path / "elsewhere"
    write_store(out, tree())
    secret = tmp_path / "secret"
    secret.write_bytes(b"secret")
    image = out / "class0" / "v_a_g01" / "img_00001.jpg"
    image.unlink()
    image.symlink_to(secret)
    folder = out / "class1" / "v_b g'02"
    shutil.move(folder, elsewhere)
    folder.symlink_to(elsewhere)
    with open_store(out) as store:
        with pytest.raises(StoreError, match=r"img_00001.jpg cannot be read"):
            store.jpeg("v_a_g01", "rgb", 0)
        with pytest.raises(StoreError, match="behind a symbolic link"):
            store.jpeg("v_b g'02", "rgb", 0)


def test_nothing_is_written_through_a_link(tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    publisher = open_publisher(tmp_path / "out", tree())
    (tmp_path / "out" / "class0").symlink_to(elsewhere)
    with pytest.raises(StoreError, match="class0 must be a folder, but is a link"):
        write_video(publisher, make_listing(1).videos[0], 0)
    assert list(elsewhere.iterdir()) == []
    assert staged(tmp_path / "out") == []


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

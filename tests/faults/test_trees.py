"""Cases 68, 72 and 87 of trees: what lies under a final name and is not ours, torn rows, links."""

from __future__ import annotations

import errno
import os
import shutil
from pathlib import Path

import pytest
from contracts.store import (
    make_listing,
    open_publisher,
    staged,
    without_flushes,
    write_store,
    write_video,
)

from flowprep.config import ExtractSettings, FlowSettings, StoreSettings
from flowprep.errors import StoreError, VideoError
from flowprep.publisher import Publisher
from flowprep.stores import open_store
from flowprep.stores.jpegfile import read_plain_file
from flowprep.stores.places import row_path


def tree(layout: str = "flowprep", *, step: int = 1, backward: bool = False, **store: bool) -> ExtractSettings:
    return ExtractSettings(
        flow=FlowSettings(step=step, backward=backward),
        store=StoreSettings(format="jpeg", layout=layout, **store),
    )


@pytest.fixture(autouse=True)
def _no_flushes(monkeypatch: pytest.MonkeyPatch) -> None:
    without_flushes(monkeypatch)


def test_case_68_a_final_folder_without_its_row_is_moved_aside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
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


def test_case_71_a_row_without_its_folder_is_pending(tmp_path: Path) -> None:
    listing = make_listing(1)
    publisher = open_publisher(tmp_path, tree("feichtenhofer"))
    row = write_video(publisher, listing.videos[0], 0)
    shutil.rmtree(tmp_path / "tvl1_flow" / "v" / row.location)
    assert publisher.read_row(listing.videos[0], 0) is None
    assert write_video(publisher, listing.videos[0], 0) == row
    assert publisher.read_row(listing.videos[0], 0) == row


@pytest.mark.parametrize("damage", [lambda data: data[:-20], lambda data: b"", lambda data: data.replace(b"ok", b"OK")])
def test_case_72_a_torn_or_altered_row_is_pending(tmp_path: Path, damage) -> None:
    listing = make_listing(1)
    publisher = open_publisher(tmp_path, tree())
    row = write_video(publisher, listing.videos[0], 0)
    path = row_path(tmp_path, row.id)
    path.write_bytes(damage(path.read_bytes()))
    assert publisher.read_row(listing.videos[0], 0) is None
    assert write_video(publisher, listing.videos[0], 0) == row


def test_case_87_links_in_the_tree_are_refused(tmp_path: Path) -> None:
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


def test_a_folder_in_the_place_of_a_jpeg_is_damage_and_is_not_left_open(tmp_path: Path) -> None:
    out = tmp_path / "out"
    write_store(out, tree())
    image = out / "class0" / "v_a_g01" / "img_00001.jpg"
    image.unlink()
    image.mkdir()
    with open_store(out) as store:
        before = len(os.listdir("/proc/self/fd"))
        for _ in range(3):
            with pytest.raises(StoreError, match=r"img_00001.jpg cannot be read: Is a directory; restore it"):
                store.jpeg("v_a_g01", "rgb", 0)
            with pytest.raises(StoreError, match="it cannot be read: Is a directory"):
                read_plain_file(image)
        assert len(os.listdir("/proc/self/fd")) == before


def test_case_87_nothing_is_written_through_a_link(tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    publisher = open_publisher(tmp_path / "out", tree())
    (tmp_path / "out" / "class0").symlink_to(elsewhere)
    with pytest.raises(StoreError, match="class0 must be a folder, but is a link"):
        write_video(publisher, make_listing(1).videos[0], 0)
    assert list(elsewhere.iterdir()) == []
    assert staged(tmp_path / "out") == []

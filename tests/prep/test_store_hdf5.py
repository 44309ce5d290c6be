"""HDF5 shards: the store contract, format 1 as documented, packing, and files from others that are refused."""

from __future__ import annotations

import json
from pathlib import Path

import h5py
import numpy as np
import pytest
from contracts.store import (
    HEIGHT,
    WIDTH,
    StoreContract,
    failed_row,
    jpeg,
    make_listing,
    open_publisher,
    pts_of,
    without_flushes,
    write_store,
    write_video,
)

from flowprep.config import ExtractSettings, FlowSettings, StoreSettings
from flowprep.errors import StoreError
from flowprep.records import canonical_json
from flowprep.stores import open_store
from flowprep.stores.pack import pack_ready, pack_shard
from flowprep.stores.places import packed_path
from flowprep.stores.shardfile import read_index


def shards(shard_videos: int = 2, *, step: int = 1, backward: bool = False, **store: bool) -> ExtractSettings:
    return ExtractSettings(
        flow=FlowSettings(step=step, backward=backward), store=StoreSettings(shard_videos=shard_videos, **store)
    )


@pytest.fixture(autouse=True)
def _no_flushes(monkeypatch: pytest.MonkeyPatch) -> None:
    without_flushes(monkeypatch)


class TestShards(StoreContract):
    @pytest.fixture(scope="class")
    @classmethod
    def settings(cls) -> ExtractSettings:
        return shards()


class TestShardsWithBackwardFlow(StoreContract):
    @pytest.fixture(scope="class")
    @classmethod
    def settings(cls) -> ExtractSettings:
        return shards(256, step=2, backward=True)


class TestShardsOfImages(StoreContract):
    @pytest.fixture(scope="class")
    @classmethod
    def settings(cls) -> ExtractSettings:
        return shards(flow=False)


class TestShardsOfFlow(StoreContract):
    @pytest.fixture(scope="class")
    @classmethod
    def settings(cls) -> ExtractSettings:
        return shards(rgb=False)


def test_format_1_as_a_plain_hdf5_program_sees_it(tmp_path: Path) -> None:
    settings = shards(3, backward=True)
    listing = write_store(tmp_path, settings, failing={1})
    with h5py.File(tmp_path / "shards" / "00000.h5", "r") as file:
        assert file.attrs["format"] == 1
        assert file.attrs["settings"] == canonical_json(settings.to_json())
        assert set(file) == {"rgb", "flow_x", "flow_y", "back_x", "back_y", "videos", "pts_seconds"}
        videos = file["videos"]
        ids = [value.encode("utf-8", "surrogateescape") for value in ("v_a_g01", "v_c_\udcff\udcfe")]
        assert videos["id"][:].tolist() == ids
        assert videos["class"].asstr()[:].tolist() == ["class0", "class0"]
        for name, values in {
            "label": [0, 0],
            "list_index": [0, 2],
            "height": [HEIGHT] * 2,
            "width": [WIDTH] * 2,
            "fps": [25.0] * 2,
            "rgb_first": [0, 4],
            "rgb_num": [4, 3],
            "flow_first": [0, 3],
            "flow_num": [3, 2],
        }.items():
            assert videos[name][:].tolist() == values
        kinds = {"label": "i4", "list_index": "i8", "height": "i4", "width": "i4", "fps": "f8", "flow_num": "i8"}
        assert {name: videos[name].dtype.str[1:] for name in kinds} == kinds
        assert file["pts_seconds"][:].tolist() == pts_of(4) + pts_of(3)
        for stream, num in {"rgb": 7, "flow_x": 5, "flow_y": 5, "back_x": 5, "back_y": 5}.items():
            blob, offsets = file[stream]["blob"], file[stream]["offsets"]
            assert (blob.dtype, blob.chunks, blob.compression) == (np.uint8, None, None)
            assert (offsets.dtype, offsets.shape) == (np.uint64, (num + 1,))
            second = blob[offsets[num - 1] : offsets[num]].tobytes()
            assert second == jpeg(listing.videos[2], stream, 2 if stream == "rgb" else 1)


def test_a_stream_without_bytes_has_no_blob(tmp_path: Path) -> None:
    write_store(tmp_path, shards(rgb=False))
    with h5py.File(tmp_path / "shards" / "00000.h5", "r") as file:
        assert set(file["rgb"]) == {"offsets"}
        assert file["rgb/offsets"][:].tolist() == [0]
        assert file["pts_seconds"].shape == (0,)


def test_a_shard_of_failed_videos_is_empty(tmp_path: Path) -> None:
    write_store(tmp_path, shards(), failing={0, 1})
    assert read_index(tmp_path / "shards" / "00000.h5").ids == ()
    with open_store(tmp_path) as store:
        assert len(store.ids) == 3


def test_commits_are_deleted_and_rows_are_kept(tmp_path: Path) -> None:
    listing = write_store(tmp_path, shards(), failing={3})
    left = [path for name in ("commits", "rows") for path in (tmp_path / ".flowprep" / name).rglob("*.*")]
    assert left == []
    packed = [json.loads(line) for line in packed_path(tmp_path, 1).read_text().splitlines()]
    assert [line["row"]["id"] for line in packed[1:]] == [video.id for video in listing.videos[2:4]]
    assert packed[0]["bytes"] == (tmp_path / "shards" / "00001.h5").stat().st_size


def test_a_shard_is_ready_when_its_last_video_is_final(tmp_path: Path) -> None:
    settings, videos = shards(3), make_listing().videos
    publisher = open_publisher(tmp_path, settings)
    assert not pack_ready(tmp_path, settings, videos, 0)
    write_video(publisher, videos[2], 2)
    publisher.publish_row(failed_row(videos[0]), 0)
    assert not pack_ready(tmp_path, settings, videos, 0)
    assert not pack_shard(tmp_path, settings, videos, 0)
    write_video(publisher, videos[1], 1)
    assert pack_ready(tmp_path, settings, videos, 0)
    assert pack_shard(tmp_path, settings, videos, 0)
    assert not pack_ready(tmp_path, settings, videos, 0)
    assert pack_shard(tmp_path, settings, videos, 0), "packing again finds nothing to do"


def test_opening_a_store_opens_no_shard(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_store(tmp_path, shards(1))
    for k in (0, 1, 3, 4):
        (tmp_path / "shards" / f"0000{k}.h5").write_bytes(b"broken")
    with open_store(tmp_path) as store:
        assert len(store.ids) == 5
        assert len(store.jpeg("v_c_\udcff\udcfe", "rgb", 0)) > 100
        with pytest.raises(StoreError, match=r"00001\.h5 is not a whole HDF5 file"):
            store.jpeg("v_b g'02", "rgb", 0)


def test_more_shards_than_may_be_mapped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    listing = write_store(tmp_path, shards(1))
    monkeypatch.setattr("flowprep.stores.hdf5._MAX_MAPS", 2)
    with open_store(tmp_path) as store:
        views = [store.jpeg(video.id, "rgb", 1) for _ in range(2) for video in listing.videos]
        assert [bytes(view) for view in views[:5]] == [jpeg(video, "rgb", 1) for video in listing.videos]
        assert views[5:] == views[:5]

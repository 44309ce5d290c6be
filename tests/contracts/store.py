"""What every store must do; each kind of store inherits these tests, with `settings` of its own.

Videos are made of tiny real JPEGs whose content follows from video, stream and index, so that any mix-up shows.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import pickle
import random
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import cv2
import numpy as np
import pytest

from flowprep import commit
from flowprep.config import ExtractSettings, JpegSettings
from flowprep.encode import encode_plane, encode_rgb
from flowprep.errors import FrameIndexError, StoreError, UnknownVideoError, VideoError
from flowprep.publisher import Publisher, VideoWriter, open_publisher
from flowprep.quantise import dequantise
from flowprep.records import Listing, Reason, Row, State, Video
from flowprep.stores import Store, open_store
from flowprep.stores.finish import finish
from flowprep.stores.pack import pack_ready, pack_shard

HEIGHT, WIDTH = 12, 16
FPS = 25.0
NUM_FRAMES = (4, 6, 3, 5, 4)  # of the standard listing's videos


def make_listing(num_videos: int = 5) -> Listing:
    """Videos of two classes, one with a name that is not UTF-8 and one outside ASCII."""
    names = ["v_a_g01", "v_b g'02", "v_c_\udcff\udcfe", "v_d_é漢", "v_e_g05", "v_f_g06", "v_g_g07"][:num_videos]
    videos = tuple(
        Video(id=name, path=f"class{k % 2}/{name}.avi", class_name=f"class{k % 2}", label=k % 2)
        for k, name in enumerate(names)
    )
    splits = {"1": {"train": tuple(names[:3]), "test": tuple(names[3:])}}
    return Listing(dataset="folder", videos=videos, classes=("class0", "class1"), splits=splits)


def jpeg(video: Video, stream: str, index: int, version: int = 0) -> bytes:
    """A small JPEG that no other video, stream, index or version has."""
    seed = hashlib.sha256(repr((video.id, stream, index, version)).encode()).digest()
    generator = np.random.default_rng(list(seed))
    if stream == "rgb":
        return encode_rgb(generator.integers(0, 256, (HEIGHT, WIDTH, 3), np.uint8), JpegSettings())
    return encode_plane(generator.integers(0, 256, (HEIGHT, WIDTH), np.uint8), JpegSettings())


def num_frames_of(list_index: int) -> int:
    return NUM_FRAMES[list_index % len(NUM_FRAMES)]


def pts_of(num_frames: int) -> list[float]:
    return [k / FPS + 1 / 3 for k in range(num_frames)]


def stored_row(publisher: Publisher, video: Video, num_frames: int, version: int = 0) -> Row:
    settings = publisher.settings
    return Row(
        id=video.id,
        path=video.path,
        class_name=video.class_name,
        label=video.label,
        state=State.OK,
        frames=max(0, num_frames - publisher.first_image) if settings.store.rgb else 0,
        flows=max(0, num_frames - settings.flow.step) if settings.store.flow else 0,
        width=WIDTH,
        height=HEIGHT,
        fps=FPS,
        source_bytes=1000 + version,
        source_sha256=f"{version:064d}",
    )


def failed_row(video: Video, code: str = "truncated", source_bytes: int = 0) -> Row:
    return Row(
        id=video.id,
        path=video.path,
        class_name=video.class_name,
        label=video.label,
        state=State.FAILED,
        reasons=(Reason(code, "the file ends early"),),
        source_bytes=source_bytes,
    )


def add_all(writer: VideoWriter, num_frames: int, version: int = 0) -> None:
    """All JPEGs of a video, streams interleaved as a pipeline does."""
    settings = writer.publisher.settings
    for index in range(num_frames):
        for stream in settings.streams:
            if stream == "rgb" or index + settings.flow.step < num_frames:
                writer.add(stream, jpeg(writer.video, stream, index, version))


def write_video(
    publisher: Publisher, video: Video, list_index: int, version: int = 0, *, source_mtime_ns: int = 0
) -> Row:
    num_frames = num_frames_of(list_index)
    with publisher.begin(video, list_index, attempt="a1") as writer:
        add_all(writer, num_frames, version)
        row = stored_row(publisher, video, num_frames, version)
        return writer.commit(row, pts_of(num_frames), source_mtime_ns=source_mtime_ns)


def pack_all(out: Path, settings: ExtractSettings, videos: Sequence[Video]) -> None:
    if settings.store.format != "hdf5":
        return
    for shard in range(-(-len(videos) // settings.store.shard_videos)):
        if pack_ready(out, settings, videos, shard):
            assert pack_shard(out, settings, videos, shard)


def finish_all(out: Path, settings: ExtractSettings, listing: Listing) -> None:
    """What the end of a run does."""
    pack_all(out, settings, listing.videos)
    publisher = open_publisher(out, settings)
    rows = (publisher.read_row(video, k) for k, video in enumerate(listing.videos))
    finish(out, settings, listing, [row for row in rows if row is not None])


def write_store(
    out: Path,
    settings: ExtractSettings,
    listing: Listing | None = None,
    *,
    order: Iterable[int] | None = None,
    failing: Iterable[int] = (),
) -> Listing:
    """A finished store of the listing's videos, done in `order`, those in `failing` failed."""
    listing = listing or make_listing()
    publisher = open_publisher(out, settings)
    for k in order if order is not None else range(len(listing.videos)):
        if k in failing:
            publisher.publish_row(failed_row(listing.videos[k]), k)
        else:
            write_video(publisher, listing.videos[k], k)
        pack_all(out, settings, listing.videos)
    finish_all(out, settings, listing)
    return listing


def published(out: Path) -> dict[str, bytes]:
    """Every published file of a store with its bytes, without what only a run needs."""
    found = {}
    for folder, _, names in os.walk(out):
        for name in names:
            path = Path(folder, name)
            relative = os.fsdecode(os.fsencode(path.relative_to(out)))
            if not relative.startswith(".flowprep/"):
                found[relative] = path.read_bytes()
    return found


def staged(out: Path) -> list[Path]:
    return list((out / ".flowprep" / "staging").iterdir())


def without_flushes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave out what only matters when the power fails, which no test here does: it is slow."""
    monkeypatch.setattr(os, "fsync", lambda fd: None)
    monkeypatch.setattr(commit, "sync_file_system", lambda fd: None)


class StoreContract:
    """Inherit, and give the fixture `settings`, with scope "class"."""

    @pytest.fixture(autouse=True)
    def no_flushes(self, monkeypatch: pytest.MonkeyPatch) -> None:
        without_flushes(monkeypatch)

    @pytest.fixture
    def out(self, tmp_path: Path) -> Path:
        return tmp_path / "out"

    @pytest.fixture(scope="class")
    @classmethod
    def store(cls, tmp_path_factory: pytest.TempPathFactory, settings: ExtractSettings) -> Iterator[Store]:
        out = tmp_path_factory.mktemp("store")
        write_store(out, settings, failing={1})
        with open_store(out) as store:
            yield store

    def test_every_jpeg_reads_back_to_the_byte(self, store: Store) -> None:
        listing = make_listing()
        assert list(store.ids) == [video.id for k, video in enumerate(listing.videos) if k != 1]
        for k, video in enumerate(listing.videos):
            if k == 1:
                continue
            for stream in store.settings.streams:
                num = num_frames_of(k) - (0 if stream == "rgb" else store.settings.flow.step)
                skipped = store.first_image if stream == "rgb" else 0
                for index in range(max(0, num) - skipped):
                    assert bytes(store.jpeg(video.id, stream, index)) == jpeg(video, stream, index + skipped)

    def test_settings_rows_and_clips(self, store: Store, settings: ExtractSettings) -> None:
        assert store.settings == settings
        video = make_listing().videos[2]
        clip = store.clip(video.id)
        assert (clip.class_name, clip.label, clip.height, clip.width, clip.fps) == ("class0", 0, HEIGHT, WIDTH, FPS)
        assert clip.num_frames == (3 - store.first_image if settings.store.rgb else 0)
        assert clip.num_flows == (3 - settings.flow.step if settings.store.flow else 0)
        assert [row.id for row in store.rows] == list(store.ids)
        assert store.rows[-1].stream_bytes.keys() == set(settings.streams)
        for row in store.rows:
            for stream in settings.streams:
                num = row.frames if stream == "rgb" else row.flows
                data = b"".join(bytes(store.jpeg(row.id, stream, index)) for index in range(num))
                assert row.stream_sha256[stream] == hashlib.sha256(data).hexdigest()
                assert row.stream_bytes[stream] == len(data)

    def test_times_are_those_of_the_stored_images(self, store: Store) -> None:
        for k, video in enumerate(make_listing().videos):
            if k != 1:
                expected = pts_of(num_frames_of(k))[store.first_image :] if store.settings.store.rgb else []
                assert store.pts_seconds(video.id).tolist() == expected

    def test_images_are_rgb(self, store: Store) -> None:
        if not store.settings.store.rgb:
            pytest.skip("this store has no images")
        image = store.image("v_a_g01", "rgb", 0)
        data = np.frombuffer(store.jpeg("v_a_g01", "rgb", 0), np.uint8)
        assert np.array_equal(image, cv2.imdecode(data, cv2.IMREAD_COLOR)[..., ::-1])

    def test_several_images_are_those_that_are_asked_for(self, store: Store) -> None:
        stream = store.settings.streams[-1]
        images = list(store.images("v_d_é漢", stream, (1, 0, 1)))
        assert len(images) == 3
        for image, index in zip(images, (1, 0, 1), strict=True):
            assert np.array_equal(image, store.image("v_d_é漢", stream, index))
        assert list(store.images("v_d_é漢", stream, ())) == []
        with pytest.raises(FrameIndexError, match="asked for -1"):
            store.images("v_d_é漢", stream, (0, -1))

    def test_stacks_interleave_x_and_y(self, store: Store) -> None:
        if not store.settings.store.flow:
            pytest.skip("this store has no flow")
        stack = store.stack("v_d_é漢", 1, 2)
        assert stack.shape == (4, HEIGHT, WIDTH)
        assert stack.dtype == np.uint8
        for k, (stream, index) in enumerate([("flow_x", 1), ("flow_y", 1), ("flow_x", 2), ("flow_y", 2)]):
            assert np.array_equal(stack[k], store.image("v_d_é漢", stream, index))

    def test_flow_is_in_pixels(self, store: Store) -> None:
        if not store.settings.store.flow:
            pytest.skip("this store has no flow")
        flow = store.flow_px("v_a_g01", 0)
        assert flow.shape == (HEIGHT, WIDTH, 2)
        assert flow.dtype == np.float32
        codes = store.image("v_a_g01", "flow_y", 0)
        assert np.array_equal(flow[..., 1], dequantise(codes, store.settings.quantise))

    def test_unknown_ids_suggest_a_near_one(self, store: Store) -> None:
        with pytest.raises(UnknownVideoError, match=r"no stored video 'v_a_g02'; did you mean 'v_a_g01'\?"):
            store.clip("v_a_g02")
        with pytest.raises(KeyError, match="no stored video"):
            store.jpeg("v_b g'02", store.settings.streams[0], 0)  # failed, hence listed but not stored

    def test_indices_out_of_range_name_the_count(self, store: Store) -> None:
        stream = store.settings.streams[-1]
        clip = store.clip("v_a_g01")
        num = clip.num_frames if stream == "rgb" else clip.num_flows
        for index in (num, -1):
            with pytest.raises(FrameIndexError, match=rf"'v_a_g01' has {num} JPEGs in {stream}.*asked for {index}"):
                store.image("v_a_g01", stream, index)
        if store.settings.store.flow:
            with pytest.raises(IndexError, match=f"asked for 1 to {num + 5}"):
                store.stack("v_a_g01", 1, num + 5)

    def test_streams_that_the_store_has_not(self, store: Store) -> None:
        with pytest.raises(StoreError, match="no stream 'depth'; it has"):
            store.jpeg("v_a_g01", "depth", 0)

    def test_a_store_can_be_pickled_and_read_after_fork(self, store: Store) -> None:
        stream = store.settings.streams[0]
        expected = bytes(store.jpeg("v_a_g01", stream, 0))
        with pickle.loads(pickle.dumps(store)) as copy:
            assert bytes(copy.jpeg("v_a_g01", stream, 0)) == expected
        child = os.fork()
        if child == 0:
            os._exit(0 if bytes(store.jpeg("v_a_g01", stream, 0)) == expected else 1)
        assert os.waitpid(child, 0)[1] == 0

    def test_the_order_of_work_changes_no_byte(self, tmp_path: Path, settings: ExtractSettings) -> None:
        write_store(tmp_path / "a", settings, failing={2})
        expected = published(tmp_path / "a")
        for seed in (1, 2):
            order = list(range(5))
            random.Random(seed).shuffle(order)
            write_store(tmp_path / f"b{seed}", settings, order=order, failing={2})
            assert published(tmp_path / f"b{seed}") == expected

    def test_the_manifest_says_everything_in_list_order(self, out: Path, settings: ExtractSettings) -> None:
        listing = write_store(out, settings, failing={1})
        header, *lines = [json.loads(line) for line in (out / "manifest.jsonl").read_text().splitlines()]
        assert header == {
            "format": 1,
            "kind": "flowprep-manifest",
            "num_videos": 5,
            "settings": json.loads(json.dumps(settings.to_json())),
        }
        assert [line["id"] for line in lines] == [video.id for video in listing.videos]
        assert [line["state"] for line in lines] == ["ok", "failed", "ok", "ok", "ok"]
        key, other = ("shard", "folder") if settings.store.format == "hdf5" else ("folder", "shard")
        assert all(key in line and other not in line and "location" not in line for line in lines)
        assert lines[1]["reasons"] == [{"code": "truncated", "detail": "the file ends early"}]
        assert lines[1][key] == ""
        splits = json.loads((out / "splits.json").read_text())
        assert splits["splits"]["1"]["train"] == [video.id for video in listing.videos[:3]]
        assert (splits["format"], splits["dataset"], splits["classes"]) == (1, "folder", ["class0", "class1"])

    def test_checksums_are_those_of_sha256sum(self, out: Path, settings: ExtractSettings) -> None:
        write_store(out, settings)
        sums = dict(line.split("  ")[::-1] for line in (out / "SHA256SUMS").read_text().splitlines())
        assert {"manifest.jsonl", "splits.json"} < sums.keys()
        for name, digest in sums.items():
            assert hashlib.sha256((out / name).read_bytes()).hexdigest() == digest

    def test_finishing_again_changes_no_byte(self, out: Path, settings: ExtractSettings) -> None:
        listing = write_store(out, settings, failing={3})
        before = published(out)
        finish_all(out, settings, listing)
        assert published(out) == before
        assert staged(out) == []

    @pytest.mark.parametrize("durability", ["video", "strict", "fast"])
    def test_durability_changes_no_byte(self, tmp_path: Path, settings: ExtractSettings, durability: str) -> None:
        listing = make_listing(1)
        write_store(tmp_path / "expected", settings, listing)
        write_video(open_publisher(tmp_path / "out", settings, durability=durability), listing.videos[0], 0)
        finish_all(tmp_path / "out", settings, listing)
        assert published(tmp_path / "out") == published(tmp_path / "expected")

    @pytest.mark.parametrize("change", ["image_missing", "flow_missing", "flow_too_many", "times_missing"])
    def test_wrong_counts_publish_nothing(self, out: Path, settings: ExtractSettings, change: str) -> None:
        if not (settings.store.rgb and settings.store.flow):
            pytest.skip("needs images and flow")
        publisher = open_publisher(out, settings)
        video = make_listing().videos[0]
        row, times = stored_row(publisher, video, 4), pts_of(4)
        with publisher.begin(video, 0, attempt="a1") as writer:
            add_all(writer, 4)
            if change == "image_missing":
                row, times = dataclasses.replace(row, frames=row.frames + 1), pts_of(5)
            elif change == "flow_missing":
                row = dataclasses.replace(row, flows=row.flows + 1)
            elif change == "flow_too_many":
                writer.add("flow_y", jpeg(video, "flow_y", 99))
            else:
                times = pts_of(3)
            with pytest.raises(VideoError, match="internal: "):
                writer.commit(row, times)
        assert publisher.read_row(video, 0) is None
        assert published(out) == {}
        assert staged(out) == []

    def test_abort_leaves_nothing(self, out: Path, settings: ExtractSettings) -> None:
        publisher = open_publisher(out, settings)
        video = make_listing().videos[0]
        writer = publisher.begin(video, 0, attempt="a1")
        add_all(writer, 3)
        assert any("a1" in path.name for path in staged(out)), "temporary names carry the attempt"
        writer.abort()
        assert staged(out) == []
        assert published(out) == {}
        assert publisher.read_row(video, 0) is None

    def test_rows_on_disk_are_those_that_commit_gave(self, out: Path, settings: ExtractSettings) -> None:
        publisher = open_publisher(out, settings)
        listing = make_listing()
        rows: list[Row | None] = [write_video(publisher, video, k) for k, video in enumerate(listing.videos[:4])]
        rows.append(publisher.publish_row(failed_row(listing.videos[4]), 4))
        assert [publisher.read_row(video, k) for k, video in enumerate(listing.videos)] == rows
        finish_all(out, settings, listing)
        again = open_publisher(out, settings)
        assert [again.read_row(video, k) for k, video in enumerate(listing.videos)] == rows

    def test_a_failed_video_that_becomes_ok(self, tmp_path: Path, settings: ExtractSettings) -> None:
        listing = write_store(tmp_path / "out", settings, failing={0, 2})
        write_video(open_publisher(tmp_path / "out", settings), listing.videos[2], 2)
        finish_all(tmp_path / "out", settings, listing)
        write_store(tmp_path / "expected", settings, failing={0})
        assert published(tmp_path / "out") == published(tmp_path / "expected")

    def test_a_video_that_is_redone_from_a_changed_source(self, tmp_path: Path, settings: ExtractSettings) -> None:
        listing = write_store(tmp_path / "out", settings)
        write_video(open_publisher(tmp_path / "out", settings), listing.videos[1], 1, version=7)
        finish_all(tmp_path / "out", settings, listing)
        with open_store(tmp_path / "out") as store:
            stream = settings.streams[0]
            index = store.first_image if stream == "rgb" else 0
            assert bytes(store.jpeg("v_b g'02", stream, 0)) == jpeg(listing.videos[1], stream, index, 7)
            assert store.rows[1].source_bytes == 1007
        assert staged(tmp_path / "out") == []

    def test_a_stored_video_whose_changed_source_fails(self, tmp_path: Path, settings: ExtractSettings) -> None:
        listing = write_store(tmp_path / "out", settings)
        row = open_publisher(tmp_path / "out", settings).publish_row(failed_row(listing.videos[3], source_bytes=5), 3)
        assert row.state is State.FAILED
        finish_all(tmp_path / "out", settings, listing)
        with open_store(tmp_path / "out") as store:
            assert "v_d_é漢" not in store.ids
        assert not [name for name in published(tmp_path / "out") if "v_d_é漢" in name]

    def test_a_late_failure_undoes_no_success(self, out: Path, settings: ExtractSettings) -> None:
        listing = write_store(out, settings)
        before = published(out)
        publisher = open_publisher(out, settings)
        assert publisher.publish_row(failed_row(listing.videos[0], "io"), 0).state is State.OK
        finish_all(out, settings, listing)
        assert published(out) == before

    def test_a_second_attempt_with_the_same_bytes_is_harmless(self, out: Path, settings: ExtractSettings) -> None:
        listing = write_store(out, settings)
        before = published(out)
        late = open_publisher(out, settings).begin(listing.videos[0], 0, attempt="thawed")
        add_all(late, 4)
        late.commit(stored_row(late.publisher, listing.videos[0], 4), pts_of(4))
        finish_all(out, settings, listing)
        assert published(out) == before
        assert staged(out) == []

    def test_a_list_may_grow_at_its_end(self, tmp_path: Path, settings: ExtractSettings) -> None:
        write_store(tmp_path / "out", settings, make_listing(5))
        longer = make_listing(7)
        publisher = open_publisher(tmp_path / "out", settings)
        for k in (5, 6):
            write_video(publisher, longer.videos[k], k)
        finish_all(tmp_path / "out", settings, longer)
        write_store(tmp_path / "expected", settings, longer)
        assert published(tmp_path / "out") == published(tmp_path / "expected")

    def test_a_list_may_not_move(self, out: Path, settings: ExtractSettings) -> None:
        listing = make_listing()
        publisher = open_publisher(out, settings)
        write_video(publisher, listing.videos[0], 0)
        with pytest.raises(StoreError, match="entry 1 is 'v_a_g01' now, but was committed as entry 0"):
            publisher.read_row(listing.videos[0], 1)

    def test_leftovers_of_dead_attempts_are_removed(self, out: Path, settings: ExtractSettings) -> None:
        publisher = open_publisher(out, settings)
        child = os.fork()
        if child == 0:  # dies without a chance to clean up
            try:
                add_all(publisher.begin(make_listing().videos[0], 0, attempt="killed"), 3)
            finally:
                os._exit(0)
        os.waitpid(child, 0)
        assert len(staged(out)) == 1
        with publisher.begin(make_listing().videos[1], 1, attempt="alive"):
            assert commit.remove_leftovers(out) == 1
            assert ["alive" in path.name for path in staged(out)] == [True]

    def test_the_time_of_the_source_is_kept_beside_the_row(self, tmp_path: Path, settings: ExtractSettings) -> None:
        listing = make_listing(2)
        for name, mtime_ns in (("a", 0), ("b", 1_700_000_000_123_456_789)):
            publisher = open_publisher(tmp_path / name, settings)
            write_video(publisher, listing.videos[0], 0, source_mtime_ns=mtime_ns)
            publisher.publish_row(failed_row(listing.videos[1]), 1, source_mtime_ns=mtime_ns + 1)
            for step in (lambda: None, lambda out=tmp_path / name: finish_all(out, settings, listing)):
                step()
                found = [publisher.read_entry(video, k) for k, video in enumerate(listing.videos)]
                assert [entry.source_mtime_ns for entry in found] == [mtime_ns, mtime_ns + 1]
                assert [entry.row for entry in found] == [
                    publisher.read_row(video, k) for k, video in enumerate(listing.videos)
                ]
        assert published(tmp_path / "a") == published(tmp_path / "b")
        write_video(publisher, listing.videos[0], 0, source_mtime_ns=5)
        assert publisher.read_entry(listing.videos[0], 0).source_mtime_ns == 5, "the same bytes, from a touched file"
        finish_all(tmp_path / "b", settings, listing)
        assert publisher.read_entry(listing.videos[0], 0).source_mtime_ns == 5
        assert published(tmp_path / "a") == published(tmp_path / "b")

    def test_a_manifest_that_is_cut_or_altered_names_the_line(self, out: Path, settings: ExtractSettings) -> None:
        write_store(out, settings)
        path = out / "manifest.jsonl"
        data = path.read_bytes()
        lines = data.splitlines(keepends=True)
        key = "shard" if settings.store.format == "hdf5" else "folder"
        outside = json.dumps({**json.loads(lines[1]), key: "../../etc"}).encode() + b"\n"
        endless = json.dumps({**json.loads(lines[1]), "frames": 10**30}).encode() + b"\n"
        for broken, message in (
            (b"".join([lines[0], endless, *lines[2:]]), "line 2 is not the row of a video: .* too large"),
            (b"".join(lines[:3]), "has 2 videos where its header says 5"),
            (data[:-10], "line 6 is cut"),
            (b"".join([*lines[:2], b'{"id": 3}\n', *lines[3:]]), "line 3 is not the row"),
            (b"".join([*lines[:2], lines[1], *lines[3:]]), "line 3 has the id 'v_a_g01' a second time"),
            (b"{}\n" + b"".join(lines[1:]), "line 1 is not the header"),
            (data.replace(b'"format":1', b'"format":2', 1), "format 2; this version reads"),
            (b"".join([lines[0], outside, *lines[2:]]), "line 2 .*not a place inside a store"),
        ):
            path.write_bytes(broken)
            with pytest.raises(StoreError, match=message):
                open_store(out)

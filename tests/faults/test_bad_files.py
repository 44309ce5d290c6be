"""Cases 1 to 23 and 28 to 32: what a whole run makes of bad, odd and special files, and what decoding them gives.

All files of the table go through one run of the installed command. Cases 24 to 26 are in `test_bad_children`, 27 in
`test_refused_formats`; `tests/prep/test_decode.py` has the real odd files.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import pytest
from helpers import bad_files
from helpers.command import flowprep, manifest
from helpers.in_process import be_quick
from helpers.media import cut, flip_bits, moving_frames, write_video
from helpers.reading import KEEP, PREFIX, read
from helpers.shared_data import VIDEOS, needs_shared

import flowprep as flowprep_package
from flowprep import pipeline, source
from flowprep.config import DecodeSettings, ExtractSettings, FlowSettings, ResizeSettings, RunSettings
from flowprep.decode import VideoReader
from flowprep.journal import journals, read_journal

NUM_FRAMES = 60
Row = dict[str, Any]


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Sound videos of 60 frames, from which the bad ones are made."""
    folder = tmp_path_factory.mktemp("sound")
    frames = moving_frames(NUM_FRAMES)
    write_video(folder / "good.avi", frames)
    write_video(folder / "faststart.mp4", frames, codec="libx264", container_options={"movflags": "faststart"})
    write_video(folder / "plain.mp4", frames, codec="libx264", gop_size=60)
    write_video(folder / "good.webm", frames[:12], codec="libvpx-vp9", options={"deadline": "realtime"})
    bad_files.huge_frames(folder / "huge.mp4")
    return folder


def make_all(sound: Path, folder: Path) -> None:
    """Every file of the table below."""
    good, faststart, plain = sound / "good.avi", sound / "faststart.mp4", sound / "plain.mp4"
    (folder / "01-empty.mp4").touch()
    (folder / "02-text.mp4").write_text("just words\n")
    (folder / "02-page.mp4").write_text("<!DOCTYPE html><html><body>404 Not Found</body></html>")
    cut(plain, folder / "03-no-index.mp4", 0.6)
    cut(faststart, folder / "04-cut.mp4", 0.6)
    cut(good, folder / "05-cut.avi", 0.6)
    bad_files.cut_in_first_frame(faststart, folder / "06-first-frame.mp4")
    flip_bits(faststart, folder / "07-flipped.mp4")
    flip_bits(good, folder / "08-flipped.avi")
    bad_files.hole(faststart, folder / "09-hole.mp4")
    bad_files.announce(good, folder / "10-claims.avi", 431)
    cut(folder / "10-claims.avi", folder / "10-claims-cut.avi", 0.6)
    bad_files.with_edit_list(plain, folder / "11-trimmed.mp4", 12)
    write_video(folder / "12-one.avi", moving_frames(1))
    bad_files.without_packets(folder / "13-no-packets.mp4")
    bad_files.without_packets(folder / "13-no-packets.avi")
    bad_files.audio_only(folder / "13-audio.mp4")
    bad_files.with_cover(good, folder / "14-cover.mp4")
    bad_files.two_streams(folder / "15-two.mkv")
    bad_files.turned(plain, folder / "16-turned.mp4", 90)
    write_video(folder / "17-vfr.mkv", moving_frames(7), codec="libx264", pts=[0, 1, 2, 10, 11, 40, 41])
    bad_files.packed_b_frames(folder / "18-packed.avi")
    bad_files.two_sizes(folder, folder / "19-sizes.ts")
    write_video(folder / "20-odd.mkv", moving_frames(3, 321, 241), codec="ffv1", pixel_format="yuv444p")
    interlaced = {"x264-params": "interlaced=1"}
    write_video(folder / "20-interlaced.mkv", moving_frames(4), codec="libx264", options=interlaced)
    shutil.copy(sound / "huge.mp4", folder / "21-huge.mp4")
    bad_files.huge_header(folder / "21-huge-header.avi", 16000)
    bad_files.huge_header(folder / "21-absurd-header.avi", 65500)
    bad_files.packed_b_frames(folder / "23-packed-damaged.avi", 15, damaged=True)
    bad_files.open_gop_start(folder / "23-open-gop.mp4")
    os.mkfifo(folder / "28-pipe.mp4")
    (folder / "28-folder.mp4").mkdir()
    (folder / "28-device.mp4").symlink_to("/dev/zero")
    (folder / "29-dangling.mp4").symlink_to("nowhere.mp4")
    (folder / "29-loop.mp4").symlink_to("29-loop.mp4")
    (folder / "29-out.avi").symlink_to(good)
    shutil.copy(good, folder / "32-first.avi")
    shutil.copy(good, folder / "32-second.avi")


@pytest.fixture(scope="module")
def run(sound: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Row]]:
    """The store of one run over all files, and its manifest by file name."""
    folder = tmp_path_factory.mktemp("bad")
    (folder / "videos").mkdir()
    make_all(sound, folder / "videos")
    names = sorted(path.name for path in (folder / "videos").iterdir())
    (folder / "list.txt").write_text("".join(f"{name}\n" for name in names))
    places = ("--dataset", "list", "--videos", folder / "videos", "--splits", folder / "list.txt")
    cheap = ("--backend", "dis", "--keep-size", "--jobs", "2", "--memory", "0.25")
    flowprep("extract", *places, "--out", folder / "out", *cheap, expect=1)
    flowprep("verify", folder / "out", "--deep")
    _, rows = manifest(folder / "out")
    assert [row["path"] for row in rows] == names
    return folder / "out", {row["path"]: row for row in rows}


@pytest.fixture(scope="module")
def rows(run: tuple[Path, dict[str, Row]]) -> dict[str, Row]:
    return run[1]


def codes(row: Row) -> list[str]:
    return [reason["code"] for reason in row["reasons"]]


def failed(row: Row, code: str, detail: str = "") -> None:
    """The video has failed for this reason alone, and nothing of it is stored."""
    assert (row["state"], codes(row)) == ("failed", [code]), row["reasons"]
    assert detail in row["reasons"][0]["detail"]
    assert (row["frames"], row["flows"], row["shard"]) == (0, 0, "")


def kept(row: Row, frames: int, *flags: str) -> None:
    """The video is stored with so many images and these flags."""
    assert (row["state"], codes(row)) == ("flagged" if flags else "ok", list(flags))
    assert (row["frames"], row["flows"]) == (frames, frames - 1)


def attempts(run: tuple[Path, dict[str, Row]], name: str) -> int:
    """How often a file was tried, as the journal says."""
    events = [event for path in journals(run[0]) for event in read_journal(path) if event["event"] == "video"]
    video_id = run[1][name]["id"]
    return sum(len(event["attempts"]) for event in events if event["id"] == video_id)


def test_case_01_empty(run: tuple[Path, dict[str, Row]]) -> None:
    failed(run[1]["01-empty.mp4"], "empty")
    assert attempts(run, "01-empty.mp4") == 1


def test_case_02_text_and_html(rows: dict[str, Row]) -> None:
    failed(rows["02-text.mp4"], "not_video")
    failed(rows["02-page.mp4"], "not_video")


def test_case_03_index_cut_off(rows: dict[str, Row]) -> None:
    failed(rows["03-no-index.mp4"], "container", "bytes are missing at its end")


def test_case_04_faststart_cut(rows: dict[str, Row], sound: Path, tmp_path: Path) -> None:
    failed(rows["04-cut.mp4"], "truncated", f"of {NUM_FRAMES}")
    path = cut(sound / "faststart.mp4", tmp_path / "cut.mp4", 0.6)
    runs = [read(path, PREFIX) for _ in range(5)]
    assert {(run.num_frames, run.digest.hexdigest()) for run in runs} == {
        (runs[0].num_frames, runs[0].digest.hexdigest())
    }
    assert runs[0].flags == ["truncated"]
    assert 0 < runs[0].num_frames < NUM_FRAMES


def test_case_05_avi_cut(rows: dict[str, Row], tmp_path: Path) -> None:
    failed(rows["05-cut.avi"], "truncated", f"of {NUM_FRAMES}")


def test_case_06_cut_in_the_first_frame(run: tuple[Path, dict[str, Row]]) -> None:
    failed(run[1]["06-first-frame.mp4"], "truncated")
    assert attempts(run, "06-first-frame.mp4") == 1, "the worker has lived on"


def test_case_07_bit_flips_in_h264(rows: dict[str, Row], sound: Path, tmp_path: Path) -> None:
    failed(rows["07-flipped.mp4"], "damaged", f"among {NUM_FRAMES} packets")
    path = flip_bits(sound / "faststart.mp4", tmp_path / "flipped.mp4")
    found = {(run.code, run.detail) for run in (read(path) for _ in range(10))}
    assert found == {("damaged", rows["07-flipped.mp4"]["reasons"][0]["detail"])}


def test_case_08_bit_flips_in_mpeg4_that_the_decoder_keeps_silent_about(
    rows: dict[str, Row], sound: Path, tmp_path: Path
) -> None:
    failed(rows["08-flipped.avi"], "damaged", "corrupt frame")
    path = flip_bits(sound / "good.avi", tmp_path / "flipped.avi")
    kept = [read(path, KEEP) for _ in range(3)]
    assert kept[0].flags == ["damaged"]
    assert kept[0].facts.corrupt_frames
    assert len({(run.num_frames, run.facts.corrupt_frames) for run in kept}) == 1
    assert read(path, PREFIX).num_frames <= min(kept[0].facts.corrupt_frames)


def test_case_09_hole_of_zeros(rows: dict[str, Row]) -> None:
    failed(rows["09-hole.mp4"], "damaged")


@needs_shared
@pytest.mark.parametrize("name", ["sthv2/166766.mp4", "odd/big_buck_bunny_432_433.webm"])
def test_case_09_hole_of_zeros_in_webm(name: str, tmp_path: Path) -> None:
    """VP8 and VP9 decoders give wrong pictures for it, and no error."""
    data = bytearray((VIDEOS / name).read_bytes())
    with av.open(str(VIDEOS / name)) as container:
        packet = max((p for p in container.demux(video=0) if p.size), key=lambda p: p.size)
    place = data.index(bytes(packet)) + packet.size // 4
    data[place : place + 2000] = bytes(2000)
    (tmp_path / "hole.webm").write_bytes(data)
    outcome = read(tmp_path / "hole.webm")
    assert outcome.code == "damaged"
    assert "decoder error" in outcome.detail


def test_case_10_header_announces_too_many(rows: dict[str, Row], sound: Path, tmp_path: Path) -> None:
    kept(rows["10-claims.avi"], NUM_FRAMES, "header_count")
    failed(rows["10-claims-cut.avi"], "truncated")
    path = bad_files.announce(sound / "good.avi", tmp_path / "million.avi", 1_000_000)
    assert read(path).flags == ["header_count"], "a limit of frames is not for what a header says"


def test_case_11_edit_list(rows: dict[str, Row]) -> None:
    row = rows["11-trimmed.mp4"]
    kept(row, NUM_FRAMES - 12)
    assert row["decoder"]["packets"] == NUM_FRAMES


def test_case_12_one_frame(rows: dict[str, Row]) -> None:
    row = rows["12-one.avi"]
    assert (row["state"], codes(row), row["frames"], row["flows"]) == ("flagged", ["too_short"], 1, 0)


@pytest.mark.parametrize("name", ["13-no-packets.mp4", "13-no-packets.avi", "13-audio.mp4"])
def test_case_13_no_video(rows: dict[str, Row], name: str) -> None:
    failed(rows[name], "no_video")


def test_case_14_attached_picture(rows: dict[str, Row]) -> None:
    kept(rows["14-cover.mp4"], NUM_FRAMES)
    assert (rows["14-cover.mp4"]["width"], rows["14-cover.mp4"]["height"]) == (96, 64)


def test_case_15_two_video_streams(rows: dict[str, Row]) -> None:
    kept(rows["15-two.mkv"], 4, "multi_stream")
    assert (rows["15-two.mkv"]["width"], rows["15-two.mkv"]["height"]) == (96, 64), "FFmpeg's best: the larger one"


@pytest.mark.parametrize("degrees", [90, 180, 270, -90])
def test_case_16_rotation(tmp_path: Path, degrees: int) -> None:
    plain = write_video(tmp_path / "plain.mp4", moving_frames(3), codec="libx264", options={"qp": "0"})
    turned = bad_files.turned(plain, tmp_path / "turned.mp4", degrees)
    here, there = read(turned), read(plain)
    assert here.first is not None
    assert there.first is not None
    assert here.facts.rotation % 360 in (degrees % 360, -degrees % 360)
    capture = cv2.VideoCapture(str(turned))
    np.testing.assert_array_equal(here.first, cv2.cvtColor(capture.read()[1], cv2.COLOR_BGR2RGB))
    assert here.shape == ((96, 64, 3) if degrees % 180 else (64, 96, 3))


def test_case_16_rotation_is_in_the_record(rows: dict[str, Row]) -> None:
    row = rows["16-turned.mp4"]
    kept(row, NUM_FRAMES)
    assert (row["width"], row["height"], row["decoder"]["rotation"] % 180) == (64, 96, 90)


def test_case_17_variable_frame_rate(rows: dict[str, Row], run: tuple[Path, dict[str, Row]]) -> None:
    kept(rows["17-vfr.mkv"], 7)
    with flowprep_package.open_store(run[0]) as store:
        times = store.pts_seconds(rows["17-vfr.mkv"]["id"])
    np.testing.assert_allclose(times, np.array([0, 1, 2, 10, 11, 40, 41]) / 25, atol=2e-3)


def test_case_18_time_stamps_that_are_missing(rows: dict[str, Row], tmp_path: Path) -> None:
    kept(rows["18-packed.avi"], 9, "pts")
    path = bad_files.packed_b_frames(tmp_path / "packed.avi")
    assert read(path, DecodeSettings(on_pts="fail")).code == "pts"
    np.testing.assert_allclose(np.diff(read(path).pts), 1 / 25)


@needs_shared
def test_case_18_packed_b_frames_of_a_real_clip_get_sorted_times() -> None:
    outcome = read(VIDEOS / "hmdb51/wave/RATRACE_wave_f_nm_np1_fr_goo_37.avi")
    steps = np.diff(outcome.pts)
    assert outcome.flags == ["pts"]
    assert steps.min() >= 0
    np.testing.assert_allclose(steps.mean(), 1 / 30, rtol=0.02)
    assert read(VIDEOS / "odd/packed_bframes.avi", DecodeSettings(on_pts="fail")).code == "pts"


def test_case_19_size_change(rows: dict[str, Row]) -> None:
    failed(rows["19-sizes.ts"], "size_change", "frame 5 is 128x64, those before are 96x64")


def test_case_20_odd_size_and_interlaced(rows: dict[str, Row]) -> None:
    kept(rows["20-odd.mkv"], 3)
    assert (rows["20-odd.mkv"]["width"], rows["20-odd.mkv"]["height"]) == (321, 241)
    kept(rows["20-interlaced.mkv"], 4, "interlaced")


@pytest.mark.parametrize(
    ("codec", "pixel_format", "size"),
    [
        ("libx264", "yuv444p", (33, 17)),
        ("libx264", "yuv420p10le", (32, 16)),
        ("libx264", "gray", (32, 16)),
        ("libx264", "yuvj420p", (32, 16)),
        ("ffv1", "yuv420p", (33, 17)),
    ],
)
def test_case_20_pixel_formats_become_rgb(tmp_path: Path, codec: str, pixel_format: str, size: tuple[int, int]) -> None:
    frames = np.full((3, size[1], size[0], 3), 120, np.uint8)
    path = write_video(tmp_path / "x.mkv", frames, codec=codec, pixel_format=pixel_format)
    outcome = read(path)
    assert outcome.shape == (size[1], size[0], 3)
    assert outcome.first is not None
    assert np.abs(outcome.first.astype(int) - 120).max() <= 3


def test_case_21_too_large(run: tuple[Path, dict[str, Row]]) -> None:
    for name, size in (("21-huge.mp4", "8192x8192"), ("21-huge-header.avi", "16000x16000")):
        failed(run[1][name], "too_large", size)
        assert attempts(run, name) == 1, "within the 0.25 GiB that the child has"
    failed(run[1]["21-absurd-header.avi"], "damaged")  # more than FFmpeg can count: it tells no size
    assert attempts(run, "21-absurd-header.avi") == 1


def test_case_21_too_large_costs_no_memory(sound: Path) -> None:
    """A frame of 8192x8192 takes 100 MB in the decoder alone, which is never allocated."""
    script = (
        "import resource, sys\nfrom pathlib import Path\nfrom helpers.reading import read\n"
        "peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\nbefore = peak()\n"
        "assert read(Path(sys.argv[1])).code == 'too_large'\nprint(peak() - before)"
    )
    tests = Path(__file__).parents[1]
    done = subprocess.run(
        [sys.executable, "-c", script, sound / "huge.mp4"], cwd=tests, capture_output=True, text=True, check=True
    )
    assert int(done.stdout) < 48 * 1024  # KiB


def test_case_21_large_frames_are_refused_before_they_are_decoded(sound: Path) -> None:
    outcome = read(sound / "good.avi", DecodeSettings(max_pixels=96 * 64 - 1))
    assert (outcome.code, outcome.num_frames) == ("too_large", 0)


def test_case_22_too_long_is_refused_before_it_is_decoded(sound: Path, tmp_path: Path) -> None:
    limit = DecodeSettings(max_frames=NUM_FRAMES - 1)
    outcome = read(sound / "good.avi", limit)
    assert (outcome.code, outcome.num_frames) == ("too_long", 0)
    frames = moving_frames(NUM_FRAMES)
    live = write_video(tmp_path / "live.mkv", frames, codec="libx264", container_options={"live": "1"})
    assert read(live, limit).code == "too_long", "a header that does not say"


def test_case_22_long_videos_are_streamed(tmp_path: Path) -> None:
    """Frames come one by one: the first is there although the file is never read to its end."""
    long = write_video(tmp_path / "long.avi", np.concatenate([moving_frames(8)] * 250), gop_size=50)
    with VideoReader(long, DecodeSettings()) as reader:
        next(reader.frames())
        assert reader.facts.packets <= 6  # an AVI is read a few frames ahead, to sort its time stamps
        assert reader.expected_frames == 2000


def test_case_23_damage_in_packed_b_frames(rows: dict[str, Row], tmp_path: Path) -> None:
    failed(rows["23-packed-damaged.avi"], "damaged", "1 corrupt frame among 15 packets")
    path = bad_files.packed_b_frames(tmp_path / "packed.avi", 15, damaged=True)
    found = [read(path, KEEP) for _ in range(3)]
    assert found[0].flags == ["damaged", "pts"]
    assert len({(run.num_frames, run.facts.corrupt_frames, run.digest.hexdigest()) for run in found}) == 1


def test_case_23_open_group_at_the_start(rows: dict[str, Row]) -> None:
    """The three B-frames whose reference was cut off give no frame, and nothing is invented for them."""
    kept(rows["23-open-gop.mp4"], 24)
    assert rows["23-open-gop.mp4"]["decoder"]["packets"] == 27


@pytest.mark.parametrize("name", ["28-pipe.mp4", "28-folder.mp4", "28-device.mp4"])
def test_case_28_special_files(rows: dict[str, Row], name: str) -> None:
    """The run that has read them has ended, so none of them was waited for."""
    failed(rows[name], "not_regular")


def test_case_29_links(rows: dict[str, Row]) -> None:
    failed(rows["29-dangling.mp4"], "missing")
    failed(rows["29-loop.mp4"], "loop")
    kept(rows["29-out.avi"], NUM_FRAMES)


def extract_one(folder: Path, out: Path, patch: pytest.MonkeyPatch) -> Row:
    """The row of the only video of a folder, extracted in this process."""
    be_quick(patch)
    settings = ExtractSettings(flow=FlowSettings(backend="dis"), resize=ResizeSettings(short_side=None))
    flowprep_package.extract("folder", videos=folder, out=out, settings=settings, run=RunSettings(jobs=1))
    (row,) = manifest(out)[1]
    return row


@pytest.fixture
def folder(sound: Path, tmp_path: Path) -> Path:
    """A folder with one sound video."""
    (tmp_path / "videos").mkdir()
    shutil.copy(sound / "good.avi", tmp_path / "videos" / "x.avi")
    return tmp_path / "videos"


def test_case_30_no_permission(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Injected, since nothing is forbidden to root."""
    real = os.open

    def refusing(path: Any, *arguments: Any, **named: Any) -> int:
        if str(path).endswith("x.avi"):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))
        return real(path, *arguments, **named)

    monkeypatch.setattr(os, "open", refusing)
    failed(extract_one(folder, tmp_path / "out", monkeypatch), "permission", "give read permission")


def test_case_30_error_of_the_disk_while_reading(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """That it is tried again, and how often, is in `test_bad_children`."""

    def failing(_: object) -> None:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr("flowprep.containers.read_extent", failing)
    failed(extract_one(folder, tmp_path / "out", monkeypatch), "io", "Input/output error")


def test_case_30_ffmpeg_says_eio_of_damage_too(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Then the file itself is read: only if that fails the disk is to blame."""
    path = folder / "x.avi"
    assert source.failure_behind(errno.EIO, path) is None
    assert source.failure_behind(errno.EINVAL, path) is None

    @contextlib.contextmanager
    def failing(_: Path) -> Iterator[None]:
        raise source.failure_of(OSError(errno.EIO, "Input/output error"))
        yield

    monkeypatch.setattr(source, "opened", failing)
    for number, code in {errno.EIO: "io", errno.ESTALE: "io", errno.ENOMEM: "memory"}.items():
        failure = source.failure_behind(number, path)
        assert failure is not None
        assert failure.code == code


@pytest.mark.parametrize(
    "change",
    [
        lambda path: path.write_bytes(path.read_bytes() + b"x"),
        lambda path: os.utime(path, ns=(1, 1)),
        lambda path: (path.rename(path.with_suffix(".old")), shutil.copy2(path.with_suffix(".old"), path)),
    ],
    ids=["grown", "touched", "replaced"],
)
def test_case_31_file_changes_while_it_is_read(
    change: Callable[[Path], object], folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = pipeline.extract_frames

    def meddled(*arguments: Any) -> Any:
        row = real(*arguments)
        change(folder / "x.avi")
        return row

    monkeypatch.setattr(pipeline, "extract_frames", meddled)
    failed(extract_one(folder, tmp_path / "out", monkeypatch), "changed")


def test_case_32_same_content_twice(run: tuple[Path, dict[str, Row]]) -> None:
    first, second = run[1]["32-first.avi"], run[1]["32-second.avi"]
    kept(first, NUM_FRAMES)
    kept(second, NUM_FRAMES)
    assert first["id"] != second["id"]
    assert first["stream_sha256"] == second["stream_sha256"]
    with flowprep_package.open_store(run[0]) as store:
        data = b"".join(bytes(store.jpeg(second["id"], "rgb", k)) for k in range(NUM_FRAMES))
    assert hashlib.sha256(data).hexdigest() == second["stream_sha256"]["rgb"]


def test_all_files_of_the_table_have_a_test(rows: dict[str, Row]) -> None:
    text = Path(__file__).read_text("utf-8").partition("def run(")[2]
    assert [name for name in rows if f'"{name}"' not in text] == []

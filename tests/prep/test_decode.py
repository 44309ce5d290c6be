import errno
import hashlib
import os
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
from helpers.media import cut, flip_bits, moving_frames, write_video
from helpers.shared_data import VIDEOS, needs_shared

from flowprep.config import DecodeSettings
from flowprep.decode import VideoReader
from flowprep.errors import VideoError
from flowprep.records import DecodeFacts, Segment
from flowprep.timing import resolve_segment

OLD = int(cv2.__version__.split(".")[0]) < 5
KEEP = DecodeSettings(on_damage="keep-flagged")
PREFIX = DecodeSettings(on_damage="keep-prefix")


class Outcome:
    """What reading a whole file gave."""

    def __init__(self, path: Path, settings: DecodeSettings, segment: Segment | None = None) -> None:
        self.digest = hashlib.sha256()
        self.num_frames = 0
        self.code, self.detail = "", ""
        self.facts = DecodeFacts()
        self.shape: tuple[int, ...] = ()
        self.first: np.ndarray | None = None
        try:
            with VideoReader(path, settings, segment) as reader:
                for rgb in reader.frames():
                    self.first = rgb if self.first is None else self.first
                    self.digest.update(rgb)
                    self.num_frames += 1
                    self.shape = rgb.shape
                self.facts = reader.facts
                self.flags = [reason.code for reason in reader.reasons]
                self.reasons = reader.reasons
                self.pts = reader.pts_seconds
                self.fps = reader.fps
        except VideoError as error:
            self.code, self.detail = error.code, error.detail


def read(path: Path, settings: DecodeSettings | None = None, segment: Segment | None = None) -> Outcome:
    return Outcome(path, settings or DecodeSettings(), segment)


ODD = {
    "-video-with-dash-.mp4": (5, []),
    "100_0306.AVI": (41, []),
    "VID00003-20100701-2204.avi": (1179, ["header_count"]),
    "animated.gif": "format_refused",
    "audio_only.mp4": "no_video",
    "av1_video.mkv": (125, []),
    "big_buck_bunny.mp4": (125, []),
    "big_buck_bunny.mpg": (125, ["unverified_length"]),
    "big_buck_bunny.wmv": (125, []),
    "big_buck_bunny_432_433.webm": (24, []),
    "brokensps.mp4": "size_change",
    "bt709_full_range.mp4": (30, []),
    "clock-cram16.avi": (30, []),
    "corrupted.mp4": "damaged",
    "displaymatrix.mp4": "truncated",
    "dvd_single_frame.mp4": (1, ["unverified_length"]),
    # x264 of its time wrote 4:4:4 that no decoder reads rightly: a third of the picture is garbage
    "empty_edit_5s.mp4": "damaged",
    "extradata-reload-multi-stsd.mp4": "size_change",
    "fire2.mp4": (25, []),
    "git_lfs_pointer.mp4": "not_video",
    "h264_10bits.mp4": (30, []),
    "h264small.mp4": (74, ["unverified_length"]),
    "h265_video.mp4": (10, []),
    "init_segment_only.mp4": "no_video",
    "invalid_userdata.mp4": "no_video",
    "minimal.mp4": (1, []),
    "mov-tenc-only-encrypted.mp4": "damaged",
    "mov_neg_first_pts_discard.mp4": (15, []),
    "nasa_13013.mp4": (390, ["multi_stream"]),
    "no_duration.webm": (74, ["unverified_length"]),
    "no_moov.mp4": "container",
    "packed_bframes.avi": (15, ["pts"]),
    "qcif_RGB.avi": (1, []),
    "qcif_Y8.avi": (1, []),
    "rotate_0.mov": (3, []),
    "rotate_90.mov": (3, []),
    "sample.3gp": (74, []),
    "test_non_zero_start.mp4": (12, []),
    "test_res_change.h264": "size_change",
    "testsrc2_mpeg4.mp4": (1, []),
    "testsrc2_odd_height_and_width_444.mp4": (25, []),
    "testsrc2_odd_height_and_width_mpeg2.mp4": (10, []),
    "testsrc2_odd_width_vp9.mp4": (25, []),
    "two_first_slice.mp4": "truncated",
    "video_with_failing_audio.mp4": (280, []),
    "zero_bytes.webm": "empty",
}


@needs_shared
@pytest.mark.parametrize("name", sorted(ODD))
def test_odd_file_ends_as_the_table_says(name: str) -> None:
    outcome = read(VIDEOS / "odd" / name)
    expected = ODD[name]
    if isinstance(expected, str):
        assert (outcome.code, outcome.detail != "") == (expected, True)
    else:
        assert (outcome.code, outcome.num_frames, outcome.flags) == ("", *expected)
        assert len(outcome.pts) == outcome.num_frames
        assert all(later >= earlier for earlier, later in zip(outcome.pts, outcome.pts[1:], strict=False))


@needs_shared
def test_the_table_names_every_odd_file() -> None:
    assert sorted(ODD) == sorted(path.name for path in (VIDEOS / "odd").iterdir())


@needs_shared
@pytest.mark.parametrize(
    ("name", "num_frames", "packets"),
    [
        ("ucf101/SoccerJuggling/v_SoccerJuggling_g23_c01.avi", 240, 240),
        ("ucf101/Basketball/v_Basketball_g01_c01.avi", 141, 141),
        ("hmdb51/wave/RATRACE_wave_f_nm_np1_fr_goo_37.avi", 72, 73),
        ("hmdb51/cartwheel/Turnk_r_Pippi_Michel_cartwheel_f_cm_np2_le_med_6.avi", 83, 84),
        ("kinetics/abseiling/abseiling_k400.mp4", 250, 250),
        ("sthv2/166766.mp4", 49, 49),
    ],
)
def test_clips_of_the_data_sets_are_whole(name: str, num_frames: int, packets: int) -> None:
    outcome = read(VIDEOS / name)
    assert (outcome.code, outcome.num_frames, outcome.facts.packets) == ("", num_frames, packets)
    assert set(outcome.flags) <= {"pts"}


@needs_shared
@pytest.mark.parametrize(
    "name",
    [
        "ucf101/Basketball/v_Basketball_g01_c01.avi",
        "sthv2/166766.mp4",
        pytest.param("odd/rotate_90.mov", marks=pytest.mark.skipif(OLD, reason="OpenCV 4 does not heed BT.709 tags")),
        "odd/fire2.mp4",
    ],
)
def test_pixels_are_those_of_opencv(name: str) -> None:
    """OpenCV applies the rotation too, and converts colours by the same tables."""
    capture = cv2.VideoCapture(str(VIDEOS / name))
    with VideoReader(VIDEOS / name, DecodeSettings()) as reader:
        for index, rgb in enumerate(reader.frames()):
            if index < 10:
                success, bgr = capture.read()
                assert success == (index < 3 or "rotate" not in name)
                np.testing.assert_array_equal(rgb, cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB))


@needs_shared
@pytest.mark.parametrize("share", [0.3, 0.6, 0.9])
@pytest.mark.parametrize(
    "name",
    [
        "ucf101/SoccerJuggling/v_SoccerJuggling_g23_c01.avi",
        "ucf101/ApplyEyeMakeup/v_ApplyEyeMakeup_g01_c01.avi",
        "hmdb51/wave/RATRACE_wave_f_nm_np1_fr_goo_37.avi",
        "hmdb51/drink/50_FIRST_DATES_drink_u_nm_np1_fr_goo_29.mp4",
        "kinetics/using_segway/R6llTwEh07w.mp4",
        "kinetics/abseiling/abseiling_k400.mp4",
        "activitynet/v_GGSY1Qvo990.mp4",
        "sthv2/166766.mp4",
        "sthv2/human_demos_task41_1.webm",
    ],
)
def test_a_cut_file_is_caught(name: str, share: float, tmp_path: Path) -> None:
    path = cut(VIDEOS / name, tmp_path / Path(name).name, share)
    outcome = read(path)
    assert outcome.code in ("truncated", "container")
    kept = read(path, PREFIX)
    if outcome.code == "truncated" and kept.code == "":
        assert "truncated" in kept.flags
        assert kept.num_frames > 0
    else:
        assert kept.code in ("truncated", "container")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of small videos of 60 frames, one a container."""
    folder = tmp_path_factory.mktemp("made")
    frames = moving_frames(60)
    write_video(folder / "good.avi", frames)
    write_video(folder / "faststart.mp4", frames, codec="libx264", container_options={"movflags": "faststart"})
    write_video(folder / "plain.mp4", frames, codec="libx264")
    write_video(folder / "good.mkv", frames, codec="libx264")
    write_video(folder / "good.webm", frames[:20], codec="libvpx", options={"deadline": "realtime"})
    write_video(folder / "live.mkv", frames, codec="libx264", container_options={"live": "1"})
    write_video(folder / "good.ts", frames, codec="libx264")
    write_video(folder / "fragments.mp4", frames, codec="libx264", container_options={"movflags": "frag_keyframe"})
    return folder


@pytest.mark.parametrize("name", ["good.avi", "faststart.mp4", "plain.mp4", "good.mkv", "good.webm", "fragments.mp4"])
def test_a_whole_file_is_ok(made: Path, name: str) -> None:
    outcome = read(made / name)
    assert (outcome.code, outcome.flags) == ("", [])
    assert outcome.num_frames == (20 if name == "good.webm" else 60)


@pytest.mark.parametrize("name", ["good.ts", "live.mkv"])
def test_a_container_without_length_is_flagged(made: Path, name: str) -> None:
    outcome = read(made / name)
    assert (outcome.code, outcome.num_frames, outcome.flags) == ("", 60, ["unverified_length"])


@pytest.mark.parametrize("share", [0.3, 0.6, 0.9])
@pytest.mark.parametrize("name", ["good.avi", "faststart.mp4", "plain.mp4", "good.mkv", "good.webm"])
def test_a_cut_container_is_caught(made: Path, tmp_path: Path, name: str, share: float) -> None:
    outcome = read(cut(made / name, tmp_path / name, share))
    # 30 % of the small AVI end inside its header, and the index of plain.mp4 is its last part
    assert outcome.code == ("container" if name == "plain.mp4" or (name, share) == ("good.avi", 0.3) else "truncated")


def test_keep_prefix_gives_the_same_frames_on_every_run(made: Path, tmp_path: Path) -> None:
    path = cut(made / "faststart.mp4", tmp_path / "cut.mp4", 0.6)
    runs = [read(path, PREFIX) for _ in range(5)]
    assert {(run.num_frames, run.digest.hexdigest()) for run in runs} == {
        (runs[0].num_frames, runs[0].digest.hexdigest())
    }
    assert runs[0].flags == ["truncated"]
    assert 0 < runs[0].num_frames < 60


def test_silent_damage_in_an_avi_is_caught(made: Path, tmp_path: Path) -> None:
    path = flip_bits(made / "good.avi", tmp_path / "flipped.avi")
    failed = read(path)
    assert failed.code == "damaged"
    assert "corrupt frame" in failed.detail
    kept = [read(path, KEEP) for _ in range(3)]
    assert kept[0].flags == ["damaged"]
    assert kept[0].facts.corrupt_frames
    assert len({(run.num_frames, run.facts.corrupt_frames) for run in kept}) == 1
    prefix = read(path, PREFIX)
    assert prefix.num_frames <= min(kept[0].facts.corrupt_frames)


def test_damage_in_h264_gives_equal_counts_on_every_run(made: Path, tmp_path: Path) -> None:
    path = flip_bits(made / "faststart.mp4", tmp_path / "flipped.mp4")
    assert {(run.code, run.detail) for run in (read(path) for _ in range(10))} == {("damaged", read(path).detail)}


def test_a_hole_of_zeros_is_caught(made: Path, tmp_path: Path) -> None:
    data = bytearray((made / "faststart.mp4").read_bytes())
    data[len(data) // 2 : len(data) // 2 + len(data) // 5] = bytes(len(data) // 5)
    (tmp_path / "hole.mp4").write_bytes(data)
    assert read(tmp_path / "hole.mp4").code == "damaged"


def test_a_cut_inside_the_first_frame_is_truncated(made: Path, tmp_path: Path) -> None:
    with av.open(str(made / "faststart.mp4")) as container:
        first = next(packet for packet in container.demux(video=0) if packet.size)
        place = (first.pos or 0) + first.size // 2
    data = (made / "faststart.mp4").read_bytes()
    (tmp_path / "cut.mp4").write_bytes(data[:place])
    assert read(tmp_path / "cut.mp4").code == "truncated"


def test_a_header_that_announces_too_many_frames_is_flagged(made: Path, tmp_path: Path) -> None:
    data = bytearray((made / "good.avi").read_bytes())
    for tag, offset in ((b"avih", 8 + 16), (b"strh", 8 + 32)):
        place = data.index(tag) + offset
        assert int.from_bytes(data[place : place + 4], "little") == 60
        data[place : place + 4] = (431).to_bytes(4, "little")
    (tmp_path / "claims.avi").write_bytes(data)
    outcome = read(tmp_path / "claims.avi")
    assert (outcome.code, outcome.num_frames, outcome.flags) == ("", 60, ["header_count"])
    assert read(cut(tmp_path / "claims.avi", tmp_path / "cut.avi", 0.6)).code == "truncated"


@pytest.mark.parametrize(
    ("name", "content", "code"),
    [
        ("empty.mp4", b"", "empty"),
        ("page.mp4", b"<!DOCTYPE html><html><body>404 Not Found</body></html>", "not_video"),
        ("list.ffconcat", b"ffconcat version 1.0\nfile good.avi\n", "format_refused"),
        ("list.mp4", b"#EXTM3U\n#EXT-X-TARGETDURATION:5\n#EXTINF:5,\nfile:///etc/passwd\n", "format_refused"),
        ("words.mp4", b"1\n00:00:00,000 --> 00:00:02,000\nHello\n", "format_refused"),
    ],
)
def test_what_is_no_video_is_refused(tmp_path: Path, name: str, content: bytes, code: str) -> None:
    (tmp_path / name).write_bytes(content)
    assert read(tmp_path / name).code == code


def test_an_image_is_refused(tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "image.png"), np.zeros((32, 32, 3), np.uint8))
    (tmp_path / "image.png").rename(tmp_path / "image.mp4")
    assert read(tmp_path / "image.mp4").code == "format_refused"


def test_special_files_fail_at_once(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.mp4")
    (tmp_path / "folder.mp4").mkdir()
    (tmp_path / "dangling.mp4").symlink_to("nowhere.mp4")
    (tmp_path / "loop.mp4").symlink_to("loop.mp4")
    assert read(tmp_path / "pipe.mp4").code == "not_regular"
    assert read(tmp_path / "folder.mp4").code == "not_regular"
    assert read(Path("/dev/zero")).code == "not_regular"
    assert read(tmp_path / "dangling.mp4").code == "missing"
    assert read(tmp_path / "loop.mp4").code == "loop"
    assert read(tmp_path / ("x" * 300)).code == "name_too_long"


@pytest.mark.parametrize(
    "name", ["http:__host_x.mp4", "concat:a.avi|b.avi", "-x.avi", "a\nb $(id);'\".avi", b"\xff\xfe.avi"]
)
def test_any_file_name_is_just_a_name(made: Path, tmp_path: Path, name: str | bytes) -> None:
    path = tmp_path / os.fsdecode(name)
    path.write_bytes((made / "good.avi").read_bytes())
    assert read(path).num_frames == 60


def test_large_frames_are_refused_before_they_are_decoded(made: Path) -> None:
    outcome = read(made / "good.avi", DecodeSettings(max_pixels=96 * 64 - 1))
    assert (outcome.code, outcome.num_frames) == ("too_large", 0)


def test_long_videos_are_refused_before_they_are_decoded(made: Path) -> None:
    outcome = read(made / "good.avi", DecodeSettings(max_frames=59))
    assert (outcome.code, outcome.num_frames) == ("too_long", 0)
    unannounced = read(made / "live.mkv", DecodeSettings(max_frames=59))
    assert unannounced.code == "too_long"


@pytest.mark.parametrize("degrees", [90, 180, 270, -90])
def test_rotation_is_applied(tmp_path: Path, degrees: int) -> None:
    upright = moving_frames(3)
    plain = write_video(tmp_path / "plain.mp4", upright, codec="libx264", options={"qp": "0"})
    turned = tmp_path / "turned.mp4"
    with av.open(str(plain)) as source, av.open(str(turned), "w") as target:
        stream = target.add_stream_from_template(source.streams.video[0])
        stream.set_display_rotation(degrees)
        for packet in source.demux(video=0):
            if packet.dts is not None:
                packet.stream = stream
                target.mux(packet)
    here, there = read(turned), read(plain)
    assert here.first is not None
    assert there.first is not None
    assert here.facts.rotation % 360 in (degrees % 360, -degrees % 360)
    capture = cv2.VideoCapture(str(turned))
    np.testing.assert_array_equal(here.first, cv2.cvtColor(capture.read()[1], cv2.COLOR_BGR2RGB))
    assert here.shape == ((96, 64, 3) if degrees % 180 else (64, 96, 3))


def test_variable_frame_rate_keeps_its_times(tmp_path: Path) -> None:
    places = [0, 1, 2, 10, 11, 40, 41]
    path = write_video(tmp_path / "vfr.mkv", moving_frames(7), codec="libx264", pts=places)
    outcome = read(path)
    assert (outcome.num_frames, outcome.flags) == (7, [])
    np.testing.assert_allclose(outcome.pts, np.array(places) / 25, atol=2e-3)


@needs_shared
@pytest.mark.parametrize("name", ["RATRACE_wave_f_nm_np1_fr_goo_37", "TrumanShow_wave_f_nm_np1_fr_med_26"])
def test_packed_b_frames_are_picked_and_cut_by_sorted_times(name: str) -> None:
    path = VIDEOS / "hmdb51" / "wave" / f"{name}.avi"
    whole = read(path)
    picked = read(path, DecodeSettings(fps=10))
    assert picked.flags == ["pts"]
    np.testing.assert_allclose(np.diff(picked.pts), 0.1, atol=0.034)
    assert set(np.round(picked.pts, 6)) <= set(np.round(whole.pts, 6))
    assert read(path, DecodeSettings(fps=10, on_pts="fail")).code == "pts"
    for start, end in ((0.2, 0.7), (0.31, 1.13), (0.5, 1.5)):
        part = read(path, segment=Segment(start_seconds=start, end_seconds=end))
        np.testing.assert_allclose(part.pts, [time for time in whole.pts if start - 1e-6 <= time < end - 1e-6])


@needs_shared
def test_packed_b_frames_get_sorted_times() -> None:
    outcome = read(VIDEOS / "hmdb51/wave/RATRACE_wave_f_nm_np1_fr_goo_37.avi")
    steps = np.diff(outcome.pts)
    assert outcome.flags == ["pts"]
    assert steps.min() >= 0
    np.testing.assert_allclose(steps.mean(), 1 / 30, rtol=0.02)
    assert read(VIDEOS / "odd/packed_bframes.avi", DecodeSettings(on_pts="fail")).code == "pts"


def test_fps_picks_nearest_frames_and_invents_none(made: Path) -> None:
    slow = read(made / "good.mkv", DecodeSettings(fps=5))
    assert (slow.num_frames, slow.fps) == (12, 5.0)
    np.testing.assert_allclose(np.diff(slow.pts), 0.2, atol=2e-3)
    fast = read(made / "good.mkv", DecodeSettings(fps=100))
    assert (fast.num_frames, fast.fps) == (60, 25.0)


def test_a_segment_is_cut_from_the_middle(made: Path) -> None:
    for name in ("good.mkv", "good.avi", "faststart.mp4"):
        with VideoReader(made / name, DecodeSettings()) as reader:
            whole = list(reader.frames())
            times = reader.pts_seconds
        outcome = read(made / name, segment=Segment(start_seconds=0.8, end_seconds=1.6))
        wanted = [index for index, time in enumerate(times) if 0.8 - 1e-6 <= time < 1.6]
        assert (outcome.code, outcome.num_frames, outcome.facts.segment_cut) == ("", len(wanted), True)
        np.testing.assert_array_equal(outcome.first, whole[wanted[0]])


@pytest.mark.parametrize(
    ("codec", "options"),
    [
        ("libx265", {"x265-params": "open-gop=1:bframes=4:log-level=none"}),
        ("libx264", {"x264-params": "open-gop=1:bframes=4"}),
        ("libvpx-vp9", {"deadline": "realtime"}),
    ],
)
def test_a_segment_after_a_seek_is_that_of_linear_reading(tmp_path: Path, codec: str, options: dict[str, str]) -> None:
    path = write_video(
        tmp_path / "x.mp4", moving_frames(120), codec=codec, options=options, gop_size=24, max_b_frames=4
    )
    with VideoReader(path, DecodeSettings()) as reader:
        frames = [rgb.tobytes() for rgb in reader.frames()]
        times = reader.pts_seconds
    for start in np.arange(0.0, 4.5, 0.37):
        with VideoReader(path, DecodeSettings(), Segment(start_seconds=start, end_seconds=start + 0.3)) as reader:
            part = [rgb.tobytes() for rgb in reader.frames()]
        assert part == [
            rgb for rgb, time in zip(frames, times, strict=True) if start - 1e-6 <= time < start + 0.3 - 1e-6
        ]


@needs_shared
@pytest.mark.parametrize("name", ["sthv2/166766.mp4", "odd/big_buck_bunny_432_433.webm"])
def test_a_hole_of_zeros_in_webm_is_caught(name: str, tmp_path: Path) -> None:
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


def test_a_header_that_announces_a_million_frames_does_not_fail_the_video(made: Path, tmp_path: Path) -> None:
    data = bytearray((made / "good.avi").read_bytes())
    for tag, offset in ((b"avih", 8 + 16), (b"strh", 8 + 32)):
        place = data.index(tag) + offset
        data[place : place + 4] = (1_000_000).to_bytes(4, "little")
    (tmp_path / "claims.avi").write_bytes(data)
    assert read(tmp_path / "claims.avi").flags == ["header_count"]


def test_a_cut_live_file_is_truncated_inside_a_segment_too(made: Path, tmp_path: Path) -> None:
    data = bytearray((made / "good.mkv").read_bytes())
    place = data.index(b"\x18\x53\x80\x67") + 4
    data[place : place + 8] = b"\x01" + b"\xff" * 7
    (tmp_path / "cut.mkv").write_bytes(data[: int(len(data) * 0.6)])
    assert read(tmp_path / "cut.mkv").code == "truncated"
    assert read(tmp_path / "cut.mkv", segment=Segment(start_seconds=0.4, end_seconds=2.2)).code == "truncated"


def test_errors_of_the_disk_are_not_the_videos_fault(made: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def failing(_: object) -> None:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr("flowprep.containers.read_extent", failing)
    assert read(made / "good.avi").code == "io"


def test_a_segment_beyond_the_end_is_said(made: Path) -> None:
    assert read(made / "good.mkv", segment=Segment(start_seconds=1.0, end_seconds=9.0)).flags == ["segment_short"]
    assert read(made / "good.mkv", segment=Segment(start_seconds=7.0, end_seconds=9.0)).code == "segment_short"


@pytest.mark.parametrize(
    ("duration", "policy", "cut_it"),
    [(10.2, "auto", False), (120.0, "auto", True), (12.0, "auto", False), (10.2, "cut", True), (120.0, "whole", False)],
)
def test_kinetics_files_that_are_cut_already_stay_whole(duration: float, policy: str, cut_it: bool) -> None:
    segment = Segment(start_seconds=40, end_seconds=50, certain=False)
    assert (resolve_segment(segment, duration, policy) is segment) == cut_it


def test_a_size_change_names_the_frame(tmp_path: Path) -> None:
    parts = [
        write_video(tmp_path / f"{k}.ts", moving_frames(5, 96 + 32 * k), codec="libx264").read_bytes() for k in (0, 1)
    ]
    (tmp_path / "joined.ts").write_bytes(b"".join(parts))
    outcome = read(tmp_path / "joined.ts")
    assert outcome.code == "size_change"
    assert "frame 5 is 128x64, those before are 96x64" in outcome.detail


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
def test_pixel_formats_become_rgb(tmp_path: Path, codec: str, pixel_format: str, size: tuple[int, int]) -> None:
    frames = np.full((3, size[1], size[0], 3), 120, np.uint8)
    path = write_video(tmp_path / "x.mkv", frames, codec=codec, pixel_format=pixel_format)
    outcome = read(path)
    assert outcome.shape == (size[1], size[0], 3)
    assert outcome.first is not None
    assert np.abs(outcome.first.astype(int) - 120).max() <= 3


def test_a_cover_picture_is_not_the_video(made: Path, tmp_path: Path) -> None:
    with av.open(str(made / "good.avi")) as source, av.open(str(tmp_path / "cover.mp4"), "w") as target:
        cover = target.add_stream("mjpeg", rate=25)
        cover.width = cover.height = 640
        cover.pix_fmt = "yuvj420p"
        cover.disposition = av.stream.Disposition.attached_pic
        stream = target.add_stream_from_template(source.streams.video[0])
        picture = av.VideoFrame.from_ndarray(np.zeros((640, 640, 3), np.uint8), format="rgb24")
        target.mux(cover.encode(picture))
        target.mux(cover.encode(None))
        for packet in source.demux(video=0):
            if packet.dts is not None:
                packet.stream = stream
                target.mux(packet)
    outcome = read(tmp_path / "cover.mp4")
    assert outcome.shape == (64, 96, 3)
    assert "multi_stream" not in outcome.flags


@pytest.fixture(scope="module")
def long_video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("long") / "long.avi"
    frames = moving_frames(8)
    return write_video(path, np.concatenate([frames] * 250), gop_size=50)


def test_reading_streams(long_video: Path) -> None:
    """Frames come one by one: the first is there although the file is never read to its end."""
    with VideoReader(long_video, DecodeSettings()) as reader:
        next(reader.frames())
        assert reader.facts.packets <= 6  # an AVI is read a few frames ahead, to sort its time stamps
        assert reader.expected_frames == 2000

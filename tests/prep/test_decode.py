import gc
import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import pytest
from helpers.media import cut, moving_frames, write_video
from helpers.reading import PREFIX, read
from helpers.shared_data import VIDEOS, needs_shared

from flowprep.config import DecodeSettings
from flowprep.decode import VideoReader
from flowprep.errors import VideoError
from flowprep.records import Segment
from flowprep.timing import resolve_segment

OLD = int(cv2.__version__.split(".")[0]) < 5


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
    write_video(folder / "pipe.avi", frames, to_pipe=True)
    write_video(folder / "good.ts", frames, codec="libx264")
    write_video(folder / "fragments.mp4", frames, codec="libx264", container_options={"movflags": "frag_keyframe"})
    return folder


@pytest.mark.parametrize("name", ["good.avi", "faststart.mp4", "plain.mp4", "good.mkv", "good.webm", "fragments.mp4"])
def test_a_whole_file_is_ok(made: Path, name: str) -> None:
    outcome = read(made / name)
    assert (outcome.code, outcome.flags) == ("", [])
    assert outcome.num_frames == (20 if name == "good.webm" else 60)


@pytest.mark.parametrize(("num_packets", "code"), [(70, ""), (10, "damaged")])
def test_demuxing_may_end_with_an_index_error_after_the_stream_was_flushed_alone(
    made: Path, monkeypatch: pytest.MonkeyPatch, num_packets: int, code: str
) -> None:
    """As PyAV does where a stream turns up behind the header; a file without a length has no other sign of a loss."""

    class Ending:
        def __init__(self, real: av.container.InputContainer) -> None:
            self.real = real

        def __getattr__(self, name: str) -> Any:
            return getattr(self.real, name)

        def demux(self, streams: Any) -> Iterator[Any]:
            yield from itertools.islice(self.real.demux(streams), num_packets)
            raise IndexError("list index out of range")

    real = VideoReader._open
    monkeypatch.setattr(VideoReader, "_open", lambda self, **options: Ending(real(self, **options)))
    assert read(made / "live.mkv").code == code


@pytest.mark.parametrize("name", ["good.ts", "live.mkv", "pipe.avi"])
def test_a_container_without_length_is_flagged(made: Path, name: str) -> None:
    outcome = read(made / name)
    assert (outcome.code, outcome.num_frames, outcome.flags) == ("", 60, ["unverified_length"])
    assert outcome.facts.announced_frames == 0


def test_a_container_without_a_name_of_its_own_is_a_file(tmp_path: Path) -> None:
    (tmp_path / "cut.flv").write_bytes(b"FLV\1\5\0\0\0\x09")
    assert read(tmp_path / "cut.flv").detail == "the file has no readable index of streams; fetch it again"


@pytest.fixture(scope="module")
def long(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder: an AVI of some megabytes that went to a pipe, raw DV, and two joined transport streams."""
    folder = tmp_path_factory.mktemp("long")
    noise = np.random.default_rng(0).integers(0, 255, (4, 576, 720, 3), dtype=np.uint8)
    write_video(folder / "pipe.avi", noise, codec="rawvideo", pixel_format="bgr24", to_pipe=True)
    write_video(folder / "raw.dv", noise[:2], codec="dvvideo")
    once = (folder / "raw.dv").read_bytes()
    (folder / "raw.dv").write_bytes(once * 15)  # each frame of raw DV stands alone
    frames = moving_frames(12)
    eight_hours = [index + 8 * 3600 * 25 for index in range(12)]
    for name, pts in (("a.ts", None), ("b.ts", eight_hours)):
        write_video(folder / name, frames, codec="libx264", container="mpegts", pts=pts)
    with (folder / "joined.ts").open("wb") as file:
        file.write((folder / "a.ts").read_bytes() + (folder / "b.ts").read_bytes())
    return folder


def test_a_length_that_its_writer_did_not_know_is_no_length(long: Path) -> None:
    """The header says 2^30 frames, and FFmpeg makes days of them and of the bytes."""
    assert (long / "pipe.avi").stat().st_size > 4_500_000
    outcome = read(long / "pipe.avi")
    assert (outcome.code, outcome.num_frames, outcome.flags) == ("", 4, ["unverified_length"])
    segment = Segment(start_seconds=0.0, end_seconds=0.12, certain=False)
    with VideoReader(long / "pipe.avi", DecodeSettings(max_frames=4), segment) as reader:
        assert reader.expected_frames == 3
    with VideoReader(long / "pipe.avi", DecodeSettings()) as reader:
        assert reader.expected_frames == 0


@pytest.mark.parametrize(("name", "num_frames"), [("raw.dv", 30), ("joined.ts", 24)])
def test_only_a_count_refuses_before_the_frames_are_counted(long: Path, name: str, num_frames: int) -> None:
    """Rate and duration may come from the unit of time stamps, and from stamps that jump."""
    with VideoReader(long / name, DecodeSettings(max_frames=num_frames)) as reader:
        assert sum(1 for _ in reader.frames()) == num_frames
        assert reader.fps == 25
    with pytest.raises(VideoError, match="more than 20 frames; raise --max-frames"):  # noqa: SIM117
        with VideoReader(long / name, DecodeSettings(max_frames=20)) as reader:
            list(reader.frames())


@pytest.mark.parametrize("share", [0.3, 0.6, 0.9])
@pytest.mark.parametrize("name", ["good.avi", "faststart.mp4", "plain.mp4", "good.mkv", "good.webm"])
def test_a_cut_container_is_caught(made: Path, tmp_path: Path, name: str, share: float) -> None:
    outcome = read(cut(made / name, tmp_path / name, share))
    # 30 % of the small AVI end inside its header, and the index of plain.mp4 is its last part
    assert outcome.code == ("container" if name == "plain.mp4" or (name, share) == ("good.avi", 0.3) else "truncated")


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


def test_a_kept_prefix_has_no_picture_that_was_made_from_a_damaged_one(tmp_path: Path) -> None:
    """Of B-frames that lie between two others, the later one is decoded first, and shown last."""
    path = tmp_path / "b.mp4"
    options = {"b_strategy": "0", "sc_threshold": "0", "b_pyramid": "normal"}
    frames = moving_frames(40, 192, 128)
    write_video(path, frames, codec="libx264", gop_size=250, max_b_frames=3, options=options)
    with av.open(str(path)) as container:
        packets = [packet for packet in container.demux(video=0) if packet.size]
    ahead = [packet for packet in packets if packet.pts - packet.dts == max(p.pts - p.dts for p in packets[4:])]
    assert len(ahead) > 5
    with VideoReader(path, DecodeSettings()) as reader:
        sound = list(reader.frames())
    for packet in ahead[2:6]:
        data = bytearray(path.read_bytes())
        place = slice(packet.pos + packet.size // 2, packet.pos + packet.size)
        data[place] = bytes(byte ^ 0xFF for byte in data[place])
        (tmp_path / "damaged.mp4").write_bytes(data)
        with VideoReader(tmp_path / "damaged.mp4", PREFIX) as reader:
            kept = list(reader.frames())
        assert [reason.code for reason in reader.reasons] == ["damaged"]
        assert 0 < len(kept) < len(sound)
        assert all(np.array_equal(one, other) for one, other in zip(kept, sound, strict=False))


def test_frames_are_let_go_of_at_once(made: Path) -> None:
    """Side data of a frame hold on to it, so that its memory would wait for the garbage collector."""
    gc.collect()
    gc.disable()
    try:
        with VideoReader(made / "plain.mp4", DecodeSettings()) as reader:
            assert sum(1 for _ in reader.frames()) == 60
        assert sum(type(thing) is av.VideoFrame for thing in gc.get_objects()) < 5
    finally:
        gc.enable()


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


def test_a_cut_live_file_is_truncated_inside_a_segment_too(made: Path, tmp_path: Path) -> None:
    data = bytearray((made / "good.mkv").read_bytes())
    place = data.index(b"\x18\x53\x80\x67") + 4
    data[place : place + 8] = b"\x01" + b"\xff" * 7
    (tmp_path / "cut.mkv").write_bytes(data[: int(len(data) * 0.6)])
    assert read(tmp_path / "cut.mkv").code == "truncated"
    assert read(tmp_path / "cut.mkv", segment=Segment(start_seconds=0.4, end_seconds=2.2)).code == "truncated"


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

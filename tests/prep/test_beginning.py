"""Videos that begin without their key frame: those that have lost it, and those that began anywhere."""

from __future__ import annotations

from pathlib import Path

import av
import pytest
from helpers.media import first_packets, moving_frames, write_video
from helpers.reading import KEEP, PREFIX, read
from helpers.shared_data import VIDEOS, needs_shared

from flowprep.records import Segment

NUM_FRAMES = 48
OPTIONS = {"libx264": {"x264-params": "scenecut=0"}, "libx265": {"x265-params": "scenecut=0:log-level=none"}}


def torn(folder: Path, name: str, codec: str, max_b_frames: int = 0) -> Path:
    """A video of two groups of pictures without its first packet."""
    whole = write_video(
        folder / f"whole-{name}",
        moving_frames(NUM_FRAMES, 64, 48),
        codec=codec,
        gop_size=24,
        max_b_frames=max_b_frames,
        options=OPTIONS.get(codec),
    )
    assert read(whole).num_frames == NUM_FRAMES
    return first_packets(whole, folder / name, NUM_FRAMES, skipped=1)


@pytest.mark.parametrize(
    ("name", "codec", "max_b_frames", "num_kept"),
    [
        ("x.mp4", "libx264", 0, 24),
        ("x.mp4", "libx264", 2, 24),
        ("x.mkv", "libx264", 0, 24),
        ("x.avi", "libx264", 0, 24),
        ("x.mkv", "libx265", 0, 24),
        ("x.mkv", "mpeg2video", 2, 24),
        ("x.mp4", "mpeg4", 0, 47),  # all of them, beginning with a wrong one
        ("x.avi", "mpeg4", 0, 47),
        ("x.mp4", "mpeg4", 2, 46),
        ("x.asf", "wmv2", 0, 47),
    ],
)
def test_a_lost_key_frame_is_damage(tmp_path: Path, name: str, codec: str, max_b_frames: int, num_kept: int) -> None:
    path = torn(tmp_path, name, codec, max_b_frames)
    outcome = read(path)
    assert outcome.code == "damaged"
    assert outcome.detail == "1 decoder error among 47 packets; it begins without a key frame"
    assert read(path, PREFIX).code == "damaged"
    kept = read(path, KEEP)
    assert (kept.num_frames, kept.facts.num_errors, kept.facts.gaps) == (num_kept, 1, (0,))
    assert "damaged" in kept.flags


@pytest.mark.parametrize(("name", "codec"), [("x.ts", "libx264"), ("x.ts", "mpeg2video"), ("x.mpg", "mpeg1video")])
def test_a_recording_of_a_broadcast_begins_anywhere(tmp_path: Path, name: str, codec: str) -> None:
    outcome = read(torn(tmp_path, name, codec))
    assert (outcome.code, outcome.num_frames, outcome.flags) == ("", 24, ["unverified_length"])


def test_a_key_frame_that_is_not_marked_is_one(tmp_path: Path) -> None:
    """As where the header of its FLV tag says that it is made from others."""
    path = write_video(tmp_path / "x.flv", moving_frames(48, 64, 48), codec="flv", gop_size=24)
    with av.open(str(path)) as container:
        first = bytes(next(container.demux(video=0)))
    data = bytearray(path.read_bytes())
    flags = data.index(first) - 1
    assert data[flags] == 0x12
    data[flags] = 0x22
    path.write_bytes(data)
    with av.open(str(path)) as container:
        assert not next(container.demux(video=0)).is_keyframe
    outcome = read(path)
    assert (outcome.code, outcome.num_frames, outcome.flags) == ("", 48, ["unverified_length"])


def test_what_is_before_a_segment_is_not_judged(tmp_path: Path) -> None:
    path = torn(tmp_path, "x.avi", "mpeg4")
    assert read(path, segment=Segment(start_seconds=1.2, end_seconds=1.6)).flags == []
    assert read(path, segment=Segment(start_seconds=0.0, end_seconds=0.5)).code == "damaged"


@needs_shared
def test_a_packet_that_an_edit_list_discards_is_no_loss() -> None:
    outcome = read(VIDEOS / "odd" / "mov_neg_first_pts_discard.mp4")
    assert (outcome.code, outcome.num_frames, outcome.facts.num_errors) == ("", 15, 0)

"""The sound clips that are mutated: small ones of every container and codec that is met with, made and real."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from helpers.media import first_packets, moving_frames, write_video
from helpers.shared_data import VIDEOS

_REAL_PACKETS = 5
os.environ.setdefault("SVT_LOG", "0")  # the AV1 encoder's talk


@dataclass(frozen=True)
class Format:
    """A container with a codec: how clips of it are made, and real ones below the shared videos."""

    suffix: str
    codec: str
    real: tuple[str, ...] = ()
    size: tuple[int, int] = (48, 32)  # width, height
    options: Mapping[str, str] = field(default_factory=dict)
    max_b_frames: int = 0
    container: str | None = None


FORMATS: Mapping[str, Format] = {
    "avi-mpeg4": Format(
        ".avi",
        "mpeg4",
        ("ucf101/Basketball/v_Basketball_g01_c01.avi", "hmdb51/wave/TrumanShow_wave_f_nm_np1_fr_med_26.avi"),
        max_b_frames=2,
    ),
    "mp4-mpeg4": Format(".mp4", "mpeg4", ("hmdb51/drink/50_FIRST_DATES_drink_u_nm_np1_fr_goo_29.mp4",)),
    "mp4-h264": Format(".mp4", "libx264", ("kinetics/abseiling/abseiling_k400.mp4",), max_b_frames=2),
    "mp4-hevc": Format(".mp4", "libx265", size=(64, 64), options={"x265-params": "log-level=none"}),
    "mp4-av1": Format(".mp4", "libsvtav1", size=(64, 64), options={"preset": "13", "svtav1-params": "lp=1"}),
    "mkv-h264": Format(".mkv", "libx264", max_b_frames=2),
    "webm-vp8": Format(".webm", "libvpx", options={"deadline": "realtime"}),
    "webm-vp9": Format(".webm", "libvpx-vp9", ("sthv2/166766.mp4",), options={"deadline": "realtime"}),
    "ts-h264": Format(".ts", "libx264"),
    "mpg-mpeg2": Format(".mpg", "mpeg2video", max_b_frames=2),
    "asf-wmv2": Format(".wmv", "wmv2", container="asf"),
    "flv-flv1": Format(".flv", "flv"),
}


def make_clips(name: str, folder: Path) -> list[bytes]:
    """Sound clips of a format: two that are made, of 4 and 8 frames, then the beginnings of the real ones if here."""
    form = FORMATS[name]
    clips = []
    for seed, num_frames in enumerate((4, 8)):
        path = folder / f"{name}-{seed}{form.suffix}"
        write_video(
            path,
            moving_frames(num_frames, *form.size, seed=seed),
            codec=form.codec,
            container=form.container,
            options=dict(form.options),
            max_b_frames=form.max_b_frames,
            gop_size=4,
        )
        clips.append(path.read_bytes())
    for number, real in enumerate(form.real if VIDEOS.is_dir() else ()):
        path = first_packets(VIDEOS / real, folder / f"{name}-real{number}{form.suffix}", _REAL_PACKETS)
        clips.append(path.read_bytes())
    return clips

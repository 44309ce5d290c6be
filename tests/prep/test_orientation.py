"""Pictures as they are to be shown, by the display matrix of the container or the EXIF data of each JPEG."""

from __future__ import annotations

import io
import struct
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
from helpers.media import moving_frames, write_video
from helpers.reading import read
from PIL import Image

from flowprep.config import DecodeSettings
from flowprep.decode import VideoReader

ONE = 1 << 16


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_video(tmp_path_factory.mktemp("plain") / "plain.mp4", moving_frames(3), codec="libx264")


def first_frame(path: Path) -> np.ndarray:
    with VideoReader(path, DecodeSettings()) as reader:
        return next(reader.frames())


def with_matrix(source: Path, target: Path, a: int, b: int, c: int, d: int) -> Path:
    """The MP4 with a matrix a b 0, c d 0, 0 0 1 of 16.16 numbers: a point (p, q) is shown at (a p + c q, b p + d q)."""
    data = bytearray(source.read_bytes())
    place = data.index(b"tkhd") + 4 + 40
    assert data[place : place + 36] == struct.pack(">9i", ONE, 0, 0, 0, ONE, 0, 0, 0, 1 << 30)
    data[place : place + 36] = struct.pack(">9i", a, b, 0, c, d, 0, 0, 0, 1 << 30)
    target.write_bytes(data)
    return target


@pytest.mark.parametrize(
    ("matrix", "shown"),
    [
        ((1, 0, 0, 1), lambda image: image),
        ((-1, 0, 0, -1), lambda image: np.rot90(image, 2)),
        ((0, 1, -1, 0), lambda image: np.rot90(image, -1)),
        ((0, -1, 1, 0), lambda image: np.rot90(image, 1)),
        ((-1, 0, 0, 1), lambda image: image[:, ::-1]),
        ((1, 0, 0, -1), lambda image: image[::-1]),
        ((0, 1, 1, 0), lambda image: image.transpose(1, 0, 2)),
        ((0, -1, -1, 0), lambda image: np.rot90(image, 2).transpose(1, 0, 2)),
    ],
)
def test_pictures_are_turned_and_mirrored_as_their_matrix_says(
    plain: Path, tmp_path: Path, matrix: tuple[int, int, int, int], shown: Callable[[np.ndarray], np.ndarray]
) -> None:
    a, b, c, d = (value * ONE for value in matrix)
    turned = with_matrix(plain, tmp_path / "turned.mp4", a, b, c, d)
    assert np.array_equal(first_frame(turned), shown(first_frame(plain)))


@pytest.mark.parametrize(
    ("matrix", "rotation", "turns"),
    [
        ((1, ONE, -ONE, 0), -90, -1),  # one unit beside a quarter turn
        ((-ONE, -700, 700, -ONE), 180, 2),  # 0.6 degrees beside half a turn
        ((0, 0, 0, 0), 0, 0),
        ((ONE, ONE, ONE, ONE), 0, 0),  # all points on a line
    ],
)
def test_a_matrix_that_is_nearly_a_turn_or_none(
    plain: Path, tmp_path: Path, matrix: tuple[int, int, int, int], rotation: int, turns: int
) -> None:
    path = with_matrix(plain, tmp_path / "turned.mp4", *matrix)
    outcome = read(path)
    assert (outcome.code, outcome.flags, outcome.facts.rotation) == ("", [], rotation)
    assert np.array_equal(first_frame(path), np.rot90(first_frame(plain), turns))


def test_another_angle_is_flagged_and_left(plain: Path, tmp_path: Path) -> None:
    path = with_matrix(plain, tmp_path / "turned.mp4", 56756, 32768, -32768, 56756)
    outcome = read(path)
    assert (outcome.flags, outcome.facts.rotation) == (["askew"], -30)
    assert outcome.reasons[0].detail == "frames are to be turned by -30 degrees, and are left as they are"
    assert np.array_equal(first_frame(path), first_frame(plain))


@pytest.mark.parametrize("orientation", range(1, 9))
def test_jpegs_of_an_avi_are_shown_as_their_exif_data_say(tmp_path: Path, orientation: int) -> None:
    """FFmpeg gives EXIF as side data of a kind that PyAV has no name for."""
    exif = Image.Exif()
    exif[0x112] = orientation
    file = io.BytesIO()
    Image.fromarray(moving_frames(1)[0]).save(file, "JPEG", exif=exif, quality=95)
    path = tmp_path / "exif.avi"
    with av.open(str(path), "w") as output:
        stream = output.add_stream("mjpeg", rate=25)
        stream.width, stream.height, stream.pix_fmt = 96, 64, "yuvj420p"
        for index in range(2):
            packet = av.Packet(file.getvalue())
            packet.stream, packet.pts, packet.dts, packet.time_base = stream, index, index, Fraction(1, 25)
            packet.is_keyframe = True
            output.mux(packet)
    shown = cv2.cvtColor(cv2.imdecode(np.frombuffer(file.getvalue(), np.uint8), cv2.IMREAD_COLOR), cv2.COLOR_BGR2RGB)
    frame = first_frame(path)
    assert frame.shape == shown.shape
    assert np.abs(frame.astype(int) - shown).mean() < 6  # chroma is made larger in another way; mirrored it is 36

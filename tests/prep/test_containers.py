import struct
from pathlib import Path

import pytest
from helpers.media import moving_frames, write_video
from hypothesis import given
from hypothesis import strategies as st

from flowprep.containers import Extent, read_extent


def extent_of(path: Path, content: bytes) -> Extent:
    path.write_bytes(content)
    with path.open("rb") as file:
        return read_extent(file)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    folder = tmp_path_factory.mktemp("containers")
    frames = moving_frames(5, 32, 32)
    names = {"avi": "mpeg4", "mkv": "mpeg4", "mp4": "mpeg4", "wmv": "msmpeg4v3", "mov": "mpeg4"}
    return {
        suffix: write_video(folder / f"x.{suffix}", frames, codec=codec).read_bytes() for suffix, codec in names.items()
    }


@pytest.mark.parametrize(
    ("suffix", "kind"), [("avi", "avi"), ("mkv", "matroska"), ("mp4", "mp4"), ("mov", "mp4"), ("wmv", "asf")]
)
def test_a_whole_file_is_as_long_as_it_says(made: dict[str, bytes], tmp_path: Path, suffix: str, kind: str) -> None:
    data = made[suffix]
    whole = extent_of(tmp_path / "whole", data)
    assert (whole.kind, whole.missing_bytes, whole.complete) == (kind, 0, True)
    cut = extent_of(tmp_path / "cut", data[:-100])
    assert (cut.kind, cut.complete) == (kind, False)
    assert 90 <= cut.missing_bytes <= 100
    # Trailing bytes that belong to nothing are no loss.
    assert extent_of(tmp_path / "longer", data + bytes(50)).complete


def test_boxes_of_64_bit_and_open_boxes(tmp_path: Path) -> None:
    head = struct.pack(">I4s8x", 16, b"ftyp")
    assert extent_of(tmp_path / "a", head + struct.pack(">I4sQ", 1, b"mdat", 1 << 40)).announced_bytes == 16 + (1 << 40)
    assert extent_of(tmp_path / "b", head + struct.pack(">I4s", 0, b"mdat") + bytes(100)).announced_bytes is None


def test_riff_chunks_follow_each_other(tmp_path: Path) -> None:
    first = b"RIFF" + struct.pack("<I", 92) + b"AVI " + bytes(88)
    second = b"RIFF" + struct.pack("<I", 192) + b"AVIX" + bytes(188)
    assert extent_of(tmp_path / "a", first + second).complete
    assert extent_of(tmp_path / "b", first + second[:50]).missing_bytes == 150
    for unknown in (0, 0xFFFFFFFF):
        died = b"RIFF" + struct.pack("<I", unknown) + b"AVI " + bytes(88)
        assert extent_of(tmp_path / "c", died).announced_bytes is None


def test_a_live_matroska_segment_announces_nothing(made: dict[str, bytes], tmp_path: Path) -> None:
    data = bytearray(made["mkv"])
    place = data.index(b"\x18\x53\x80\x67") + 4
    data[place : place + 8] = b"\x01" + b"\xff" * 7
    assert extent_of(tmp_path / "x", bytes(data)).announced_bytes is None


ASF = bytes.fromhex("3026b2758e66cf11a6d900aa0062ce6c") + bytes(8) + b"\x02\0\0\0\1\2"


@given(
    st.binary(max_size=200) | st.binary(max_size=30).map(lambda data: data + b"\xff" * 40),
    st.sampled_from([b"", b"RIFF\x10\0\0\0AVI ", b"\x1a\x45\xdf\xa3\x01", b"\0\0\0\x18ftyp", b"\0\0\0\1ftyp", ASF]),
)
def test_strange_bytes_never_raise(tmp_path_factory: pytest.TempPathFactory, data: bytes, head: bytes) -> None:
    path = tmp_path_factory.getbasetemp() / "strange"
    extent = extent_of(path, head + data)
    assert extent.num_bytes == len(head) + len(data)
    assert extent.missing_bytes >= 0

import cv2
import numpy as np
import pytest

from flowprep.config import JpegSettings, ResizeSettings
from flowprep.encode import decode_plane, decode_rgb, encode_plane, encode_rgb
from flowprep.errors import StoreError
from flowprep.resize import grey, resize, target_size


@pytest.mark.parametrize(
    ("source", "short_side", "expected"),
    [
        ((320, 240), 256, (340, 256)),  # the released UCF101 flow
        ((240, 320), 256, (256, 340)),
        ((427, 240), 256, (454, 256)),
        ((560, 240), 112, (260, 112)),
        ((256, 256), 256, (256, 256)),
        ((1, 1), 256, (256, 256)),
        ((100, 99), 33, (33, 33)),  # 2*floor(33.3/2) = 32 would make the long side the shorter one
        ((1000, 3), 10, (3332, 10)),
    ],
)
def test_short_side(source: tuple[int, int], short_side: int, expected: tuple[int, int]) -> None:
    assert target_size(*source, ResizeSettings(short_side=short_side)) == expected


def test_other_sizes() -> None:
    assert target_size(321, 241, ResizeSettings(short_side=None)) == (321, 241)
    assert target_size(321, 241, ResizeSettings(short_side=None, width=112, height=84)) == (112, 84)


def test_resize_and_grey_are_opencvs() -> None:
    rgb = np.random.default_rng(0).integers(0, 256, (24, 32, 3), np.uint8)
    small = resize(rgb, (20, 10))
    np.testing.assert_array_equal(small, cv2.resize(rgb, (20, 10), interpolation=cv2.INTER_CUBIC))
    np.testing.assert_array_equal(grey(small), cv2.cvtColor(small, cv2.COLOR_RGB2GRAY))
    assert resize(rgb, (32, 24)) is rgb


def test_jpeg_keeps_colours_in_order() -> None:
    rgb = np.zeros((32, 32, 3), np.uint8)
    rgb[...] = (200, 100, 20)
    back = decode_rgb(encode_rgb(rgb, JpegSettings()))
    assert np.abs(back.astype(int) - rgb).max() <= 4


def test_jpeg_is_baseline_with_half_chroma() -> None:
    data = encode_rgb(np.zeros((16, 16, 3), np.uint8), JpegSettings())
    start = data.index(b"\xff\xc0")  # SOF0: baseline
    assert data[start + 9] == 3
    assert data[start + 11] == 0x22  # luma 2x2, hence 4:2:0
    assert b"\xff\xdd" not in data  # no restart interval


def test_plane_is_one_channel_and_quality_counts() -> None:
    plane = cv2.GaussianBlur(np.random.default_rng(0).integers(0, 256, (64, 64), np.uint8), (5, 5), 1)
    data = encode_plane(plane, JpegSettings())
    assert data[data.index(b"\xff\xc0") + 9] == 1
    assert len(encode_plane(plane, JpegSettings(quality=50))) < len(data)
    assert np.abs(decode_plane(data).astype(int) - plane).mean() < 1.5


@pytest.mark.parametrize("data", [b"", b"not a picture", b"\xff\xd8\xff"])
def test_what_is_no_jpeg_is_an_error(data: bytes) -> None:
    with pytest.raises(StoreError, match="not a JPEG"):
        decode_plane(data)

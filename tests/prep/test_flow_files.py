"""`.flo` and `.npy`: round trips, real files, and damaged ones."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from helpers.shared_data import FLOW, needs_shared

from flowprep.errors import MissingDataError, SettingsError, StoreError
from flowprep.flowfile import UNKNOWN_PX, read_flow, write_flow

FIELD = np.random.default_rng(0).normal(size=(5, 7, 2)).astype(np.float32)


@pytest.mark.parametrize("name", ["a.flo", "a.npy", "A.FLO", "A.NPY"])
def test_round_trip(tmp_path: Path, name: str) -> None:
    write_flow(tmp_path / name, FIELD)
    found = read_flow(str(tmp_path / name))
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, FIELD)


def test_flo_bytes_are_the_published_ones(tmp_path: Path) -> None:
    write_flow(tmp_path / "a.flo", np.array([[[1, -2], [0.5, 0]]], np.float32))
    assert (tmp_path / "a.flo").read_bytes() == (
        b"PIEH" + bytes([2, 0, 0, 0, 1, 0, 0, 0]) + bytes([0, 0, 0x80, 0x3F, 0, 0, 0, 0xC0, 0, 0, 0, 0x3F, 0, 0, 0, 0])
    )


def test_views_and_other_byte_order_are_written_right(tmp_path: Path) -> None:
    write_flow(tmp_path / "a.flo", FIELD[::2, ::-1])
    np.testing.assert_array_equal(read_flow(tmp_path / "a.flo"), FIELD[::2, ::-1])


@needs_shared
def test_middlebury_file() -> None:
    flow = read_flow(FLOW / "rubberwhale" / "gt.flo")
    assert flow.shape == (388, 584, 2)
    assert int((np.abs(flow) > UNKNOWN_PX).any(axis=-1).sum()) == 3622


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "not a .flo file"),
        (b"HEIP" + bytes(8), "not a .flo file"),
        (b"PIEH" + bytes(3), "header ends after 7 of 12 bytes"),
        (b"PIEH" + np.array([0, 5], "<i4").tobytes(), "1 to 99999, got 0x5"),
        (b"PIEH" + np.array([-1, 5], "<i4").tobytes(), "got -1x5"),
        (b"PIEH" + np.array([99999, 99999], "<i4").tobytes() + bytes(80), "takes 79998400020 bytes, the file has 92"),
        (b"PIEH" + np.array([2, 1], "<i4").tobytes() + bytes(15), "takes 28 bytes, the file has 27"),
        (b"PIEH" + np.array([2, 1], "<i4").tobytes() + bytes(17), "takes 28 bytes, the file has 29"),
    ],
)
def test_damaged_flo_files_are_refused(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "a.flo").write_bytes(content)
    with pytest.raises(StoreError, match=message):
        read_flow(tmp_path / "a.flo")


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (FIELD.astype(np.float64), "got float64"),
        (FIELD[..., 0], r"got float32 \(5, 7\)"),
        (np.array([{}], dtype=object), "not a readable .npy file"),
    ],
    ids=["float64", "2-D", "pickle"],
)
def test_other_npy_files_are_refused(tmp_path: Path, array: np.ndarray, message: str) -> None:  # type: ignore[type-arg]
    np.save(tmp_path / "a.npy", array, allow_pickle=True)
    with pytest.raises(StoreError, match=message):
        read_flow(tmp_path / "a.npy")


@pytest.mark.parametrize("cut", [0, 5, 40, -1, None], ids=str)
def test_damaged_npy_files_are_refused(tmp_path: Path, cut: int | None) -> None:
    path = tmp_path / "a.npy"
    write_flow(path, FIELD)
    content = path.read_bytes()
    path.write_bytes(content + b"x" if cut is None else content[:cut])
    with pytest.raises(StoreError, match=r"a\.npy"):
        read_flow(path)


def test_missing_files_and_wrong_names_are_told(tmp_path: Path) -> None:
    with pytest.raises(MissingDataError, match=r"b\.flo: there is no such file"):
        read_flow(tmp_path / "b.flo")
    with pytest.raises(SettingsError, match=r"end in \.flo or \.npy, got '\.png'"):
        read_flow("b.png")
    with pytest.raises(SettingsError, match=r"end in \.flo or \.npy, got ''"):
        write_flow(tmp_path / "b", FIELD)
    with pytest.raises(SettingsError, match=r"must be float32 \(H, W, 2\), got float64"):
        write_flow(tmp_path / "b.flo", FIELD.astype(np.float64))  # type: ignore[arg-type]

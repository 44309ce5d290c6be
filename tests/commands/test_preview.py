"""`flowprep preview` as a user enters it."""

import json
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
from helpers.command import flowprep
from helpers.media import moving_frames, write_video


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("preview")
    (folder / "videos" / "run").mkdir(parents=True)
    write_video(folder / "videos" / "run" / "a b.avi", moving_frames(8, 112, 84))
    (folder / "videos" / "run" / "bad.mp4").write_bytes(b"no video")
    arguments = ("--dataset", "folder", "--videos", folder / "videos", "--out", folder / "store")
    flowprep("extract", *arguments, "--backend", "dis", "--keep-size", "--jobs", "1", expect=1)
    return folder / "store"


def test_sheet_and_film(store: Path, tmp_path: Path) -> None:
    shown = flowprep("preview", store, "run/a b", "-o", tmp_path / "a.png", "--num-frames", "3", "--json")
    written = json.loads(shown.stdout)
    assert written["frames"] == [1, 3, 5]
    assert "a.png: 3 frames, 1 to 5 of run/a b, scale 3 px" in shown.stderr
    sheet = cv2.imread(str(tmp_path / "a.png"))
    assert sheet is not None
    panel = sheet[150:380, 14 + 336 + 8 + 20 : 14 + 2 * 336 + 8 - 20]
    blue, _, red = np.median(panel, axis=(0, 1))
    assert red > blue + 80  # everything drifts to the right
    shown = flowprep("preview", store, "run/a b", "-o", tmp_path / "a.mp4")
    assert shown.stdout == ""
    with av.open(str(tmp_path / "a.mp4")) as film:
        assert len(list(film.decode(video=0))) == 7


def test_errors_are_one_sentence(store: Path, tmp_path: Path) -> None:
    for arguments, message in (
        ((store, "run/ab", "-o", tmp_path / "x.png"), "did you mean 'run/a b'"),
        ((store, "run/bad", "-o", tmp_path / "x.png"), "its state is failed: not_video"),
        ((store, "run/a b", "-o", tmp_path / "x.gif"), "must end in .png or .mp4"),
        ((tmp_path / "none", "run/a b", "-o", tmp_path / "x.png"), "there is no store"),
    ):
        shown = flowprep("preview", *arguments, expect=2)
        assert shown.stderr.startswith("Error: ")
        assert message in shown.stderr
        assert len(shown.stderr.splitlines()) == 1

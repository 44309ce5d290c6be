"""Default places, and what is said where a dataset is not there."""

import subprocess
import sys
from pathlib import Path

import pytest
from helpers.dataset_files import make_files

from flowprep.datasets import NAMES, find_places, list_videos
from flowprep.errors import MissingDataError, SettingsError


@pytest.mark.parametrize(
    ("name", "folder"),
    [
        ("ucf101", "splits"),
        ("ucf101", "ucfTrainTestlist"),
        ("hmdb51", "testTrainMulti_7030_splits"),
        ("hmdb51", "splits"),
        ("kinetics", "annotations"),
        ("ssv2", "labels"),
        ("ssv2", "splits"),
    ],
)
def test_the_default_layout(tmp_path: Path, name: str, folder: str) -> None:
    base = tmp_path / name
    (base / "videos").mkdir(parents=True)
    assert find_places(name, root=tmp_path).splits is None
    (base / folder).mkdir()
    places = find_places(name, root=tmp_path)
    assert (places.videos, places.splits, places.out) == (base / "videos", base / folder, base / "flow")


def test_named_places_win(tmp_path: Path) -> None:
    for folder in ("v", "s", "data/ucf101/splits"):
        (tmp_path / folder).mkdir(parents=True)
    root, videos = tmp_path / "data", tmp_path / "v"
    places = find_places("ucf101", root=root, videos=videos, splits=tmp_path / "s", out=tmp_path / "o")
    assert (places.videos, places.splits, places.out) == (videos, tmp_path / "s", tmp_path / "o")
    places = find_places("ucf101", root=root, videos=videos)
    assert (places.splits, places.out) == (root / "ucf101/splits", root / "ucf101/flow")
    (tmp_path / "ucfTrainTestlist").mkdir()
    assert find_places("ucf101", root=root, videos=videos).splits == tmp_path / "ucfTrainTestlist"


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("ucf101", ["CRCV", "University of Central Florida", "ucf101/splits", "v_<Class>_g01_c01.avi"]),
        ("hmdb51", ["Serre lab", "Brown University", "<class>/<file>.avi"]),
        ("kinetics", ["DeepMind", "CVDF", "<id>_<start>_<end>.mp4"]),
        ("ssv2", ["Qualcomm", "<number>.webm"]),
        ("folder", ["<class>/<file>"]),
        ("list", ["relative to"]),
    ],
)
def test_missing_videos_say_what_was_looked_for_where_it_is_had_and_how_it_lies(
    tmp_path: Path, name: str, words: list[str]
) -> None:
    with pytest.raises(MissingDataError) as caught:
        find_places(name, root=tmp_path)
    for word in [f"the video folder {tmp_path / name / 'videos'} does not exist", "--videos", *words]:
        assert word in str(caught.value)
    make_files(tmp_path, f"{name}/videos")
    with pytest.raises(MissingDataError, match="videos is not a folder: --videos takes the folder"):
        find_places(name, root=tmp_path)


def test_missing_lists_that_were_named_are_an_error(tmp_path: Path) -> None:
    make_files(tmp_path, "list.txt")
    with pytest.raises(MissingDataError, match="where the lists of ucf101 were looked for, does not exist"):
        find_places("ucf101", videos=tmp_path, splits=tmp_path / "absent")
    with pytest.raises(MissingDataError, match="is a file, but the lists of ucf101 are a folder"):
        find_places("ucf101", videos=tmp_path, splits=tmp_path / "list.txt")
    for splits in (None, tmp_path):
        with pytest.raises(MissingDataError, match="needs its list file"):
            find_places("list", videos=tmp_path, splits=splits)
    assert find_places("list", videos=tmp_path, splits=tmp_path / "list.txt").splits == tmp_path / "list.txt"


def test_unknown_names_are_refused(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"must be one of ucf101, .*, got 'imagenet'"):
        find_places("imagenet")
    with pytest.raises(SettingsError, match=r"must be one of ucf101, .*, got 'imagenet'"):
        list_videos("imagenet", tmp_path)
    assert NAMES == ("ucf101", "hmdb51", "kinetics", "ssv2", "folder", "list")


def test_listing_needs_nothing_heavy() -> None:
    check = "import sys, flowprep.datasets; print(sorted({'numpy', 'cv2', 'av', 'h5py'} & set(sys.modules)))"
    result = subprocess.run([sys.executable, "-c", check], capture_output=True, text=True, check=True)
    assert result.stdout == "[]\n"

"""HMDB51: the real official lists, and file names that no tool likes."""

from collections import Counter
from pathlib import Path

import pytest
from helpers.dataset_files import by_id, make_files, problem_codes, write_lists
from helpers.shared_data import SPLITS, VIDEOS, needs_shared

from flowprep.datasets import list_videos, missing_by_class_and_split
from flowprep.errors import DatasetError, MissingDataError

NAMES = ["a b (1) & c; #2'.avi", '\u00e9t\u00e9 "x".avi', "$(id).avi", "#first.avi"]


@needs_shared
def test_real_lists_with_seven_real_clips() -> None:
    splits = SPLITS / "hmdb51/testTrainMulti_7030_splits"
    listing = list_videos("hmdb51", VIDEOS / "hmdb51", splits=splits)
    assert len(listing.videos) == 6766
    assert list(listing.splits) == ["1", "2", "3"]
    for parts in listing.splits.values():
        assert {part: len(ids) for part, ids in parts.items()} == {"train": 3570, "test": 1530}
    names = (SPLITS / "hmdb51/class_list.txt").read_text().split()
    assert listing.classes == tuple(sorted(names))
    present = [video for video in listing.videos if video.problem is None]
    assert len(present) == 7
    assert Counter(Path(video.path).suffix for video in present) == {".avi": 3, ".mp4": 4}  # four were transcoded
    assert listing.unlisted == ()
    drink = by_id(listing)["drink/50_FIRST_DATES_drink_u_nm_np1_fr_goo_29"]
    assert (drink.path, drink.label) == (
        "drink/50_FIRST_DATES_drink_u_nm_np1_fr_goo_29.mp4",
        listing.classes.index("drink"),
    )


@needs_shared
def test_real_clips_lying_flat_are_found(tmp_path: Path) -> None:
    for clip in (VIDEOS / "hmdb51").glob("*/*"):
        (tmp_path / clip.name).symlink_to(clip)
    listing = list_videos("hmdb51", tmp_path, splits=SPLITS / "hmdb51/testTrainMulti_7030_splits")
    assert Counter(problem_codes(listing).values()) == {"missing": 6759, "": 7}


def test_names_and_flags(tmp_path: Path) -> None:
    lists = write_lists(
        tmp_path / "lists",
        wave_test_split1__txt="".join(f"{name} {flag} \r\n" for name, flag in zip(NAMES, "1201", strict=True)),
        wave_test_split2__txt="".join(f"{name} 0\n" for name in [*NAMES, "new.avi"]),
    )
    (lists / "._wave_test_split1.txt").write_bytes(b"\x00\x05\x16\x07\xff")  # by macOS
    videos = make_files(tmp_path / "videos", *(f"wave/{name}" for name in NAMES))
    listing = list_videos("hmdb51", videos, splits=lists)
    ids = [f"wave/{name.removesuffix('.avi')}" for name in NAMES]
    assert [video.id for video in listing.videos] == [*ids, "wave/new"]
    assert listing.splits == {"1": {"train": (ids[0], ids[3]), "test": (ids[1],)}}
    assert problem_codes(listing) == dict.fromkeys(ids, "") | {"wave/new": "missing"}
    assert missing_by_class_and_split(listing) == [("wave", "", 1)]


def test_one_name_in_two_classes_is_two_videos(tmp_path: Path) -> None:
    lists = write_lists(tmp_path / "lists", kick_test_split1__txt="x.avi 1", kick_ball_test_split1__txt="x.avi 2")
    videos = make_files(tmp_path / "videos", "kick/x.avi", "kick_ball/kick_ball/x.mp4")
    listing = list_videos("hmdb51", videos, splits=lists)
    assert [(video.id, video.path, video.label) for video in listing.videos] == [
        ("kick/x", "kick/x.avi", 0),
        ("kick_ball/x", "kick_ball/kick_ball/x.mp4", 1),
    ]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a.avi 1\nb.avi 3\n", "line 2: expected `<file> <0|1|2>`, got 'b.avi 3'"),
        ("a.avi\n", "line 1: expected"),
        ("../a.avi 1\n", "line 1: expected"),
        ("a.avi 1\n\na.avi 2\n", "line 3: a.avi has flag 1 above, 2 here"),
    ],
)
def test_malformed_lists_are_refused_with_file_and_line(tmp_path: Path, text: str, message: str) -> None:
    lists = write_lists(tmp_path / "lists", wave_test_split1__txt=text)
    with pytest.raises(DatasetError) as caught:
        list_videos("hmdb51", make_files(tmp_path / "videos", "x.avi"), splits=lists)
    assert f"{lists / 'wave_test_split1.txt'}, {message}" in str(caught.value)


def test_a_repeated_line_is_counted(tmp_path: Path) -> None:
    lists = write_lists(tmp_path / "lists", wave_test_split1__txt="a.avi 1\na.avi 1\n")
    listing = list_videos("hmdb51", make_files(tmp_path / "videos", "x.avi"), splits=lists)
    assert (len(listing.videos), listing.num_duplicates) == (1, 1)
    assert listing.unlisted == ("x.avi",)


def test_a_folder_without_lists_is_refused(tmp_path: Path) -> None:
    with pytest.raises(MissingDataError, match="holds no <class>_test_split1"):
        list_videos("hmdb51", make_files(tmp_path, "x.avi"), splits=tmp_path)


def test_without_lists_classes_come_from_folders(tmp_path: Path) -> None:
    listing = list_videos("hmdb51", make_files(tmp_path, "wave/x.avi", "kick/x.avi", "y.avi"))
    assert [(video.id, video.class_name, video.label) for video in listing.videos] == [
        ("kick/x", "kick", 0),
        ("wave/x", "wave", 1),
        ("y", "", -1),
    ]

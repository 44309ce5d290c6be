"""UCF101: the real official lists, and every way in which copies of them and of the videos differ."""

import shutil
from collections import Counter
from pathlib import Path

import pytest
from helpers.dataset_files import by_id, make_files, problem_codes, write_lists
from helpers.shared_data import SPLITS, VIDEOS, needs_shared

from flowprep.datasets import list_videos, missing_by_class_and_split
from flowprep.errors import DatasetError, MissingDataError

CLASSES = "1 ApplyEyeMakeup\r\n2 HandstandPushups\r\n"
TRAIN = "ApplyEyeMakeup/v_ApplyEyeMakeup_g08_c01.avi 1\r\nHandstandPushups/v_HandStandPushups_g01_c01.avi 2\r\n"
TEST = "ApplyEyeMakeup/v_ApplyEyeMakeup_g01_c01.avi\r\n"


@pytest.fixture
def lists(tmp_path: Path) -> Path:
    return write_lists(tmp_path / "lists", classInd__txt=CLASSES, trainlist01__txt=TRAIN, testlist01__txt=TEST)


@needs_shared
def test_real_lists_with_three_real_clips() -> None:
    listing = list_videos("ucf101", VIDEOS / "ucf101", splits=SPLITS / "ucf101")
    assert len(listing.videos) == 13320
    assert len(listing.classes) == 101
    sizes = {name: {part: len(ids) for part, ids in parts.items()} for name, parts in listing.splits.items()}
    assert sizes == {
        "1": {"train": 9537, "test": 3783},
        "2": {"train": 9586, "test": 3734},
        "3": {"train": 9624, "test": 3696},
    }
    ids = [video.id for video in listing.videos]
    assert ids[:9537] == list(listing.splits["1"]["train"])
    assert ids[9537:] == list(listing.splits["1"]["test"])
    present = [video for video in listing.videos if video.problem is None]
    assert [(video.id, video.path, video.label) for video in present] == [
        ("v_SoccerJuggling_g23_c01", "SoccerJuggling/v_SoccerJuggling_g23_c01.avi", 83),
        ("v_ApplyEyeMakeup_g01_c01", "ApplyEyeMakeup/v_ApplyEyeMakeup_g01_c01.avi", 0),
        ("v_Basketball_g01_c01", "Basketball/v_Basketball_g01_c01.avi", 7),
    ]
    assert Counter(problem_codes(listing).values()) == {"missing": 13317, "": 3}
    assert listing.unlisted == ()
    missing = missing_by_class_and_split(listing)
    assert ("ApplyEyeMakeup", "1 test", 43) in missing  # of 44, one is here
    assert sum(count for _, place, count in missing if place.startswith("1 ")) == 13317


def test_each_split_lists_its_training_videos_and_then_its_test_videos(tmp_path: Path) -> None:
    """So a list keeps its order when a split is added, and the videos that are new come at its end."""
    names = {number: f"ApplyEyeMakeup/v_ApplyEyeMakeup_g0{number}_c01.avi\n" for number in range(1, 6)}
    lists = write_lists(
        tmp_path / "lists",
        classInd__txt=CLASSES,
        trainlist01__txt=names[3],
        testlist01__txt=names[2],
        trainlist02__txt=names[5] + names[2],
        testlist02__txt=names[1] + names[3],
    )
    make_files(tmp_path / "videos", *(name.strip() for name in names.values()))
    listing = list_videos("ucf101", tmp_path / "videos", splits=lists)
    assert [video.id[-7:-4] for video in listing.videos] == ["g03", "g02", "g05", "g01"]


@needs_shared
def test_real_clips_lying_flat_are_found(tmp_path: Path) -> None:
    for clip in (VIDEOS / "ucf101").glob("*/*.avi"):
        (tmp_path / clip.name).symlink_to(clip)
    listing = list_videos("ucf101", tmp_path, splits=SPLITS / "ucf101")
    assert Counter(problem_codes(listing).values()) == {"missing": 13317, "": 3}
    assert by_id(listing)["v_Basketball_g01_c01"].path == "v_Basketball_g01_c01.avi"


def test_the_class_whose_files_are_spelled_otherwise(tmp_path: Path, lists: Path) -> None:
    videos = make_files(tmp_path / "videos", "handstandpushups/v_handstandpushups_g01_c01.avi")
    video = by_id(list_videos("ucf101", videos, splits=lists))["v_HandStandPushups_g01_c01"]
    assert video.problem is None
    assert video.path == "handstandpushups/v_handstandpushups_g01_c01.avi"
    assert (video.class_name, video.label) == ("HandstandPushups", 1)


def test_a_class_index_that_spells_it_as_the_files_do(tmp_path: Path, lists: Path) -> None:
    (lists / "classInd.txt").write_text(CLASSES.replace("Handstand", "HandStand"))
    videos = make_files(tmp_path / "videos", "HandstandPushups/v_HandStandPushups_g01_c01.avi")
    video = by_id(list_videos("ucf101", videos, splits=lists))["v_HandStandPushups_g01_c01"]
    assert (video.problem, video.label, video.class_name) == (None, 1, "HandStandPushups")


@pytest.mark.parametrize(
    ("files", "path"),
    [
        (["ApplyEyeMakeup/v_ApplyEyeMakeup_g01_c01.mp4"], "ApplyEyeMakeup/v_ApplyEyeMakeup_g01_c01.mp4"),
        (["v_ApplyEyeMakeup_g01_c01.mkv"], "v_ApplyEyeMakeup_g01_c01.mkv"),
        (["UCF-101/ApplyEyeMakeup/v_ApplyEyeMakeup_g01_c01.avi"],) * 2,
        (
            ["ApplyEyeMakeup/v_ApplyEyeMakeup_g01_c01.avi", "ApplyEyeMakeup/v_ApplyEyeMakeup_g01_c01.mp4"],
            "ApplyEyeMakeup/v_ApplyEyeMakeup_g01_c01.avi",
        ),
        (
            ["ApplyEyeMakeup/v_ApplyEyeMakeup_g01_c01.AVI", "ApplyEyeMakeup/v_ApplyEyeMakeup_g01_c01.mp4"],
            "ApplyEyeMakeup/v_ApplyEyeMakeup_g01_c01.AVI",
        ),
        (
            ["ApplyEyeMakeup/v_ApplyEyeMakeup_g01_c01.mp4", "v_ApplyEyeMakeup_g01_c01.avi"],
            "ApplyEyeMakeup/v_ApplyEyeMakeup_g01_c01.mp4",
        ),
    ],
)
def test_which_file_is_taken(tmp_path: Path, lists: Path, files: list[str], path: list[str] | str) -> None:
    listing = list_videos("ucf101", make_files(tmp_path / "videos", *files), splits=lists)
    video = by_id(listing)["v_ApplyEyeMakeup_g01_c01"]
    assert video.problem is None
    assert video.path == (path if isinstance(path, str) else path[0])


def test_two_transcoded_copies_are_ambiguous_and_not_unlisted(tmp_path: Path, lists: Path) -> None:
    files = [f"ApplyEyeMakeup/v_ApplyEyeMakeup_g01_c01.{extension}" for extension in ("mkv", "mp4")]
    listing = list_videos("ucf101", make_files(tmp_path / "videos", *files), splits=lists)
    problem = by_id(listing)["v_ApplyEyeMakeup_g01_c01"].problem
    assert problem is not None
    assert problem.code == "ambiguous"
    assert all(file in problem.detail for file in files)
    assert listing.unlisted == ()


def test_unlisted_videos_are_reported_and_other_files_are_not(tmp_path: Path, lists: Path) -> None:
    videos = make_files(
        tmp_path / "videos",
        "ApplyEyeMakeup/v_ApplyEyeMakeup_g01_c01.avi",
        "ApplyEyeMakeup/v_ApplyEyeMakeup_g99_c01.AVI",
        "Extra/new.webm",
        "readme.txt",
        "ApplyEyeMakeup/._v_ApplyEyeMakeup_g01_c01.avi",
    )
    listing = list_videos("ucf101", videos, splits=lists)
    assert listing.unlisted == ("ApplyEyeMakeup/v_ApplyEyeMakeup_g99_c01.AVI", "Extra/new.webm")


def test_missing_ones_keep_their_place_in_the_official_splits(tmp_path: Path, lists: Path) -> None:
    videos = make_files(tmp_path / "videos", "ApplyEyeMakeup/v_ApplyEyeMakeup_g01_c01.avi")
    listing = list_videos("ucf101", videos, splits=lists)
    assert listing.splits == {
        "1": {
            "train": ("v_ApplyEyeMakeup_g08_c01", "v_HandStandPushups_g01_c01"),
            "test": ("v_ApplyEyeMakeup_g01_c01",),
        }
    }
    problem = by_id(listing)["v_ApplyEyeMakeup_g08_c01"].problem
    assert problem is not None
    assert "ApplyEyeMakeup/v_ApplyEyeMakeup_g08_c01.avi" in problem.detail
    assert missing_by_class_and_split(listing) == [("ApplyEyeMakeup", "1 train", 1), ("HandstandPushups", "1 train", 1)]


def test_repeated_lines_are_counted_and_shared_parts_noted(tmp_path: Path, lists: Path) -> None:
    with (lists / "testlist01.txt").open("a") as file:
        file.write("\n" + TEST + TRAIN.split("\r\n")[0])
    videos = make_files(tmp_path / "videos", "x.avi")
    listing = list_videos("ucf101", videos, splits=lists)
    assert len(listing.videos) == 3
    assert listing.num_duplicates == 1
    assert listing.splits["1"]["test"] == ("v_ApplyEyeMakeup_g01_c01", "v_ApplyEyeMakeup_g08_c01")
    assert listing.notes == ("In split 1 the parts test and train share 1 of their videos.",)


@pytest.mark.parametrize(
    ("file", "text", "message"),
    [
        ("trainlist01.txt", b"ApplyEyeMakeup/v.avi 1\nApplyEyeMakeup/v_\xe9.avi 1\n", "line 2: byte 0xe9 is not UTF-8"),
        ("trainlist01.txt", b"\xff\xfeA\0", "line 1: byte 0xff is not UTF-8"),
        ("trainlist01.txt", b"Juggling/v_x.avi 1\n", "line 1: the class 'Juggling' is not in"),
        ("trainlist01.txt", b"\nApplyEyeMakeup/v_x.avi 2\n", "line 2: label 2 is not that of ApplyEyeMakeup, 1"),
        ("testlist01.txt", b"v_x.avi\n", "line 1: expected `<class>/<file>`, got 'v_x.avi'"),
        ("testlist01.txt", b"../ApplyEyeMakeup/v_x.avi\n", "line 1: expected `<class>/<file>`"),
        ("testlist01.txt", b"ApplyEyeMakeup/..\n", "line 1: expected `<class>/<file>`"),
        ("classInd.txt", b"1 A\n3 B\n", "line 2: expected a new class with number 2, got '3 B'"),
        ("classInd.txt", b"1 A\nB\n", "line 2: expected `<number> <class>`, got 'B'"),
        ("classInd.txt", b"\n", "names no class"),
    ],
)
def test_malformed_lists_are_refused_with_file_and_line(
    tmp_path: Path, lists: Path, file: str, text: bytes, message: str
) -> None:
    (lists / file).write_bytes(text)
    videos = make_files(tmp_path / "videos", "x.avi")
    with pytest.raises(DatasetError) as caught:
        list_videos("ucf101", videos, splits=lists)
    assert message in str(caught.value)
    assert str(lists / file) in str(caught.value)


def test_a_byte_order_mark_and_test_labels_do_no_harm(tmp_path: Path, lists: Path) -> None:
    (lists / "testlist01.txt").write_bytes(b"\xef\xbb\xbfApplyEyeMakeup/v_ApplyEyeMakeup_g01_c01.avi 1 \n")
    listing = list_videos("ucf101", make_files(tmp_path / "videos", "x.avi"), splits=lists)
    assert listing.splits["1"]["test"] == ("v_ApplyEyeMakeup_g01_c01",)


def test_missing_lists_are_named(tmp_path: Path, lists: Path) -> None:
    videos = make_files(tmp_path / "videos", "x.avi")
    (lists / "classInd.txt").unlink()
    with pytest.raises(MissingDataError, match=r"classInd\.txt does not exist"):
        list_videos("ucf101", videos, splits=lists)
    shutil.rmtree(lists)
    lists.mkdir()
    with pytest.raises(MissingDataError, match=r"holds no trainlist01\.txt"):
        list_videos("ucf101", videos, splits=lists)


def test_a_folder_without_any_video_is_not_the_datasets(tmp_path: Path, lists: Path) -> None:
    videos = make_files(tmp_path / "videos", "UCF101.rar")
    with pytest.raises(MissingDataError, match="holds no video file, so it is not the video folder of ucf101"):
        list_videos("ucf101", videos, splits=lists)


def test_without_lists_classes_come_from_folders_or_names(tmp_path: Path) -> None:
    videos = make_files(
        tmp_path / "videos", "YoYo/v_YoYo_g01_c01.avi", "v_Archery_g01_c01.avi", "UCF-101/Biking/v_Biking_g01_c01.avi"
    )
    listing = list_videos("ucf101", videos)
    assert [(video.id, video.class_name, video.label) for video in listing.videos] == [
        ("v_Biking_g01_c01", "Biking", 1),
        ("v_YoYo_g01_c01", "YoYo", 2),
        ("v_Archery_g01_c01", "Archery", 0),
    ]
    assert listing.classes == ("Archery", "Biking", "YoYo")
    assert listing.splits == {}
    assert "The official lists of ucf101 were not found" in listing.notes[0]

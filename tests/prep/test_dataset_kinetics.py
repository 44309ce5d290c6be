"""Kinetics: the real validation list, and every way in which downloaders name its files."""

from collections import Counter
from pathlib import Path

import pytest
from helpers.dataset_files import make_files, problem_codes, write_lists
from helpers.shared_data import SPLITS, VIDEOS, needs_shared

from flowprep.datasets import list_videos, missing_by_class_and_split
from flowprep.errors import DatasetError, MissingDataError
from flowprep.records import Segment

HEADER = "label,youtube_id,time_start,time_end,split,is_cc\n"
ONE = "-a_b0wR5jVB"  # eleven characters, as all ids


def list_of(tmp_path: Path, rows: str, *files: str) -> dict[str, str]:
    lists = write_lists(tmp_path / "lists", train__csv=HEADER + rows)
    videos = make_files(tmp_path / "videos", "other.mp4", *files)
    return {
        video.id: video.problem.code if video.problem else video.path
        for video in list_videos("kinetics", videos, splits=lists).videos
    }


@needs_shared
def test_the_real_validation_list_with_real_clips() -> None:
    listing = list_videos("kinetics", VIDEOS / "kinetics", splits=SPLITS / "kinetics400")
    assert len(listing.videos) == 19906
    assert {part: len(ids) for part, ids in listing.splits["official"].items()} == {"val": 19906}
    names = (SPLITS / "kinetics400/label_map_k400.txt").read_text().splitlines()
    assert sorted(listing.classes) == sorted(names)
    assert listing.classes == tuple(sorted(names, key=str.encode))
    present = [video for video in listing.videos if video.problem is None]
    assert [(video.id, video.path, video.class_name) for video in present] == [
        ("R6llTwEh07w_000000_000010", "using_segway/R6llTwEh07w.mp4", "using segway"),
        ("WUzgd7C1pWA_000101_000111", "using_segway/WUzgd7C1pWA.mp4", "using segway"),
    ]
    assert present[1].segment == Segment(start_seconds=101.0, end_seconds=111.0, certain=False)
    assert listing.unlisted == ("abseiling/abseiling_k400.mp4", "arm_wrestling/demo.mp4")
    assert Counter(problem_codes(listing).values()) == {"missing": 19904, "": 2}
    assert sum(count for *_, count in missing_by_class_and_split(listing)) == 19904


@pytest.mark.parametrize(
    "file",
    [
        f"air drumming/{ONE}_000003_000013.mp4",
        f"air_drumming/{ONE}_000003_000013.MKV",
        f"train/air_drumming/{ONE}_000003_000013.webm",
        f"{ONE}_000003_000013.mp4",
    ],
)
def test_a_file_named_with_times_is_that_clip_and_not_cut_again(tmp_path: Path, file: str) -> None:
    lists = write_lists(tmp_path / "lists", train__csv=f"{HEADER}air drumming,{ONE},3,13,train,0\n")
    listing = list_videos("kinetics", make_files(tmp_path / "videos", file), splits=lists)
    (video,) = listing.videos
    assert (video.id, video.path, video.segment, video.problem) == (f"{ONE}_000003_000013", file, None, None)
    assert listing.unlisted == ()


def test_a_bare_name_is_ambiguous_where_several_clips_have_the_id(tmp_path: Path) -> None:
    rows = f"a,{ONE},3,13,train,0\na,{ONE},20,30,train,0\na,{ONE},40,50,train,0\n"
    found = list_of(tmp_path, rows, f"a/{ONE}.mp4", f"a/{ONE}_000020_000030.mp4")
    assert found == {
        f"{ONE}_000003_000013": "ambiguous",
        f"{ONE}_000020_000030": f"a/{ONE}_000020_000030.mp4",
        f"{ONE}_000040_000050": "ambiguous",
    }


def test_ids_are_case_sensitive(tmp_path: Path) -> None:
    rows = f"a,{ONE},0,10,train,0\na,{ONE.lower()},5,15,train,0\n"
    found = list_of(tmp_path, rows, f"a/{ONE.lower()}.mp4")
    assert found == {f"{ONE}_000000_000010": "missing", f"{ONE.lower()}_000005_000015": f"a/{ONE.lower()}.mp4"}


def test_among_several_files_the_class_folder_decides(tmp_path: Path) -> None:
    rows = f"b (c),{ONE},0,10,train,0\n"
    assert list_of(tmp_path, rows, f"a/{ONE}.mp4", f"B_(C)/{ONE}.mp4") == {f"{ONE}_000000_000010": f"B_(C)/{ONE}.mp4"}
    make_files(tmp_path / "videos", f"B_(C)/{ONE}.mkv")
    assert list_of(tmp_path, rows) == {f"{ONE}_000000_000010": "ambiguous"}


def test_several_lists_are_parts_of_one_split(tmp_path: Path) -> None:
    lists = write_lists(
        tmp_path / "lists",
        test__csv="youtube_id,time_start,time_end,split\r\nidC,0,10,test\r\n",  # no label
        train__csv='label,youtube_id,time_start,time_end,split\n"b, b",idB,0,10,train\na,idA,0,10.0,train\n\n',
        validate__csv="label,youtube_id,time_start,time_end\na,idD,1,11\n",  # the part is in the name
    )
    (lists / "._train.csv").write_bytes(b"\x00\x05\x16\x07\xff")  # by macOS
    listing = list_videos("kinetics", make_files(tmp_path / "videos", "x.mp4"), splits=lists)
    ids = ["idB_000000_000010", "idA_000000_000010", "idD_000001_000011", "idC_000000_000010"]
    assert [video.id for video in listing.videos] == ids
    assert listing.splits == {"official": {"train": (ids[0], ids[1]), "val": (ids[2],), "test": (ids[3],)}}
    assert [(video.class_name, video.label) for video in listing.videos] == [("b, b", 1), ("a", 0), ("a", 0), ("", -1)]
    assert listing.videos[0].path == "b, b/idB_000000_000010.mp4"


def test_repeated_rows_are_counted_and_other_classes_noted(tmp_path: Path) -> None:
    rows = "a,idA,0,10,train,0\na,idA,0,10,train,0\nb,idA,0,10,train,0\nb,idB,0,10,holdout,0\n"
    lists = write_lists(tmp_path / "lists", all__csv=HEADER + rows)
    listing = list_videos("kinetics", make_files(tmp_path / "videos", "x.mp4"), splits=lists / "all.csv")
    assert [(video.id, video.class_name) for video in listing.videos] == [
        ("idA_000000_000010", "a"),
        ("idB_000000_000010", "b"),
    ]
    assert listing.num_duplicates == 2
    assert listing.splits == {"official": {"train": ("idA_000000_000010",)}}
    assert listing.notes[0].startswith("1 clips are listed under several classes")
    assert listing.notes[1].startswith("Some clips are in no part")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (HEADER + "a,idA,0,10,train\n", "line 2: expected 6 columns as in the header, got 5"),
        (HEADER + "a,../x,0,10,train,0\n", "line 2: '../x' is not a YouTube id"),
        (HEADER + "a,idA,0,10,train,0\na,idA,10,10,train,0\n", "line 3: start and end must be whole seconds"),
        (HEADER + "a,idA,0.5,10,train,0\n", "got '0.5' and '10'"),
        (HEADER + 'a,"idA,0,10,train,0\n', "not a row of a CSV file"),
        ("abseiling\nair drumming\n", "line 1: the column youtube_id is missing"),
        ("", "line 1: the column youtube_id is missing"),
        (HEADER, "nothing to do"),
    ],
)
def test_malformed_lists_are_refused(tmp_path: Path, text: str, message: str) -> None:
    lists = write_lists(tmp_path / "lists", train__csv=text)
    with pytest.raises(DatasetError) as caught:
        list_videos("kinetics", make_files(tmp_path / "videos", "x.mp4"), splits=lists)
    assert message in str(caught.value)


def test_a_folder_without_csv_is_refused(tmp_path: Path) -> None:
    with pytest.raises(MissingDataError, match="holds no CSV file"):
        list_videos("kinetics", make_files(tmp_path, "x.mp4"), splits=tmp_path)


def test_without_lists_classes_come_from_folders(tmp_path: Path) -> None:
    listing = list_videos("kinetics", make_files(tmp_path, f"b/{ONE}_000003_000013.mp4", f"a/{ONE}.mp4"))
    assert [(video.id, video.class_name) for video in listing.videos] == [(ONE, "a"), (f"{ONE}_000003_000013", "b")]

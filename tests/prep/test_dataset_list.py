"""Lists of the user's: forms of lines, labels, segments, and paths that must be refused."""

import os
from pathlib import Path

import pytest
from helpers.dataset_files import make_files, problem_codes
from helpers.shared_data import SPLITS, needs_shared

from flowprep.datasets import list_videos
from flowprep.datasets.fields import FieldError, rows
from flowprep.errors import DatasetError, MissingDataError, SettingsError
from flowprep.records import Listing, Segment


def listed(tmp_path: Path, text: str | bytes, *files: str, skip_bad_lines: bool = False) -> Listing:
    videos = make_files(tmp_path / "videos", "other.mp4", *files)
    path = tmp_path / "list.txt"
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return list_videos("list", videos, splits=path, skip_bad_lines=skip_bad_lines)


@pytest.mark.parametrize(
    ("text", "fields"),
    [
        ("a.mp4", [["a.mp4"]]),
        ("a b.mp4\nc, d.mp4\n", [["a b.mp4"], ["c, d.mp4"]]),
        ("a.mp4 0\nb c, d.mp4  12\n", [["a.mp4", "0"], ["b c, d.mp4", "12"]]),
        ("a.mp4,0\r\nb c.mp4 , 1 \r\n", [["a.mp4", "0"], ["b c.mp4", "1"]]),
        ('"a, b.mp4",cook\n"say ""hi"".mp4",x\n', [["a, b.mp4", "cook"], ['say "hi".mp4', "x"]]),
        ("a, b.mp4\tcook\nc.mp4\t\n", [["a, b.mp4", "cook"], ["c.mp4", ""]]),
        ('"a b.mp4" "to cook"\nc d.mp4 eat\n', [["a b.mp4", "to cook"], ["c d.mp4", "eat"]]),
        ('"a, b.mp4" 3\n', [["a, b.mp4", "3"]]),
        ("# made by hand\n\n  \na.mp4 1\n# end\n", [["a.mp4", "1"]]),
        ('"#1.mp4" 1\n', [["#1.mp4", "1"]]),
        ('"a\nb.mp4",0\n"c\r\nd.mp4",1\n', [["a\nb.mp4", "0"], ["c\r\nd.mp4", "1"]]),
        ('"a\n,b.mp4",0\n', [["a\n,b.mp4", "0"]]),
        ("a\u2028b\x0b.mp4,0\n", [["a\u2028b\x0b.mp4", "0"]]),
        ("\u3000a.mp4\xa0,0\n", [["\u3000a.mp4\xa0", "0"]]),
        ("a.mp4,0,x,1,2.5\n", [["a.mp4", "0", "x", "1", "2.5"]]),
        ("path\na 1\nb 2\n", [["a 1"], ["b 2"]]),
        ("path label\na b c\n", [["a b", "c"]]),
        ("label path\n3 a b.mp4\n", [["3", "a b.mp4"]]),
        ('a"b.mp4 3\n', [['a"b.mp4', "3"]]),
    ],
)
def test_lines_become_fields(text: str, fields: list[list[str]]) -> None:
    assert [found for _, _, found in rows(text)] == fields


@pytest.mark.parametrize(
    ("text", "line", "message"),
    [
        ("a.mp4,0\nb.mp4\n", 2, "expected 2 columns as in the first line, got 1"),
        ("a.mp4,0\n\nb, c.mp4,1\n", 3, "expected 2 columns as in the first line, got 3"),
        ("a.mp4 0\nb.mp4\n", 2, "expected 2 columns as in the first line, got 1"),
        ("a.mp4 0\nb.mp4 x\n", 2, "expected a label that is a whole number at the end, got 'x'"),
        ("a.mp4\nb.mp4 0\n", 2, "a label follows the path here but not in the first line"),
        ("a,b,c,d\n", 1, "expected 1, 2, 3 or 5 columns"),
        ("path,lable\n", 1, "the header has 'lable'; its columns are path, label, class, id, start, end"),
        ("path,label,label\n", 1, "the header has 'label'"),
        ('a.mp4,0\n"b.mp4,1\nc.mp4,2\n', 2, "a quote is opened and never closed"),
        ('"b.mp4,1\n' + "c.mp4,2\n" * 100_000, 1, "a quote is opened and never closed"),
        ('a.mp4,0\n"b".mp4,1\n', 2, "text follows a closing quote"),
    ],
)
def test_lines_that_cannot_be_split_are_refused(text: str, line: int, message: str) -> None:
    with pytest.raises(FieldError) as caught:
        list(rows(text))
    assert caught.value.line == line
    assert message in str(caught.value)


def test_names_of_any_kind_are_found(tmp_path: Path) -> None:
    names = ["a b.mp4", "c, d.mp4", 'e "f".mp4', "-g.mp4", "h;#$(id).mp4", "\u00e9t\u00e9 \U0001f600.mp4", "i\nj.mp4"]
    quoted = ['"' + name.replace('"', '""') + '"' for name in names]
    text = "\ufeffpath,label\r\n" + "".join(f"{name},0 \r\n" for name in quoted)
    listing = listed(tmp_path, text, *names)
    assert [video.path for video in listing.videos] == names
    assert set(problem_codes(listing).values()) == {""}
    assert listing.unlisted == ("other.mp4",)


def test_names_that_are_not_utf8_are_found_or_refused(tmp_path: Path) -> None:
    listing = listed(tmp_path, b"caf\xe9.mp4 1\n", os.fsdecode(b"caf\xe9.mp4"))
    assert problem_codes(listing) == {os.fsdecode(b"caf\xe9"): ""}
    with pytest.raises(DatasetError, match="line 2: it is not UTF-8 and names no file; save the list as UTF-8"):
        listed(tmp_path, b"a.mp4 1\nth\xe9.mp4 1\n")


@needs_shared
def test_a_list_of_mmaction2(tmp_path: Path) -> None:
    listing = listed(tmp_path, (SPLITS / "mmaction_lists/video_test_list.txt").read_bytes(), "test.mp4")
    assert [(video.id, video.path, video.label, video.problem) for video in listing.videos] == [
        ("test", "test.mp4", 0, None)
    ]
    assert listing.num_duplicates == 1


def test_ids_are_given_or_class_and_stem(tmp_path: Path) -> None:
    listing = listed(tmp_path, "path,label,id\nx/a.mp4,cook,\nb.mp4,eat,B 1\n", "x/a.mp4")
    assert [(video.id, video.class_name, video.label) for video in listing.videos] == [
        ("cook/a", "cook", 0),
        ("B 1", "eat", 1),
    ]
    assert listing.classes == ("cook", "eat")
    assert problem_codes(listing) == {"cook/a": "", "B 1": "missing"}


def test_equal_stems_in_two_folders_are_two_videos(tmp_path: Path) -> None:
    listing = listed(tmp_path, "a/1.mp4 0\nb/1.mp4 0\n", "a/1.mp4", "b/1.mp4")
    assert all(video.id.startswith("1~") and video.problem is None for video in listing.videos)
    assert len({video.id for video in listing.videos}) == 2


@pytest.mark.parametrize(
    ("text", "labels", "classes"),
    [
        ("a.mp4 5\nb.mp4 2\n", [("", 5), ("", 2)], ()),
        ("a.mp4,5\nb.mp4,\n", [("", 5), ("", -1)], ()),
        ("a.mp4,5\nb.mp4,x\n", [("5", 0), ("x", 1)], ("5", "x")),
        ("path,class\na.mp4,x\nb.mp4,7\n", [("x", 1), ("7", 0)], ("7", "x")),
        ("path,class\na.mp4,7\nb.mp4,x\n", [("7", 0), ("x", 1)], ("7", "x")),
        ("path,class,label\na.mp4,z,0\nb.mp4,x,1\n", [("z", 0), ("x", 1)], ("z", "x")),
        ("path,class,label\na.mp4,z,3\nb.mp4,x,1\n", [("z", 3), ("x", 1)], ()),
        ("a.mp4\nb.mp4\n", [("", -1), ("", -1)], ()),
    ],
)
def test_labels(tmp_path: Path, text: str, labels: list[tuple[str, int]], classes: tuple[str, ...]) -> None:
    listing = listed(tmp_path, text)
    assert [(video.class_name, video.label) for video in listing.videos] == labels
    assert listing.classes == classes


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a.mp4 0\nb.mp4 -1\n", "line 2: a label is from 0 to 2147483647, or empty, got -1"),
        ("a.mp4 4294967296\n", "line 1: a label is from 0"),
        (
            f"a.mp4,{'9' * 5000}\n",
            f"line 1: a label is a whole number or the name of a class, got '{'9' * 60}...'; in a column",
        ),
        ("path,class,label\na,z,0\nb,x,0\n", "line 3: class 'x' and label 0 were paired otherwise above"),
        ("path,class,label\na,z,0\nb,z,1\n", "line 3: class 'z' and label 1 were paired otherwise above"),
        ("path,class,label\na,z,0\nb,x,q\n", "line 3: beside a class the label must be a whole number, got 'q'"),
        ("name,label\na,0\nb,10\nc,2\n", "line 1: the label 'label' is no number and all others are"),
        ("name,label\na,0.0\nb,1.0\n", "line 1: the label 'label' is no number"),
        ("a.mp4,0\nb.mp4,1.0\n", "line 2: a label is a whole number or the name of a class, got '1.0'; in a column"),
        ("a.mp4 0\na.mp4 1\n", "line 2: a.mp4 has another label than in line 1"),
        ("a.mp4,0,x,1,\n", "line 1: start and end must be seconds with 0 <= start < end, got '1' and ''"),
        ("a.mp4,0,x,2,1\n", "got '2' and '1'"),
        ("a.mp4,0,x,0,nan\n", "got '0' and 'nan'"),
        ("a.mp4,0,x,0,inf\n", "got '0' and 'inf'"),
        ("a.mp4,0,x,soon,5\n", "got 'soon' and '5'"),
        ("a.mp4,0\nb.mp4\n", "line 2: expected 2 columns as in the first line, got 1"),
        ("path,split\na.mp4,training\n", "line 2: a split is train, val, test, or empty, got 'training'"),
        ("path,split\na.mp4,train\na.mp4,test\n", "line 3: a.mp4 has another split than in line 2; give each an id"),
        ("", "names no video: nothing to do"),
        ("\ufeff\n# a comment\n", "names no video: nothing to do"),
        ("path,label\n", "names no video: nothing to do"),
    ],
)
def test_malformed_lists_are_refused(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(DatasetError) as caught:
        listed(tmp_path, text)
    assert message in str(caught.value)
    assert "list.txt" in str(caught.value)


def test_a_column_split_makes_the_split_that_training_takes(tmp_path: Path) -> None:
    listing = listed(tmp_path, "path,label,split\nb.mp4,x,test\nc.mp4,y,\na.mp4,x,train\nd.mp4,y,val\ne.mp4,y,train\n")
    assert listing.splits == {"1": {"train": ("x/a", "y/e"), "val": ("y/d",), "test": ("x/b",)}}
    assert listed(tmp_path, "path,label,split\na.mp4,x,\n").splits == {}
    assert listed(tmp_path, "a.mp4 0\n").splits == {}


def test_times_cut_segments(tmp_path: Path) -> None:
    text = "path,start,end\na.mp4,0,1.5\na.mp4,1.5,3\na.mp4,,\na.mp4,0.0,1.50\n"
    listing = listed(tmp_path, text, "a.mp4")
    assert [video.segment for video in listing.videos] == [
        Segment(start_seconds=0.0, end_seconds=1.5),
        Segment(start_seconds=1.5, end_seconds=3.0),
        None,
    ]
    assert len({video.id for video in listing.videos}) == 3
    assert listing.num_duplicates == 1


def test_repeated_lines_are_one_video_however_the_path_is_written(tmp_path: Path) -> None:
    text = f"c/a.mp4 0\nc/a.mp4 0\n./c//a.mp4 0\n{tmp_path}/videos/c/a.mp4 0\nb.mp4 0\n"
    listing = listed(tmp_path, text, "c/a.mp4")
    assert [video.path for video in listing.videos] == ["c/a.mp4", "b.mp4"]
    assert listing.num_duplicates == 3


def test_one_file_under_two_ids_is_two_videos(tmp_path: Path) -> None:
    listing = listed(tmp_path, "a.mp4,0,x\na.mp4,1,y\n", "a.mp4")
    assert [(video.id, video.label) for video in listing.videos] == [("x", 0), ("y", 1)]


BAD = ["../../x", "/etc/x", "a/../../b", "a\0b", '""', ".", "a/.."]


def test_paths_that_leave_the_folder_are_refused_with_all_line_numbers(tmp_path: Path) -> None:
    text = "fine.mp4,0\n" + "".join(f"{path},0\n" for path in BAD) + "fine2.mp4,0\n../y,0\n"
    with pytest.raises(DatasetError) as caught:
        listed(tmp_path, text)
    assert "empty, hold NUL or leave the video folder" in str(caught.value)
    assert ": 2-8, 10; correct them, or pass --skip-bad-lines" in str(caught.value)


def test_skipped_bad_lines_end_as_name_problems(tmp_path: Path) -> None:
    text = "fine.mp4,cook\n" + "".join(f"{path},cook\n" for path in BAD)
    listing = listed(tmp_path, text, "fine.mp4", skip_bad_lines=True)
    codes = problem_codes(listing)
    assert list(codes.values()) == [""] + ["name"] * len(BAD)
    assert list(codes)[1] == "cook/../../x"
    assert list(codes)[5] == "cook/line 6"
    assert listing.videos[1].path == "../../x"


def test_absolute_paths_inside_are_made_relative_through_links_too(tmp_path: Path) -> None:
    make_files(tmp_path / "videos", "c/a.mp4")
    link = tmp_path / "link"
    link.symlink_to(tmp_path / "videos")
    path = tmp_path / "list.csv"
    path.write_text(f"{tmp_path}/videos/c/a.mp4\n{link}/c/b.mp4\n")
    listing = list_videos("list", link, splits=path)
    assert [video.path for video in listing.videos] == ["c/a.mp4", "c/b.mp4"]
    path.write_text(f"{tmp_path}/videos2/a.mp4\n{tmp_path}/videos\n")
    with pytest.raises(DatasetError, match=r"leave the video folder .*: 1-2;"):
        list_videos("list", link, splits=path)


def test_links_and_long_names_have_their_own_problems(tmp_path: Path) -> None:
    videos = make_files(tmp_path / "videos", ".hidden/a.mp4")
    (videos / "loop.mp4").symlink_to("loop.mp4")
    (videos / "dangling.mp4").symlink_to("nowhere")
    (videos / "out.mp4").symlink_to(make_files(tmp_path, "outside.mp4") / "outside.mp4")
    long = "x" * 300 + ".mp4"
    deep = "d/" * 2500 + "x.mp4"
    names = [".hidden/a.mp4", "loop.mp4", "dangling.mp4", "out.mp4", long, deep]
    listing = listed(tmp_path, "".join(f"{name}\n" for name in names))
    assert [video.path for video in listing.videos] == names
    codes = [video.problem.code if video.problem else "" for video in listing.videos]
    assert codes == ["", "loop", "missing", "", "name_too_long", "name_too_long"]


def test_the_list_itself_must_be_there(tmp_path: Path) -> None:
    with pytest.raises(MissingDataError, match="does not exist"):
        list_videos("list", tmp_path, splits=tmp_path / "absent.txt")
    with pytest.raises(DatasetError, match="cannot be read: Is a directory"):
        list_videos("list", tmp_path, splits=tmp_path)
    with pytest.raises(SettingsError, match="needs its list file"):
        list_videos("list", tmp_path)


def test_a_class_behind_a_blank_is_said_not_taken_for_a_part_of_the_name(tmp_path: Path) -> None:
    with pytest.raises(
        DatasetError, match=r"line 2: there is no file 'a/b\.mp4 jump', but 'a/b\.mp4' is; .*: a/b\.mp4,jump$"
    ):
        listed(tmp_path, "c d.mp4\na/b.mp4 jump\n", "a/b.mp4", "c d.mp4")
    assert [video.path for video in listed(tmp_path, "a b.mp4\n", "a b.mp4").videos] == ["a b.mp4"]

"""Folders as lists: classes, odd names, links, and what is not a video."""

import errno
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from helpers.dataset_files import make_files, problem_codes
from helpers.shared_data import VIDEOS, needs_shared

from flowprep.datasets import list_videos
from flowprep.datasets.scan import scan
from flowprep.errors import DatasetError, MissingDataError, SettingsError


def test_classes_are_the_first_folders(tmp_path: Path) -> None:
    make_files(tmp_path, "wave/b.mp4", "wave/a.mp4", "Zoo/day 1/a.MOV", "\u00e9t\u00e9/a.avi", "top.webm")
    listing = list_videos("folder", tmp_path)
    assert [(video.id, video.path, video.class_name, video.label) for video in listing.videos] == [
        ("Zoo/day 1/a", "Zoo/day 1/a.MOV", "Zoo", 0),
        ("top", "top.webm", "", -1),
        ("wave/a", "wave/a.mp4", "wave", 1),
        ("wave/b", "wave/b.mp4", "wave", 1),
        ("\u00e9t\u00e9/a", "\u00e9t\u00e9/a.avi", "\u00e9t\u00e9", 2),
    ]
    assert listing.classes == ("Zoo", "wave", "\u00e9t\u00e9")
    assert listing.splits == {}
    assert listing.unlisted == ()


@needs_shared
def test_every_odd_file_is_listed() -> None:
    listing = list_videos("folder", VIDEOS / "odd")
    assert [video.path for video in listing.videos] == sorted(os.listdir(VIDEOS / "odd"), key=os.fsencode)
    assert set(problem_codes(listing).values()) == {""}


@pytest.mark.parametrize(
    ("one", "other"),
    [("a.mp4", "a.b.mp4"), ("a.mp4", "a.avi"), ("A.mp4", "a.mp4"), ("caf\u00e9.mp4", "cafe\u0301.mp4")],
)
def test_names_that_other_tools_confuse_are_two_videos(tmp_path: Path, one: str, other: str) -> None:
    listing = list_videos("folder", make_files(tmp_path, f"c/{one}", f"c/{other}"))
    assert len(listing.videos) == len({video.id.casefold() for video in listing.videos}) == 2
    assert {video.path for video in listing.videos} == {f"c/{one}", f"c/{other}"}


def test_sidecars_are_left_out_with_a_note_and_hidden_files_without(tmp_path: Path) -> None:
    make_files(tmp_path, "c/a.mp4", "c/a.json", "notes", "c/.a.mp4", ".trash/b.mp4")
    listing = list_videos("folder", tmp_path)
    assert [video.path for video in listing.videos] == ["c/a.mp4"]
    assert listing.notes[0] == "2 files without a video's extension were left out, such as c/a.json."


@pytest.mark.parametrize("name", ["-a", "a 'b' \"c\"", "a\nb", "$(id);#", "\U0001f600", "x" * 251])
def test_names_are_kept_byte_for_byte(tmp_path: Path, name: str) -> None:
    listing = list_videos("folder", make_files(tmp_path, f"{name}.mp4"))
    assert [(video.id, video.path) for video in listing.videos] == [(name, f"{name}.mp4")]


def test_names_that_are_not_utf8_are_kept(tmp_path: Path) -> None:
    raw = b"caf\xe9.mp4"
    Path(os.fsdecode(os.fsencode(tmp_path) + b"/" + raw)).write_bytes(b"x")
    (video,) = list_videos("folder", tmp_path).videos
    assert os.fsencode(video.path) == raw


def test_fifos_count_and_are_not_opened(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.mp4")
    assert problem_codes(list_videos("folder", tmp_path)) == {"pipe": ""}


def test_links_are_followed_and_broken_ones_are_problems(tmp_path: Path) -> None:
    make_files(tmp_path / "elsewhere", "a.mp4", "deep/b.mp4")
    videos = tmp_path / "videos"
    videos.mkdir()
    (videos / "file.mp4").symlink_to(tmp_path / "elsewhere/a.mp4")
    (videos / "class").symlink_to(tmp_path / "elsewhere")
    (videos / "dangling.mp4").symlink_to("nowhere.mp4")
    (videos / "self.mp4").symlink_to("self.mp4")
    listing = list_videos("folder", videos)
    assert problem_codes(listing) == {
        "class/a": "",
        "class/deep/b": "",
        "dangling": "missing",
        "file": "",
        "self": "loop",
    }


def test_loops_of_folders_end_and_each_folder_is_entered_once(tmp_path: Path) -> None:
    make_files(tmp_path, "z/x.mp4", "b/y.mp4")
    (tmp_path / "z/up").symlink_to("..")
    (tmp_path / "z/other").symlink_to("../b")
    (tmp_path / "b/other").symlink_to("../z")
    (tmp_path / "a").symlink_to("z")
    assert scan(tmp_path).paths == ("b/y.mp4", "z/x.mp4")


def test_a_folder_that_may_not_be_read_is_noted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_files(tmp_path, "a/x.mp4", "b/y.mp4")
    real_scandir = os.scandir

    def scandir(path: str) -> Iterator[os.DirEntry[str]]:
        if path == str(tmp_path / "b"):
            raise PermissionError(errno.EACCES, "Permission denied", path)
        return real_scandir(path)

    monkeypatch.setattr(os, "scandir", scandir)  # root, as whom CI may run, reads everything
    listing = list_videos("folder", tmp_path)
    assert [video.path for video in listing.videos] == ["a/x.mp4"]
    assert "The folder b cannot be read and was left out: Permission denied." in listing.notes


def test_an_empty_folder_is_refused(tmp_path: Path) -> None:
    make_files(tmp_path, "readme.txt")
    with pytest.raises(DatasetError, match="holds no video file: nothing to do"):
        list_videos("folder", tmp_path)
    with pytest.raises(MissingDataError, match="cannot be read: No such file"):
        list_videos("folder", tmp_path / "absent")


def test_a_folder_too_deep_or_too_high_is_noted(tmp_path: Path) -> None:
    make_files(tmp_path, "clips/jump/a.mp4", "clips/jump/b.mp4", "clips/run/c.mp4")
    assert list_videos("folder", tmp_path / "clips").notes == ()
    (note,) = list_videos("folder", tmp_path / "clips" / "jump").notes
    assert note.startswith("2 videos of 2 lie directly in ")
    assert note.endswith("/clips/jump, so without a class; the folders in it are the classes.")
    (note,) = list_videos("folder", tmp_path).notes
    assert note.startswith("All videos have one class, 'clips'; the folders in ")


def test_lists_are_refused(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="--dataset folder has no lists, its classes are the folders in"):
        list_videos("folder", make_files(tmp_path, "jump/a.mp4"), splits=tmp_path)

"""Ids that stay apart on every file system, and the folders made of them."""

import hashlib
import os
from urllib.parse import unquote_to_bytes

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flowprep.datasets.ids import MAX_FOLDER_BYTES, finish_ids, fold, folder_name, raw_bytes, video_folder
from flowprep.errors import DatasetError
from flowprep.records import Segment, Video

# Few letters, so that ids meet often: case, both forms of e-acute, unsafe characters, an invalid byte, reserved words.
PIECES = st.sampled_from(["a", "A", "b", "/", ".", "-", "%", "2F", "~", " ", "\u00e9", "e\u0301", "\u00df", "ss", ":"])
NAMES = st.lists(PIECES | st.sampled_from(["\udcff", "\n", "run.json", "<\u0338", "\u226e"]), min_size=1, max_size=5)
TEXTS = NAMES.map("".join) | st.text(min_size=1, max_size=300)


def digest(path: str, extra: bytes = b"") -> str:
    return hashlib.sha256(os.fsencode(path) + extra).hexdigest()[:8]


def test_ids_apart_are_left_alone() -> None:
    videos = [Video(id="a", path="a.mp4"), Video(id="a.b", path="a.b.mp4"), Video(id="~", path="x")]
    assert finish_ids(videos) == tuple(videos)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("a", "a"),  # a.mp4 and a.avi
        ("A", "a"),
        ("caf\u00e9", "cafe\u0301"),  # composed and decomposed
        ("STRASSE", "stra\u00dfe"),
    ],
)
def test_ids_that_meet_all_get_the_hash_of_their_path(one: str, other: str) -> None:
    videos = [Video(id=one, path="1.mp4"), Video(id="else", path="3.mp4"), Video(id=other, path="2.avi")]
    ids = [video.id for video in finish_ids(videos)]
    assert ids == [f"{one}~{digest('1.mp4')}", "else", f"{other}~{digest('2.avi')}"]


def test_segments_of_one_file_differ_by_their_times() -> None:
    videos = [
        Video(id="a", path="a.mp4", segment=Segment(start_seconds=0.0, end_seconds=1.5)),
        Video(id="a", path="a.mp4", segment=Segment(start_seconds=1.5, end_seconds=3.0)),
    ]
    ids = [video.id for video in finish_ids(videos)]
    assert ids == [f"a~{digest('a.mp4', f'{chr(0)}0.0{chr(0)}1.5'.encode())}", ids[1]]
    assert ids[0] != ids[1]


def test_path_bytes_that_are_not_utf8_are_hashed_as_they_are() -> None:
    path = os.fsdecode(b"caf\xe9.mp4")
    ids = [video.id for video in finish_ids([Video(id="x", path=path), Video(id="X", path="y")])]
    assert ids[0] == f"x~{hashlib.sha256(b'caf' + bytes([0xE9]) + b'.mp4').hexdigest()[:8]}"


def test_one_path_under_two_ids_that_meet_still_gets_two_ids() -> None:
    ids = [video.id for video in finish_ids([Video(id="A", path="x"), Video(id="a", path="x")])]
    assert fold(ids[0]) != fold(ids[1])


def test_equal_entries_are_refused() -> None:
    with pytest.raises(DatasetError, match=r"id 'a~.*' of 'x' is used for two equal entries"):
        finish_ids([Video(id="a", path="x"), Video(id="a", path="x")])


def test_an_id_that_looks_like_a_hashed_one_stays_apart() -> None:
    videos = [Video(id="a", path="1"), Video(id="A", path="2"), Video(id=f"a~{digest('1')}", path="3")]
    assert len({fold(video.id) for video in finish_ids(videos)}) == 3


def test_a_video_without_class_never_gets_a_class_folder() -> None:
    videos = finish_ids([Video(id="wave", path="wave.mp4"), Video(id="wave/a", path="wave/a.mp4", class_name="wave")])
    assert [video_folder(video) for video in videos] == [f"wave~{digest('wave.mp4')}", "wave/a"]


@given(st.lists(st.tuples(TEXTS, st.sampled_from(["", "a", "A", "b", "a/b", "run.json"])), max_size=8))
def test_folders_are_apart_without_case_and_never_one_in_another(entries: list[tuple[str, str]]) -> None:
    videos = [Video(id=text, path=f"{index}.mp4", class_name=name) for index, (text, name) in enumerate(entries)]
    finished = finish_ids(videos)
    folders = [fold(video_folder(video)) for video in finished]
    assert len({fold(video.id) for video in finished}) == len(videos)
    assert len(set(folders)) == len(videos)
    assert not any(one.startswith(other + "/") for one in folders for other in folders)
    assert [video.path for video in finished] == [video.path for video in videos]
    assert finish_ids(finished) == finished


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("v_Archery_g01_c01", "v_Archery_g01_c01"),
        ("Faces & (a; #1) 'x' caf\u00e9 \U0001f600", "Faces & (a; #1) 'x' caf\u00e9 \U0001f600"),
        ("a/b", "a%2Fb"),
        ('\\%:*?"<>|', "%5C%25%3A%2A%3F%22%3C%3E%7C"),
        ("a\nb\x7f\x85", "a%0Ab%7F%C2%85"),
        ("..", "%2E%2E"),
        (".hidden", "%2Ehidden"),
        ("-rf", "%2Drf"),
        ("end.", "end%2E"),
        ("end ", "end%20"),
        (os.fsdecode(b"caf\xe9"), "caf%E9"),
        ("", "%"),
    ],
)
def test_folder_names_are_safe_and_readable(text: str, name: str) -> None:
    assert folder_name(text) == name
    if text:
        assert unquote_to_bytes(name) == os.fsencode(text)


@given(TEXTS)
def test_a_folder_name_is_one_part_of_a_path_and_gives_its_text_back(text: str) -> None:
    name = folder_name(text)
    assert not set(name) & set('/\\:*?"<>|\0\n')
    assert name[0] not in ".-"
    assert name[-1] not in ". "
    if len(name.encode()) < MAX_FOLDER_BYTES:
        assert unquote_to_bytes(name) == raw_bytes(text)


@pytest.mark.parametrize("character", ["x", "\u00e9", "\U0001f600", "/", "\udcff"])
@pytest.mark.parametrize("num_before", [0, 1, 2])
def test_long_names_are_cut_between_characters_and_hashed(character: str, num_before: int) -> None:
    text = "y" * num_before + character * 255
    name = folder_name(text)
    start, _, suffix = name.rpartition("~")
    assert len(name.encode()) <= MAX_FOLDER_BYTES
    assert suffix == hashlib.sha256(raw_bytes(text)).hexdigest()[:16]
    assert raw_bytes(text).startswith(unquote_to_bytes(start))
    assert folder_name(text + "z") != name


def test_a_name_of_exactly_the_limit_is_kept() -> None:
    assert folder_name("x" * MAX_FOLDER_BYTES) == "x" * MAX_FOLDER_BYTES


@pytest.mark.parametrize(
    ("video_id", "class_name", "folder"),
    [
        ("v_a_g01_c01", "Archery", "Archery/v_a_g01_c01"),
        ("wave/clip 1", "wave", "wave/clip 1"),
        ("wave/deep/clip", "wave", "wave/deep%2Fclip"),
        ("12345", "Putting [a/b] down.", "Putting [a%2Fb] down%2E/12345"),
        ("a/b", "", "a%2Fb"),
        ("Manifest.jsonl", "", "Manifest%2Ejsonl"),
        ("x", "run.json", "run%2Ejson/x"),
        ("waves/x", "wave", "wave/waves%2Fx"),
    ],
)
def test_video_folders(video_id: str, class_name: str, folder: str) -> None:
    assert video_folder(Video(id=video_id, path="x.mp4", class_name=class_name)) == folder

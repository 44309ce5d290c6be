"""Something-Something V2: the real labels, old and new names of the lists."""

import json
from pathlib import Path

import pytest
from helpers.dataset_files import by_id, make_files, problem_codes, write_lists
from helpers.shared_data import SPLITS, VIDEOS, needs_shared

from flowprep.datasets import list_videos
from flowprep.errors import DatasetError, MissingDataError

LABELS = json.dumps({"Moving something up": "1", "Holding something": "0"})
TRAIN = [{"id": "7", "label": "holding a cup", "template": "Holding [something]", "placeholders": ["a cup"]}]
VALIDATION = [{"id": "12", "label": "moving it up", "template": "Moving [something] up", "placeholders": ["it"]}]
TEST = [{"id": "9"}]


def lists_of(folder: Path, prefix: str = "", **changed: object) -> Path:
    lists = {"train": TRAIN, "validation": VALIDATION, "test": TEST} | changed
    texts = {f"{prefix}{name}__json": json.dumps(entries) for name, entries in lists.items()}
    return write_lists(folder, **{f"{prefix}labels__json": LABELS}, **texts)


@needs_shared
def test_the_real_labels_and_a_real_clip(tmp_path: Path) -> None:
    template = "Poking [something] so that it falls over"
    lists = write_lists(
        tmp_path,
        train__json=json.dumps([{"id": "166766", "label": "poking a pen so that it falls over", "template": template}]),
        labels__json=(SPLITS / "sthv2/something-something-v2-labels.json").read_text(),
    )
    listing = list_videos("ssv2", VIDEOS / "sthv2", splits=lists)
    (video,) = listing.videos
    assert (video.id, video.path, video.problem) == ("166766", "166766.mp4", None)
    assert video.class_name == "Poking something so that it falls over"
    names = (SPLITS / "sthv2/label_map.txt").read_text().splitlines()
    assert listing.classes == tuple(names)
    assert listing.classes[video.label] == video.class_name
    assert listing.unlisted == ("human_demos_task41_1.webm",)


@pytest.mark.parametrize("prefix", ["", "something-something-v2-"])
def test_three_lists_are_parts_of_one_split(tmp_path: Path, prefix: str) -> None:
    lists = lists_of(tmp_path / "lists", prefix)
    videos = make_files(tmp_path / "videos", "7.webm", "7.mp4", "20bn/9.webm", "77.webm")
    listing = list_videos("ssv2", videos, splits=lists)
    assert [(video.id, video.path, video.class_name, video.label) for video in listing.videos] == [
        ("7", "7.webm", "Holding something", 0),
        ("12", "12.webm", "Moving something up", 1),
        ("9", "20bn/9.webm", "", -1),
    ]
    assert listing.splits == {"official": {"train": ("7",), "val": ("12",), "test": ("9",)}}
    assert listing.classes == ("Holding something", "Moving something up")
    assert problem_codes(listing) == {"7": "", "12": "missing", "9": ""}
    assert listing.unlisted == ("77.webm",)


def test_two_copies_are_ambiguous(tmp_path: Path) -> None:
    videos = make_files(tmp_path / "videos", "7.mp4", "7.mkv")
    listing = list_videos("ssv2", videos, splits=lists_of(tmp_path / "lists"))
    assert problem_codes(listing)["7"] == "ambiguous"
    assert listing.unlisted == ()


def test_an_id_in_two_lists_is_one_video(tmp_path: Path) -> None:
    lists = lists_of(tmp_path / "lists", test=[{"id": 7}, {"id": "9"}])
    listing = list_videos("ssv2", make_files(tmp_path / "videos", "7.webm"), splits=lists)
    assert listing.num_duplicates == 1
    assert by_id(listing)["7"].class_name == "Holding something"
    assert listing.splits["official"]["test"] == ("7", "9")
    assert listing.notes == ("In split official the parts test and train share 1 of their videos.",)


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("train.json", '[{"id": "7"},\n{"id" "8"}]', "line 2: not JSON"),
        ("train.json", '{"id": "7"}', "expected an array of objects with `id`, got dict"),
        ("train.json", '[{"id": "7"}, {"label": "x"}]', "entry 2: expected an object with an `id`"),
        ("train.json", '[{"id": "../7"}]', "entry 1: expected an object with an `id`"),
        ("train.json", '[{"id": "7", "template": "Eating [something]"}]', "entry 1 (id 7): the template"),
        ("train.json", '[{"id": "7", "template": 3}]', "entry 1 (id 7): the template 3"),
        ("labels.json", '["a"]', "expected one object that maps each label text to its number"),
        ("labels.json", '{"a": "x"}', "expected one object that maps each label text to its number"),
        ("labels.json", '{"a": "0", "b": "2"}', "are not 0 to 1, each once"),
    ],
)
def test_malformed_lists_are_refused(tmp_path: Path, name: str, text: str, message: str) -> None:
    lists = lists_of(tmp_path / "lists")
    (lists / name).write_text(text)
    with pytest.raises(DatasetError) as caught:
        list_videos("ssv2", make_files(tmp_path / "videos", "7.webm"), splits=lists)
    assert message in str(caught.value)
    assert str(lists / name) in str(caught.value)


def test_lists_without_labels_are_refused(tmp_path: Path) -> None:
    lists = write_lists(tmp_path / "lists", train__json="[]")
    with pytest.raises(MissingDataError, match=r"neither something-something-v2-labels\.json nor labels\.json"):
        list_videos("ssv2", make_files(tmp_path / "videos", "7.webm"), splits=lists)


def test_a_folder_of_other_things_is_refused_with_the_names_looked_for(tmp_path: Path) -> None:
    lists = make_files(tmp_path / "lists", "mine.json")
    with pytest.raises(
        MissingDataError, match=r"lists holds none of the lists train\.json, validation\.json, test\.json"
    ):
        list_videos("ssv2", make_files(tmp_path / "videos", "7.webm"), splits=lists)


def test_without_lists_all_files_count(tmp_path: Path) -> None:
    listing = list_videos("ssv2", make_files(tmp_path, "7.webm", "8.webm"))
    assert [(video.id, video.class_name) for video in listing.videos] == [("7", ""), ("8", "")]
    assert "The official lists of ssv2 were not found" in listing.notes[0]

"""Annotation lists: names and lines of mmaction2 and TSN, official folders and labels, counts of the store."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest
from contracts.store import make_listing, without_flushes, write_store
from helpers.shared_data import SPLITS, needs_shared

from flowprep.config import ExtractSettings, StoreSettings
from flowprep.datasets import list_videos
from flowprep.datasets.scan import Scan
from flowprep.errors import MissingDataError, SettingsError, StoreError
from flowprep.lists import WrittenList, write_lists
from flowprep.records import Listing, Reason, Video

VIDEOS = ("v_Archery_g01_c01", "v_Archery_g02_c01", "v_Bowling_g01_c01", "v_Bowling_g02_c01")


@pytest.fixture(autouse=True)
def _no_flushes(monkeypatch: pytest.MonkeyPatch) -> None:
    without_flushes(monkeypatch)


def listing(dataset: str = "ucf101", splits: dict[str, dict[str, tuple[str, ...]]] | None = None) -> Listing:
    videos = tuple(
        Video(id=name, path="", class_name=name.split("_")[1], label=int("Bowling" in name)) for name in VIDEOS
    )
    splits = splits or {"1": {"test": VIDEOS[2:], "train": VIDEOS[:2]}, "2": {"train": VIDEOS[::-1]}}
    return Listing(dataset=dataset, videos=videos, classes=("Archery", "Bowling"), splits=splits)


def tree(out: Path, layout: str = "mmaction2", made_of: Listing | None = None, **store: bool) -> Path:
    settings = ExtractSettings(store=StoreSettings(format="jpeg", layout=layout, **store))
    write_store(out, settings, made_of or listing(), failing={1})  # videos of 4, 6, 3 and 5 frames
    return out


def texts(folder: Path) -> dict[str, list[str]]:
    return {path.name: path.read_text().splitlines() for path in sorted(folder.iterdir())}


def test_mmaction2(tmp_path: Path) -> None:
    written = write_lists(tree(tmp_path / "out"), tmp_path / "lists" / "ucf101")
    assert texts(tmp_path / "lists" / "ucf101") == {
        "ucf101_flow_train_split_1_rawframes.txt": ["Archery/v_Archery_g01_c01 3 0"],
        "ucf101_flow_train_split_2_rawframes.txt": [
            "Bowling/v_Bowling_g02_c01 4 1",
            "Bowling/v_Bowling_g01_c01 2 1",
            "Archery/v_Archery_g01_c01 3 0",
        ],
        "ucf101_flow_val_split_1_rawframes.txt": ["Bowling/v_Bowling_g01_c01 2 1", "Bowling/v_Bowling_g02_c01 4 1"],
        "ucf101_train_split_1_rawframes.txt": ["Archery/v_Archery_g01_c01 4 0"],
        "ucf101_train_split_2_rawframes.txt": [
            "Bowling/v_Bowling_g02_c01 5 1",
            "Bowling/v_Bowling_g01_c01 3 1",
            "Archery/v_Archery_g01_c01 4 0",
        ],
        "ucf101_val_split_1_rawframes.txt": ["Bowling/v_Bowling_g01_c01 3 1", "Bowling/v_Bowling_g02_c01 5 1"],
    }
    path = tmp_path / "lists" / "ucf101" / "ucf101_train_split_1_rawframes.txt"
    assert written[0] == WrittenList(path=path, num_videos=1, num_absent=1)


def test_tsn(tmp_path: Path) -> None:
    out = tree(tmp_path / "out", "tsn")
    write_lists(out, tmp_path / "lists", "tsn")
    found = texts(tmp_path / "lists")
    assert sorted(found) == sorted(
        f"ucf101_{unit}_{part}_split_{split}.txt"
        for unit in ("rgb", "flow")
        for part, split in (("train", 1), ("val", 1), ("train", 2))
    )
    for unit in ("rgb", "flow"):  # tsn has as many images as flows
        assert found[f"ucf101_{unit}_val_split_1.txt"] == [
            f"{out}/Bowling/v_Bowling_g01_c01 2 1",
            f"{out}/Bowling/v_Bowling_g02_c01 4 1",
        ]


@pytest.mark.parametrize(
    ("dataset", "name"),
    [("ssv2", "sthv2"), ("kinetics", "kinetics")],
)
def test_datasets_with_one_split(tmp_path: Path, dataset: str, name: str) -> None:
    made_of = listing(dataset, {"official": {"val": VIDEOS[2:], "test": VIDEOS[:1]}})
    write_lists(tree(tmp_path / "out", made_of=made_of, flow=False), tmp_path / "lists")
    assert sorted(texts(tmp_path / "lists")) == [f"{name}_test_list_rawframes.txt", f"{name}_val_list_rawframes.txt"]


def test_kinetics_is_called_by_its_size(tmp_path: Path) -> None:
    out = tree(tmp_path / "out", made_of=listing("kinetics", {"official": {"val": VIDEOS}}), rgb=False)
    path = out / "splits.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "classes": [str(k) for k in range(600)]}))
    write_lists(out, tmp_path / "lists")
    assert list(texts(tmp_path / "lists")) == ["kinetics600_flow_val_list_rawframes.txt"]


def test_what_these_lists_cannot_say_is_left_out(tmp_path: Path) -> None:
    videos = (
        Video(id="a b", path="", class_name="c", label=0),
        Video(id="unlabelled", path="", class_name="c", label=-1),
        Video(id="gone", path="", class_name="c", label=0, problem=Reason("missing")),
        Video(id="x", path="", class_name="c", label=0),
    )
    splits = {"1": {"train": tuple(video.id for video in videos)}}
    made_of = Listing(dataset="hmdb51", videos=videos, classes=("c",), splits=splits)
    settings = ExtractSettings(store=StoreSettings(format="jpeg", flow=False))
    write_store(tmp_path / "out", settings, made_of, order=(0, 1, 3))
    (written,) = write_lists(tmp_path / "out", tmp_path / "lists")
    assert (written.num_videos, written.num_absent) == (1, 3)
    assert texts(tmp_path / "lists") == {"hmdb51_train_split_1_rawframes.txt": ["c/x 5 0"]}


def test_stores_without_folders_or_splits_are_refused(tmp_path: Path) -> None:
    write_store(tmp_path / "shards", ExtractSettings())
    tree(tmp_path / "three", "feichtenhofer")
    for name, form in (("shards", "shards"), ("three", "layout feichtenhofer")):
        with pytest.raises(SettingsError, match=f"has {form}, .*: flowprep convert .* --layout mmaction2"):
            write_lists(tmp_path / name, tmp_path / "lists")
    made_of = Listing(dataset="folder", videos=make_listing().videos)
    tree(tmp_path / "folder", made_of=made_of)
    with pytest.raises(SettingsError, match=r"has no official splits, .* --dataset and --splits"):
        write_lists(tmp_path / "folder", tmp_path / "lists")
    with pytest.raises(SettingsError, match="`style` must be one of mmaction2, tsn"):
        write_lists(tmp_path / "folder", tmp_path / "lists", "tsm")
    assert not (tmp_path / "lists").exists()


def test_damage_and_folders_that_cannot_be_made(tmp_path: Path) -> None:
    out = tree(tmp_path / "out")
    (tmp_path / "file").touch()
    with pytest.raises(MissingDataError, match="cannot be written"):
        write_lists(out, tmp_path / "file" / "lists")
    (out / "splits.json").write_text("[]")
    with pytest.raises(StoreError, match=r"splits.json is not one that flowprep has written"):
        write_lists(out, tmp_path / "lists")


@needs_shared
def test_official_lists_of_ucf101(tmp_path: Path) -> None:
    """Folders and labels of a published list of split 1, with the store's own counts."""
    published = [line.split() for line in (SPLITS / "ucf101/val_rgb_split1.txt").read_text().splitlines()]
    names = {path for path, _, _ in published}
    found = Scan(paths=tuple(f"{name.split('_')[1]}/{name}.avi" for name in sorted(names)), problems={})
    made_of = list_videos("ucf101", tmp_path, splits=SPLITS / "ucf101", found=found)
    assert sum(video.problem is None for video in made_of.videos) == len(published) == 3783
    settings = ExtractSettings(store=StoreSettings(format="jpeg", layout="mmaction2", flow=False))
    few = [video for video in made_of.videos if video.problem is None][::80]
    write_store(tmp_path / "out", settings, dataclasses.replace(made_of, videos=tuple(few)))
    write_lists(tmp_path / "out", tmp_path / "lists")
    lines = [line.split() for line in texts(tmp_path / "lists")["ucf101_val_split_1_rawframes.txt"]]
    assert len(lines) == len(few) == 48
    assert {(folder.split("/")[1], label) for folder, _, label in lines} < {
        (name, label) for name, _, label in published
    }
    assert [folder for folder, _, _ in lines] == [f"{video.class_name}/{video.id}" for video in few]
    assert len(texts(tmp_path / "lists")) == 6

"""`flowprep verify`: what it prints, how it leaves, and that it mends with real children."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from helpers.command import flowprep, store_bytes
from helpers.damage import both, cheap_settings, edit, flip, in_blob, make_store, make_videos, remove, write

BROKEN = "v_Archery_g01_c01"
SHARD = "shards/00000.h5"


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_videos(tmp_path_factory.mktemp("sources"))


def test_a_sound_store_is_said_to_be_one(videos: Path, tmp_path: Path) -> None:
    store = make_store(tmp_path / "store", videos, cheap_settings("jpeg"))
    result = flowprep("verify", store)
    assert result.stdout.startswith("6 videos (1 failed, 5 ok), 56 images, ")
    assert result.stdout.endswith(": nothing is wrong.\n")
    result = flowprep("verify", store, "--deep", "--videos", videos, "--pairs", "5", "--jobs", "1")
    assert "5 pairs of frames of 5 videos, 5 of them with the same bytes" in result.stdout
    assert "read and decoded in" in result.stdout
    found = json.loads(flowprep("verify", store, "--json").stdout)
    assert (found["findings"], found["states"]) == ([], {"ok": 5, "failed": 1})


def test_damage_is_said_mended_and_gone(videos: Path, tmp_path: Path) -> None:
    store = make_store(tmp_path / "store", videos, cheap_settings("hdf5"))
    pristine = store_bytes(store)
    both(in_blob(SHARD, "flow_x", 0.05), flip("splits.json"), write("notes\n.txt", b"mine"))(store)
    result = flowprep("verify", store, expect=4)
    assert result.stdout.splitlines()[:4] == [
        f"{SHARD}: does not have the checksum that the record of its rows says",
        f"{SHARD}: images do not have the checksum of the row ({BROKEN}, flow_x)",
        "splits.json: does not have the checksum that SHA256SUMS says",
        "notes\\n.txt: belongs to nothing in the store",
    ]
    assert "4 findings (1 added, 3 damaged)." in result.stdout
    assert f"flowprep verify {store} --repair. With that:" in result.stdout  # where the videos are is known
    found = json.loads(flowprep("verify", store, "--json", expect=4).stdout)
    assert [finding["path"] for finding in found["findings"]] == [SHARD, SHARD, "splits.json", "notes\n.txt"]
    assert found["findings"][1] == {
        "kind": "damaged",
        "path": SHARD,
        "video": BROKEN,
        "stream": "flow_x",
        "index": None,
        "text": "images do not have the checksum of the row",
        "cure": "the shard is made again, of what in it is sound and of its other videos, which are extracted again",
    }

    result = flowprep("verify", store, "--repair")  # the list of the store says where the videos are
    assert "4 findings. 1 video extracted again; 4 " in result.stdout
    assert result.stdout.endswith(": nothing is wrong.\n")
    assert "1/1 video" in result.stderr
    assert store_bytes(store) == pristine
    found = json.loads(flowprep("verify", store, "--repair", "--json").stdout)
    assert found["findings"] == found["repair"]["found"] == []


def test_what_cannot_be_mended_is_said(videos: Path, tmp_path: Path) -> None:
    store = make_store(tmp_path / "store", videos, cheap_settings("jpeg"))
    both(remove(".flowprep"), edit("manifest.jsonl", '"fps":25', '"fps":24'))(store)
    for options in ([], ["--repair", "--videos", str(videos)]):
        result = flowprep("verify", store, *options, expect=4)
        assert "manifest.jsonl: is not proven by SHA256SUMS, and there is no .flowprep" in result.stdout
        assert "restore the file, or extract anew with --overwrite" in result.stdout
        assert "To mend" not in result.stdout


def test_wrong_use_is_refused(videos: Path, tmp_path: Path) -> None:
    store = make_store(tmp_path / "store", videos, cheap_settings("jpeg"))
    assert "give one of them" in flowprep("verify", store, "--videos", videos, expect=2).stderr
    assert "there is no folder" in flowprep("verify", store, "--deep", "--videos", tmp_path / "no", expect=2).stderr
    assert "there is no store" in flowprep("verify", tmp_path / "no", expect=2).stderr
    assert "`num_pairs` must be at least 1" in flowprep("verify", store, "--pairs", "0", expect=2).stderr
    both(remove(".flowprep"), flip(f"Archery/{BROKEN}/img_00001.jpg"))(store)
    assert "give --videos" in flowprep("verify", store, "--repair", expect=2).stderr

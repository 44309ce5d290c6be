"""`flowprep adopt`, `convert` and `lists` as they are entered, one after another."""

from __future__ import annotations

import json
from pathlib import Path

from helpers import foreign
from helpers.command import flowprep, manifest
from helpers.foreign import all_of

from flowprep.stores import open_store


def test_a_tree_of_denseflow_becomes_shards_and_lists(tmp_path: Path) -> None:
    tree, shards, lists = tmp_path / "tree", tmp_path / "shards", tmp_path / "lists"
    splits = tmp_path / "splits"
    splits.mkdir()
    (splits / "classInd.txt").write_text("1 Archery\n2 Bowling\n")
    (splits / "trainlist01.txt").write_text("Archery/v_Archery_g01_c01.avi 1\nBowling/v_Bowling_g01_c01.avi 2\n")
    (splits / "testlist01.txt").write_text("Archery/v_Archery_g02_c01.avi\n")
    for folder in ("Archery/v_Archery_g01_c01", "Bowling/v_Bowling_g01_c01"):
        foreign.denseflow(tree, folder, 4)
    before = all_of(tree)

    asked = flowprep("adopt", tree, "--layout", "denseflow", expect=2)
    assert asked.stderr.startswith("Error: `bound_px` of ")
    facts = ("--layout", "denseflow", "--bound", "20", "--dataset", "ucf101", "--splits", splits)
    asked = flowprep("adopt", tree, *facts, "--rounding", "truncate", expect=2)
    assert "zero flow of" in asked.stderr
    assert not (tree / ".flowprep").exists()
    adopted = flowprep("adopt", tree, *facts, "--rounding", "round", "--json", expect=1)
    assert "Note: The zero level of its flow is 128" in adopted.stderr
    assert "Missing by split: 1 test 1." in adopted.stderr
    found = json.loads(adopted.stdout)
    assert (found["states"], found["zero_level"]["rule"]) == ({"ok": 2, "failed": 1}, "round")
    assert all_of(tree) == before
    assert "by another tool" in flowprep("info", tree).stdout

    written = flowprep("lists", tree, "-o", lists, "--json")
    assert "ucf101_val_split_1_rawframes.txt: 0 videos, 1 without data were left out" in written.stderr
    assert [one["num_videos"] for one in json.loads(written.stdout)["lists"]] == [2, 2, 0, 0]
    train = lists / "ucf101_train_split_1_rawframes.txt"
    assert train.read_text() == "Archery/v_Archery_g01_c01 4 0\nBowling/v_Bowling_g01_c01 4 1\n"

    converted = flowprep("convert", tree, shards, "--json", expect=1)
    assert json.loads(converted.stdout)["num_done_now"] == 2
    assert "3 videos, 2 to do" in converted.stderr
    assert manifest(shards)[0]["settings"]["store"]["adopted"] is True
    with open_store(tree) as source, open_store(shards) as store:
        assert list(store.ids) == list(source.ids)
        assert bytes(store.jpeg(store.ids[1], "flow_y", 2)) == source.jpeg(store.ids[1], "flow_y", 2)
    refused = flowprep("lists", shards, "-o", lists, expect=2)
    assert f"flowprep convert {shards} OUT --format jpeg --layout mmaction2" in refused.stderr

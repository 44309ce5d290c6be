"""`fusion-train check`: each fault of a store is found, said in a sentence, and decides the exit code."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
from helpers.clip_store import Spec, shards, tree, ucf_specs, ucf_splits, write_clip_store
from helpers.command import FUSION_TRAIN, fusion_train

from flowprep.config import ExtractSettings, StoreSettings
from flowprep.errors import UnfinishedStoreError
from flowprep.stores.splitsfile import read_splits
from fusion_train.check import MEANINGS, NOTES, Finding, check
from fusion_train.config import DataSettings

SMALL = DataSettings(crop_size=32, tau_max=4)
SPECS = ucf_specs()


def found(out: Path, **options: object) -> dict[str, str]:
    """Code to sentence, and the exit code under its own name."""
    health = check(out, settings=SMALL, **options)  # type: ignore[arg-type]
    assert len({finding.code for finding in health.findings}) == len(health.findings)
    return {finding.code: finding.sentence for finding in health.findings} | {"exit": str(health.exit_code)}


def make(out: Path, specs: Sequence[Spec] = SPECS, settings: ExtractSettings | None = None) -> Path:
    return write_clip_store(out, settings or shards(), specs, ucf_splits(specs))


def edit(out: Path, change: tuple[str, str], name: str = "manifest.jsonl", *, everywhere: bool = False) -> None:
    text = (out / name).read_text()
    assert change[0] in text
    (out / name).write_text(text.replace(*change, -1 if everywhere else 1))


@pytest.mark.parametrize("settings", [shards(), tree("flowprep"), tree("tsn")])
def test_a_sound_store(tmp_path: Path, settings: ExtractSettings) -> None:
    out = make(tmp_path / "s", settings=settings)
    assert found(out) == {"exit": "0"}
    health = check(out, settings=SMALL)
    assert health.parts == {"1": {"train": 16, "test": 8}}
    assert (health.num_videos, health.bound_px, health.rounding) == (24, 20, "round")


def test_videos_that_are_not_stored_and_classes_without_any(tmp_path: Path) -> None:
    specs = [Spec(s.id, 0 if s.label == 1 and s.id[-8:-4] >= "_g05" else s.num_frames) for s in SPECS]
    assert found(make(tmp_path / "s", specs)) == {
        "not_stored": "split 1, test: 4 videos (v_Biking_g05_c01, v_Biking_g05_c02, v_Biking_g06_c01, ..) of 8 not "
        "stored, to be left out",
        "class": "split 1, test: 1 class (Biking) of 2 without a stored video",
        "exit": "1",
    }


def test_groups_and_videos_in_both_parts(tmp_path: Path) -> None:
    splits = ucf_splits(SPECS)
    test, train = splits["1"]["test"], splits["1"]["train"]
    moved = {"1": {"train": (*train, test[0]), "test": test[1:]}}
    out = write_clip_store(tmp_path / "a", shards(), SPECS, moved)
    assert found(out) == {
        "leak": "split 1: 1 group (g05 of Archery) with videos in both train and test",
        "exit": "1",
    }
    (leak,) = check(out, settings=SMALL).findings
    assert leak.ids == ("v_Archery_g05_c02",)
    both = {"1": {"train": (*train, test[0]), "test": test}}
    assert found(write_clip_store(tmp_path / "b", shards(), SPECS, both))["overlap"] == (
        "split 1: 1 video (v_Archery_g05_c01) in both train and test"
    )


def test_counts_that_do_not_fit(tmp_path: Path) -> None:
    out = make(tmp_path / "s", settings=tree("flowprep"))
    edit(out, ('"flows":29', '"flows":28'))
    assert found(out, quick=True) == {
        "counts": "1 video (v_Archery_g01_c01): 30 images and 28 flow fields do not fit step 1; extract again",
        "exit": "1",
    }


def test_images_that_are_gone_or_damaged(tmp_path: Path) -> None:
    out = make(tmp_path / "s", settings=tree("flowprep"))
    (out / "Archery" / "v_Archery_g01_c01" / "flow_y_00029.jpg").unlink()
    assert found(out, quick=True) == {"exit": "0"}
    seen = found(out)
    assert seen["exit"] == "4"
    assert "flow_y_00029.jpg cannot be read" in seen["damage"]
    shard = make(tmp_path / "t")
    edit(shard, ('"flows":29', '"flows":28'))
    assert "has other counts of 'v_Archery_g01_c01' than the manifest" in found(shard)["damage"]


def test_labels(tmp_path: Path) -> None:
    out = make(tmp_path / "s")
    edit(out, ('["Archery","Biking"]', '["Biking","Archery"]'), "splits.json")
    seen = found(out)
    assert seen["label"].startswith("24 videos (v_Archery_g01_c01, ")
    assert seen["label"].endswith(": label 0 is not that of 'Archery'; extract again")


def test_short_saturated_and_small_videos(tmp_path: Path) -> None:
    specs = [
        Spec("v_Archery_g01_c01", 1),
        Spec("v_Archery_g01_c02", 20),
        Spec("v_Biking_g01_c01", 40, (24, 64), saturated_share=0.25),
        *(spec for spec in SPECS if "g01" not in spec.id),
    ]
    seen = found(write_clip_store(tmp_path / "s", shards(), specs, ucf_splits(specs)))
    assert seen == {
        "too_short": "1 video (v_Archery_g01_c01): no image has flow; they will be left out",
        "short": "1 video (v_Archery_g01_c02): too short for 5 chunks 4 frames apart, which will lie closer",
        "saturated": "1 video (v_Biking_g01_c01): 5% of the flow or more is beyond the bound, most in "
        "'v_Biking_g01_c01' (25.0%); a larger --bound would keep it",
        "small": "1 video (v_Biking_g01_c01): 64x24 is smaller than a crop of 32 and will be scaled up",
        "exit": "1",
    }
    few = [Spec("v_Archery_g01_c01", 7), *SPECS[1:]]
    seen = found(write_clip_store(tmp_path / "t", shards(), few, ucf_splits(few)))
    assert seen["too_short"] == (
        "1 video (v_Archery_g01_c01): fewer than 10 flow fields, of which the first and last will be repeated"
    )


def test_notes_alone_are_no_failure(tmp_path: Path) -> None:
    health = check(make(tmp_path / "s"))  # 48x64 pixels, 30 frames
    assert {finding.code for finding in health.findings} == {"small", "short"}
    assert health.exit_code == 0


def test_streams_that_are_missing(tmp_path: Path) -> None:
    for stream, other in (("flow", "spatial"), ("rgb", "temporal")):
        settings = ExtractSettings(store=StoreSettings(rgb=stream != "rgb", flow=stream != "flow"))
        assert found(make(tmp_path / stream, settings=settings)) == {
            "stream": f"the store has no stream {stream}: only the {other} stream alone can be trained",
            "exit": "1",
        }


def test_splits_that_are_missing(tmp_path: Path) -> None:
    out = write_clip_store(tmp_path / "s", shards(), SPECS)
    why = "the official lists were not there; extract with --splits DIR"
    assert found(out)["no_split"] == f"{out} has no split to train and test on: {why}"
    assert found(make(tmp_path / "t"), split="2")["no_split"] == "there is no split '2'; there are 1"


def test_codes_have_a_meaning() -> None:
    assert set(MEANINGS) > NOTES
    with pytest.raises(ValueError, match=r"one of the words in check\.MEANINGS, got 'odd'"):
        Finding(code="odd", sentence="")


# -- the command -------------------------------------------------------------------------------------------------------


def test_command(tmp_path: Path) -> None:
    out = make(tmp_path / "s")
    text = fusion_train("check", out).stdout
    assert text.splitlines()[:2] == [f"{out}: 24 videos, flow bound 20 px, round", "split 1: 16 train, 8 test"]
    assert text.count("\nnote: ") == 2
    data = json.loads(fusion_train("check", out, "--json", "--split", "1", "--quick").stdout)
    assert (data["exit_code"], data["parts"]) == (0, {"1": {"train": 16, "test": 8}})
    assert [finding["note"] for finding in data["findings"]] == [True, True]
    failed = [Spec("v_Archery_g01_c01", 0), *SPECS[1:]]
    assert "PROBLEM: split 1, train: 1 video" in fusion_train("check", make(tmp_path / "f", failed), expect=1).stdout


def test_a_store_whose_run_has_not_ended(tmp_path: Path) -> None:
    out = make(tmp_path / "s")
    for name in ("manifest.jsonl", "SHA256SUMS"):
        (out / name).unlink()
    (out / ".flowprep").mkdir(exist_ok=True)
    with pytest.raises(UnfinishedStoreError, match=r"has no manifest\.jsonl: its run has not ended"):
        check(out)
    assert "its run has not ended" in fusion_train("check", out, expect=3).stderr
    assert "there is no store" in fusion_train("check", tmp_path / "nothing", expect=2).stderr


def test_the_command_loads_no_torch(tmp_path: Path) -> None:
    environment = {**os.environ, "PYTHONPROFILEIMPORTTIME": "1"}
    out = make(tmp_path / "s")
    for arguments, heavy in ((["--help"], {"torch", "numpy", "cv2"}), (["check", str(out)], {"torch", "torchvision"})):
        done = subprocess.run([FUSION_TRAIN, *arguments], capture_output=True, text=True, env=environment, check=True)
        loaded = {line.rpartition("|")[2].strip().partition(".")[0] for line in done.stderr.splitlines()}
        assert "flowprep_cli" in loaded
        assert heavy & loaded == set()
    for module in ("config", "data.clips", "data.splits", "data.dataset", "check"):
        code = f"import sys, fusion_train.{module}; sys.exit('torch' in sys.modules)"
        subprocess.run([sys.executable, "-c", code], check=True)


def test_videos_without_a_class(tmp_path: Path) -> None:
    out = make(tmp_path / "s")
    edit(out, ('"class":"Archery","', '"class":"","'), everywhere=True)
    edit(out, ('"label":0,', '"label":-1,'), everywhere=True)
    for dataset, cure in (
        ("ucf101", "the official lists are given with --splits DIR"),
        ("folder", "files lie in a folder for each class of --videos, or a list has a column `class`"),
    ):
        edit(out, (read_splits(out).dataset, dataset), "splits.json")
        sentences = [finding.sentence for finding in check(out, settings=SMALL).findings if finding.code == "label"]
        assert len(sentences) == 1
        assert sentences[0].startswith("12 videos (v_Archery_g01_c01, ")
        assert sentences[0].endswith(f": no class is known; there is one where {cure}")

"""Real clips with real TV-L1, through the installed command, one data set each; and every odd file in one run."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from helpers.command import flowprep, manifest
from helpers.media import first_packets
from helpers.shared_data import SPLITS, VIDEOS, needs_shared

from flowprep.stores import open_store

pytestmark = needs_shared
NUM_FRAMES = 20
TVL1 = ("--backend", "opencv", "--jobs", "1", "--short-side", "64")


def place(source: str, target: Path) -> None:
    """The first 20 frames of a real clip under its official name."""
    target.parent.mkdir(parents=True, exist_ok=True)
    first_packets(VIDEOS / source, target, NUM_FRAMES)


def check(store: Path, video_id: str, label: int, size: tuple[int, int], num_frames: int = NUM_FRAMES) -> None:
    """The clip is stored with all of its frames, and its flow is motion, not noise."""
    _, rows = manifest(store)
    row = next(row for row in rows if row["id"] == video_id)
    assert row["state"] in ("ok", "flagged")
    assert {reason["code"] for reason in row["reasons"]} <= {"pts"}
    assert (row["frames"], row["flows"], row["label"]) == (num_frames, num_frames - 1, label)
    assert (row["width"], row["height"]) == size
    assert 0.01 < row["mean_magnitude_px"] < 10
    with open_store(store) as opened:
        flow = opened.flow_px(video_id, num_frames // 2)
        assert flow.shape == (size[1], size[0], 2)
        assert np.abs(flow).max() > 0.3
        assert np.all(np.diff(opened.pts_seconds(video_id)) > 0)


def test_ucf101_on_the_default_layout(tmp_path: Path) -> None:
    folder = tmp_path / "data" / "ucf101"
    name = "v_SoccerJuggling_g23_c01"
    place(f"ucf101/SoccerJuggling/{name}.avi", folder / "videos" / "SoccerJuggling" / f"{name}.avi")
    shutil.copytree(SPLITS / "ucf101", folder / "ucfTrainTestlist")
    # 340x256 here, as the released flow; the other clips are smaller for the sake of time.
    result = flowprep("extract", "--dataset", "ucf101", "--backend", "opencv", "--json", cwd=tmp_path, expect=1)
    summary = json.loads(result.stdout)
    assert summary["states"] == {"ok": 1, "failed": 13319}
    assert summary["reasons"] == {"missing": 13319}
    listed = (SPLITS / "ucf101" / "trainlist01.txt").read_text().count("SoccerJuggling/")
    assert ["SoccerJuggling", "1 train", listed - 1] in summary["missing"]
    assert summary["num_done_now"] == 1
    check(folder / "flow", name, 83, (340, 256))
    splits = json.loads((folder / "flow" / "splits.json").read_text())["splits"]
    assert [len(splits[k][part]) for k in "123" for part in ("train", "test")] == [9537, 3783, 9586, 3734, 9624, 3696]
    assert name in splits["1"]["train"]


def test_hmdb51(tmp_path: Path) -> None:
    name = "RATRACE_wave_f_nm_np1_fr_goo_37"
    place(f"hmdb51/wave/{name}.avi", tmp_path / "videos" / "wave" / f"{name}.avi")
    out = tmp_path / "out"
    lists = SPLITS / "hmdb51" / "testTrainMulti_7030_splits"
    flowprep(
        "extract",
        "--dataset",
        "hmdb51",
        "--videos",
        tmp_path / "videos",
        "--splits",
        lists,
        "--out",
        out,
        *TVL1,
        expect=1,
    )
    # Packed B-frames: the last of 20 packets gives no frame.
    check(out, f"wave/{name}", 50, (148, 64), num_frames=NUM_FRAMES - 1)


def test_kinetics(tmp_path: Path) -> None:
    place("kinetics/using_segway/R6llTwEh07w.mp4", tmp_path / "videos" / "using_segway" / "R6llTwEh07w.mp4")
    out = tmp_path / "out"
    (tmp_path / "lists").mkdir()
    shutil.copy(SPLITS / "kinetics400" / "kinetics-400_val.csv", tmp_path / "lists")
    arguments = ("--videos", tmp_path / "videos", "--splits", tmp_path / "lists", "--out", out)
    flowprep("extract", "--dataset", "kinetics", *arguments, *TVL1, expect=1)
    check(out, "R6llTwEh07w_000000_000010", 375, (84, 64))


def test_something_something_v2(tmp_path: Path) -> None:
    place("sthv2/166766.mp4", tmp_path / "videos" / "166766.webm")
    (tmp_path / "labels").mkdir()
    shutil.copy(SPLITS / "sthv2" / "something-something-v2-labels.json", tmp_path / "labels")
    entry = {
        "id": "166766",
        "label": "poking a can so that it falls over",
        "template": "Poking [something] so that it falls over",
        "placeholders": ["a can"],
    }
    (tmp_path / "labels" / "something-something-v2-validation.json").write_text(json.dumps([entry]))
    out = tmp_path / "out"
    arguments = ("--videos", tmp_path / "videos", "--splits", tmp_path / "labels", "--out", out)
    flowprep("extract", "--dataset", "ssv2", *arguments, *TVL1)
    labels = json.loads((SPLITS / "sthv2" / "something-something-v2-labels.json").read_text())
    check(out, "166766", int(labels["Poking something so that it falls over"]), (112, 64))


@pytest.fixture(scope="module")
def odd(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, object]]:
    out = tmp_path_factory.mktemp("odd") / "out"
    arguments = ("--videos", VIDEOS / "odd", "--out", out, "--backend", "dis", "--size", "112x84", "--json")
    result = flowprep("extract", "--dataset", "folder", *arguments, expect=1)
    return out, json.loads(result.stdout)


def test_no_odd_file_is_lost(odd: tuple[Path, dict[str, object]]) -> None:
    out, summary = odd
    _, rows = manifest(out)
    names = sorted(path.name for path in (VIDEOS / "odd").iterdir())
    assert sorted(row["path"] for row in rows) == names
    assert summary["states"] == {"ok": 20, "flagged": 11, "failed": 15}
    assert summary["num_videos"] == len(names) == 46


def test_odd_outcomes(odd: tuple[Path, dict[str, object]]) -> None:
    """Codes of each file are held by test_decode; here those that only a whole run gives."""
    out, _ = odd
    _, rows = manifest(out)
    codes = {row["path"]: {reason["code"] for reason in row["reasons"]} for row in rows}
    flows = {row["path"]: row["flows"] for row in rows}
    for name in ("minimal.mp4", "testsrc2_mpeg4.mp4", "qcif_Y8.avi", "qcif_RGB.avi"):
        assert (codes[name], flows[name]) == ({"too_short"}, 0)
    assert codes["dvd_single_frame.mp4"] == {"too_short", "unverified_length"}
    assert flows["mov_neg_first_pts_discard.mp4"] == 14
    ids = {row["path"]: row["id"] for row in rows}
    same = [ids[f"big_buck_bunny.{suffix}"] for suffix in ("mp4", "mpg", "wmv")]
    assert len(set(same)) == 3
    assert all(video_id.startswith("big_buck_bunny~") for video_id in same)


def test_the_same_clip_in_three_containers_moves_alike(odd: tuple[Path, dict[str, object]]) -> None:
    """Three encodings of the same 125 frames: their flow differs by coding noise alone."""
    with open_store(odd[0]) as store:
        ids = [video_id for video_id in store.ids if video_id.startswith("big_buck_bunny~")]
        means = [np.mean([np.abs(store.flow_px(video_id, k)).mean() for k in range(10, 60, 10)]) for video_id in ids]
        assert [store.clip(video_id).num_frames for video_id in ids] == [125, 125, 125]
        assert max(means) - min(means) < 0.25 * max(means)

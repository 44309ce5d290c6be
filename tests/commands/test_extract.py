import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from helpers.command import flowprep, manifest, store_bytes
from helpers.media import cut, moving_frames, write_video

from flowprep.flow import create_backend
from flowprep.quantise import quantise
from flowprep.resize import grey
from flowprep.stores import open_store

NUM_FRAMES = 10
CHEAP = ("--backend", "dis", "--keep-size", "--jobs", "1")


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two classes with two good videos each, and a cut one."""
    folder = tmp_path_factory.mktemp("clips")
    for index, name in enumerate(("jump/a", "jump/b", "run/c", "run/d")):
        (folder / name).parent.mkdir(exist_ok=True)
        write_video(folder / f"{name}.avi", moving_frames(NUM_FRAMES + 2 * index, seed=index))
    cut(write_video(folder / "whole.avi", moving_frames(60)), folder / "run" / "e.avi", 0.7)
    (folder / "whole.avi").unlink()
    return folder


@pytest.fixture(scope="module")
def shards(clips: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("stores") / "shards"
    flowprep("extract", "--dataset", "folder", "--videos", clips, "--out", out, "--shard-videos", "2", *CHEAP, expect=1)
    return out


def test_states_counts_and_reasons_are_in_the_manifest(shards: Path) -> None:
    header, rows = manifest(shards)
    assert (header["format"], header["kind"]) == (1, "flowprep-manifest")
    assert header["settings"]["flow"]["backend"] == "dis"
    assert [row["id"] for row in rows] == ["jump/a", "jump/b", "run/c", "run/d", "run/e"]
    assert [row["state"] for row in rows] == ["ok"] * 4 + ["failed"]
    assert [row["frames"] for row in rows] == [10, 12, 14, 16, 0]
    assert [row["flows"] for row in rows] == [9, 11, 13, 15, 0]
    assert [row["label"] for row in rows] == [0, 0, 1, 1, 1]
    assert rows[4]["reasons"][0]["code"] == "truncated"
    assert rows[0]["shard"] == rows[1]["shard"] == "shards/00000.h5"
    assert all(len(row["source_sha256"]) == 64 for row in rows)
    assert sorted(path.name for path in (shards / "shards").iterdir()) == ["00000.h5", "00001.h5", "00002.h5"]


def test_run_json_has_what_the_manifest_must_not(shards: Path) -> None:
    run = json.loads((shards / "run.json").read_text())
    assert run["states"] == {"ok": 4, "failed": 1}
    assert {"opencv", "pyav", "flowprep"} <= set(run["versions"])
    assert run["failed"][0]["reasons"][0]["code"] == "truncated"
    for word in ('seconds"', "versions", "attempt", "worker"):
        assert word not in (shards / "manifest.jsonl").read_text()


def test_stored_planes_are_the_quantised_flow_of_the_stored_size(clips: Path, shards: Path) -> None:
    """The whole chain again, by hand, on raw frames: nothing is shifted, swapped or scaled."""
    from flowprep.config import DecodeSettings
    from flowprep.decode import VideoReader

    with VideoReader(clips / "jump" / "b.avi", DecodeSettings()) as reader:
        frames = [rgb.copy() for rgb in reader.frames()]
    with open_store(shards) as store, create_backend("dis") as backend:
        prepared = backend.prepare(np.stack([grey(rgb) for rgb in frames]))
        flow = backend.compute(prepared[:-1], prepared[1:])
        assert store.clip("jump/b").num_flows == len(flow) == 11
        for index in range(11):
            x, y = quantise(flow[index], store.settings.quantise)
            stack = store.stack("jump/b", index, 1)
            assert np.abs(stack[0].astype(int) - x).mean() < 1.0  # what JPEG leaves
            assert np.abs(stack[1].astype(int) - y).mean() < 1.0
            image = store.image("jump/b", "rgb", index)
            assert np.abs(image.astype(int) - frames[index]).mean() < 4.0
        # The texture drifts 2 px a frame to the right.
        assert np.median(store.flow_px("jump/b", 5)[16:-16, 16:-16, 0]) == pytest.approx(2.0, abs=0.3)


def test_tree_and_shards_hold_the_same_bytes_for_any_number_of_jobs(clips: Path, shards: Path, tmp_path: Path) -> None:
    common = ("extract", "--dataset", "folder", "--videos", clips, "--backend", "dis", "--keep-size")
    flowprep(*common, "--out", tmp_path / "again", "--shard-videos", "2", "--jobs", "2", expect=1)
    assert store_bytes(tmp_path / "again") == store_bytes(shards)
    flowprep(*common, "--out", tmp_path / "tree", "--format", "jpeg", "--jobs", "1", expect=1)
    _, in_shards = manifest(shards)
    _, in_tree = manifest(tmp_path / "tree")
    assert [row["stream_sha256"] for row in in_tree] == [row["stream_sha256"] for row in in_shards]
    with open_store(tmp_path / "tree") as tree, open_store(shards) as store:
        for video_id in store.ids:
            assert bytes(tree.jpeg(video_id, "flow_y", 3)) == bytes(store.jpeg(video_id, "flow_y", 3))
            np.testing.assert_array_equal(tree.pts_seconds(video_id), store.pts_seconds(video_id))


LAYOUTS = {
    "flowprep": ("jump/a", "img_{:05d}.jpg", "flow_x_{:05d}.jpg", "flow_y_{:05d}.jpg", 1, 10),
    "denseflow": ("jump/a", "img_{:05d}.jpg", "flow_x_{:05d}.jpg", "flow_y_{:05d}.jpg", 0, 10),
    "mmaction2": ("jump/a", "img_{:05d}.jpg", "x_{:05d}.jpg", "y_{:05d}.jpg", 1, 10),
    "tsn": ("jump/a", "img_{:05d}.jpg", "flow_x_{:05d}.jpg", "flow_y_{:05d}.jpg", 1, 9),
}


@pytest.mark.parametrize("layout", [*LAYOUTS, "feichtenhofer"])
def test_every_layout(clips: Path, shards: Path, tmp_path: Path, layout: str) -> None:
    out = tmp_path / "out"
    arguments = ("--format", "jpeg", "--layout", layout, *CHEAP)
    flowprep("extract", "--dataset", "folder", "--videos", clips, "--out", out, *arguments, expect=1)
    if layout == "feichtenhofer":
        names = {
            *(f"jpegs_256/a/frame{k:06d}.jpg" for k in range(1, 11)),
            *(f"tvl1_flow/{axis}/a/frame{k:06d}.jpg" for axis in "uv" for k in range(1, 10)),
        }
        first_image, first_flow = out / "jpegs_256/a/frame000001.jpg", out / "tvl1_flow/u/a/frame000001.jpg"
    else:
        folder, image, flow_x, flow_y, first, num_images = LAYOUTS[layout]
        names = {f"{folder}/{image.format(k)}" for k in range(first, first + num_images)}
        names |= {f"{folder}/{flow.format(k)}" for flow in (flow_x, flow_y) for k in range(first, first + 9)}
        first_image, first_flow = out / folder / image.format(first), out / folder / flow_x.format(first)
    written = {
        str(path.relative_to(out))
        for path in out.rglob("*.jpg")
        if "a" in path.relative_to(out).parts and ".flowprep" not in path.parts
    }
    assert written == names
    with open_store(shards) as store:
        # In TSN's layout image k is the target of flow k, so that the first decoded image is left out.
        assert first_image.read_bytes() == bytes(store.jpeg("jump/a", "rgb", 1 if layout == "tsn" else 0))
        assert first_flow.read_bytes() == bytes(store.jpeg("jump/a", "flow_x", 0))
    flowprep("info", out)


def test_step_and_backward(clips: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    flowprep(
        "extract", "--dataset", "folder", "--videos", clips, "--out", out, "--step", "3", "--backward", *CHEAP, expect=1
    )
    with open_store(out) as store:
        assert store.clip("jump/a").num_flows == NUM_FRAMES - 3
        forward = store.flow_px("jump/a", 2)[20:-20, 20:-20, 0]
        backward = store.flow_px("jump/a", 2, backward=True)[20:-20, 20:-20, 0]
        assert np.median(forward) == pytest.approx(6.0, abs=0.5)
        assert np.median(backward) == pytest.approx(-6.0, abs=0.5)


def test_tsn_without_flow_leaves_out_the_first_image_too(clips: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    arguments = ("--videos", clips, "--out", out, "--format", "jpeg", "--layout", "tsn", "--no-flow")
    flowprep("extract", "--dataset", "folder", *arguments, *CHEAP, expect=1)
    _, rows = manifest(out)
    assert [row["frames"] for row in rows] == [9, 11, 13, 15, 0]


@pytest.mark.parametrize(("option", "streams"), [("--no-flow", {"rgb"}), ("--no-rgb", {"flow_x", "flow_y"})])
def test_streams_can_be_left_out(clips: Path, tmp_path: Path, option: str, streams: set[str]) -> None:
    out = tmp_path / "out"
    flowprep("extract", "--dataset", "folder", "--videos", clips, "--out", out, option, *CHEAP, expect=1)
    _, rows = manifest(out)
    assert set(rows[0]["stream_sha256"]) == streams
    assert (rows[0]["frames"], rows[0]["flows"]) == ((10, 0) if option == "--no-flow" else (0, 9))


def test_parameters_and_size_reach_the_flow(clips: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    flowprep(
        *("extract", "--dataset", "folder", "--videos", clips, "--out", out, "--backend", "farneback"),
        *("--size", "40x24", "--param", "window_size=9", "--bound", "15", "--rounding", "truncate", "--jobs", "1"),
        expect=1,
    )
    header, rows = manifest(out)
    assert header["settings"]["flow"]["parameters"]["window_size"] == 9
    assert header["settings"]["quantise"] == {"bound_px": 15.0, "rounding": "truncate"}
    assert (rows[0]["width"], rows[0]["height"]) == (40, 24)


def test_a_second_run_does_nothing_and_changes_nothing(clips: Path, shards: Path) -> None:
    before = store_bytes(shards)
    result = flowprep(
        *(
            "extract",
            "--dataset",
            "folder",
            "--videos",
            clips,
            "--out",
            shards,
            "--shard-videos",
            "2",
            "--json",
            *CHEAP,
        ),
        expect=1,
    )
    assert json.loads(result.stdout)["num_done_now"] == 0
    assert store_bytes(shards) == before


def test_other_settings_are_refused_with_the_difference(clips: Path, shards: Path) -> None:
    result = flowprep(
        "extract", "--dataset", "folder", "--videos", clips, "--out", shards, *CHEAP, "--bound", "15", expect=2
    )
    assert "quantise.bound_px: 20.0 there, 15.0 asked for" in result.stderr
    assert "store.shard_videos: 2 there, 256 asked for" in result.stderr
    flowprep("extract", "--dataset", "folder", "--videos", clips, "--out", shards, *CHEAP, "--dry-run", expect=2)


def test_growth_repair_and_overwrite(clips: Path, tmp_path: Path) -> None:
    """A list grows at its end, a damaged file is replaced, a source changes: each time only that is done."""
    videos, out, fresh = tmp_path / "videos", tmp_path / "out", tmp_path / "fresh"
    shutil.copytree(clips, videos)
    common = ("extract", "--dataset", "folder", "--videos", videos, "--shard-videos", "2", *CHEAP, "--json")

    def run(*more: str | Path, expect: int = 0) -> dict[str, object]:
        summary: dict[str, object] = json.loads(flowprep(*common, *more, expect=expect).stdout)
        return summary

    assert run("--out", out, expect=1)["num_done_now"] == 5
    write_video(videos / "run" / "f.avi", moving_frames(8, seed=9))
    assert run("--out", out, expect=1)["num_done_now"] == 1
    write_video(videos / "run" / "e.avi", moving_frames(9, seed=8))
    assert run("--out", out)["states"] == {"ok": 6}
    write_video(videos / "jump" / "a.avi", moving_frames(20, seed=7))
    assert run("--out", out)["num_done_now"] == 1
    path = videos / "jump" / "b.avi"
    data = path.read_bytes()
    path.write_bytes(data)  # touched, and still the same
    assert run("--out", out)["num_done_now"] == 0
    path.write_bytes(data.replace(b"Lavc", b"Lavd"))  # another file of the same size
    assert run("--out", out)["num_done_now"] == 1
    run("--out", fresh)
    assert store_bytes(out) == store_bytes(fresh)
    write_video(videos / "jump" / "0.avi", moving_frames(8))
    assert "a list may only grow at its end" in flowprep(*common, "--out", out, expect=2).stderr
    assert run("--out", out, "--overwrite")["num_done_now"] == 7
    run("--out", tmp_path / "fresh2")
    assert store_bytes(out) == store_bytes(tmp_path / "fresh2")


def test_failures_that_do_not_heal_are_tried_again_only_on_request(clips: Path, tmp_path: Path) -> None:
    common = ("extract", "--dataset", "folder", "--videos", clips, "--out", tmp_path / "out", *CHEAP, "--json")
    flowprep(*common, expect=1)
    assert json.loads(flowprep(*common, expect=1).stdout)["num_done_now"] == 0
    assert json.loads(flowprep(*common, "--retry", "all", expect=1).stdout)["num_done_now"] == 1


def test_damage_policy_is_part_of_the_result(clips: Path, tmp_path: Path) -> None:
    common = ("extract", "--dataset", "folder", "--videos", clips, "--out", tmp_path / "out", *CHEAP)
    flowprep(*common, "--on-damage", "keep-prefix")
    _, rows = manifest(tmp_path / "out")
    assert rows[4]["state"] == "flagged"
    assert [reason["code"] for reason in rows[4]["reasons"]] == ["truncated"]
    assert 0 < rows[4]["frames"] < 60
    flowprep(*common, "--on-damage", "keep-prefix", "--strict", expect=1)


def test_a_dry_run_plans_and_writes_nothing(clips: Path, tmp_path: Path) -> None:
    result = flowprep(
        *("extract", "--dataset", "folder", "--videos", clips, "--out", tmp_path / "out", *CHEAP, "--dry-run", "--json")
    )
    plan = json.loads(result.stdout)
    assert (plan["num_videos"], plan["num_todo"]) == (5, 5)
    assert plan["estimated_frames"] == pytest.approx(52 + 60, rel=0.5)
    assert plan["estimated_bytes"] > 0
    assert plan["estimated_seconds"] > 0
    assert not (tmp_path / "out").exists()
    shown = flowprep(
        "extract", "--dataset", "folder", "--videos", clips, "--out", tmp_path / "out", *CHEAP, "--dry-run"
    )
    assert "about" in shown.stderr
    assert shown.stdout == ""


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--out", "{clips}/out"), "lies in the folder of the videos"),
        (("--out", "{tmp}/x", "--size", "12"), "--size takes WIDTHxHEIGHT"),
        (("--out", "{tmp}/x", "--size", "12x12", "--keep-size"), "give one of --short-side, --size and --keep-size"),
        (("--out", "{tmp}/x", "--param", "windowsize=3", "--backend", "farneback"), "did you mean `window_size`"),
        (("--out", "{tmp}/x", "--param", "window_size"), "--param takes NAME=VALUE"),
        (("--out", "{tmp}/x", "--backend", "dis", "--variant", "cpu"), "`variant` is for TV-L1"),
        (("--out", "{tmp}/x", "--layout", "tsn"), "use it with --format jpeg"),
        (("--out", "{tmp}/x", "--backend", "opencv-cuda"), "opencv-cuda"),
        (("--out", "{tmp}/x", "--videos", "{tmp}/nothing"), "does not exist"),
        (("--out", "{tmp}/x", "--bound", "0"), "`bound_px` must be above 0"),
        (("--out", "{tmp}/full"), "is not a flowprep store and not empty"),
    ],
)
def test_wrong_use_is_one_sentence_and_exit_code_2(
    clips: Path, tmp_path: Path, arguments: tuple[str, ...], message: str
) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.txt").write_text("mine")
    filled = [argument.format(clips=clips, tmp=tmp_path) for argument in arguments]
    result = flowprep("extract", "--dataset", "folder", "--videos", clips, *filled, expect=2)
    assert message in result.stderr
    assert len(result.stderr.strip().splitlines()) <= 3
    assert not (tmp_path / "x").exists()
    assert [path.name for path in (tmp_path / "full").iterdir()] == ["thesis.txt"]


def test_segments_of_a_list(clips: Path, tmp_path: Path) -> None:
    (tmp_path / "list.csv").write_text("path,label,id,start,end\nrun/d.avi,0,first,0,0.2\nrun/d.avi,0,second,0.2,0.6\n")
    flowprep(
        *(
            "extract",
            "--dataset",
            "list",
            "--videos",
            clips,
            "--splits",
            tmp_path / "list.csv",
            "--out",
            tmp_path / "out",
        ),
        *CHEAP,
    )
    _, rows = manifest(tmp_path / "out")
    assert [(row["id"], row["frames"], row["segment"]) for row in rows] == [
        ("first", 5, [0.0, 0.2]),
        ("second", 10, [0.2, 0.6]),
    ]

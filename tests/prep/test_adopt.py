"""Trees that other tools have made, by hand: adopted as they lie, converted, and read value by value."""

from __future__ import annotations

import errno
import json
import pickle
import re
import shlex
import shutil
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
from contracts.store import without_flushes
from helpers import foreign
from helpers.command import flowprep
from helpers.foreign import BOUND_PX, HEIGHT, WIDTH, all_of
from helpers.media import moving_frames, write_video

from flowprep import commit, overwrite, run
from flowprep.adopt import Adopted, adopt
from flowprep.config import ExtractSettings, RunSettings, StoreSettings
from flowprep.convert import convert
from flowprep.describe import describe
from flowprep.errors import DatasetError, MissingDataError, RunStoppedError, SettingsError
from flowprep.interruption import Interruption
from flowprep.listener import Quiet
from flowprep.merge import merge
from flowprep.request import Request
from flowprep.stores import Store, open_store
from flowprep.stores.foreign import Facts

ONE = RunSettings(jobs=2, durability="fast")
DENSEFLOW = Facts(layout="denseflow", bound_px=BOUND_PX, rounding="round")
MMACTION2 = Facts(layout="mmaction2", bound_px=BOUND_PX, rounding="truncate")
TSN = Facts(layout="tsn", bound_px=BOUND_PX, rounding="round")
FEICHTENHOFER = Facts(layout="feichtenhofer", bound_px=BOUND_PX, rounding="round")
FRAMES = {"archery/a b": 4, "archery/c": 3, "bowling/v_x.y": 5}


@pytest.fixture(autouse=True)
def _no_flushes(monkeypatch: pytest.MonkeyPatch) -> None:
    without_flushes(monkeypatch)


def make(root: Path, write: Callable[..., None], **others: object) -> Path:
    for folder, num_frames in FRAMES.items():
        write(root, folder, num_frames, **others)
    return root


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A tree of denseflow."""
    return make(tmp_path / "tree", foreign.denseflow)


def done(root: Path, facts: Facts, **others: object) -> Adopted:
    return adopt(root, facts, run=ONE, **others)  # type: ignore[arg-type]


def codes_of(video: str, index: int, rule: str) -> np.ndarray:
    """What a reader must get: the tool's codes, through JPEG as the tool has written it."""
    planes = []
    for component in range(2):
        jpeg = cv2.imencode(".jpg", foreign.CODES[rule](foreign.flow(video, index)[..., component]))[1]
        planes.append(cv2.imdecode(jpeg, cv2.IMREAD_GRAYSCALE))
    return np.stack(planes)


def check_values(store: Store, rule: str, *, first_image: int = 0) -> None:
    assert list(store.ids) == list(FRAMES)
    for video, num_frames in FRAMES.items():
        clip = store.clip(video)
        assert (clip.num_frames, clip.num_flows) == (num_frames - first_image, num_frames - 1)
        assert (clip.height, clip.width, clip.fps) == (HEIGHT, WIDTH, 0.0)
        assert (clip.class_name, clip.label) == (video.split("/")[0], int(video.startswith("bowling")))
        for k in range(clip.num_frames):
            error = store.image(video, "rgb", k).astype(int) - foreign.image(video, k + first_image)[..., ::-1]
            assert np.abs(error).mean() < 4
        for k in range(clip.num_flows):
            assert np.array_equal(store.stack(video, k, 1), codes_of(video, k, rule))
        still = np.abs(store.flow_px(video, 0) - foreign.flow(video, 0))[14:, 18:]
        assert still.mean() < BOUND_PX / 255  # far from the moving block JPEG changes nothing: the rule's own error
        assert np.isnan(store.pts_seconds(video)).all()
        assert len(store.pts_seconds(video)) == clip.num_frames


@pytest.mark.parametrize(
    ("write", "facts"), [(foreign.denseflow, DENSEFLOW), (foreign.mmaction2, MMACTION2)], ids=["denseflow", "mmaction2"]
)
def test_a_tree_is_adopted_untouched_converted_and_read(
    tmp_path: Path, write: Callable[..., None], facts: Facts
) -> None:
    root, rule = make(tmp_path / "tree", write), facts.rounding or ""
    before = all_of(root)
    adopted = done(root, facts)
    assert (adopted.summary.states, adopted.summary.exit_code) == ({"ok": 3}, 0)
    assert adopted.zero is not None
    assert adopted.zero.rule == rule
    assert all_of(root) == before
    with open_store(root) as store:
        check_values(store, rule)
    convert(root, tmp_path / "shards", format="hdf5", run=ONE)
    with open_store(tmp_path / "shards") as store:
        check_values(store, rule)
        assert store.settings.quantise.rounding == rule
        for name, (_, _, data) in before.items():
            video, _, file = name.rpartition("/")
            prefix, _, number = file.removesuffix(".jpg").rpartition("_")
            stream = {"img": "rgb", "x": "flow_x", "y": "flow_y"}.get(prefix, prefix)
            first = 0 if facts.layout == "denseflow" else 1
            assert bytes(store.jpeg(video, stream, int(number) - first)) == data
    convert(tmp_path / "shards", tmp_path / "back", format="jpeg", layout=facts.layout, run=ONE)
    assert {name: data for name, (_, _, data) in all_of(tmp_path / "back").items()} == {
        name: data for name, (_, _, data) in before.items()
    }


def test_a_tree_is_opened_without_writing(tree: Path, tmp_path: Path) -> None:
    before = sorted(tree.rglob("*"))
    with open_store(tree, layout="denseflow", bound_px=BOUND_PX, rounding="round") as store:
        check_values(store, "round")
        check_values(pickle.loads(pickle.dumps(store)), "round")
        assert store.settings.store.adopted
    assert sorted(tree.rglob("*")) == before
    root = make(tmp_path / "other", foreign.mmaction2)
    with open_store(root, layout="mmaction2", bound_px=BOUND_PX, rounding="truncate", step=1) as store:
        check_values(store, "truncate")
    done(root, MMACTION2)
    with pytest.raises(SettingsError, match="is a store, and its manifest says what `layout`, `step` would"):
        open_store(root, layout="mmaction2", step=1)
    with pytest.raises(SettingsError, match="opened with its `layout`"):
        open_store(tree, bound_px=20)


def test_images_of_tsn_are_the_targets_and_the_first_is_made_from_the_video(tmp_path: Path) -> None:
    root = make(tmp_path / "tree", foreign.tsn)
    assert done(root, TSN).summary.states == {"ok": 3}
    with open_store(root) as store:
        assert store.first_image == 1
        check_values(store, "round", first_image=1)
    for video, num_frames in FRAMES.items():
        path = tmp_path / "videos" / f"{video}.avi"
        path.parent.mkdir(parents=True, exist_ok=True)
        write_video(path, moving_frames(num_frames, 64, 48, seed=num_frames))
    places = {"format": "hdf5", "run": ONE, "videos": tmp_path / "videos"}
    with pytest.raises(SettingsError, match="the JPEG quality of this tree is not known; give --quality"):
        convert(root, tmp_path / "shards", **places)  # type: ignore[arg-type]
    assert convert(root, tmp_path / "shards", quality=95, **places).states == {"ok": 3}  # type: ignore[arg-type]
    with open_store(tmp_path / "shards") as store, open_store(root) as source:
        assert store.clip("archery/a b").num_frames == 4
        first = cv2.resize(moving_frames(4, 64, 48, seed=4)[0], (WIDTH, HEIGHT), interpolation=cv2.INTER_CUBIC)
        assert np.abs(store.image("archery/a b", "rgb", 0).astype(int) - first).mean() < 10
        assert bytes(store.jpeg("archery/a b", "rgb", 1)) == source.jpeg("archery/a b", "rgb", 0)
    (tmp_path / "videos/archery/c.avi").unlink()
    shutil.rmtree(tmp_path / "shards")
    summary = convert(root, tmp_path / "shards", quality=95, **places)  # type: ignore[arg-type]
    assert (summary.states, summary.exit_code, summary.reasons) == ({"ok": 2, "failed": 1}, 1, {"missing": 1})


def splits_of_ucf101(folder: Path) -> Path:
    folder.mkdir()
    (folder / "classInd.txt").write_text("1 Archery\n2 Bowling\n")
    (folder / "trainlist01.txt").write_text("Archery/v_Archery_g01_c01.avi 1\nBowling/v_Bowling_g01_c01.avi 2\n")
    (folder / "testlist01.txt").write_text("Archery/v_Archery_g02_c01.avi\n")
    return folder


def test_a_tree_without_classes_takes_them_from_the_official_lists(tmp_path: Path) -> None:
    root = tmp_path / "tree"
    for video in ("v_Archery_g01_c01", "v_Bowling_g01_c01", "v_Other_g01_c01"):
        foreign.feichtenhofer(root, video, 3)
    (root / "tvl1_flow/u/v_Archery_g01_c01.bin").touch()
    with pytest.raises(
        SettingsError, match=r"layout feichtenhofer has no class folders, .* give --dataset and --splits"
    ):
        done(root, FEICHTENHOFER)
    splits = splits_of_ucf101(tmp_path / "splits")
    summary = done(root, FEICHTENHOFER, dataset="ucf101", splits=splits).summary
    assert (summary.states, summary.reasons, summary.num_unlisted) == ({"ok": 2, "failed": 1}, {"missing": 1}, 1)
    with open_store(root) as store:
        assert list(store.ids) == ["v_Archery_g01_c01", "v_Bowling_g01_c01"]
        assert store.clip("v_Bowling_g01_c01").label == 1
    convert(root, tmp_path / "out", format="jpeg", layout="denseflow", run=ONE)
    assert (tmp_path / "out/Bowling/v_Bowling_g01_c01/flow_y_00001.jpg").exists()
    there = json.loads((tmp_path / "out" / "splits.json").read_text())
    assert there["splits"] == {"1": {"test": ["v_Archery_g02_c01"], "train": list(store.ids)}}
    assert there == json.loads((root / "splits.json").read_text())


def test_a_video_beside_the_folders_does_not_stand_for_its_images(tmp_path: Path) -> None:
    root = tmp_path / "tree"
    for folder in ("Archery/v_Archery_g01_c01", "Bowling/v_Bowling_g01_c01.avi"):
        foreign.denseflow(root, folder, 3)
    (root / "Archery/v_Archery_g02_c01.avi").write_bytes(b"a video whose frames nobody has extracted")
    summary = done(root, DENSEFLOW, dataset="ucf101", splits=splits_of_ucf101(tmp_path / "splits")).summary
    assert (summary.states, summary.reasons) == ({"ok": 2, "failed": 1}, {"missing": 1})
    with open_store(root) as store:
        assert list(store.ids) == ["v_Archery_g01_c01", "v_Bowling_g01_c01"]


def test_names_of_denseflow_say_step_and_direction(tmp_path: Path) -> None:
    root = make(tmp_path / "tree", foreign.denseflow, step=2)
    make(root, foreign.denseflow, step=-2)
    assert done(root, DENSEFLOW).summary.states == {"ok": 3}
    with open_store(root) as store:
        assert (store.settings.flow.step, store.settings.flow.backward) == (2, True)
        assert np.array_equal(store.stack("archery/a b", 1, 1), codes_of("archery/a b", 1, "round"))
        assert np.array_equal(store.stack("archery/a b", 1, 1, backward=True), codes_of("archery/a b", 1, "round"))
    with pytest.raises(SettingsError, match="holds flow of step 2 by the names of its files, not 3"):
        done(root, Facts(layout="denseflow", bound_px=20, rounding="round", step=3))
    make(root, foreign.denseflow)
    with pytest.raises(SettingsError, match="holds flow of the steps 1, 2, and a store has one; give `step`"):
        done(root, DENSEFLOW)
    other = done(root, Facts(layout="denseflow", bound_px=20, rounding="round", step=1))
    assert other.summary.states == {"ok": 3}
    with open_store(root) as store:
        assert (store.settings.flow.step, store.settings.streams) == (1, ("rgb", "flow_x", "flow_y"))


@pytest.mark.parametrize("kept", ["img", "flow"])
def test_trees_with_images_or_flow_alone(tree: Path, kept: str) -> None:
    for path in tree.rglob("*.jpg"):
        if not path.name.startswith(kept):
            path.unlink()
    facts = Facts(layout="denseflow") if kept == "img" else DENSEFLOW
    adopted = done(tree, facts)
    assert adopted.summary.states == {"ok": 3}
    assert (adopted.zero is None) == (kept == "img")
    with open_store(tree) as store:
        assert store.settings.streams == (("rgb",) if kept == "img" else ("flow_x", "flow_y"))
        assert store.clip("archery/c").num_frames == (3 if kept == "img" else 0)


# -- facts -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("facts", "message"),
    [
        (Facts(layout="denseflow"), "`bound_px` .* never guessed: .*denseflow's -b .32 where it was left out"),
        (
            Facts(layout="denseflow", bound_px=20),
            "`rounding` .* never guessed: .* round; mmaction2.* The zero level of its flow is 128, as `round` makes it",
        ),
        (Facts(layout="denseflow", rounding="round"), "`bound_px` .* never guessed"),
        (Facts(layout="denseflow", bound_px=-1, rounding="round"), "`bound_px` must be above 0"),
        (Facts(layout="denseflow", bound_px=20, rounding="up"), "`rounding` must be one of round, truncate"),
        (Facts(layout="flowprep", bound_px=20, rounding="round"), "`step` .* never guessed: .* images less .* flows"),
        (Facts(layout="flowprep", bound_px=20, rounding="round", step=1), "begins with number 0 .* may be denseflow"),
        (
            Facts(layout="mmaction2", bound_px=20, rounding="round"),
            "no flow of layout mmaction2, .* as in layout .*den",
        ),
        (
            Facts(layout="feichtenhofer", bound_px=20, rounding="round"),
            "holds no video of layout feichtenhofer; .*flow_x_00000.jpg, which are named",
        ),
    ],
)
def test_a_missing_or_wrong_fact_is_an_error_and_nothing_is_written(tree: Path, facts: Facts, message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        done(tree, facts)
    with pytest.raises(SettingsError, match=message.split(" The zero")[0]):
        open_store(tree, layout=facts.layout, bound_px=facts.bound_px, rounding=facts.rounding, step=facts.step)
    assert sorted(path.name for path in tree.iterdir()) == ["archery", "bowling"]


def test_steps_and_layouts_that_the_counts_contradict(tmp_path: Path) -> None:
    root = make(tmp_path / "a", foreign.tsn)
    with pytest.raises(SettingsError, match=r"as many flows as images where layout flowprep .* the layout is tsn"):
        done(root, Facts(layout="flowprep", bound_px=20, rounding="round", step=1))
    for video in FRAMES:
        foreign.write_jpeg(root / video / f"img_{FRAMES[video]:05d}.jpg", foreign.image(video, 9))
    with pytest.raises(SettingsError, match=r"1 flow fewer than images where layout tsn .* layout is flowprep, with"):
        done(root, TSN)
    with pytest.raises(
        SettingsError, match=r"1 flow fewer than images where .* step 2 has 2 .*; the step seems to be 1"
    ):
        done(root, Facts(layout="flowprep", bound_px=20, rounding="round", step=2))
    with pytest.raises(SettingsError, match="layout tsn has no names for step 2"):
        done(root, Facts(layout="tsn", bound_px=20, rounding="round", step=2))
    assert done(root, Facts(layout="flowprep", bound_px=20, rounding="round", step=1)).summary.states == {"ok": 3}


@pytest.mark.parametrize("rule", ["round", "truncate"])
def test_a_rule_that_the_zero_level_contradicts_is_refused_unless_trusted(tmp_path: Path, rule: str) -> None:
    root = make(tmp_path / "tree", foreign.denseflow, rule=rule)
    other = {"round": "truncate", "truncate": "round"}[rule]
    stated, zero = ("round", 127) if rule == "truncate" else ("truncate", 128)
    wrong = Facts(layout="denseflow", bound_px=BOUND_PX, rounding=other)
    message = f"`rounding` {stated} puts zero flow of .* the zero level of its flow is {zero}, as `{rule}` makes it"
    with pytest.raises(SettingsError, match=message):
        done(root, wrong)
    assert not (root / ".flowprep").exists()
    assert done(root, wrong, trust_rounding=True).summary.states == {"ok": 3}
    assert describe(root).settings.quantise.rounding == other


# -- videos that are not as they must be -------------------------------------------------------------------------------


def spoil(folder: Path, how: str) -> None:
    paths = sorted(folder.glob("flow_x_*.jpg"))
    match how:
        case "gap":
            paths[1].unlink()
        case "fewer in y":
            max(folder.glob("flow_y_*.jpg")).unlink()
        case "more flows":
            max(folder.glob("img_*.jpg")).unlink()
        case "fewer flows":
            for axis in "xy":
                max(folder.glob(f"flow_{axis}_*.jpg")).unlink()
        case "no flow":
            for path in folder.glob("flow_*.jpg"):
                path.unlink()
        case "empty":
            paths[1].write_bytes(b"")
        case "cut":
            paths[1].write_bytes(paths[1].read_bytes()[:-9])
        case "no JPEG":
            paths[1].write_bytes(b"GIF89a" * 30)
        case "link":
            paths[1].rename(folder.parent / "x.jpg")
            paths[1].symlink_to(folder.parent / "x.jpg")
        case "size":
            foreign.write_jpeg(paths[1], np.zeros((HEIGHT, WIDTH + 2), np.uint8))
        case "others":
            (folder / "notes.txt").touch()
            (folder / "flow_x_1.jpg").touch()
        case "one image":
            for path in [*folder.glob("flow_*.jpg"), *sorted(folder.glob("img_*.jpg"))[1:]]:
                path.unlink()


@pytest.mark.parametrize(
    ("how", "state", "code", "detail"),
    [
        ("gap", "failed", "gap", "flow_x has 3 files numbered 0 to 3 where denseflow begins with 0: 1 missing"),
        ("fewer in y", "failed", "counts", "4 files of flow_x, 3 files of flow_y"),
        ("more flows", "failed", "counts", "4 images and 4 flows where layout denseflow has 3 flows of step 1"),
        ("fewer flows", "flagged", "counts", "5 images and 3 flows where .* the last ones are missing"),
        ("no flow", "failed", "counts", "5 images and 0 flows where"),
        ("empty", "failed", "jpeg", "bowling/v_x.y/flow_x_00001.jpg: the file is empty"),
        ("cut", "failed", "jpeg", "flow_x_00001.jpg: the file is cut after"),
        ("no JPEG", "failed", "jpeg", "flow_x_00001.jpg: the file is not a JPEG"),
        ("link", "failed", "jpeg", "flow_x_00001.jpg: it cannot be read: Too many levels of symbolic links"),
        ("size", "failed", "size_change", "img_00000.jpg has 32x24 pixels and .*flow_x_00001.jpg 34x24"),
        ("others", "flagged", "other_files", "flow_x_1.jpg, notes.txt do not belong to layout denseflow"),
        ("one image", "flagged", "too_short", "1 images have no flow of step 1"),
    ],
)
def test_a_video_that_is_not_as_it_must_be(tree: Path, how: str, state: str, code: str, detail: str) -> None:
    spoil(tree / "bowling" / "v_x.y", how)
    before = all_of(tree)
    summary = done(tree, DENSEFLOW).summary
    assert (summary.states, summary.reasons) == ({"ok": 2, state: 1}, {code: 1})
    assert summary.exit_code == (1 if state == "failed" else 0)
    assert all_of(tree) == before
    rows = [json.loads(line) for line in (tree / "manifest.jsonl").read_text().splitlines()[1:]]
    assert re.search(detail, rows[2]["reasons"][0]["detail"]), rows[2]["reasons"]
    with open_store(tree) as store:
        assert len(store.ids) == (2 if state == "failed" else 3)
        for video in store.ids:
            for k in range(store.clip(video).num_flows):
                store.stack(video, k, 1)


def test_videos_that_cannot_be_read_are_left_out_of_a_tree_that_is_only_opened(
    tree: Path, caplog: pytest.LogCaptureFixture
) -> None:
    spoil(tree / "bowling" / "v_x.y", "gap")
    with open_store(tree, layout="denseflow", bound_px=20, rounding="round") as store:
        assert list(store.ids) == ["archery/a b", "archery/c"]
    assert "1 of 3 videos are not as layout denseflow demands" in caplog.text


def test_files_outside_of_videos_and_links_to_folders_are_noted(tree: Path, tmp_path: Path) -> None:
    heard: list[str] = []

    class Listener(Quiet):
        def note(self, text: str) -> None:
            heard.append(text)

    (tree / "readme.txt").touch()
    (tree / ".done").mkdir()
    (tree / ".done" / "c").touch()
    (tree / "linked").symlink_to(tree / "archery")
    assert done(tree, DENSEFLOW, listener=Listener()).summary.states == {"ok": 3}
    assert "1 files lie outside of the videos' folders, such as readme.txt." in heard
    assert "1 links to folders were not followed, such as linked." in heard


def test_folders_that_are_no_trees(tmp_path: Path) -> None:
    with pytest.raises(MissingDataError, match="there is no folder"):
        done(tmp_path / "nothing", DENSEFLOW)
    (tmp_path / "empty").mkdir()
    with pytest.raises(SettingsError, match="holds no video of layout denseflow: there are no JPEG files"):
        done(tmp_path / "empty", DENSEFLOW)
    foreign.denseflow(tmp_path / "one", "", 3)
    with pytest.raises(SettingsError, match="is itself the folder of one video; name the folder that holds it"):
        done(tmp_path / "one", DENSEFLOW)
    with pytest.raises(SettingsError, match="`layout` must be one of"):
        Facts(layout="dense_flow")


# -- what an adopted store is good for ---------------------------------------------------------------------------------


def test_adopting_again_gives_the_same_and_sees_what_was_mended(tree: Path) -> None:
    path = tree / "archery/c/flow_x_00001.jpg"
    data = path.read_bytes()
    path.unlink()
    assert done(tree, DENSEFLOW).summary.states == {"ok": 2, "failed": 1}
    path.write_bytes(data)
    assert done(tree, DENSEFLOW).summary.states == {"ok": 3}
    books = {name: (tree / name).read_bytes() for name in ("manifest.jsonl", "splits.json", "timing.h5", "SHA256SUMS")}
    assert done(tree, DENSEFLOW).summary.num_done_now == 3
    assert books == {name: (tree / name).read_bytes() for name in books}
    merge(tree)
    assert books == {name: (tree / name).read_bytes() for name in books}
    assert describe(tree).num_flows == 9
    facts = Facts(layout="denseflow", bound_px=15, rounding="round")
    assert done(tree, facts).summary.states == {"ok": 3}
    assert describe(tree).settings.quantise.bound_px == 15


def test_an_adoption_that_was_interrupted_goes_on(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    interruption = Interruption()

    class Stopping(Quiet):
        def progress(self, num_frames: int) -> None:
            interruption.stop.set()

    one = RunSettings(jobs=1, durability="fast")
    summary = adopt(tree, DENSEFLOW, run=one, listener=Stopping(), interruption=interruption).summary
    assert (summary.interrupted, summary.exit_code) == (True, 3)
    assert summary.num_done_now < 3
    assert not (tree / "manifest.jsonl").exists()
    again = done(tree, DENSEFLOW).summary
    assert (again.states, again.num_done_now) == ({"ok": 3}, 3 - summary.num_done_now)


def test_extract_and_overwrite_and_convert_do_not_touch_an_adopted_tree(tree: Path, tmp_path: Path) -> None:
    (tmp_path / "videos").mkdir()
    done(tree, DENSEFLOW)
    before = all_of(tree)
    settings = ExtractSettings(store=StoreSettings(format="jpeg", layout="denseflow"))
    for overwriting in (False, True):
        request = Request(videos=tmp_path / "videos", out=tree, settings=settings, overwrite=overwriting)
        with pytest.raises(SettingsError, match="holds images of another tool that were adopted, and no settings"):
            run.execute(request)
    with pytest.raises(SettingsError, match="holds images of another tool that were adopted"):
        run.resume_store(tree, videos=tmp_path / "videos")
    with pytest.raises(SettingsError, match="adopted, so --overwrite does not touch it"):
        overwrite.check(tree)
    twin = make(tmp_path / "twin", foreign.denseflow)
    done(twin, DENSEFLOW)
    with pytest.raises(SettingsError, match="is a tree of another tool, which was adopted; give another OUT"):
        convert(twin, tree, format="jpeg", layout="denseflow", run=ONE)
    assert all_of(tree) == before


def test_a_store_of_ours_is_not_adopted(tree: Path, tmp_path: Path) -> None:
    done(tree, DENSEFLOW)
    convert(tree, tmp_path / "out", format="jpeg", layout="mmaction2", run=ONE)
    with pytest.raises(SettingsError, match="is a flowprep store already; there is nothing to adopt"):
        done(tmp_path / "out", MMACTION2)


def test_settings_of_an_adopted_store_hold_what_is_known(tree: Path) -> None:
    done(tree, DENSEFLOW)
    header = json.loads((tree / "manifest.jsonl").read_text().splitlines()[0])
    assert header["settings"] == {
        "dataset": "folder",
        "flow": {"backward": False, "step": 1},
        "quantise": {"bound_px": 20.0, "rounding": "round"},
        "store": {
            "adopted": True,
            "flow": True,
            "format": "jpeg",
            "layout": "denseflow",
            "rgb": True,
            "shard_videos": 256,
        },
    }
    assert ExtractSettings.from_json(header["settings"]).to_json() == header["settings"]


def test_a_disk_that_fails_stops_it(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(commit, "write", full)
        with pytest.raises(RunStoppedError, match="is full"):
            done(tree, DENSEFLOW)
    assert done(tree, DENSEFLOW).summary.states == {"ok": 3}


def test_lists_that_name_nothing_of_the_tree(tree: Path, tmp_path: Path) -> None:
    splits = tmp_path / "splits"
    splits.mkdir()
    with pytest.raises((DatasetError, MissingDataError), match="holds no trainlist01"):
        done(tree, DENSEFLOW, dataset="ucf101", splits=splits)


def test_merge_names_the_command_that_ends_an_interrupted_adoption(tree: Path) -> None:
    interruption = Interruption()

    class Stopping(Quiet):
        def progress(self, num_frames: int) -> None:
            interruption.stop.set()

    one = RunSettings(jobs=1, durability="fast")
    adopt(tree, DENSEFLOW, run=one, listener=Stopping(), interruption=interruption)
    said = flowprep("merge", tree, "--json", expect=3)
    (command,) = json.loads(said.stdout)["commands"]
    words = shlex.split(command)
    assert words[:3] == ["flowprep", "adopt", str(tree)]
    flowprep(*words[1:])
    assert flowprep("merge", tree).returncode == 0
    assert describe(tree).num_flows == 9

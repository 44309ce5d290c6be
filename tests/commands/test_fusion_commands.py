"""`fusion-train run`, `train`, `evaluate` and `fuse`, entered as a user does."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers.command import fusion_train
from helpers.entered import entered
from helpers.training import SMALL, write_store

from fusion_train.scores import ScoreTable

SETS = [part for text in (*SMALL, "train.num_epochs=1") for part in ("--set", text)]


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    """Networks of some thousand weights are slower with two."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OMP_NUM_THREADS", "1")
        yield


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with data/ucf101/flow, in which a run was entered."""
    root = tmp_path_factory.mktemp("commands")
    write_store(root / "data" / "ucf101" / "flow")
    return root


@pytest.fixture(scope="module")
def table(root: Path) -> str:
    return fusion_train("run", "--preset", "debug", "--out", "runs/a", *SETS, cwd=root).stdout


def test_run_finds_the_store_and_ends_with_a_table(root: Path, table: str) -> None:
    rows = [line.split("  ")[0] for line in table.splitlines()]
    assert rows[1:7] == ["spatial", "temporal", "late fusion", "fused spatiotemporal", "fused temporal", "fused"]
    assert "Nothing was held out: fixed rates, the last network, equal weights." in table
    assert (root / "runs" / "a" / "split_1" / "fused" / "network.pt").exists()


def test_run_again_prints_the_same_table_and_does_nothing(root: Path, table: str) -> None:
    again = fusion_train("run", "--preset", "debug", "--out", "runs/a", *SETS, "--json", cwd=root)
    assert "train" not in again.stderr.replace("fusion-train", "")
    content = json.loads(again.stdout)
    assert next(iter(content["splits"]["1"])) == "spatial"
    assert f"{100 * content['splits']['1']['fused']['top1']:.2f}" in table.splitlines()[6]


def test_train_and_evaluate_make_what_fuse_takes(root: Path) -> None:
    data = root / "data" / "ucf101" / "flow"
    one = fusion_train(
        "train", data, "--preset", "debug", "--network", "temporal", "--out", root / "one", *SETS, cwd=root
    )
    assert one.stdout.strip() == str(root / "one" / "network.pt")
    assert "temporal" in one.stderr
    assert "clips/s" in one.stderr
    found = json.loads(fusion_train("evaluate", root / "one" / "network.pt", data, "--confusion", "--json").stdout)
    assert found["temporal"]["num_videos"] == 8
    assert set(found["temporal"]["per_class"]) == {"Archery", "Biking"}
    head, *rows = (root / "one" / "test_temporal_confusion.csv").read_text().splitlines()
    assert head == "true class,Archery,Biking"
    assert sum(int(cell) for row in rows for cell in row.split(",")[1:]) == 8
    assert ScoreTable.load(root / "one" / "test_temporal.npz").part == "test 1"


def test_a_training_that_was_begun_needs_what_it_has_started_from_no_more(
    root: Path, table: str, tmp_path: Path
) -> None:
    given = Path(shutil.copy(root / "runs" / "a" / "split_1" / "temporal" / "network.pt", tmp_path / "given.pt"))
    command = ("train", root / "data" / "ucf101" / "flow", "--preset", "debug", "--network", "temporal",
               "--out", tmp_path / "out", "--init-from", given, *SETS)  # fmt: skip
    entered(*command)
    given.unlink()
    entered(*command)
    other = entered(*command[: -len(SETS)], "--init-from", tmp_path / "other.pt", *SETS, expect=2)
    assert f"there is no checkpoint {tmp_path / 'other.pt'}" in other.stderr


def test_evaluation_on_what_was_trained_on_is_said(root: Path, table: str, tmp_path: Path) -> None:
    shutil.copytree(root / "data" / "ucf101" / "flow", tmp_path / "store")
    lists = json.loads((tmp_path / "store" / "splits.json").read_text())
    split = lists["splits"]["1"]
    lists["splits"]["2"] = {"train": split["test"], "test": split["train"]}
    (tmp_path / "store" / "splits.json").write_text(json.dumps(lists))
    path = root / "runs" / "a" / "split_1" / "spatial" / "network.pt"
    done = entered("evaluate", path, tmp_path / "store", "--split", "2", "--out", tmp_path)
    assert done.stderr.splitlines()[0] == (
        "Note: 8 of these 8 videos (test 2) are in the training list of split 1, on which the network was trained; "
        "figures on them say nothing of videos that it has not seen."
    )
    again = entered("evaluate", path, tmp_path / "store", "--out", tmp_path)
    assert "Note" not in again.stderr


def scores(path: Path, seed: int, part: str = "validation 1", origin: Mapping[str, Any] | None = None) -> Path:
    draws = np.random.default_rng(seed)
    labels = np.arange(30) % 3
    values = draws.normal(size=(30, 3)) + 1.5 * np.eye(3)[labels]
    ids = [f"v{k}" for k in range(30)]
    ScoreTable(name=path.stem, part=part, manifest_sha256="0", ids=ids, labels=labels.astype(np.int64),
               scores=values.astype(np.float32), classes=("a", "b", "c"), origin=origin or {}).save(path)  # fmt: skip
    return path


def test_fuse_joins_files_by_id_and_says_what_that_gains(tmp_path: Path) -> None:
    first, second = scores(tmp_path / "rgb.npz", 1), scores(tmp_path / "flow.npz", 2)
    text = fusion_train("fuse", first, second, "--weights", "1:3", "--out", tmp_path / "both.npz").stdout
    assert [line.split("  ")[0] for line in text.splitlines()[:4]] == [
        "validation 1",
        "rgb",
        "flow",
        "0.25 rgb + 0.75 flow",
    ]
    assert "points;" in text
    assert ScoreTable.load(tmp_path / "both.npz").origin["weights"] == [0.25, 0.75]
    content = json.loads(fusion_train("fuse", first, second, "--weights", "sweep", "--on", "softmax", "--json").stdout)
    assert len(content["sweep"]) == 21
    assert content["fused"]["on"] == "softmax"
    assert set(content["gain"]["per_class"]) == {"a", "b", "c"}


LOOKED_AT = "The test list was looked at during training, as the released code does."


@pytest.fixture(scope="module")
def of_test(root: Path) -> Path:
    """A network that was validated on the test list, as those of the `-authors` presets are."""
    data = root / "data" / "ucf101" / "flow"
    entered("train", data, "--preset", "debug", "--network", "spatial", "--out", root / "of_test", *SETS,
            "--set", "train.val=test")  # fmt: skip
    return root / "of_test" / "network.pt"


def test_figures_say_that_the_test_list_was_looked_at(root: Path, of_test: Path, table: str, tmp_path: Path) -> None:
    data, other = root / "data" / "ucf101" / "flow", root / "runs" / "a" / "split_1"
    assert LOOKED_AT in entered("evaluate", of_test, data, "--out", tmp_path).stdout
    found = json.loads(entered("evaluate", of_test, data, "--out", tmp_path, "--json").stdout)
    assert (found["spatial"]["held_out"], found["spatial"]["caution"]) == ("test", LOOKED_AT)
    clean = json.loads(
        entered("evaluate", other / "spatial" / "network.pt", data, "--out", tmp_path / "b", "--json").stdout
    )
    assert (clean["spatial"]["held_out"], clean["spatial"]["caution"]) == ("none", None)

    pair = (tmp_path / "test_spatial.npz", other / "temporal" / "test_temporal.npz")
    assert LOOKED_AT in entered("fuse", *pair, "--out", tmp_path / "both.npz").stdout
    assert json.loads(entered("fuse", *pair, "--json").stdout)["caution"] == LOOKED_AT
    again = (tmp_path / "both.npz", other / "temporal" / "test_temporal.npz")
    assert LOOKED_AT in entered("fuse", *again).stdout, "late fusion of late fusion forgets nothing"
    assert LOOKED_AT not in entered("fuse", other / "late_fusion.npz", other / "spatial" / "test_spatial.npz").stdout

    predicted = entered("predict", data, "--checkpoint", of_test, "--scores", tmp_path / "predicted.npz")
    assert f"Note: {LOOKED_AT}" in predicted.stderr
    assert LOOKED_AT in json.loads(entered("predict", data, "--checkpoint", of_test, "--json").stdout)["notes"]
    assert LOOKED_AT in entered("fuse", tmp_path / "predicted.npz", pair[1]).stdout


def test_no_weights_are_swept_on_a_test_list_by_another_name(root: Path, of_test: Path, tmp_path: Path) -> None:
    data = root / "data" / "ucf101" / "flow"
    refused = entered("evaluate", of_test, data, "--part", "validation", "--out", tmp_path, expect=2)
    assert (
        "with `train.val` test: nothing was held out, and what it was validated on is the test list" in refused.stderr
    )
    assert not list(tmp_path.iterdir())
    # As an older version wrote it, alone and joined.
    first = scores(tmp_path / "a.npz", 1, origin={"held_out": "test"})
    second = scores(tmp_path / "b.npz", 2, origin={"held_out": "groups"})
    entered("fuse", first, second, "--out", tmp_path / "both.npz")
    for pair in ((first, second), (second, tmp_path / "both.npz")):
        refused = entered("fuse", *pair, "--weights", "sweep", expect=2)
        assert "is of a network with `train.val` test, whose validation videos are that list" in refused.stderr
    entered("fuse", second, scores(tmp_path / "c.npz", 3, origin={"held_out": "groups"}), "--weights", "sweep")


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["fuse", "test.npz", "test.npz", "--weights", "sweep"], 2, "weights are not swept on the test list"),
        (["run", "--root", "nowhere"], 2, "there is no store under nowhere; `flowprep extract` makes one"),
        (["run", "--preset", "debug", "--set", "train.rate=1"], 2, "no setting of train 'rate'; did you mean rates?"),
    ],
)
def test_errors_are_one_sentence(root: Path, arguments: list[str], code: int, message: str) -> None:
    scores(root / "test.npz", 1, part="test 1")
    ended = fusion_train(*arguments, cwd=root, expect=code)
    assert message in ended.stderr
    assert ended.stderr.splitlines()[-1].startswith("Error: ")


def test_bench_measures_a_training_and_writes_nothing(root: Path) -> None:
    before = sorted(root.rglob("*"))
    module = [sys.executable, "-m", "flowprep_cli.fusion_main", "bench", "data/ucf101/flow", "--preset", "debug"]
    ended = subprocess.run([*module, "--steps", "2", "--warm-up", "1", "--peak", "0.5", "--json", *SETS],
                           capture_output=True, text=True, check=True, cwd=root)  # fmt: skip
    found = json.loads(ended.stdout)
    assert found["preset"] == "debug"
    assert found["mfu"] == pytest.approx(found["clips_per_second"]["median"] * found["flops_per_clip"] / 0.5e12)
    assert found["with_data"]["bound"] in ("loader", "network")
    assert sorted(root.rglob("*")) == before


def test_a_dry_run_writes_nothing(root: Path) -> None:
    ended = fusion_train("run", "--preset", "debug", "--out", "runs/dry", "--dry-run", *SETS, cwd=root)
    assert [line.split("  ")[0] for line in ended.stdout.splitlines()[1:4]] == [
        f"split 1 {stage}" for stage in ("spatial", "temporal", "fused")
    ]
    assert not (root / "runs" / "dry").exists()
    assert "are not there" not in ended.stderr


def test_a_dry_run_says_which_weights_are_missing(root: Path) -> None:
    sets = (*SETS, "--weights", "gone.pt")
    ended = fusion_train("run", "--preset", "debug", "--out", "runs/dry", "--dry-run", *sets, cwd=root)
    assert ended.stderr.count("Initial weights gone.pt are not there; the run will not begin without them.") == 1


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (("--preset", "ucf101_vgg16"), "got 'ucf101_vgg16'; did you mean ucf101-vgg16?"),
        (("--preset", "debug", "--set", "train.batch=3"), "there is no setting of train 'batch'"),
    ],
)
def test_what_is_mistyped_is_said_before_pytorch_is_loaded(root: Path, wrong: tuple[str, ...], message: str) -> None:
    code = (
        f"import sys; sys.modules['torch'] = None; sys.argv[1:] = {['run', *wrong]!r}; from flowprep_cli.fusion_main "
    )
    code += "import main; main()"
    ended = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=False)
    assert message in ended.stderr
    assert ended.returncode == 2

"""`fusion-train ablate`, entered as a user does."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from helpers.command import fusion_train
from helpers.training import SMALL, write_store

from fusion_train.ablation_table import read_ablation

SETS = [part for text in (*SMALL, "train.num_epochs=1") for part in ("--set", text)]
ARGUMENTS = ("ablate", "--preset", "debug", "--out", "runs/a", "--only", "1-sum-softmax", "--only", "1-conv", *SETS)


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    """Networks of some thousand weights are slower with two."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OMP_NUM_THREADS", "1")
        yield


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with data/ucf101/flow."""
    root = tmp_path_factory.mktemp("ablate")
    write_store(root / "data" / "ucf101" / "flow", num_clips=1)
    return root


@pytest.fixture(scope="module")
def printed(root: Path) -> str:
    """What two rows and two seeds print."""
    return fusion_train(*ARGUMENTS, "--seeds", "2", cwd=root).stdout


def test_rows_are_printed_in_the_papers_form_and_drawn(root: Path, printed: str) -> None:
    heading, _, columns, *lines = printed.splitlines()
    assert heading.startswith("Table 1. Spatial fusion methods: UCF101")
    assert "mean +- deviation over 2 seeds" in heading
    assert heading.endswith("all networks are debug, not the paper's")
    assert columns.split() == ["Fusion", "method", "Fusion", "layer", "UCF101", "paper", "layers", "paper",
                               "parameters", "paper", "note"]  # fmt: skip
    found = read_ablation(root / "runs" / "a" / "ablation.json")
    rows = {row.name: row for row in found.of_table(1)}
    conv = next(line for line in lines if line.startswith("Conv"))
    assert f"{100 * rows['1-conv'].mean:.2f} +- {100 * rows['1-conv'].deviation:.2f}  85.96" in conv
    assert [rows[name].state for name in ("1-conv", "1-max")] == ["done", "open"]
    assert (root / "runs" / "a" / "ablation_table_1.png").read_bytes().startswith(b"\x89PNG")
    assert printed.splitlines()[-1] == "runs/a/ablation_table_1.png"


def test_the_same_command_again_does_nothing_and_json_is_the_file(root: Path, printed: str) -> None:
    again = fusion_train(*ARGUMENTS, "--seeds", "2", "--json", cwd=root)
    assert printed
    assert len(again.stderr.splitlines()) == 1
    assert json.loads(again.stdout) == json.loads((root / "runs" / "a" / "ablation.json").read_text())


def test_a_dry_run_lists_rows_and_networks(root: Path, printed: str) -> None:
    assert printed
    before = sorted((root / "runs").rglob("*"))
    text = fusion_train(*ARGUMENTS, "--seeds", "3", "--dry-run", cwd=root).stdout
    assert sorted((root / "runs").rglob("*")) == before
    lines = [line.split() for line in text.splitlines()]
    assert ["1-conv", "debug-spatial,", "debug-temporal,", "debug-conv-relu5", "1"] in lines
    assert next(line for line in lines if line[:1] == ["debug-spatial"])[1:4] == ["2", "2", "1"]
    assert "Nothing was written" in text


def test_a_row_that_fails_is_said_and_the_exit_code_is_1(root: Path) -> None:
    mark = root / "runs" / "b" / "networks" / "debug-conv-relu5" / "split_1" / "seed_0" / "done.json"
    mark.parent.mkdir(parents=True)
    mark.write_text("{")
    done = fusion_train(*ARGUMENTS, "--out", "runs/b", cwd=root, expect=1)
    assert "  1-conv failed: runs/b/networks/debug-conv-relu5/split_1/seed_0/done.json is damaged" in done.stderr
    assert next(line for line in done.stdout.splitlines() if line.startswith("Conv")).split()[2] == "failed"
    assert next(line for line in done.stdout.splitlines() if line.startswith("Sum (ours)")).split()[3] != "failed"


def test_a_row_that_does_not_exist_is_wrong_use(root: Path) -> None:
    done = fusion_train("ablate", "--only", "1-min", cwd=root, expect=2)
    assert done.stderr.strip().startswith("Error: there is no row '1-min' to run; there are 1-sum-softmax, 1-max")

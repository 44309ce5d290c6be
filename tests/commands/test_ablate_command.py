"""`fusion-train ablate`, entered as a user does."""

from __future__ import annotations

import json
import re
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
def failed(root: Path) -> tuple[str, str]:
    """What one row prints on stdout and stderr, beside one that fails, both from two seeds."""
    mark = root / "runs" / "a" / "networks" / "debug-conv-relu5" / "split_1" / "seed_1" / "done.json"
    mark.parent.mkdir(parents=True)
    mark.write_text("{")
    done = fusion_train(*ARGUMENTS, "--seeds", "2", cwd=root, expect=1)
    mark.unlink()
    return done.stdout, done.stderr


def test_rows_are_printed_in_the_papers_form_and_drawn(root: Path, failed: tuple[str, str]) -> None:
    heading, _, columns, *lines = failed[0].splitlines()
    assert heading.startswith("Table 1. Spatial fusion methods: UCF101")
    assert "mean +- deviation over 2 seeds" in heading
    assert heading.endswith("all networks are debug, not the paper's")
    assert columns.split() == ["Fusion", "method", "Fusion", "layer", "UCF101", "paper", "layers", "paper",
                               "parameters", "paper", "note"]  # fmt: skip
    assert any(
        re.match(r"Sum \(ours\) +Softmax +[\d.]+ \+- [\d.]+  85.94 +10 +16 +0.05M +181.42M", line) for line in lines
    )
    assert (root / "runs" / "a" / "ablation_table_1.png").read_bytes().startswith(b"\x89PNG")
    assert lines[-1] == "runs/a/ablation_table_1.png"


def test_a_row_that_fails_is_said_and_the_exit_code_is_1(failed: tuple[str, str]) -> None:
    why = "runs/a/networks/debug-conv-relu5/split_1/seed_1/done.json is damaged"
    assert f"  1-conv failed: {why}" in failed[1]
    assert f"] {why[0].upper()}{why[1:]}" in failed[0]


def test_the_same_command_again_does_what_is_left(root: Path, failed: tuple[str, str]) -> None:
    assert failed
    again = fusion_train(*ARGUMENTS, "--seeds", "2", "--json", cwd=root)
    begun = [line for line in again.stderr.splitlines()[1:] if not line.startswith(" ")]
    assert begun == [
        f"{what}, split 1, seed 1" for what in ("row 1-conv", "train debug-conv-relu5", "evaluate debug-conv-relu5")
    ]
    found = read_ablation(root / "runs" / "a" / "ablation.json")
    assert json.loads(again.stdout) == found.to_json()
    assert {row.name: row.state for row in found.rows if row.runs} == {"1-sum-softmax": "done", "1-conv": "done"}


def test_a_dry_run_lists_rows_and_networks(root: Path, failed: tuple[str, str]) -> None:
    assert failed
    before = sorted((root / "runs").rglob("*"))
    text = fusion_train(*ARGUMENTS, "--seeds", "3", "--dry-run", cwd=root).stdout
    assert sorted((root / "runs").rglob("*")) == before
    lines = [line.split() for line in text.splitlines()]
    assert next(line for line in lines if line[:1] == ["1-sum-softmax"]) == [
        "1-sum-softmax", "debug-spatial,", "debug-temporal", "1"
    ]  # fmt: skip
    assert next(line for line in lines if line[:1] == ["debug-spatial"])[1:4] == ["2", "2", "1"]
    assert "Nothing was written" in text

"""Elements of SLURM arrays: the part that each does, and what is refused with the cure."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path

import pytest

from flowprep.arrays import requeued_job, slurm_job, slurm_part
from flowprep.config import RunSettings
from flowprep.driver import Driver, holders
from flowprep.errors import SettingsError
from flowprep.parts import part_slices

MAX_ARRAY_SIZE = 1001  # SLURM's default: indices up to 1000


def element(task: int, first: int, last: int, count: int | None = None) -> dict[str, str]:
    """What SLURM tells an element."""
    values = {"ID": task, "MIN": first, "MAX": last, "COUNT": last - first + 1 if count is None else count}
    return {"SLURM_JOB_ID": "7", **{f"SLURM_ARRAY_TASK_{name}": str(value) for name, value in values.items()}}


@pytest.mark.parametrize(
    ("text", "environment", "part"),
    [
        ("slurm", element(1, 1, 4), "1/4"),
        ("slurm", element(4, 1, 4), "4/4"),
        ("slurm", element(0, 0, 3), "1/4"),
        ("slurm", element(3, 0, 3), "4/4"),
        ("slurm", element(1, 1, 1), "1/1"),
        ("slurm/16", element(7, 3, 9, count=3), "7/16"),
        ("slurm/16", element(16, 16, 16), "16/16"),
    ],
)
def test_part_of_an_element(text: str, environment: dict[str, str], part: str) -> None:
    assert slurm_part(text, environment) == part


@pytest.mark.parametrize(
    ("text", "environment", "message"),
    [
        ("slurm", {}, "SLURM_ARRAY_TASK_ID is not set here; submit the job with sbatch --array=1-N"),
        ("slurm", element(3, 3, 9, count=3), "3 elements from 3 to 9; write slurm/N"),
        ("slurm", element(3, 2, 5), "needs a whole array"),
        ("slurm", element(1, 1, 7, count=4), "needs a whole array"),  # 1-7:2
        ("slurm/4", element(0, 0, 3), "needs array indices of 1 to 4, and this element is 0"),
        ("slurm/4", element(5, 1, 5), "needs array indices of 1 to 4, and this element is 5"),
        ("slurm/x", element(1, 1, 4), "must be I/N, slurm or slurm/N, got 'slurm/x'"),
        ("slurm", {**element(1, 1, 4), "SLURM_ARRAY_TASK_MAX": ""}, "SLURM_ARRAY_TASK_MAX must be a number"),
    ],
)
def test_refused_with_the_cure(text: str, environment: dict[str, str], message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        slurm_part(text, environment)


def test_settings_hold_the_part_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in element(2, 1, 3).items():
        monkeypatch.setenv(name, value)
    settings = RunSettings(part="slurm")
    assert settings.part == "2/3"
    assert RunSettings.from_json(json.loads(json.dumps(settings.to_json()))) == settings


def test_a_whole_array_of_the_largest_size_covers_a_huge_list() -> None:
    sizes = [1 + index % 977 for index in range(700_000)]
    parts = [slurm_part("slurm", element(task, 1, MAX_ARRAY_SIZE - 1)) for task in range(1, MAX_ARRAY_SIZE)]
    slices = part_slices(sizes, MAX_ARRAY_SIZE - 1)
    assert parts == [f"{number}/1000" for number in range(1, 1001)]
    assert (slices[0].start, slices[-1].stop) == (0, len(sizes))
    assert all(before.stop == after.start for before, after in pairwise(slices))
    loads = [sum(sizes[index] + 1 for index in piece) for piece in slices]
    assert max(loads) - min(loads) <= 2 * (max(sizes) + 1)


def test_a_requeued_job_is_not_kept_from_its_work_by_its_former_self(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where another machine has taken its place, so that nobody knows whether the former process lives."""
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    former = Driver(tmp_path, "1/2")
    former.__enter__()
    try:
        monkeypatch.setattr("flowprep.driver.pid_space", lambda: "another")
        with pytest.raises(SettingsError, match="is being made by"):
            Driver(tmp_path, "1/2").__enter__()
        monkeypatch.setenv("SLURM_RESTART_COUNT", "1")
        with Driver(tmp_path, "1/2"):
            assert [holder.job for holder in holders(tmp_path)] == [":7"]
        with Driver(tmp_path, "1/2"):
            monkeypatch.setenv("SLURM_JOB_ID", "8")
            with pytest.raises(SettingsError, match="is being made by"):
                Driver(tmp_path, "1/2").__enter__()
    finally:
        former.__exit__()


def test_names_of_jobs() -> None:
    assert slurm_job({}) is None
    assert slurm_job({"SLURM_JOB_ID": "7", "SLURM_CLUSTER_NAME": "big"}) == "big:7"
    assert requeued_job({"SLURM_JOB_ID": "7"}) is None
    assert requeued_job({"SLURM_JOB_ID": "7", "SLURM_RESTART_COUNT": "2"}) == ":7"

"""Jobs that a batch system takes or does not: what is said of them, that they are asked for again, and cancelled."""

from __future__ import annotations

import asyncio
import gc
import os
import time
import warnings
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from helpers.fake_slurm import REFUSAL, install_slurm

from flowprep.cluster.batch import _jobqueue
from flowprep.cluster.jobs import Asked, Jobs, reason_of, watched
from flowprep.errors import RunStoppedError
from flowprep.machine import is_running


@pytest.fixture
def slurm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Path]:
    def install(**options: Any) -> Path:
        commands, jobs = install_slurm(tmp_path, **options)
        monkeypatch.setenv("PATH", f"{commands}:{os.environ['PATH']}")
        return jobs

    return install


def job_of(jobs: Jobs, name: str, **options: Any) -> Any:
    """A job as the cluster makes it; what it runs ends at once."""
    job_class = watched(_jobqueue().SLURMCluster.job_cls, jobs)
    return job_class("tls://127.0.0.1:1", name=name, cores=1, memory="1GB", python="true", **options)


async def until(condition: Callable[[], bool], seconds: float = 20.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        await asyncio.sleep(0.01)


def run(work: Callable[[], Awaitable[None]]) -> None:
    async def to_the_end() -> None:
        await work()
        await asyncio.sleep(0.05)  # pipes of commands are closed after these have ended

    asyncio.run(to_the_end())
    with warnings.catch_warnings():  # on a busy machine that may not have been enough
        warnings.simplefilter("ignore", ResourceWarning)
        gc.collect()


def test_a_job_that_is_refused_is_asked_for_again(slurm: Callable[..., Path]) -> None:
    folder = slurm(num_refused=3)

    async def work() -> None:
        jobs = Jobs("slurm", "in logs", retry_seconds=0.01)
        wanted = [job_of(jobs, "a"), job_of(jobs, "b")]
        await asyncio.gather(*wanted)
        assert len([*folder.glob("*.refused")]) in (2, 3)  # the first may have been asked for again meanwhile
        await until(lambda: len([*folder.glob("*.sh")]) == 2 and "not taken" not in "".join(jobs.obstacles()))
        (said,) = jobs.obstacles()
        numbers = {path.stem for path in folder.glob("*.sh")}
        assert {job.job_id for job in wanted} == numbers
        assert said.startswith("no worker of jobs ")
        assert all(number in said for number in numbers)
        assert said.endswith("what they print is in logs")
        for job in wanted:
            await job.close()
        assert {path.stem for path in folder.glob("*.cancelled")} == numbers
        assert jobs.obstacles() == []

    run(work)


def test_a_batch_system_that_takes_no_job_ends_the_run_with_its_words(slurm: Callable[..., Path]) -> None:
    slurm(num_refused=99, refusal="invalid partition specified: gpuu")

    async def work() -> None:
        jobs = Jobs("slurm", "in logs", retry_seconds=60)
        wanted = [job_of(jobs, "a"), job_of(jobs, "b")]
        await asyncio.gather(*wanted)
        with pytest.raises(RunStoppedError, match="slurm takes no job: sbatch: error: Batch job submission fail"):
            jobs.obstacles()
        with pytest.raises(RunStoppedError, match="invalid partition specified: gpuu; what is finished is kept"):
            jobs.obstacles()
        for job in wanted:
            await asyncio.wait_for(job.close(), 5)  # and not after its pause

    run(work)


def test_a_command_that_is_missing_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))

    async def work() -> None:
        jobs = Jobs("slurm", "in logs", retry_seconds=60)
        job = job_of(jobs, "a")
        await job
        with pytest.raises(RunStoppedError, match="slurm takes no job: sbatch: No such file or directory"):
            jobs.obstacles()
        await job.close()

    run(work)


def test_a_job_whose_number_is_not_said_is_not_asked_for_twice(slurm: Callable[..., Path], tmp_path: Path) -> None:
    slurm()
    (tmp_path / "bin" / "sbatch").write_text(f'#!/bin/bash\necho call >> "{tmp_path}/calls"\necho "Welcome!"\n')

    async def work() -> None:
        jobs = Jobs("slurm", "in logs", retry_seconds=0.01)
        job = job_of(jobs, "a")
        await job
        await asyncio.sleep(0.2)
        with pytest.raises(RunStoppedError, match=r"Could not parse job id .* Welcome!"):
            jobs.obstacles()
        await job.close()

    run(work)
    assert (tmp_path / "calls").read_text() == "call\n"


def test_what_is_refused_while_others_are_taken_is_said_once(caplog: pytest.LogCaptureFixture) -> None:
    jobs, asked = Jobs("pbs", "where pbs puts it by default", retry_seconds=60), [Asked() for _ in range(10)]
    for one in asked:
        jobs.add(one)
    jobs.refused(asked[0], REFUSAL)
    assert jobs.obstacles() == [f"pbs has not taken 1 of 10 jobs ({REFUSAL})"]  # others may be
    for number, one in enumerate(asked[1:]):
        jobs.taken(one, str(number))
    assert caplog.messages == []
    jobs.refused(asked[0], REFUSAL)
    jobs.refused(asked[0], REFUSAL)
    assert caplog.messages == [f"pbs did not take a job: {REFUSAL}"]
    refused, taken = jobs.obstacles()
    assert refused == f"pbs has not taken 1 of 10 jobs ({REFUSAL})"
    assert taken.startswith("no worker of jobs 0, 1, 2, 3, 4 and 4 more has joined")
    assert taken.endswith("what they print is where pbs puts it by default")


def test_many_jobs_are_cancelled_by_few_commands(slurm: Callable[..., Path], tmp_path: Path) -> None:
    slurm()
    (tmp_path / "bin" / "scancel").write_text(f'#!/bin/bash\necho $# >> "{tmp_path}/calls"\nexit 1\n')
    jobs = Jobs("slurm", "in logs", retry_seconds=60)
    for number in range(230):
        jobs.add(asked := Asked())
        jobs.taken(asked, str(number))
    assert jobs.cancel("scancel", 20) == 0
    assert (tmp_path / "calls").read_text().split() == ["100", "100", "30"]
    assert jobs.obstacles() == []


def test_jobs_that_are_not_cancelled_in_time_are_counted(slurm: Callable[..., Path], tmp_path: Path) -> None:
    slurm()
    (tmp_path / "bin" / "scancel").write_text("#!/bin/bash\nexec sleep 30\n")
    jobs = Jobs("slurm", "in logs", retry_seconds=60)
    for number in range(150):
        jobs.add(asked := Asked())
        jobs.taken(asked, str(number))
    assert jobs.cancel("scancel", 0.2) == 150


def test_a_job_that_is_asked_for_at_the_end_is_not(slurm: Callable[..., Path]) -> None:
    folder = slurm()

    async def work() -> None:
        jobs = Jobs("slurm", "in logs", retry_seconds=60)
        assert jobs.cancel("scancel", 5) == 0
        job = job_of(jobs, "a")
        await job
        await job.close()

    run(work)
    assert [*folder.glob("*.sh")] == []


def test_a_job_that_is_just_being_taken_when_it_is_given_up_is_cancelled(
    slurm: Callable[..., Path], tmp_path: Path
) -> None:
    folder = slurm(num_refused=1)
    sbatch = tmp_path / "bin" / "sbatch"
    slow = f'[ -d "{folder}/1.refused" ] && touch "{tmp_path}/begun" && sleep 0.3\n'
    sbatch.write_text(sbatch.read_text().replace("#!/bin/bash\n", f"#!/bin/bash\n{slow}", 1))

    async def work() -> None:
        jobs = Jobs("slurm", "in logs", retry_seconds=0.01)
        job = job_of(jobs, "a")
        await job
        await until((tmp_path / "begun").exists)
        assert not job.job_id
        await job.close()
        assert (folder / f"{job.job_id}.cancelled").exists()

    run(work)


def test_bsub_may_say_what_it_has_to_say(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """dask-jobqueue sends it to /dev/null."""
    (tmp_path / "bsub").write_text('#!/bin/bash\necho "gpuu: No such queue. Job not submitted." >&2\nexit 255\n')
    (tmp_path / "bsub").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")

    async def work() -> None:
        jobs = Jobs("lsf", "in logs", retry_seconds=60)
        job_class = watched(_jobqueue().LSFCluster.job_cls, jobs)
        job = job_class("tls://127.0.0.1:1", name="a", cores=1, memory="1GB", python="true", use_stdin=True)
        await job
        with pytest.raises(RunStoppedError, match=r"lsf takes no job: bsub: gpuu: No such queue. Job not submitted."):
            jobs.obstacles()
        await job.close()

    run(work)


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ("echo 'no\n queue' >&2", "sbatch: no queue"),
        ("echo full", "sbatch: full"),
        ("echo 'sbatch: error: full' >&2; echo more", "sbatch: error: full"),
        ("true", "sbatch ends with exit code 7"),
    ],
)
def test_what_a_command_says_is_one_line(slurm: Callable[..., Path], tmp_path: Path, said: str, expected: str) -> None:
    slurm()
    (tmp_path / "bin" / "sbatch").write_text(f"#!/bin/bash\n{said}\nexit 7\n")

    async def work() -> None:
        jobs = Jobs("slurm", "in logs", retry_seconds=60)
        job = job_of(jobs, "a")
        await job
        with pytest.raises(RunStoppedError, match=f"slurm takes no job: {expected}; what is finished"):
            jobs.obstacles()
        await job.close()

    run(work)


def test_errors_are_one_line() -> None:
    assert reason_of(RuntimeError("something\nelse")) == "something else"
    assert reason_of(OSError(12, "Cannot allocate memory")) == "Cannot allocate memory"


def test_a_command_that_hangs_is_killed_with_all_it_has_started_and_the_job_asked_for_again(
    slurm: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the controller of the batch system is away; meanwhile the run can say so."""
    folder = slurm()
    sbatch = tmp_path / "bin" / "sbatch"
    hang = f'mkdir "{tmp_path}/begun" 2> /dev/null && {{ sleep 60 & echo $! > "{tmp_path}/pid"; wait; }}\n'
    sbatch.write_text(sbatch.read_text().replace("#!/bin/bash\n", f"#!/bin/bash\n{hang}", 1))
    monkeypatch.setattr("flowprep.cluster.jobs._QUIET_SECONDS", 0.0)

    async def work() -> None:
        jobs = Jobs("slurm", "in logs", retry_seconds=0.01, answer_seconds=1.0)
        job = job_of(jobs, "a")
        asking = asyncio.ensure_future(job.start())
        await until((tmp_path / "pid").exists)
        assert jobs.obstacles() == ["slurm has not answered for 0 s to what asks it for 1 jobs"]
        await asking
        await until(lambda: len([*folder.glob("*.sh")]) == 1)
        pid = int((tmp_path / "pid").read_text())
        await until(lambda: not is_running(pid))  # what is killed needs a moment to end
        await until(lambda: bool(job.job_id))
        await job.close()

    run(work)


def test_jobs_whose_workers_have_joined_are_not_called_missing() -> None:
    jobs = Jobs("slurm", "in logs", retry_seconds=60)
    for name, number in (("0", "7"), ("1", "8")):
        jobs.add(asked := Asked(name=name))
        jobs.taken(asked, number)
    assert jobs.obstacles({"0", "1"}) == []
    (said,) = jobs.obstacles({"0"})
    assert said.startswith("no worker of jobs 8 has joined")

"""Clusters of batch jobs: scripts of four systems, and runs on a SLURM that is two shell scripts; cases 53 and 85."""

from __future__ import annotations

import contextlib
import http
import http.client
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import dask
import psutil
import pytest
from helpers.command import flowprep, store_bytes
from helpers.dask_cluster import (
    HELPERS,
    PATIENCE,
    WAITS,
    arguments,
    attempts_of,
    end_run,
    freeze,
    make_videos,
    start_run,
    thaw,
    undisturbed,
)
from helpers.fake_slurm import install_slurm
from helpers.holding import Holding
from helpers.invariants import Invariants, processes_of
from helpers.processes import eventually

from flowprep.cluster.batch import connect_batch, job_script
from flowprep.cluster.configfile import ClusterConfig, JobSettings
from flowprep.cluster.settings import ClusterSettings
from flowprep.errors import SettingsError

CONFIG = """
[job]
queue = "gpu"
account = "physics"
walltime = "1-02:00:00"
cores = 6
memory = "20GB"
directives = ["--gres=gpu:1", "--requeue"]
prologue = ["module load cuda"]
interface = "lo"
"""
EXPECTED = {
    "slurm": ("#SBATCH -p gpu", "#SBATCH -A physics", "#SBATCH --cpus-per-task=6", "#SBATCH --mem=19G",
              "#SBATCH -t 26:00:00", "#SBATCH --gres=gpu:1", "#SBATCH --requeue"),
    "pbs": ("#PBS -q gpu", "#PBS -A physics", "#PBS -l walltime=26:00:00", "#PBS --requeue"),
    "sge": ("#$ -q gpu", "#$ -P physics", "#$ -l h_rt=26:00:00", "#$ -pe smp 6", "#$ --requeue"),
    "lsf": ("#BSUB -q gpu", '#BSUB -P "physics"', "#BSUB -n 6", "#BSUB -W 26:00", "#BSUB --requeue"),
}  # fmt: skip


@pytest.mark.parametrize("system", EXPECTED)
def test_dry_run_prints_the_script_of_a_job(system: str, tmp_path: Path) -> None:
    directives = '["-pe smp 6", ' if system == "sge" else "["
    (tmp_path / "cluster.toml").write_text(CONFIG.replace("directives = [", f"directives = {directives}"))
    options = ["--cluster", system, "--workers", "3", "--cluster-config", str(tmp_path / "cluster.toml")]
    done = flowprep("extract", "--dataset", "folder", *options, "--dry-run")
    lines = done.stdout.splitlines()
    assert [line for line in EXPECTED[system] if line not in lines] == []
    worker = lines[-1]
    assert "module load cuda" in lines
    assert "distributed.cli.dask_worker tls://" in worker
    for option in (
        "--nthreads 6",
        "--memory-limit 0",
        "--nanny",
        "--no-dashboard",
        "--lifetime 93000s",
        "--interface lo",
    ):
        assert option in worker, worker


@pytest.mark.parametrize(
    ("system", "line"),
    [("slurm", "#SBATCH -t 04:30:00"), ("pbs", "#PBS -l walltime=04:30:00"), ("sge", "#$ -l h_rt=04:30:00"),
     ("lsf", "#BSUB -W 04:30")],
)  # fmt: skip
def test_hours_and_minutes_are_no_minutes_and_seconds(system: str, line: str) -> None:
    """`-t 04:30` would be four and a half minutes of SLURM."""
    job = JobSettings(walltime="04:30", cores=1)
    script = job_script(ClusterSettings(system=system, num_workers=1), ClusterConfig(job=job))
    assert line in script.splitlines()
    assert "--lifetime 15600s" in script


def test_cores_of_sge_must_be_asked_for_in_its_words() -> None:
    """dask-jobqueue asks it for none, and one core would have eight videos at a time."""
    settings = ClusterSettings(system="sge", num_workers=1)
    with pytest.raises(SettingsError, match=r'`cores` is 8; add .* to `directives`, such as "-pe smp 8"'):
        job_script(settings, ClusterConfig())
    for job in (JobSettings(cores=1), JobSettings(resource_spec="num_proc=8"), JobSettings(directives=("-pe smp 8",))):
        assert "#$ -N flowprep" in job_script(settings, ClusterConfig(job=job))


def test_paths_of_a_job_are_words_of_its_shell() -> None:
    job = JobSettings(python="/opt/my env/bin/python", local_directory="$TMPDIR/a `b`")
    worker = job_script(ClusterSettings(system="pbs", num_workers=1), ClusterConfig(job=job)).splitlines()[-1]
    assert worker.startswith('"/opt/my env/bin/python" -m distributed.cli.dask_worker tls://')
    assert ' --local-directory "$TMPDIR/a \\`b\\`" --memory-limit 0 ' in worker
    plain = JobSettings(python="~/env/bin/python", local_directory="/scratch/$USER")
    worker = job_script(ClusterSettings(system="pbs", num_workers=1), ClusterConfig(job=plain)).splitlines()[-1]
    assert worker.startswith("~/env/bin/python -m ")
    with dask.config.set({"jobqueue.pbs.python": "/site/python"}):
        assert "\n/site/python -m " in job_script(ClusterSettings(system="pbs", num_workers=1), ClusterConfig())
    assert " --local-directory /scratch/$USER --memory-limit 0 " in worker


def test_a_store_whose_name_jobs_would_take_for_a_variable_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FLOW", "elsewhere")
    with pytest.raises(SettingsError, match=r"/data/\$FLOW has the name of a variable in it"):
        connect_batch(ClusterSettings(system="slurm", num_workers=1), ClusterConfig(), Path("/data/$FLOW"))


def test_loading_dask_jobqueue_leaves_signals_to_the_run() -> None:
    """It sets a handler that ends the process with exit code 0; and in a thread it could not even be loaded."""
    code = (
        "import signal, threading\n"
        "from flowprep.cluster import batch\n"
        "thread = threading.Thread(target=batch._jobqueue)\n"
        "thread.start()\n"
        "thread.join()\n"
        "assert batch._jobqueue().SLURMCluster\n"
        "assert signal.getsignal(signal.SIGINT) is signal.default_int_handler\n"
        "assert signal.signal.__name__ == 'signal'\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=PATIENCE)


def listening(pid: int) -> set[tuple[str, int]]:
    """Addresses and ports at which a process listens."""
    with contextlib.suppress(psutil.Error):
        connections = psutil.Process(pid).net_connections("inet")
        return {(one.laddr.ip, one.laddr.port) for one in connections if one.status == psutil.CONN_LISTEN}
    return set()


class Queue:
    """A SLURM of two shell scripts, and the environment and files of a run whose jobs it runs."""

    def __init__(self, folder: Path, job: str, *, num_refused: int = 0) -> None:
        self.commands, self.jobs = install_slurm(folder, num_refused=num_refused)
        self.counts, self.config, self.holding = folder / "counts", folder / "cluster.toml", Holding(folder / "hold")
        self.counts.mkdir()
        self.done = folder / "done"
        self.done.mkdir()
        waits = {**WAITS, "workers_seconds": PATIENCE, "submit_seconds": 1}
        self.config.write_text(
            f'[job]\ncores = 1\nmemory = "1GB"\ninterface = "lo"\nwalltime = "01:00:00"\n{job}\n[waits]\n'
            + "".join(f"{name} = {value}\n" for name, value in waits.items())
        )

    def environment(self, invariants: Invariants, slow_seconds: float) -> dict[str, str]:
        return {
            **invariants.environment,
            "PATH": f"{self.commands}:{os.environ['PATH']}",
            "CHILD_SCRIPT": str(HELPERS / "cluster_child.py"),
            "HELPERS": str(HELPERS),
            "DASK_DISTRIBUTED__WORKER__PRELOAD": f'["{HELPERS / "cluster_preload.py"}"]',
            "COUNT_FOLDER": str(self.counts),
            "DONE_FOLDER": str(self.done),
            **self.holding.environment,
            "SLOW_SECONDS": str(slow_seconds),
            "USER": "dask",
        }

    def command(self, videos: Path, out: Path, num_workers: int, *options: str) -> list[str]:
        where = ["--cluster", "slurm", "--workers", str(num_workers), "--cluster-config", str(self.config), *options]
        return [*arguments(videos, out, None, None)[:-2], *where]

    def num(self, kind: str) -> int:
        """Jobs that have been asked for (`sh`), `cancelled`, or `refused`."""
        return len([*self.jobs.glob(f"*.{kind}")])


def test_case_85_jobs_do_a_run_on_one_interface_and_one_that_dies_is_replaced(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """With TLS; nothing listens but on the interface that is named, and nothing is left at the end.

    One job is refused at first, and the paths have blanks in them.
    """
    folder = tmp_path_factory.mktemp("data")
    videos = make_videos(folder / "videos", [f"v{number:02d}" for number in range(12)])
    flowprep(*arguments(videos, folder / "whole", None, None))
    queue, out = Queue(folder, f'local_directory = "{folder}/files of $USER"', num_refused=1), tmp_path / "my store"
    with Invariants(tmp_path, out, also=[videos]) as invariants:
        run = start_run(queue.command(videos, out, 2), queue.environment(invariants, 2))
        assert eventually(lambda: len([*queue.counts.iterdir()]) >= 3 or run.poll() is not None, seconds=PATIENCE)
        assert run.poll() is None, run.communicate()
        (certificates,) = out.glob(".flowprep/staging/cluster.*")
        assert certificates.stat().st_mode & 0o777 == 0o700
        heard = {address for pid in processes_of(invariants.mark) for address, _ in listening(pid)}
        assert heard == {"127.0.0.1"}
        first = min(queue.jobs.glob("*.pid"))
        os.killpg(int(first.read_text()), signal.SIGKILL)
        end_run(run, 0)
    invariants.check(store_bytes(folder / "whole"))
    assert len(list(queue.counts.iterdir())) <= 12 + 2
    assert queue.num("sh") >= 3  # the third replaced the first
    assert queue.num("cancelled") >= 2
    assert queue.num("refused") == 1
    assert (folder / "files of dask").is_dir()


def test_case_53_jobs_come_and_go_with_the_work(tmp_path: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    """With `minimum` one job stands by; more come while there is more to do, up to `--workers`, and get work. They go
    when only one video is left, and that is not disturbed."""
    folder = tmp_path_factory.mktemp("data")
    videos, whole = undisturbed(folder, 12)
    queue, out = Queue(folder, "minimum = 1"), tmp_path / "out"
    with Invariants(tmp_path, out, also=[videos]) as invariants:
        with queue.holding as holding:
            run = start_run(queue.command(videos, out, 3), queue.environment(invariants, 0))
            holding.wait_for(3, seconds=PATIENCE)
            assert (queue.num("sh"), queue.num("cancelled")) == (3, 0)
            child, last = next(iter(holding.held().items()))
            freeze(child)
        assert eventually(lambda: queue.num("cancelled") == 2, seconds=PATIENCE)
        assert run.poll() is None
        thaw(child)
        end_run(run, 0)
    invariants.check(whole)
    attempts = attempts_of(out)
    assert [*attempts][-1] == f"a/{last}"
    assert {tuple(outcomes) for outcomes in attempts.values()} == {("ok",)}


def pages(pid: int) -> list[str]:
    """What web servers of a process have to show: Dask starts one always, which lists its pages itself."""
    found = []
    for address, port in listening(pid):
        with (
            contextlib.closing(http.client.HTTPConnection(address, port, timeout=5)) as connection,
            contextlib.suppress(OSError, http.client.HTTPException),  # a port that speaks something else
        ):
            for page in ("/sitemap.json", "/status", "/health", "/metrics", "/info/main/workers.html"):
                connection.request("GET", page)
                answer = connection.getresponse()
                text = answer.read()
                if page == "/sitemap.json":
                    found += json.loads(text)["paths"]
                elif answer.status != http.HTTPStatus.NOT_FOUND:
                    found.append(page)
    return found


def test_case_85_there_is_no_dashboard_unless_one_is_asked_for(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Not even on the loopback: other users of a login node are there too. No job ever joins these two runs."""
    videos = make_videos(tmp_path_factory.mktemp("videos"), ["v0"])
    found = {}
    for name, options in (("without", []), ("with", ["--dashboard", "127.0.0.1:0"])):
        queue = Queue(tmp_path_factory.mktemp(name), 'prologue = ["exec sleep 600"]')
        out = tmp_path / name / "out"
        out.parent.mkdir()
        with Invariants(out.parent, out) as invariants:
            run = start_run(queue.command(videos, out, 1, *options), queue.environment(invariants, 0))
            assert eventually(lambda queue=queue: queue.num("pid") == 1, seconds=PATIENCE)
            assert len(listening(run.pid)) >= 1
            found[name] = pages(run.pid)
            run.send_signal(signal.SIGINT)
            run.send_signal(signal.SIGINT)
            end_run(run, 3)
        invariants.check_outside()
        invariants.check_gone()
    assert found["without"] == ["/sitemap.json"]  # nothing but the list of what there is
    assert "/status" in found["with"]


def test_a_batch_system_that_takes_no_job_ends_the_run_at_once(tmp_path: Path) -> None:
    videos = make_videos(tmp_path / "videos", ["v0"])
    refusal = "invalid partition specified: gpuu"
    commands, jobs = install_slurm(tmp_path, num_refused=99, refusal=refusal)
    config = tmp_path / "cluster.toml"
    config.write_text('[job]\ncores = 1\ninterface = "lo"\n')
    command = [*arguments(videos, tmp_path / "out", None, None)[:-2], "--cluster", "slurm", "--workers", "3"]
    environment = {**os.environ, "PATH": f"{commands}:{os.environ['PATH']}"}
    said = end_run(start_run([*command, "--cluster-config", str(config)], environment), 3, seconds=PATIENCE)
    assert f"slurm takes no job: sbatch: error: Batch job submission failed: {refusal}" in said
    assert len(list(jobs.glob("*.refused"))) == 3

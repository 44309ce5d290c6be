"""A cluster of jobs of a batch system, through dask-jobqueue. Its scheduler is a part of this process."""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import os
import re
import shlex
import shutil
import signal
import socket
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flowprep.cluster.configfile import ClusterConfig, JobSettings, walltime_seconds
from flowprep.cluster.connection import DaskConnection, require_dask
from flowprep.cluster.engine import Connect, Events
from flowprep.cluster.jobs import Jobs, watched
from flowprep.cluster.settings import ClusterSettings
from flowprep.errors import RunStoppedError, SettingsError

if TYPE_CHECKING:
    from dask_jobqueue.core import JobQueueCluster

_log = logging.getLogger(__name__)
_CLOSE_SECONDS = 20.0
_DASK_SETTINGS = {
    "distributed.scheduler.allowed-failures": 1000,  # who is to blame is found out by the engine
    "distributed.scheduler.work-stealing": False,
    "distributed.scheduler.http.routes": [],
    "distributed.worker.http.routes": [],
    "distributed.scheduler.worker-ttl": "2 minutes",  # of a node that is frozen
}
_PLACEHOLDER = "tls://<address of the scheduler>"


def job_script(settings: ClusterSettings, config: ClusterConfig) -> str:
    """The script of a job, with a placeholder for the address of the scheduler, which does not run yet.

    dask-jobqueue makes the folder `log_directory` for it. Raises SettingsError where a job cannot be described.
    """
    require_dask()
    job_class = _cluster_class(settings).job_cls
    try:
        job = job_class(_PLACEHOLDER, name="flowprep", **_job_options(settings, config.job))
    except (ValueError, TypeError) as error:
        raise SettingsError(f"a job of {settings.system} cannot be described: {error}") from error
    except OSError as error:
        raise SettingsError(
            f"`log_directory` {config.job.log_directory} cannot be made ({error.strerror}); give another"
        ) from error
    return str(job.job_script())


def check_batch(settings: ClusterSettings, config: ClusterConfig) -> None:
    """Refuse jobs that cannot be described or asked for from here. Raises SettingsError, and changes nothing."""
    job_script(settings, dataclasses.replace(config, job=dataclasses.replace(config.job, log_directory=None)))
    command, *_ = shlex.split(_cluster_class(settings).job_cls.submit_command)
    if shutil.which(command) is None:
        raise SettingsError(
            f"--cluster {settings.system}: there is no command {command} here; run this where jobs are submitted"
        )
    _check_address(config.job)


def _check_address(job: JobSettings) -> None:
    """Refuse a host or interface at which no scheduler can listen here."""
    from distributed.utils import get_ip_interface

    try:
        if job.host is not None and "://" not in job.host:
            family, *_, address = socket.getaddrinfo(job.host, 0, type=socket.SOCK_STREAM)[0]
            with socket.socket(family) as listener:
                listener.bind(address)
        elif job.host is None and job.interface is not None:
            get_ip_interface(job.interface)
    except OSError as error:
        raise SettingsError(f"`host` {job.host} is no address of this machine ({error.strerror})") from error
    except ValueError as error:
        raise SettingsError(f"`interface`: {error}; name one of this machine, or give `host` too") from error


def connect_batch(settings: ClusterSettings, config: ClusterConfig, folder: Path) -> Connect:
    """What starts a cluster of `--cluster`. `folder` is one on the shared disk that only we may read."""
    job_script(settings, config)  # refuses what is wrong before anything is started
    if os.path.expandvars(where := str(folder.absolute())) != where:
        raise SettingsError(f"{where} has the name of a variable in it, which jobs would replace; give another --out")

    def connect(token: str, events: Events) -> DaskConnection:
        cluster, jobs = _start(settings, config, folder)
        return DaskConnection(
            cluster.scheduler_address,
            cluster.security,
            config.waits,
            token,
            events,
            name=f"the cluster of {settings.num_workers} {settings.system} jobs",
            num_expected=_minimum(settings, config.job),
            closed=lambda: _close(cluster, jobs),
            obstacles=lambda: jobs.obstacles({str(worker.name) for worker in [*cluster.scheduler.workers.values()]}),
        )

    return connect


def _close(cluster: JobQueueCluster, jobs: Jobs) -> None:
    """Cancel the jobs and end the scheduler, within a limit of time each."""
    command = cluster.job_cls.cancel_command
    if num_left := jobs.cancel(command, _CLOSE_SECONDS):
        _log.warning("%d jobs may still be in the queue of %s; cancel them by %s", num_left, jobs.system, command)

    def close() -> None:
        with contextlib.suppress(Exception):  # jobs that have gone cannot be cancelled
            cluster.close(timeout=_CLOSE_SECONDS)

    thread = threading.Thread(target=close, name="end-jobs", daemon=True)
    thread.start()
    thread.join(_CLOSE_SECONDS)
    for name, value in vars(cluster).items():
        if name.startswith("_job_") and hasattr(value, "close"):  # temporary files with certificates
            with contextlib.suppress(OSError):
                value.close()


def _start(settings: ClusterSettings, config: ClusterConfig, folder: Path) -> tuple[JobQueueCluster, Jobs]:
    """A cluster with its scheduler, whose jobs are being asked for, and the account of them."""
    import dask
    from distributed.security import Security

    dask.config.set(_DASK_SETTINGS)
    job = config.job
    scheduler: dict[str, Any] = {"dashboard": settings.dashboard is not None}
    scheduler["dashboard_address"] = settings.dashboard or "127.0.0.1:0"
    if job.host is not None or job.interface is None:
        scheduler["host"] = job.host or _own_address()
    assert settings.system is not None, "the caller has looked"
    printed = f"in {job.log_directory}" if job.log_directory else f"where {settings.system} puts it by default"
    jobs = Jobs(settings.system, printed, retry_seconds=config.waits.submit_seconds)
    cluster_class = _cluster_class(settings)
    try:
        cluster = cluster_class(
            job_cls=watched(cluster_class.job_cls, jobs),
            security=Security.temporary(),
            shared_temp_directory=str(folder.absolute()),
            scheduler_options=scheduler,
            silence_logs="error",
            **_job_options(settings, job),
        )
        # `scale` would never replace a job that has ended.
        cluster.adapt(minimum=_minimum(settings, job), maximum=settings.num_workers)
    except (OSError, RuntimeError, ValueError, ImportError) as error:
        first = _first(error)
        sentence = f"the scheduler for {settings.system} jobs cannot be started here ({first})"
        if isinstance(first, (ValueError, ImportError)):
            raise SettingsError(f"{sentence}; look at [job] of --cluster-config, and at --dashboard") from error
        raise RunStoppedError(
            f"{sentence}; what is finished is kept, mend that and run the same command again"
        ) from error
    return cluster, jobs


def _first(error: BaseException) -> BaseException:
    """What went wrong first; Dask goes on to fail at ending what has not begun."""
    first, before = error, error.__cause__ or error.__context__
    while before is not None:
        if isinstance(before, OSError | RuntimeError | ValueError | ImportError):
            first = before
        before = before.__cause__ or (None if before.__suppress_context__ else before.__context__)
    return first


def _minimum(settings: ClusterSettings, job: JobSettings) -> int:
    """Jobs that are there whatever there is to do."""
    num_workers = settings.num_workers or 1
    return num_workers if job.minimum is None else min(job.minimum, num_workers)


def _jobqueue() -> Any:
    """The package dask_jobqueue.

    Loading it would take Ctrl-C from the run: it sets a handler of SIGINT that leaves with exit code 0 (version 0.9),
    and in any thread but the main one it fails with that.
    """
    if (loaded := sys.modules.get("dask_jobqueue")) is not None:
        return loaded
    set_handler = signal.signal
    signal.signal = lambda *_: None
    try:
        import dask_jobqueue
    except ImportError as error:
        raise SettingsError(
            f"--cluster needs dask-jobqueue, which is not installed ({error}); pip install 'flowprep[cluster]'"
        ) from error
    finally:
        signal.signal = set_handler
    return dask_jobqueue


def _cluster_class(settings: ClusterSettings) -> Any:
    names = {"slurm": "SLURMCluster", "pbs": "PBSCluster", "sge": "SGECluster", "lsf": "LSFCluster"}
    assert settings.system is not None, "the caller has looked"
    return getattr(_jobqueue(), names[settings.system])


def _job_options(settings: ClusterSettings, job: JobSettings) -> dict[str, Any]:
    """Keywords of dask-jobqueue for a job."""
    seconds, stagger = job.lifetime()
    # Memory is limited in children, which Dask does not see; this comes after its own --memory-limit, and counts.
    arguments = ["--memory-limit", "0", "--no-dashboard", "--dashboard-address", "127.0.0.1:0"]
    arguments += ["--lifetime", f"{seconds:.0f}s", "--lifetime-stagger", f"{stagger:.0f}s"]
    account = "project" if settings.system in ("sge", "lsf") else "account"
    options: dict[str, Any] = {
        "queue": job.queue,
        account: job.account,
        "walltime": _walltime(job.walltime, settings.system),
        "cores": job.cores,
        "memory": job.memory,
        "processes": 1,
        "job_extra_directives": list(job.directives),
        "job_directives_skip": list(job.skip_directives),
        "job_script_prologue": list(job.prologue),
        "interface": job.interface,
        "python": _python(job, settings.system),
        "shebang": job.shebang,
        "log_directory": job.log_directory,
        "local_directory": None if job.local_directory is None else _word(job.local_directory),
        "job_name": job.job_name,
        "worker_extra_args": arguments,
    }
    if settings.system in ("pbs", "sge"):
        options["resource_spec"] = job.resource_spec
    elif job.resource_spec is not None:
        raise SettingsError(f"`resource_spec` is for pbs and sge, not {settings.system}; use `directives`")
    if settings.system == "sge":
        _check_cores_of_sge(job)
    if settings.system == "lsf":
        options["ncpus"] = job.cores
    return options


def _check_cores_of_sge(job: JobSettings) -> None:
    """dask-jobqueue does not ask SGE for cores: the words for that are those of the site."""
    import dask

    spec = job.resource_spec or dask.config.get("jobqueue.sge.resource-spec", None)
    if job.cores > 1 and spec is None and not any("-pe " in line for line in job.directives):
        raise SettingsError(
            f"SGE gives a job one core unless it is told of more in the words of the site, and `cores` is {job.cores}; "
            f'add the parallel environment to `directives`, such as "-pe smp {job.cores}", or give `resource_spec`'
        )


def _python(job: JobSettings, system: str | None) -> str:
    """The Python of a job, as a word of its shell."""
    import dask

    if job.python is not None:
        return _word(job.python)
    return str(dask.config.get(f"jobqueue.{system}.python", None) or shlex.quote(sys.executable))


def _word(text: str) -> str:
    """A text as one word of the job's shell, for which $TMPDIR and the like keep their meaning."""
    if re.fullmatch(r"[\w@%+=:,./~${}-]+", text):
        return text
    return '"' + re.sub(r'(["`\\])', r"\\\1", text) + '"'


def _walltime(text: str, system: str | None) -> str:
    """As the batch system reads it: HH:MM for LSF alone, which SLURM takes for minutes and seconds; days for none."""
    minutes, seconds = divmod(round(walltime_seconds(text)), 60)
    if system == "lsf":
        minutes, seconds = minutes + (seconds > 0), 0  # no time at all would be no limit, or none to work in
    hours, minutes = divmod(minutes, 60)
    return f"{hours:02d}:{minutes:02d}" if system == "lsf" else f"{hours:02d}:{minutes:02d}:{seconds:02d}"


def _own_address() -> str:
    """The address under which others see this machine."""
    from distributed.utils import get_ip

    return str(get_ip())

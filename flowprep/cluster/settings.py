"""Which cluster does the work. Loads nothing heavy, see `flowprep.settings`."""

from __future__ import annotations

from dataclasses import dataclass

from flowprep.errors import SettingsError
from flowprep.settings import Settings, setting

SYSTEMS = ("slurm", "pbs", "sge", "lsf")


@dataclass(frozen=True, kw_only=True)
class ClusterSettings(Settings):
    """A Dask cluster that runs, or one that a batch system is asked for. None of these changes a byte of the result."""

    dask: str | None = setting(
        None,
        "Let the workers of a running Dask cluster do the videos: its address, or its scheduler file.",
        option="--dask",
        metavar="ADDRESS|FILE",
    )
    system: str | None = setting(
        None,
        "Let jobs of this batch system do the videos, which are started and replaced through dask-jobqueue.",
        choices=SYSTEMS,
        option="--cluster",
    )
    num_workers: int | None = setting(
        None, "Jobs of --cluster at a time.", minimum=1, maximum=100_000, option="--workers", metavar="N"
    )
    config_file: str | None = setting(
        None,
        "TOML file with queue, account, walltime, cores, memory and directives of a job, and the waits of a run.",
        option="--cluster-config",
        metavar="FILE",
    )
    tls_ca: str | None = setting(
        None, "Certificate of the authority that --dask trusts.", option="--tls-ca", metavar="FILE"
    )
    tls_cert: str | None = setting(None, "Our certificate for --dask.", option="--tls-cert", metavar="FILE")
    tls_key: str | None = setting(None, "Our private key for --dask.", option="--tls-key", metavar="FILE")
    insecure: bool = setting(
        False,
        "Allow a cluster without TLS off this machine: whoever reaches its ports can run code as you.",
        option="--insecure-cluster",
    )
    dashboard: str | None = setting(
        None,
        "Address of a dashboard for --cluster, such as 127.0.0.1:8787. [default: none]",
        option="--dashboard",
        metavar="HOST:PORT",
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.dask is not None and self.system is not None:
            raise SettingsError("give one of --dask and --cluster")
        if self.system is None and (self.num_workers is not None or self.dashboard is not None):
            raise SettingsError("--workers and --dashboard are for --cluster, which starts jobs")
        if self.system is not None and self.num_workers is None:
            raise SettingsError(f"--cluster {self.system} needs --workers, the number of jobs")
        if self.dask is None and (self.tls_ca or self.tls_cert or self.tls_key):
            raise SettingsError("--tls-ca, --tls-cert and --tls-key are for --dask; --cluster makes certificates")
        if (self.tls_cert is None) != (self.tls_key is None):
            raise SettingsError("--tls-cert and --tls-key belong together; give both")
        if not self and (self.config_file is not None or self.insecure):
            raise SettingsError("--cluster-config and --insecure-cluster are for --dask and --cluster")

    def __bool__(self) -> bool:
        """True if a cluster is asked for."""
        return self.dask is not None or self.system is not None

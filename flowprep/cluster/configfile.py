"""The TOML file of `--cluster-config`: what a job asks for, and how long a run waits."""

from __future__ import annotations

import dataclasses
import re
import tomllib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from flowprep.cluster.waits import Waits
from flowprep.errors import MissingDataError, SettingsError
from flowprep.settings import Settings, setting

S = TypeVar("S", bound=Settings)
_MEMORY = r"(?i)[0-9]+(\.[0-9]+)?\s*[kmgtp]i?b?"
_ONE_WORD = ("queue", "interface", "host", "log_directory", "job_name")


@dataclass(frozen=True, kw_only=True)
class JobSettings(Settings):
    """What each job of `--cluster` asks its batch system for, and how its worker runs. One worker a job."""

    queue: str | None = setting(None, "Queue or partition.")
    account: str | None = setting(None, "Account or project that pays.")
    walltime: str = setting("24:00:00", "Longest time of a job, as D-HH:MM:SS, HH:MM:SS or HH:MM.")
    cores: int = setting(8, "Cores of a job, which does so many videos at a time.", minimum=1, maximum=4096)
    memory: str = setting("16GB", "Memory of a job.")
    directives: tuple[str, ...] = setting((), "Further lines of the job's head, such as --gres=gpu:1, without #SBATCH.")
    skip_directives: tuple[str, ...] = setting((), "Lines of the head with one of these texts are left out.")
    prologue: tuple[str, ...] = setting((), "Shell lines before the worker starts, such as module load cuda.")
    resource_spec: str | None = setting(None, "The -l of PBS or SGE, where that of cores and memory does not do.")
    interface: str | None = setting(None, "Network interface of scheduler and workers, such as ib0.")
    host: str | None = setting(None, "Address that the scheduler listens on. [default: that of the interface, or ours]")
    python: str | None = setting(None, "Python of the workers. [default: the one that runs this]")
    shebang: str | None = setting(None, "First line of the job script.")
    log_directory: str | None = setting(None, "Folder for what jobs print.")
    local_directory: str | None = setting(None, "Folder for what Dask writes on a node.")
    job_name: str = setting("flowprep", "Name of the jobs.")
    minimum: int | None = setting(
        None, "Jobs that are kept at least, for a cluster that shrinks. [default: all]", minimum=1
    )
    lifetime_seconds: float | None = setting(
        None, "After which a worker ends by itself. [default: a little less than the walltime]", above=0
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        walltime = walltime_seconds(self.walltime)
        if self.lifetime_seconds is not None and self.lifetime_seconds >= walltime:
            raise SettingsError(
                f"`lifetime_seconds` must be less than the {walltime:.0f} s of `walltime`, at whose end a worker is "
                f"killed with what it has in work, got {self.lifetime_seconds:g}"
            )
        if re.fullmatch(_MEMORY, self.memory) is None:
            raise SettingsError(f"`memory` must be a number with a unit, such as 16GB, got {self.memory!r}")
        for name in _ONE_WORD:
            if re.search(r"\s", value := getattr(self, name) or ""):
                raise SettingsError(f"`{name}` must be one word, since batch systems end it at a blank, got {value!r}")

    def lifetime(self) -> tuple[float, float]:
        """Seconds after which a worker ends, and the largest random shift of that: they must not all end at once."""
        walltime = walltime_seconds(self.walltime)
        margin = min(600.0, 0.1 * walltime)
        seconds = self.lifetime_seconds or walltime - margin
        return seconds, min(margin, seconds, walltime - seconds) / 2


@dataclass(frozen=True, kw_only=True)
class ClusterConfig:
    """Both sections of the file."""

    job: JobSettings = field(default_factory=JobSettings)
    waits: Waits = field(default_factory=Waits)


def read_config(path: Path | str | None) -> ClusterConfig:
    """The file's content, or all defaults without one.

    Raises MissingDataError where there is no such file, SettingsError that names what is wrong in it.
    """
    if path is None:
        return ClusterConfig()
    try:
        data = tomllib.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise MissingDataError(f"--cluster-config {path}: {error.strerror}") from error
    except ValueError as error:
        raise SettingsError(f"--cluster-config {path} is no TOML: {error}") from error
    if unknown := {*data} - {"job", "waits"}:
        raise SettingsError(f"--cluster-config {path}: unknown section {sorted(unknown)[0]}; known are job, waits")
    try:
        return ClusterConfig(
            job=_settings(JobSettings, data.get("job", {})), waits=_settings(Waits, data.get("waits", {}))
        )
    except SettingsError as error:
        raise SettingsError(f"--cluster-config {path}: {error}") from error


def _settings(kind: type[S], data: Any) -> S:
    if not isinstance(data, dict):
        raise SettingsError("job and waits are sections, such as [job]")
    names = [one.name for one in dataclasses.fields(kind)]
    for name in data:
        if name not in names:
            raise SettingsError(f"unknown setting `{name}`; known are {', '.join(names)}")
    values = {name: tuple(value) if isinstance(value, list) else value for name, value in data.items()}
    for name, value in values.items():
        if isinstance(value, tuple) and not all(isinstance(one, str) for one in value):
            raise SettingsError(f"`{name}` must be a list of texts")
    return kind(**values)


def walltime_seconds(text: str) -> float:
    """Seconds of D-HH:MM:SS, HH:MM:SS or HH:MM. Raises SettingsError."""
    match = re.fullmatch(r"(?:([0-9]+)-)?([0-9]+):([0-5][0-9])(?::([0-5][0-9]))?", text)
    if match is None:
        raise SettingsError(
            f"`walltime` must be D-HH:MM:SS, HH:MM:SS or HH:MM, minutes and seconds up to 59, got {text!r}"
        )
    days, hours, minutes, seconds = (int(part or 0) for part in match.groups())
    total = ((24 * days + hours) * 60 + minutes) * 60 + seconds
    if total == 0:
        raise SettingsError(f"`walltime` must be more than no time, got {text!r}")
    return float(total)

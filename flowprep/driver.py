"""Driver files: who is at work on a store, or on a part of it, as advice to whoever comes next.

A run keeps `.flowprep/drivers/<part>.json` and touches it every few seconds. Another one on the same part is refused
while that goes on. Correctness never depends on it: two runs at once only do some work twice. How long ago a file was
touched is judged by the clock of its file system alone, since those of two machines may differ.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import json
import os
import platform
import secrets
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self, final

from flowprep import commit
from flowprep.arrays import requeued_job, slurm_job
from flowprep.errors import SettingsError
from flowprep.machine import file_system_seconds, is_running, pid_space
from flowprep.records import canonical_json

BEAT_SECONDS = 10.0
STALE_SECONDS = 60.0
_MAX_TRIES = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Holder:
    """Who has left a driver file.

    `part` is None for a whole run, `silent_seconds` is how long ago it was touched, `job` is that of SLURM.
    """

    host: str
    pid: int
    machine: str
    part: str | None
    job: str | None
    since: str
    silent_seconds: float

    @property
    def beats(self) -> bool:
        """True if it seems to be at work: it has been heard of, and no process of this machine that has ended."""
        gone = self.machine != "" and self.machine == pid_space() and not is_running(self.pid)
        return self.silent_seconds < STALE_SECONDS and not gone

    def to_json(self) -> dict[str, Any]:
        """A JSON object, for reports."""
        return {
            "host": self.host,
            "pid": self.pid,
            "part": self.part,
            "since": self.since,
            "silent_seconds": round(self.silent_seconds, 1),
            "beats": self.beats,
        }

    def text(self) -> str:
        """Who it is, for people."""
        return f"process {self.pid} on {self.host}, since {self.since}"


def holders(out: Path) -> list[Holder]:
    """All who have left a driver file in a store, at work or not. Files that cannot be understood are left out."""
    folder = _folder(out)
    if not folder.is_dir():
        return []
    now, found = file_system_seconds(folder), []
    for path in sorted(folder.glob("*.json")):
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError), path.open(encoding="utf-8") as file:
            data = json.load(file)
            silent_seconds = now - os.fstat(file.fileno()).st_mtime
            found.append(
                Holder(
                    host=str(data["host"]),
                    pid=int(data["pid"]),
                    machine=str(data["machine"]),
                    part=data["part"],
                    job=data.get("job"),
                    since=str(data["since"]),
                    silent_seconds=max(0.0, silent_seconds),
                )
            )
    return found


def refuse_others(out: Path, part: str | None) -> None:
    """Raise SettingsError while somebody is at work on the same part, or on the whole where either is the whole.

    A SLURM job that was requeued, perhaps within seconds and on another machine, is not kept from its work by the file
    that its former self has left.
    """
    job = requeued_job(os.environ)
    for holder in holders(out):
        is_former_self = job is not None and holder.job == job and holder.part == part
        if holder.beats and not is_former_self and (part is None or holder.part in (None, part)):
            what = f"part {holder.part} of the store {out}" if holder.part else f"the store {out}"
            raise SettingsError(
                f"{what} is being made by {holder.text()}; wait until it has ended, or give --takeover if it is gone"
            )


@final
class Driver:
    """Keeps the driver file of a run, or of its part, while the context lasts."""

    def __init__(self, out: Path, part: str | None, *, takeover: bool = False) -> None:
        self._out, self._part, self._takeover = out, part, takeover
        name = "run" if part is None else part.replace("/", "-of-")
        self._path = _folder(out) / f"{name}.json"
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._beat, name="driver", daemon=True)
        data = {
            "host": platform.node(),
            "pid": os.getpid(),
            "machine": pid_space(),
            "part": self._part,
            "job": slurm_job(os.environ),
            "since": dt.datetime.now(dt.UTC).isoformat(timespec="seconds"),
            "token": secrets.token_hex(8),  # an inode's number would be used again by who takes over
        }
        self._data = canonical_json(data).encode()

    def __enter__(self) -> Self:
        for _ in range(_MAX_TRIES):
            if not self._takeover:
                refuse_others(self._out, self._part)
            with commit.output_errors(self._out, video=False):
                self._path.unlink(missing_ok=True)
            if commit.create_file(self._out, self._path, self._data):
                break
        else:
            raise SettingsError(f"{self._path} keeps coming back: others begin the same; let one of them go on")
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._end.set()
        self._thread.join()
        with contextlib.suppress(OSError):
            if self._is_ours():
                self._path.unlink()

    def _beat(self) -> None:
        while not self._end.wait(BEAT_SECONDS):
            with contextlib.suppress(OSError):
                if not self._is_ours():
                    return  # somebody has taken over
                os.utime(self._path)

    def _is_ours(self) -> bool:
        return self._path.read_bytes() == self._data


def _folder(out: Path) -> Path:
    return out / ".flowprep" / "drivers"

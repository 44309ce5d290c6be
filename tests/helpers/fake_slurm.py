"""`sbatch` and `scancel` that run jobs on this machine, as processes of their own."""

from __future__ import annotations

from pathlib import Path

_SBATCH = """#!/bin/bash
number=$$
cp "$1" {jobs}/$number.sh
setsid bash {jobs}/$number.sh > {jobs}/$number.log 2>&1 < /dev/null &
echo $! > {jobs}/$number.pid
echo "Submitted batch job $number"
"""
_SCANCEL = """#!/bin/bash
kill -TERM -- -$(cat {jobs}/$1.pid)
touch {jobs}/$1.cancelled
"""


def install_slurm(folder: Path) -> tuple[Path, Path]:
    """The folder of both commands, for PATH, and that of the jobs: script, log, process group, mark of cancelling."""
    commands, jobs = folder / "bin", folder / "jobs"
    for place in (commands, jobs):
        place.mkdir(parents=True)
    for name, text in (("sbatch", _SBATCH), ("scancel", _SCANCEL)):
        path = commands / name
        path.write_text(text.format(jobs=jobs))
        path.chmod(0o755)
    return commands, jobs

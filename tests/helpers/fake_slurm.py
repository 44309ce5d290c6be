"""`sbatch` and `scancel` that run jobs on this machine, as processes of their own."""

from __future__ import annotations

from pathlib import Path

_SBATCH = """#!/bin/bash
for turn in $(seq {num_refused}); do
    if mkdir {jobs}/$turn.refused 2> /dev/null; then  # one of several that run at once
        echo "sbatch: error: Batch job submission failed: {refusal}" >&2
        exit 1
    fi
done
number=$$
cp "$1" {jobs}/$number.sh
setsid bash {jobs}/$number.sh > {jobs}/$number.log 2>&1 < /dev/null &
echo $! > {jobs}/$number.pid
echo "Submitted batch job $number"
"""
_SCANCEL = """#!/bin/bash
for number; do
    kill -TERM -- -$(cat {jobs}/$number.pid)
    touch {jobs}/$number.cancelled
done
"""


REFUSAL = "Socket timed out on send/recv operation"


def install_slurm(folder: Path, *, num_refused: int = 0, refusal: str = REFUSAL) -> tuple[Path, Path]:
    """The folder of both commands, for PATH, and that of the jobs: script, log, process group, mark of cancelling.

    The first `num_refused` jobs are not taken.
    """
    commands, jobs = folder / "bin", folder / "jobs"
    for place in (commands, jobs):
        place.mkdir(parents=True)
    for name, text in (("sbatch", _SBATCH), ("scancel", _SCANCEL)):
        path = commands / name
        path.write_text(text.format(jobs=jobs, num_refused=num_refused, refusal=refusal))
        path.chmod(0o755)
    return commands, jobs

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
echo "Submitted batch job $number"
for turn in $(seq {num_nodes}); do
    mkdir {jobs}/$turn.node 2> /dev/null && break
    [ $turn = {num_nodes} ] && exit 0  # it stays in the queue
done
setsid bash {jobs}/$number.sh > {jobs}/$number.log 2>&1 < /dev/null &
echo $! > {jobs}/$number.pid
"""
_SCANCEL = """#!/bin/bash
for number; do
    [ -e {jobs}/$number.pid ] && kill -TERM -- -$(cat {jobs}/$number.pid)
    touch {jobs}/$number.cancelled
done
"""


REFUSAL = "Socket timed out on send/recv operation"


def install_slurm(
    folder: Path, *, num_refused: int = 0, refusal: str = REFUSAL, num_nodes: int = 99
) -> tuple[Path, Path]:
    """The folder of both commands, for PATH, and that of the jobs: script, log, process group, mark of cancelling.

    The first `num_refused` jobs are not taken; of those that are `num_nodes` begin, and the others wait for ever.
    """
    commands, jobs = folder / "bin", folder / "jobs"
    for place in (commands, jobs):
        place.mkdir(parents=True)
    for name, text in (("sbatch", _SBATCH), ("scancel", _SCANCEL)):
        path = commands / name
        path.write_text(text.format(jobs=jobs, num_refused=num_refused, refusal=refusal, num_nodes=num_nodes))
        path.chmod(0o755)
    return commands, jobs

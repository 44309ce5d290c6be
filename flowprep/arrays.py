"""Arrays of jobs: which part of a list an element of a SLURM array does, by what SLURM tells it."""

from __future__ import annotations

from collections.abc import Mapping

from flowprep.errors import SettingsError

SLURM = "slurm"


def slurm_part(text: str, environment: Mapping[str, str]) -> str:
    """The part I/N that `slurm` or `slurm/N` means in an element of an array.

    `slurm` takes N from the array, which then has to be the whole one, 1-N or 0-(N-1): an array of a few elements, as
    one submits it for what is missing, does not know of how many parts they were. `slurm/N` says it, with indices from
    1 to N.

    Raises SettingsError outside of an array and where N or the part is not known.
    """
    num_parts = text.removeprefix(SLURM).removeprefix("/")
    if "SLURM_ARRAY_TASK_ID" not in environment:
        raise SettingsError(
            f"`part` {text} is for elements of a SLURM array, and SLURM_ARRAY_TASK_ID is not set here; submit the job "
            "with sbatch --array=1-N, or give I/N"
        )
    task, first, last, count = (
        _number(environment, f"SLURM_ARRAY_TASK_{name}") for name in ("ID", "MIN", "MAX", "COUNT")
    )
    if num_parts:
        if not (num_parts.isascii() and num_parts.isdecimal()):
            raise SettingsError(f"`part` must be I/N, slurm or slurm/N, got {text!r}")
        if not 1 <= task <= int(num_parts):
            raise SettingsError(
                f"`part` {text} needs array indices of 1 to {num_parts}, and this element is {task}; submit with "
                f"sbatch --array=1-{num_parts}, or with some of these"
            )
        return f"{task}/{num_parts}"
    if first not in (0, 1) or count != last - first + 1:
        raise SettingsError(
            f"`part` slurm needs a whole array, 1-N or 0-(N-1), and this one has {count} elements from {first} to "
            f"{last}; write slurm/N with the number of parts of the whole array, whose indices are then 1 to N"
        )
    return f"{task - first + 1}/{count}"


def slurm_job(environment: Mapping[str, str]) -> str | None:
    """What stays the same when SLURM requeues a job or an element, and is no other's; None outside of SLURM."""
    job = environment.get("SLURM_JOB_ID")
    return f"{environment.get('SLURM_CLUSTER_NAME', '')}:{job}" if job else None


def requeued_job(environment: Mapping[str, str]) -> str | None:
    """`slurm_job`, if it has been requeued: SLURM has then ended whatever it had begun. None if not."""
    return slurm_job(environment) if environment.get("SLURM_RESTART_COUNT", "0") != "0" else None


def _number(environment: Mapping[str, str], name: str) -> int:
    text = environment.get(name, "")
    if not (text.isascii() and text.isdecimal()):
        raise SettingsError(f"{name} must be a number in an element of a SLURM array, got {text!r}; give I/N instead")
    return int(text)

"""`make fuzz`: mutated videos of every format through whole runs, with sound ones among them.

    PYTHONPATH=tests python -m helpers.fuzz [--files N] [--first SEED] [--formats A,B] [--jobs J] [--json FILE]

Files come in batches; each batch is one run of `flowprep.extract` with its supervised children, in which the files that
are damaged are kept where that is possible in every second batch (`--on-damage keep-flagged`), so that frames go
through all stages. A file is known by its format and seed: `damaged_file` makes it again.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import resource
import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from helpers.fuzz_clips import FORMATS, make_clips
from helpers.mutations import mutate

import flowprep
from flowprep.config import DecodeSettings, ExtractSettings, ResizeSettings, RunSettings, StoreSettings
from flowprep.journal import journals, read_journal
from flowprep.stores.manifest import read_manifest

BATCH = 200
"""Files a format in one run."""
INNOCENT_EVERY = 20
POLICIES = ("fail", "keep-flagged")
MEMORY_GIB = 0.5
STALL_SECONDS = 20.0
DEATHS = frozenset({"crash", "timeout"})
"""How an attempt ends whose process died or had to be killed. One that says `memory` has met its limit and ended."""


OURS = frozenset({"internal", "io"})
"""Reasons that no content may have: an error of the program, or of a disk that is well."""


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What became of one file. `attempts` are the ends of its tries, `digest` is that of its images."""

    form: str
    seed: int | None
    policy: str
    clip: int
    state: str
    reasons: tuple[str, ...]
    attempts: tuple[str, ...]
    details: tuple[str, ...]
    digest: str = ""

    @property
    def is_innocent(self) -> bool:
        """True for a sound file."""
        return self.seed is None


def damaged_file(clips: Sequence[bytes], seed: int) -> bytes:
    """The file of a seed, by the clips of its format."""
    return mutate(clips[seed % len(clips)], clips[(seed + 1) % len(clips)], seed)


def policy_of(seed: int) -> str:
    """What a run does with damage, by the batch that a seed is in."""
    return POLICIES[seed // BATCH % len(POLICIES)]


def settings_of(policy: str) -> ExtractSettings:
    """Images alone, tiny ones: what is tried out is the decoder and who watches it."""
    return ExtractSettings(
        decode=DecodeSettings(on_damage=policy),
        resize=ResizeSettings(short_side=None, width=32, height=24),
        store=StoreSettings(flow=False),
    )


def run_batch(clips: Mapping[str, Sequence[bytes]], seeds: Sequence[int], policy: str, jobs: int) -> Iterator[Outcome]:
    """One run over the files of these seeds in every format, with sound files between them."""
    with tempfile.TemporaryDirectory(prefix="flowprep-fuzz-") as name:
        videos, out = Path(name, "videos"), Path(name, "out")
        made: dict[str, tuple[str, int | None, int]] = {}
        for form, sound in clips.items():
            (videos / form).mkdir(parents=True)
            for seed in seeds:
                path = videos / form / f"{seed:08d}{FORMATS[form].suffix}"
                path.write_bytes(damaged_file(sound, seed))
                made[f"{form}/{path.stem}"] = form, seed, seed % len(sound)
                if seed % INNOCENT_EVERY == 0:
                    clip = seed // INNOCENT_EVERY % len(sound)
                    innocent = videos / form / f"{seed:08d}x{FORMATS[form].suffix}"
                    innocent.write_bytes(sound[clip])
                    made[f"{form}/{innocent.stem}"] = form, None, clip
        run = RunSettings(jobs=jobs, durability="fast", memory_gib=MEMORY_GIB, stall_seconds=STALL_SECONDS)
        flowprep.extract("folder", videos=videos, out=out, settings=settings_of(policy), run=run)
        tries: dict[str, tuple[str, ...]] = {}
        for path in journals(out):
            for event in read_journal(path):
                if event["event"] == "video":
                    tries[event["id"]] = tuple(attempt["outcome"] for attempt in event["attempts"])
        rows = list(read_manifest(out / "manifest.jsonl")[1])
        if {row.id for row in rows} != made.keys() or len(rows) != len(made):
            raise AssertionError("the manifest has not one line a file")
        for row in rows:
            form, seed_or_none, clip = made[row.id]
            yield Outcome(
                form=form,
                seed=seed_or_none,
                policy=policy,
                clip=clip,
                state=str(row.state),
                reasons=tuple(reason.code for reason in row.reasons),
                attempts=tries[row.id],
                details=tuple(reason.detail for reason in row.reasons),
                digest=row.stream_sha256.get("rgb", ""),
            )


@dataclass
class Tally:
    """What came of all files of a format."""

    num_files: int = 0
    num_innocents: int = 0
    num_innocents_lost: int = 0
    states: Counter[str] = dataclasses.field(default_factory=Counter)
    reasons: Counter[str] = dataclasses.field(default_factory=Counter)
    memory_attempts: int = 0
    crashers: list[dict[str, Any]] = dataclasses.field(default_factory=list)
    digests: dict[int, str] = dataclasses.field(default_factory=dict)

    def add(self, outcome: Outcome) -> None:
        """Count one file; sound ones must be stored, with the same images each time."""
        self.memory_attempts += outcome.attempts.count("memory")
        if outcome.is_innocent:
            self.num_innocents += 1
            expected = self.digests.setdefault(outcome.clip, outcome.digest)
            is_well = outcome.digest != "" and outcome.digest == expected and len(outcome.attempts) == 1
            self.num_innocents_lost += not is_well
            return
        self.num_files += 1
        self.states[outcome.state] += 1
        self.reasons.update(outcome.reasons)
        was_killed = any("SIGKILL" in detail for detail in outcome.details)
        if DEATHS & set(outcome.attempts) or was_killed or OURS & set(outcome.reasons):
            crasher = {"seed": outcome.seed, "policy": outcome.policy, "attempts": outcome.attempts}
            self.crashers.append({**crasher, "details": outcome.details})

    def to_json(self) -> dict[str, Any]:
        """A JSON object."""
        data = {field.name: getattr(self, field.name) for field in dataclasses.fields(self) if field.name != "digests"}
        return {name: dict(value) if isinstance(value, Counter) else value for name, value in data.items()}


def campaign(num_files: int, first: int, forms: Sequence[str], jobs: int, report: Path | None) -> dict[str, Any]:
    """`num_files` mutated files of each format; writes what it has to `report` after every batch."""
    started = time.monotonic()
    folder = Path(tempfile.mkdtemp(prefix="flowprep-clips-"))
    try:
        clips = {form: make_clips(form, folder) for form in forms}
    finally:
        shutil.rmtree(folder)
    tallies = {form: Tally() for form in forms}
    result: dict[str, Any] = {}
    end = first + num_files
    while first < end:
        last = min((first // BATCH + 1) * BATCH, end)
        for outcome in run_batch(clips, range(first, last), policy_of(first), jobs):
            tallies[outcome.form].add(outcome)
        first = last
        result = {
            "formats": {form: tally.to_json() for form, tally in tallies.items()},
            "next_seed": first,
            "seconds": round(time.monotonic() - started, 1),
            "peak_child_mib": resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss // 1024,
            "peak_run_mib": _own_peak_mib(),
        }
        if report is not None:
            report.write_text(json.dumps(result, indent=2))
    return result


def _own_peak_mib() -> int:
    """The most memory of this process, in MiB; `ru_maxrss` would begin with that of the process that started it."""
    (peak,) = [line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM:")]
    return int(peak.split()[1]) // 1024


def is_good(result: Mapping[str, Any]) -> bool:
    """True if every file has ended in a state of its own making: no process lost, no error of ours, no sound file."""
    return not any(form["crashers"] or form["num_innocents_lost"] for form in result["formats"].values())


def main(arguments: Sequence[str]) -> int:
    """Run a campaign, print its counts, and end with 1 if something came of it that must be looked at."""
    parser = argparse.ArgumentParser(prog="helpers.fuzz", description=__doc__)
    parser.add_argument("--files", type=int, default=10_000, help="mutated files a format")
    parser.add_argument("--first", type=int, default=0, help="the first seed")
    parser.add_argument("--formats", default=",".join(FORMATS))
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--json", type=Path, help="write the counts here after each batch")
    given = parser.parse_args(arguments)
    result = campaign(given.files, given.first, given.formats.split(","), given.jobs, given.json)
    for name, form in result["formats"].items():
        print(f"{name:10} {form['num_files']:6} files {form['states']}, {form['memory_attempts']} tries out of memory")
        for crasher in form["crashers"]:
            print(f"{name:10} look at {crasher}")
    print(json.dumps({name: value for name, value in result.items() if name != "formats"}))
    return 0 if is_good(result) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

"""Random faults in a Dask cluster for as long as one likes: `make chaos`.

Rounds of real runs over synthetic videos, some of them poison, on a real scheduler with three workers on this machine.
All the while something drawn at random happens: workers, nannies, children, the driver or the scheduler are killed,
preempted or frozen for some seconds, workers come late, drivers are interrupted. A run that was stopped is resumed
until it ends. Then every good video must have the bytes of an undisturbed run, exactly the poison must be quarantined,
and the six invariants of `tests/helpers/invariants.py` must hold. The first round that fails ends it, and its folder
stays.

    python benchmarks/chaos.py [--minutes N] [--seed N] [--num-videos N] [--markdown FILE]
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

from common import machine_facts, print_result, print_table
from helpers.command import flowprep, store_bytes
from helpers.dask_cluster import (
    TTL_SECONDS,
    DaskCluster,
    arguments,
    attempts_of,
    freeze,
    kill,
    make_videos,
    start_run,
    states_of,
    thaw,
    write_config,
)
from helpers.invariants import Invariants
from helpers.processes import children_of, eventually

POISON = ("crash", "exit", "burst")
NUM_WORKERS, MAX_STARTS, ROUND_SECONDS = 3, 60, 900.0
CHILD_SECONDS = 15.0
"""Between two kills of a child: a child that dies counts against its video, which has only two tries."""
FAULTS = {
    "kill a worker": 6,
    "kill a nanny and its worker": 3,
    "kill a child": 2,
    "preempt a worker": 3,
    "freeze a node": 3,
    "add a worker": 2,
    "kill the driver": 2,
    "interrupt the driver": 2,
    "kill the scheduler": 1,
}
"""What happens, and how often beside the others."""


class Round:
    """One store, made through all faults."""

    def __init__(self, folder: Path, draw: random.Random, videos: Path, cluster: DaskCluster) -> None:
        self.draw, self.videos, self.cluster = draw, videos, cluster
        self.out, self.config = (
            folder / "out",
            write_config(folder / "config.toml", workers_seconds=120, silence_seconds=20),
        )
        self.faults: Counter[str] = Counter()
        self.exits: Counter[int] = Counter()
        self.invariants = Invariants(folder, self.out)
        self.frozen: list[tuple[float, list[int]]] = []
        self.last_child = 0.0
        self.run: subprocess.Popen[str] | None = None

    def play(self) -> None:
        """Runs until one of them ends the store."""
        with self.invariants:
            deadline = time.monotonic() + ROUND_SECONDS
            while self.exits.total() < MAX_STARTS:
                self.run = start_run(
                    ["extract", *arguments(self.videos, self.out, self.cluster, self.config)[1:], "--format", "jpeg"],
                    self.invariants.environment,
                )
                following = time.monotonic() + self.draw.uniform(4.0, 12.0)
                while self.run.poll() is None:
                    time.sleep(0.1)
                    self.thaw_due()
                    if time.monotonic() > following:
                        self.happen()
                        following = time.monotonic() + self.draw.uniform(2.0, 8.0)
                    if time.monotonic() > deadline:
                        self.run.kill()
                        raise SystemExit(f"a run hangs, or faults keep it from ending: {self.run.communicate()[1]}")
                said = self.run.communicate()[1]
                if "Traceback" in said:
                    raise SystemExit(f"a run ended with a traceback\n{said}")
                self.exits[self.run.returncode] += 1
                if self.run.returncode == 1:  # finished, with the poison quarantined
                    break
                if self.run.returncode not in (3, -signal.SIGKILL):
                    raise SystemExit(f"a run ended with {self.run.returncode}\n{said}")
                self.mend()
            self.thaw_due(at_once=True)

    def happen(self) -> None:
        """Something."""
        name = self.draw.choices([*FAULTS], [*FAULTS.values()])[0]
        cluster, run = self.cluster, self.run
        assert run is not None, "it goes on"
        nannies = [nanny for nanny in cluster.nannies if nanny.poll() is None and children_of(nanny.pid)]
        if name == "add a worker" and len(cluster.nannies) < 2 * NUM_WORKERS:
            cluster.nannies.append(cluster.add_worker())
        elif name == "kill the driver":
            run.kill()
        elif name == "interrupt the driver" and self.has_begun(run.pid):
            run.send_signal(signal.SIGINT)
        elif name == "kill the scheduler":
            kill(cluster.scheduler.pid)
        elif not nannies:
            return
        else:
            nanny = self.draw.choice(nannies)
            workers = children_of(nanny.pid)
            children = [child for worker in workers for child in children_of(worker)]
            if name == "kill a worker":
                kill(*workers)
            elif name == "kill a nanny and its worker":
                kill(nanny.pid, *workers)
                cluster.nannies.append(cluster.add_worker())
            elif name == "kill a child" and children and time.monotonic() > self.last_child + CHILD_SECONDS:
                kill(children[0])
                self.last_child = time.monotonic()
            elif name == "preempt a worker":
                nanny.send_signal(signal.SIGTERM)
                cluster.nannies.append(cluster.add_worker())
            elif name == "freeze a node":
                with contextlib.suppress(ProcessLookupError):
                    freeze(nanny.pid, *workers, *children)
                seconds = self.draw.uniform(0.5, 8.0)
                self.frozen.append((time.monotonic() + seconds, [nanny.pid, *workers, *children]))
            else:
                return
        self.faults[name] += 1

    def has_begun(self, pid: int) -> bool:
        """True if a driver is at work; before, Python itself is interrupted, with a traceback of its own."""
        with contextlib.suppress(OSError, ValueError):
            return bool(json.loads((self.out / ".flowprep/drivers/run.json").read_text())["pid"] == pid)
        return False

    def thaw_due(self, *, at_once: bool = False) -> None:
        """Let frozen nodes go on whose time has come."""
        for moment, pids in [*self.frozen]:
            if at_once or time.monotonic() > moment:
                thaw(*pids)
                self.frozen.remove((moment, pids))

    def mend(self) -> None:
        """Before the next run there are a scheduler and workers again."""
        cluster = self.cluster
        if cluster.scheduler.poll() is not None:
            for nanny in cluster.nannies:
                thaw(nanny.pid, *children_of(nanny.pid))
                kill(*children_of(nanny.pid), nanny.pid)
                nanny.wait()
            cluster.scheduler = cluster.start_scheduler()
            cluster.nannies = []
        cluster.nannies = [nanny for nanny in cluster.nannies if nanny.poll() is None]
        while len(cluster.nannies) < NUM_WORKERS:
            cluster.nannies.append(cluster.add_worker())

    def check(self, whole: dict[str, bytes]) -> None:
        """Nothing lost, nobody blamed, nothing left."""
        images = {name: data for name, data in store_bytes(self.out).items() if name.endswith(".jpg")}
        assert images == whole, "the good videos have other bytes than those of an undisturbed run"
        bad = {name: state for name, state in states_of(self.out).items() if state != "ok"}
        assert bad == {f"a/{name}": "quarantined" for name in POISON}, bad
        self.invariants.check_states()
        self.invariants.check_sound()
        assert self.invariants.partial == []
        self.invariants.check_outside()
        assert eventually(lambda: self.cluster.children() == [], seconds=60), "children are left"
        self.invariants.check_gone()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--num-videos", type=int, default=40)
    parser.add_argument("--markdown", type=Path, help="write the tables to this file too")
    options = parser.parse_args()
    # A shell ignores it for what it starts in the background, and then drivers would too.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    folder = Path(tempfile.mkdtemp(prefix="flowprep-chaos-"))
    good = [f"v{number:03d}" for number in range(options.num_videos)]
    videos = make_videos(folder / "videos", [*good, *POISON])
    flowprep(*arguments(make_videos(folder / "alone", good), folder / "whole", None, None), "--format", "jpeg")
    whole = {name: data for name, data in store_bytes(folder / "whole").items() if name.endswith(".jpg")}
    faults, exits, outcomes = Counter[str](), Counter[int](), Counter[str]()
    begun, num_rounds = time.monotonic(), 0
    while time.monotonic() - begun < 60 * options.minutes:
        place = folder / f"round-{num_rounds}"
        place.mkdir()
        draw = random.Random(f"{options.seed}-{num_rounds}")
        where = folder / f"cluster-{num_rounds}"
        with DaskCluster(where, NUM_WORKERS, slow_seconds=0.4, ttl_seconds=TTL_SECONDS) as cluster:
            game = Round(place, draw, videos, cluster)
            game.play()
            game.check(whole)
        num_rounds += 1
        faults.update(game.faults)
        exits.update(game.exits)
        outcomes.update(outcome for tries in attempts_of(game.out).values() for outcome in tries)
        print(f"round {num_rounds}: {dict(game.faults)}, exits {dict(game.exits)}", file=sys.stderr, flush=True)
        shutil.rmtree(place)
    seconds = time.monotonic() - begun
    shutil.rmtree(folder)
    with contextlib.ExitStack() as stack:
        if options.markdown is not None:
            stack.enter_context(contextlib.redirect_stdout(stack.enter_context(options.markdown.open("w"))))
        report(options, num_rounds, seconds, faults, exits, outcomes)


def report(
    options: argparse.Namespace,
    num_rounds: int,
    seconds: float,
    faults: Counter[str],
    exits: Counter[int],
    outcomes: Counter[str],
) -> None:
    """Tables and the last line."""
    title = (
        f"{num_rounds} stores of {options.num_videos} good and {len(POISON)} bad videos in {seconds / 60:.1f} minutes"
    )
    print_table(f"{title}, seed {options.seed}", ("what happened", "times"), [*faults.most_common()])
    print_table("how runs ended", ("exit code", "times"), [*exits.most_common()])
    print_table("attempts, by the journals", ("outcome", "times"), [*outcomes.most_common()])
    print(
        f"\nVideos lost: 0. Innocent videos blamed: 0. Stores with other bytes: 0. "
        f"Load of the machine at the end: {os.getloadavg()[0]:.1f} on {machine_facts()['num_cores']} cores."
    )
    print_result(
        "chaos",
        figures={
            "num_rounds": num_rounds,
            "seconds": round(seconds),
            "faults": dict(faults),
            "exits": {str(code): num for code, num in exits.items()},
            "attempts": dict(outcomes),
        },
        target={"lost": 0, "blamed": 0, "different": 0},
        passed=num_rounds > 0,
    )


if __name__ == "__main__":
    main()

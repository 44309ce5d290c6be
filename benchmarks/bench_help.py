"""Time `flowprep --help` and `flowprep extract --help`, each a fresh process, beside a Python that does nothing.

python benchmarks/bench_help.py [--repeats N]
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from common import Spread, print_result, print_table

TARGET_SECONDS = 0.3
FLOWPREP = str(Path(sys.executable).with_name("flowprep"))
COMMANDS = {
    "python -c pass": [sys.executable, "-c", "pass"],
    "flowprep --help": [FLOWPREP, "--help"],
    "flowprep extract --help": [FLOWPREP, "extract", "--help"],
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=20)
    repeats = parser.parse_args().repeats
    seconds: dict[str, list[float]] = {name: [] for name in COMMANDS}
    for command in COMMANDS.values():
        run_seconds(command)  # reads the files once
    for _ in range(repeats):  # in turn, so that a busy moment meets all of them
        for name, command in COMMANDS.items():
            seconds[name].append(run_seconds(command))
    spreads = {name: Spread.of(values) for name, values in seconds.items()}
    bare = spreads["python -c pass"].median
    print_table(
        f"Seconds of wall time, {repeats} runs each",
        ("command", "median", "min", "max", "times bare Python"),
        [(name, *spread, spread.median / bare) for name, spread in spreads.items()],
    )
    print_result(
        "help",
        figures={name: spread.to_json() for name, spread in spreads.items()},
        target={"seconds": TARGET_SECONDS},
        passed=all(spread.median <= TARGET_SECONDS for spread in spreads.values()),
    )


def run_seconds(command: Sequence[str]) -> float:
    """Wall seconds of a command that must succeed."""
    start = time.perf_counter()
    subprocess.run(command, check=True, capture_output=True)
    return time.perf_counter() - start


if __name__ == "__main__":
    main()

"""Speed of the whole command `flowprep extract`, from UCF101 clips to packed shards or a tree, by --jobs.

There is flow where --backend is given.

The clips are copied until a run takes some seconds, so that the start of Python and of the workers is a small share of
it; it is part of the time all the same.

    python benchmarks/bench_extract.py [--videos DIR] [--scratch DIR] [--copies N] [--repeats N] [--jobs 1 2]
                                       [--backend native-cuda] [--formats hdf5 jpeg]
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from common import CLIPS, Spread, print_result, print_table

FLOWPREP = str(Path(sys.executable).with_name("flowprep"))
_COMMAND = [sys.executable, "-c", "from flowprep_cli.main import main; main()"]  # also where it is not installed
DEVICE_FRAMES_PER_SECOND = 500
"""To reach with one GPU and 16 cores."""


def main() -> None:
    arguments = parse_arguments()
    speeds: dict[tuple[str, int], list[float]] = {}
    devices: dict[str, Any] = {}
    flow = ["--backend", arguments.backend] if arguments.backend else ["--no-flow"]
    with tempfile.TemporaryDirectory(prefix="flowprep-bench-", dir=arguments.scratch) as scratch:
        videos = Path(scratch, "videos")
        copy_clips(arguments.videos, videos, arguments.copies)
        for _ in range(arguments.repeats):
            for store_format in arguments.formats:
                for jobs in arguments.jobs:
                    out = Path(scratch, "out")
                    speed, devices = frames_per_second(videos, out, store_format, jobs, flow)
                    speeds.setdefault((store_format, jobs), []).append(speed)
                    shutil.rmtree(out)
    spreads = {key: Spread.of(values) for key, values in speeds.items()}
    print_table(
        f"`flowprep extract {' '.join(flow)}`, frames a second, {arguments.copies} copies of each clip",
        ("format", "jobs", "median", "min", "max", "ms a frame"),
        [
            (store_format, jobs, *(f"{value:.0f}" for value in spread), 1000 / spread.median)
            for (store_format, jobs), spread in spreads.items()
        ],
    )
    figures = {f"{store_format}_jobs_{jobs}": spread.to_json() for (store_format, jobs), spread in spreads.items()}
    if not devices:
        print_result("extract", figures=figures, target={}, passed=True)
        return
    best, target = max(spread.median for spread in spreads.values()), {"frames_per_s": DEVICE_FRAMES_PER_SECOND}
    print(f"\nThe last run's devices: {devices}")
    found = {"frames_per_s": round(best, 1), "devices": devices, **figures}
    print_result("extract", figures=found, target=target, passed=best >= DEVICE_FRAMES_PER_SECOND)


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--videos", type=Path, default=CLIPS, help="folder of class folders of clips")
    parser.add_argument("--scratch", type=Path, help="folder on the disk to write to; default: the system's")
    parser.add_argument("--copies", type=int, default=20)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--jobs", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--backend", help="compute flow with it; default: no flow")
    parser.add_argument("--formats", nargs="+", default=["hdf5", "jpeg"], choices=["hdf5", "jpeg"])
    return parser.parse_args()


def copy_clips(source: Path, target: Path, num_copies: int) -> None:
    """Each clip below class folders `num_copies` times, under names of its own."""
    paths = sorted(source.glob("*/*.avi"))
    if not paths:
        raise SystemExit(f"{source} has no */*.avi; give the folder of UCF101 clips with --videos")
    for path in paths:
        folder = target / path.parent.name
        folder.mkdir(parents=True, exist_ok=True)
        for copy in range(num_copies):
            shutil.copyfile(path, folder / f"{path.stem}_{copy:03d}.avi")


def frames_per_second(
    videos: Path, out: Path, store_format: str, jobs: int, flow: list[str]
) -> tuple[float, dict[str, Any]]:
    """Frames a second of one run of the command, its start included; and what the run says of its devices."""
    command = [*_COMMAND, "extract", "--dataset", "folder", "--videos", str(videos), "--out", str(out), *flow]
    start = time.perf_counter()
    result = subprocess.run(
        [*command, "--format", store_format, "--jobs", str(jobs), "--json"], check=True, capture_output=True
    )
    seconds = time.perf_counter() - start
    found = json.loads(result.stdout)
    return float(found["num_frames_now"] / seconds), found["devices"]


if __name__ == "__main__":
    main()

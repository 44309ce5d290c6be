"""What a Dask cluster costs: a list of 700,000 videos whose work is simulated, and real work beside local processes.

    python benchmarks/bench_dask.py simulate [--num-videos N] [--num-done N] [--scratch DIR]
    python benchmarks/bench_dask.py overhead [--copies N] [--repeats N] [--size WxH] [--videos DIR] [--scratch DIR]

`simulate` runs the real command, scheduler and workers; only the function that a worker performs is another one, which
publishes a row and no more. It is interrupted after so many videos. Processor time a video of driver and scheduler says
how many videos a second they can serve, and from that how long a list takes on 100 workers.

`overhead` runs `extract` with two local processes and with two workers in turns, and compares the time from the first
commit to the last by the journals: what the start of Python and of workers takes is no matter of a long run.
"""

from __future__ import annotations

import argparse
import contextlib
import datetime as dt
import os
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import psutil
from bench_extract import copy_clips
from bench_plan import make_videos
from common import CLIPS, Spread, print_result, print_table, spin_seconds

from flowprep.journal import journals, read_journal

FLOWPREP = str(Path(sys.executable).with_name("flowprep"))
MAX_START_SECONDS, MAX_DRIVER_MIB, MAX_OVERHEAD = 60.0, 1024.0, 0.05
NUM_SIMULATED_WORKERS = 100
MEAN_SECONDS = (2.0, 10.0, 60.0)
_PRELOAD = """
from flowprep.childprocess import Task
from flowprep.cluster import worker
from flowprep.cluster.orders import decode, done_to_json, task_from_json, work_from_json
from flowprep.publisher import open_publisher
from flowprep.records import Reason, Row, State
from flowprep.supervisor import Attempt, Done

publishers = {}

def perform(text):
    order = decode(text)
    number, tell = order["number"], worker._teller(order["token"])
    tell({"event": "begun", "number": number})
    publisher = publishers.get(order["token"])
    if publisher is None:
        work = work_from_json(order["work"])
        publisher = publishers[order["token"]] = open_publisher(work.out, work.settings, durability="fast")
    task = task_from_json(order["task"])
    row = publisher.publish_row(Row.unstored(task.video, State.FAILED, Reason("empty")), task.list_index)
    attempts = (Attempt(worker="simulated", seconds=1.0, outcome="failed"),)
    done = Done(list_index=task.list_index, row=row, seconds=1.0, attempts=attempts, build="")
    tell({"event": "done", "number": number, "done": done_to_json(done)})

perform.__module__, perform.__qualname__ = "flowprep.cluster.worker", "perform"
worker.perform = perform
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("part", choices=("simulate", "overhead"))
    parser.add_argument("--scratch", type=Path, help="folder on the disk to use; default: the system's")
    parser.add_argument("--num-videos", type=int, default=700_000)
    parser.add_argument("--num-done", type=int, default=20_000)
    parser.add_argument("--videos", type=Path, default=CLIPS)
    parser.add_argument("--copies", type=int, default=15)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--size", default="340x256")
    parser.add_argument("--backend", default="native")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="flowprep-bench-", dir=arguments.scratch) as scratch:
        if arguments.part == "simulate":
            simulate(arguments, Path(scratch))
        else:
            measure_overhead(arguments, Path(scratch))


@contextlib.contextmanager
def cluster(folder: Path, num_workers: int, num_threads: int, *options: str) -> Iterator[tuple[Path, psutil.Process]]:
    """A scheduler with workers: its file and process."""
    file, python = folder / "scheduler.json", sys.executable
    quiet = ["--no-dashboard", "--dashboard-address", "127.0.0.1:0", "--host", "127.0.0.1"]
    environment = {**os.environ, "DASK_DISTRIBUTED__SCHEDULER__HTTP__ROUTES": "[]", "OMP_NUM_THREADS": "1"}
    commands = [[python, "-m", "distributed.cli.dask_scheduler", "--port", "0", "--scheduler-file", str(file), *quiet]]
    worker = [python, "-m", "distributed.cli.dask_worker", "--scheduler-file", str(file), *quiet]
    worker += ["--nthreads", str(num_threads), "--memory-limit", "0", "--local-directory", str(folder), *options]
    commands += [worker] * num_workers
    processes = []
    try:
        with (folder / "dask.log").open("ab") as log:
            for command in commands:
                processes.append(subprocess.Popen(command, stdout=log, stderr=log, env=environment))
                while not file.exists():
                    time.sleep(0.1)
        yield file, psutil.Process(processes[0].pid)
    finally:
        for process in reversed(processes):
            process.terminate()
            process.wait()


# -- simulation --------------------------------------------------------------------------------------------------------


def simulate(arguments: argparse.Namespace, scratch: Path) -> None:
    """Start, memory and processor time a video of a long list."""
    videos, listed, out = scratch / "videos", scratch / "list.txt", scratch / "out"
    make_videos(videos, listed, arguments.num_videos)
    preload = scratch / "simulated.py"
    preload.write_text(_PRELOAD)
    command = [FLOWPREP, "extract", "--dataset", "list", "--splits", str(listed), "--videos", str(videos)]
    command += ["--out", str(out), "--backend", "dis", "--durability", "fast"]
    with cluster(scratch, 2, 8, "--preload", str(preload)) as (file, scheduler):
        begun = time.perf_counter()
        driver = psutil.Popen([*command, "--dask", str(file)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        start_seconds = wait_for(out, 1) - begun
        since = cpu_of(driver), cpu_of(scheduler), time.perf_counter(), num_done(out)
        wait_for(out, arguments.num_done)
        until = cpu_of(driver), cpu_of(scheduler), time.perf_counter(), num_done(out)
        mib = peak_mib(driver)
        driver.send_signal(signal.SIGINT)
        code = driver.wait(120)
    if code != 3:
        raise SystemExit(f"the driver ended with {code}, not 3 as it does when it is interrupted")
    num = until[3] - since[3]
    driver_ms, scheduler_ms = (1000 * (until[k] - since[k]) / num for k in (0, 1))
    videos_per_second = num / (until[2] - since[2])
    print_table(
        f"{arguments.num_videos} listed videos, {num} simulated, 2 workers of 8 threads",
        ("what", "measured", "target"),
        [
            ("start of the command to the first outcome, s", start_seconds, MAX_START_SECONDS),
            ("of that processor time of the driver, s", since[0], "-"),
            ("largest memory of the driver, MiB", mib, MAX_DRIVER_MIB),
            ("processor time of the scheduler a video, ms", scheduler_ms, "-"),
            ("processor time of the driver a video, ms", driver_ms, "-"),
            ("videos a second, all of this on the same cores", videos_per_second, "-"),
        ],
    )
    limit = 1000 / max(driver_ms, scheduler_ms)
    rows = []
    for mean in MEAN_SECONDS:
        by_work = arguments.num_videos * mean / NUM_SIMULATED_WORKERS
        by_driver = arguments.num_videos / limit
        rows.append((mean, by_work / 3600, by_driver / 3600, (start_seconds + max(by_work, by_driver)) / 3600))
    print_table(
        f"{arguments.num_videos} videos on {NUM_SIMULATED_WORKERS} workers of one thread, worked out from that",
        ("mean s a video", "h by work alone", "h that driver or scheduler need", "h expected"),
        rows,
    )
    print_result(
        "dask-simulate",
        figures={
            "num_videos": arguments.num_videos,
            "num_simulated": num,
            "start_seconds": round(start_seconds, 2),
            "start_processor_seconds": round(since[0], 2),
            "driver_mib": round(mib),
            "scheduler_ms": round(scheduler_ms, 3),
            "driver_ms": round(driver_ms, 3),
            "videos_per_second": round(videos_per_second, 1),
        },
        target={"start_seconds": MAX_START_SECONDS, "driver_mib": MAX_DRIVER_MIB},
        passed=start_seconds <= MAX_START_SECONDS and mib <= MAX_DRIVER_MIB,
    )


def num_done(out: Path) -> int:
    """Videos with a line in the journal."""
    return sum(path.read_bytes().count(b'"event":"video"') for path in journals(out))


def wait_for(out: Path, num: int) -> float:
    """When so many videos are done."""
    while num_done(out) < num:
        time.sleep(0.2 if num > 1 else 0.05)
    return time.perf_counter()


def cpu_of(process: psutil.Process) -> float:
    """Seconds of processor time."""
    times = process.cpu_times()
    return float(times.user + times.system)


def peak_mib(process: psutil.Process) -> float:
    """Largest resident memory so far."""
    lines = Path(f"/proc/{process.pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 1024


# -- overhead ----------------------------------------------------------------------------------------------------------


def measure_overhead(arguments: argparse.Namespace, scratch: Path) -> None:
    """Two workers against two local processes, in turns."""
    videos, out = scratch / "videos", scratch / "out"
    copy_clips(arguments.videos, videos, arguments.copies)
    command = [FLOWPREP, "extract", "--dataset", "folder", "--videos", str(videos), "--out", str(out)]
    command += ["--backend", arguments.backend, "--size", arguments.size]
    local, dask, ratios, spins = [], [], [], []
    with cluster(scratch, 2, 1) as (file, _):
        for _ in range(arguments.repeats):
            spins.append(1000 * spin_seconds())
            local.append(seconds_between_commits([*command, "--jobs", "2"], out))
            dask.append(seconds_between_commits([*command, "--dask", str(file)], out))
            ratios.append(dask[-1] / local[-1] - 1)
    print_table(
        f"{arguments.copies} copies of the clips, {arguments.backend} at {arguments.size}, {arguments.repeats} turns",
        ("what", "median", "smallest", "largest"),
        [
            ("two local processes, s", *Spread.of(local)),
            ("two Dask workers, s", *Spread.of(dask)),
            ("Dask takes longer by, share", *Spread.of(ratios)),
            ("a loop of fixed length, ms", *Spread.of(spins)),
        ],
    )
    long_enough = statistics.median(local) >= 120
    if not long_enough:
        print("\nThe runs are shorter than two minutes: a trial, not a measurement.")
    print_result(
        "dask-overhead",
        figures={
            "local_seconds": Spread.of(local).to_json(),
            "dask_seconds": Spread.of(dask).to_json(),
            "overhead": Spread.of(ratios).to_json(),
        },
        target={"overhead": MAX_OVERHEAD, "seconds": 120},
        passed=long_enough and arguments.repeats >= 5 and statistics.median(ratios) <= MAX_OVERHEAD,
    )


def seconds_between_commits(command: Sequence[str], out: Path) -> float:
    """From the first commit of a run to the last, by its journal; the store is removed."""
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    (path,) = journals(out)
    times = [dt.datetime.fromisoformat(event["time"]) for event in read_journal(path) if event["event"] == "video"]
    shutil.rmtree(out)
    return (times[-1] - times[0]).total_seconds()


if __name__ == "__main__":
    main()

"""What a run costs beside its pipeline, and how it scales: `extract` with native TV-L1 on UCF101 clips.

The pipeline alone (decode, resize, flow, quantise, encode; nothing is written) works through the same videos in this
process. What `extract --jobs 1` takes longer is the supervised child, commits, checksums, packing and the manifest.
`--jobs 2` beside it shows how two processes scale, next to a loop of multiply-adds in two processes.

    python benchmarks/bench_run.py [--videos DIR] [--scratch DIR] [--copies N] [--repeats N]
"""

from __future__ import annotations

import argparse
import json
import resource
import shutil
import statistics
import subprocess
import tempfile
import time
from pathlib import Path

from bench_extract import FLOWPREP, copy_clips
from common import CLIPS, Spread, print_result, print_table, spin_seconds
from tvl1_scaling import Fma, rate_of_processes

from flowprep.config import ExtractSettings, FlowSettings
from flowprep.datasets import list_videos
from flowprep.decode import VideoReader
from flowprep.flowstage import LocalFlow
from flowprep.pipeline import extract_frames, open_backend
from flowprep.request import resolved

MAX_OVERHEAD = 0.05
MIN_SCALING = 0.9
NUM_PROCESSES = 2


def main() -> None:
    arguments = parse_arguments()
    seconds: dict[str, list[float]] = {"pipeline": [], "jobs 1": [], "jobs 1, command": [], f"jobs {NUM_PROCESSES}": []}
    processor: dict[str, list[float]] = {"pipeline": [], "jobs 1, command": [], "the same with nothing left to do": []}
    overheads, processor_overheads, scalings, bare_scalings, spins = [], [], [], [], []
    with tempfile.TemporaryDirectory(prefix="flowprep-bench-", dir=arguments.scratch) as scratch:
        videos, out = Path(scratch, "videos"), Path(scratch, "out")
        copy_clips(arguments.videos, videos, arguments.copies)
        for _ in range(arguments.repeats):
            spins.append(1000 * spin_seconds())
            pipeline, pipeline_cpu = pipeline_seconds(videos)
            alone, command, command_cpu = run_seconds(videos, out, 1)
            _, _, again_cpu = run_seconds(videos, out, 1)
            shutil.rmtree(out)
            together, _, _ = run_seconds(videos, out, NUM_PROCESSES)
            shutil.rmtree(out)
            for taken, value in zip(seconds.values(), (pipeline, alone, command, together), strict=True):
                taken.append(value)
            for taken, value in zip(processor.values(), (pipeline_cpu, command_cpu, again_cpu), strict=True):
                taken.append(value)
            overheads.append(alone / pipeline - 1)
            processor_overheads.append(command_cpu / pipeline_cpu - 1)
            scalings.append(alone / together)
            bare_scalings.append(rate_of_processes(Fma(), NUM_PROCESSES) / rate_of_processes(Fma(), 1))
    shares = [ours / bare for ours, bare in zip(scalings, bare_scalings, strict=True)]
    print_table(
        f"Seconds for {arguments.copies} copies of each clip, {arguments.repeats} repeats",
        ("what", "median", "min", "max"),
        [(name, *Spread.of(taken)) for name, taken in seconds.items()],
    )
    print_table(
        "Processor seconds, all processes together: what is left to compare where others use the machine",
        ("what", "median", "min", "max"),
        [(name, *Spread.of(taken)) for name, taken in processor.items()],
    )
    print_table(
        "Of it",
        ("what", "median", "min", "max"),
        [
            ("share that jobs 1 takes longer than the pipeline", *Spread.of(overheads)),
            ("the same by processor time, with the start of Python", *Spread.of(processor_overheads)),
            (f"jobs {NUM_PROCESSES}: times as fast as jobs 1", *Spread.of(scalings)),
            (f"multiply-adds in {NUM_PROCESSES} processes: times as many", *Spread.of(bare_scalings)),
            ("of these two, the first by the second", *Spread.of(shares)),
        ],
    )
    print(f"\nA fixed loop before each repeat: {', '.join(f'{spin:.0f}' for spin in spins)} ms")
    figures = {
        "seconds": {name: Spread.of(taken).to_json() for name, taken in seconds.items()},
        "processor_seconds": {name: Spread.of(taken).to_json() for name, taken in processor.items()},
        "overhead": Spread.of(overheads).to_json(),
        "overhead_by_processor_time": Spread.of(processor_overheads).to_json(),
        "scaling": Spread.of(scalings).to_json(),
        "scaling_of_bare_loop": Spread.of(bare_scalings).to_json(),
    }
    passed = statistics.median(overheads) <= MAX_OVERHEAD and statistics.median(shares) >= MIN_SCALING
    target = {"overhead": MAX_OVERHEAD, "scaling_by_bare_loop": MIN_SCALING}
    print_result("run", figures=figures, target=target, passed=passed)


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--videos", type=Path, default=CLIPS, help="folder of class folders of clips")
    parser.add_argument("--scratch", type=Path, help="folder on the disk to write to; default: the system's")
    parser.add_argument("--copies", type=int, default=8, help="of each clip, so that the work comes out even")
    parser.add_argument("--repeats", type=int, default=3)
    return parser.parse_args()


def pipeline_seconds(folder: Path) -> tuple[float, float]:
    """Wall and processor time of the pipeline in this process, whose results go nowhere; no compiling, no listing."""
    settings = resolved(ExtractSettings(flow=FlowSettings(backend="native")))
    backend = open_backend(settings)
    assert backend is not None, "the settings store flow"
    listing = list_videos("folder", folder)
    with backend:
        backend.warm_up()
        start, cpu_start = time.perf_counter(), time.process_time()
        for video in listing.videos:
            with VideoReader(folder / video.path, settings.decode, video.segment) as reader:
                extract_frames(
                    video,
                    reader,
                    settings,
                    LocalFlow(backend, settings),
                    lambda _stream, _jpeg: None,
                    lambda _num_frames: None,
                )
        return time.perf_counter() - start, time.process_time() - cpu_start


def run_seconds(videos: Path, out: Path, jobs: int) -> tuple[float, float, float]:
    """What `extract` says that it took; wall time, and processor time with its children's, of the whole command."""
    command = [FLOWPREP, "extract", "--dataset", "folder", "--videos", str(videos), "--out", str(out)]
    start, cpu_start = time.perf_counter(), children_seconds()
    result = subprocess.run(
        [*command, "--backend", "native", "--jobs", str(jobs), "--json"], check=True, capture_output=True
    )
    seconds, cpu_seconds = time.perf_counter() - start, children_seconds() - cpu_start
    return float(json.loads(result.stdout)["seconds"]), seconds, cpu_seconds


def children_seconds() -> float:
    """Processor time of all processes that were started from here and have ended, and of theirs."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


if __name__ == "__main__":
    main()

"""`native-cuda` on an NVIDIA GPU: pairs a second with upload, quantisation and download, and where the time goes.

    python benchmarks/bench_cuda.py [--pairs DIR] [--batches 1,64,256] [--repeats N] [--quick | --no-sweep | --sweep]

At the end batches and other choices that are made by assumption are tried out (cuda_sweep.py); --sweep does that alone,
--no-sweep leaves it out, --quick does so too and measures the largest batch alone. DIR holds what make_pairs.py writes.
Without it the clips of ../shared/data are decoded, and where those or PyAV are not there, textures that move stand in,
which the output says: their iterations are not those of real videos.

The JSON object is printed whenever there is more in it, so that a run that is stopped has told what it knows; the last
one counts.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import time
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
from common import print_result, print_table
from cuda_floors import Floors, kernel_milliseconds
from cuda_sweep import sweep

from flowprep.config import QuantiseSettings
from flowprep.flow import backends, create_backend
from flowprep.flow.backend import FlowBackend
from flowprep.flow.tvl1.cuda import NativeCUDABackend

Frames = npt.NDArray[np.uint8]
TARGETS = {"pairs_per_s": 1000, "pairs_per_s_1080p": 40, "pairs_per_s_alone": 60, "times_opencv_cuda": 20}


def main() -> None:
    arguments = parse_arguments()
    runs, large, source = load(arguments.pairs)
    batches = [int(number) for number in arguments.batches.split(",")]
    figures: dict[str, Any] = {"frames": source, "gpu": gpus()}
    if arguments.sweep:
        figures["sweep"] = measure_choices(runs, batches, arguments.repeats)
        print_result("cuda_sweep", figures=figures, target={}, passed=True)
        return
    if arguments.quick:
        batches = [max(batches)]
    with create_backend("native-cuda") as backend:
        assert isinstance(backend, NativeCUDABackend)
        start = time.perf_counter()
        backend.warm_up()
        figures["compiling_and_self_test_s"] = round(time.perf_counter() - start, 2)
        figures |= measure_batches(backend, runs, batches, arguments.repeats)
        tell(figures)
        alone = np.stack([cv2.resize(frame, (320, 240), interpolation=cv2.INTER_AREA) for frame in runs[0]])
        figures["pairs_per_s_alone"] = round(one_by_one(backend, alone, arguments.repeats), 1)
        figures["pairs_per_s_1080p"] = round(rate(backend, large, 3 * (len(large[0]) - 1), arguments.repeats), 1)
        print_table(
            "Single pairs, 320x240 one by one; 1920x1080 in a batch",
            ("what", "pairs/s", "target"),
            [
                ("320x240 alone", figures["pairs_per_s_alone"], TARGETS["pairs_per_s_alone"]),
                ("1920x1080", figures["pairs_per_s_1080p"], TARGETS["pairs_per_s_1080p"]),
            ],
        )
        tell(figures)
        figures["kernels_ms"] = measure_kernels(backend, runs, max(batches))
    figures |= compare(runs, figures["pairs_per_s"])
    tell(figures)
    if not (arguments.quick or arguments.no_sweep):
        figures["sweep"] = measure_choices(runs, batches, arguments.repeats)
        tell(figures)


def tell(figures: dict[str, Any]) -> None:
    """The JSON object of what is known so far; passed where no figure is below its target."""
    passed = all(figures[name] >= target for name, target in TARGETS.items() if figures.get(name) is not None)
    print_result("cuda", figures=figures, target=TARGETS, passed=passed)


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=Path, help="folder that make_pairs.py wrote")
    parser.add_argument("--batches", default="1,32,64,128,256,512,1024")
    parser.add_argument("--repeats", type=int, default=3)
    parts = parser.add_mutually_exclusive_group()
    parts.add_argument("--quick", action="store_true", help="the largest batch alone, and no sweep")
    parts.add_argument("--no-sweep", action="store_true", help="no other choices than those that are made")
    parts.add_argument("--sweep", action="store_true", help="other choices alone")
    return parser.parse_args()


def load(folder: Path | None) -> tuple[Frames, Frames, str]:
    """Runs of frames, uint8 (runs, frames, 256, 340) and (1, frames, 1080, 1920), and where they are from."""
    if folder is not None:
        return np.load(folder / "340x256.npy"), np.load(folder / "1920x1080.npy"), "real, UCF101"
    try:
        from make_pairs import DATA, runs_of

        clips = sorted(path for path in (DATA / "videos" / "ucf101").glob("*/*") if path.is_file())
        runs = np.stack([run for clip in clips for run in runs_of(clip, 9)])
        source = "real, UCF101"
    except (ImportError, ValueError) as error:  # no PyAV, no clips
        print(f"no real frames ({error}): textures that move stand in; their iterations are not those of real videos")
        runs, source = moving_textures(), "synthetic"
    large = np.stack([cv2.resize(frame, (1920, 1080), interpolation=cv2.INTER_CUBIC) for frame in runs[0][:4]])
    return runs, large[None], source


def gpus() -> list[str]:
    """Name, memory and driver of each GPU."""
    command = ["nvidia-smi", "--query-gpu=name,memory.total,driver_version", "--format=csv,noheader"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
    except (OSError, subprocess.CalledProcessError):
        return []


def moving_textures(num_runs: int = 8, num_frames: int = 9) -> Frames:
    """Smoothed noise that moves by one to three pixels a frame."""
    runs = []
    for seed in range(num_runs):
        step = 1 + seed % 3
        noise = np.random.default_rng(seed).normal(size=(256 + step * num_frames, 340 + step * num_frames))
        smooth = cv2.GaussianBlur(noise, (0, 0), 2 + seed % 4)
        image = np.clip(128 + 50 * smooth / smooth.std(), 0, 255).astype(np.uint8)
        runs.append([image[step * k : step * k + 256, step * k : step * k + 340] for k in range(num_frames)])
    return np.array(runs)


def rate(backend: NativeCUDABackend, runs: Frames, num_pairs: int, repeats: int) -> float:
    """Pairs a second from frames in memory to codes in memory; all frames go up together, as in a run, each once."""
    length = runs.shape[1]
    frames = np.concatenate([runs[number % len(runs)] for number in range(-(-num_pairs // (length - 1)))])
    seconds = []
    for _ in range(repeats + 1):
        start = time.perf_counter()
        prepared = backend.prepare(frames)
        places = [place for place in range(len(frames)) if (place + 1) % length]
        sources, targets = [prepared[place] for place in places], [prepared[place + 1] for place in places]
        backend.compute_quantised(sources[:num_pairs], targets[:num_pairs], QuantiseSettings())
        seconds.append(time.perf_counter() - start)
    return num_pairs / statistics.median(seconds[1:])  # the first one allocates


def one_by_one(backend: FlowBackend, frames: Frames, repeats: int) -> float:
    """Pairs a second where each is asked for alone, as float32."""
    seconds = []
    for _ in range(repeats + 1):
        for k in range(len(frames) - 1):
            start = time.perf_counter()
            source, target = backend.prepare(frames[k : k + 2])
            backend.compute([source], [target])
            seconds.append(time.perf_counter() - start)
    return 1 / statistics.median(seconds[len(frames) - 1 :])


def measure_batches(backend: NativeCUDABackend, runs: Frames, batches: list[int], repeats: int) -> dict[str, Any]:
    floors = Floors.of(backend, runs)
    rows, found = [], {}
    for num_pairs in batches:
        found[num_pairs] = rate(backend, runs, num_pairs, repeats)
        microseconds = 1e6 / found[num_pairs]
        rows.append((num_pairs, round(found[num_pairs], 1), round(microseconds, 1), microseconds / floors.largest_us))
    print_table(
        f"340x256, defaults, upload + flow + quantise + download; floors on one GPU: {floors}",
        ("batch", "pairs/s", "us a pair", "times the larger floor"),
        rows,
    )
    return {
        "pairs_per_s": round(max(found.values()), 1),
        "pairs_per_s_by_batch": {str(key): round(value, 1) for key, value in found.items()},
        "floors_us": floors.to_json(),
        "times_the_floor": round(1e6 / max(found.values()) / floors.largest_us, 2),
    }


def measure_choices(runs: Frames, batches: list[int], repeats: int) -> dict[str, Any]:
    found = sweep(lambda backend, num_pairs: rate(backend, runs, num_pairs, repeats), batches, 1)
    rows = [(name, value, figure) for name, rates in found["pairs_per_s"].items() for value, figure in rates.items()]
    print_table("Other choices, one at a time", ("choice", "value", "pairs/s"), rows)
    print(f"best: {found['best']}")
    return found


def measure_kernels(backend: NativeCUDABackend, runs: Frames, num_pairs: int) -> dict[str, float]:
    """Milliseconds of a batch by kernel and level; events between launches make the whole slower."""
    found = kernel_milliseconds(backend, runs, num_pairs)
    total = sum(milliseconds for milliseconds, _ in found.values())
    rows = [
        (name, num, round(milliseconds, 3), f"{100 * milliseconds / total:.1f} %")
        for name, (milliseconds, num) in found.items()
    ]
    print_table(f"A batch of {num_pairs} pairs by step and level", ("step", "times", "ms", "share"), rows)
    return {name: round(milliseconds, 3) for name, (milliseconds, _) in found.items()}


def compare(runs: Frames, ours: float) -> dict[str, Any]:
    """OpenCV's CUDA TV-L1 on the same pairs, where this cv2 has it: speed, and how far apart the flows are."""
    status = next(status for status in backends() if status.name == "opencv-cuda")
    if not status.available:
        print(f"\nopencv-cuda: {status.reason}")
        return {"opencv_cuda": status.reason, "times_opencv_cuda": None}
    with create_backend("opencv-cuda") as theirs, create_backend("native-cuda") as backend:
        flows, seconds = [], []
        for run in runs[:4]:
            for running in (theirs, backend):
                start = time.perf_counter()
                prepared = running.prepare(run)
                flows.append(running.compute(prepared[:-1], prepared[1:]))
                if running is theirs:
                    seconds.append((time.perf_counter() - start) / (len(run) - 1))
    differences = [np.linalg.norm(a - b, axis=-1) for a, b in zip(flows[::2], flows[1::2], strict=True)]
    opencv_rate = 1 / statistics.median(seconds[1:])
    figures = {
        "opencv_cuda_pairs_per_s": round(opencv_rate, 1),
        "times_opencv_cuda": round(ours / opencv_rate, 1),
        "opencv_cuda_median_px": float(np.median(differences)),
        "opencv_cuda_mean_px": float(np.mean(differences)),
        "opencv_cuda_q99_px": float(np.quantile(differences, 0.99)),
    }
    print_table("Against opencv-cuda", ("figure", "value"), [(name, f"{value:.6g}") for name, value in figures.items()])
    return figures


if __name__ == "__main__":
    main()

"""The `native` TV-L1 on real pairs of UCF101 and HMDB51 clips, one OpenCV thread: what it costs and what it computes.

    python benchmarks/bench_tvl1.py PART [PART ..] [--quick] [--data DIR] [--repeats N] [--processor-time]

speed      a pair against OpenCV's CPU object, both variants
accuracy   variant cpu against OpenCV and ground truth, variant cuda against the reference; oracles against themselves
steps      an iteration, a warp and a median filter of OpenCV and of ours
stages     where the time goes, and the machine's limits
scaling    threads and processes against a bare loop of arithmetic
extract    whole runs against kernels alone
all        all of these
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
from common import DATA, cores, print_result
from tvl1_accuracy import TARGET, measure_accuracy, measure_reference
from tvl1_chaos import BARS
from tvl1_differences import measure_differences
from tvl1_pairs import real_pairs, true_pairs
from tvl1_scaling import TARGET_EXTRACT, TARGET_SCALING, measure_extract, measure_scaling
from tvl1_speed import TARGET_RATIO, measure_speed
from tvl1_stages import measure_stages

PARTS = ("speed", "accuracy", "steps", "stages", "scaling", "extract")


def main() -> None:
    arguments = parse_arguments()
    data, quick, repeats = arguments.data, arguments.quick, arguments.repeats
    cv2.setNumThreads(1)
    num_workers = min(2, len(cores()))
    measures: dict[str, Callable[[], dict[str, Any]]] = {
        "speed": lambda: measure_speed(
            real_pairs(data, 1 if quick else 2), repeats, processor_time=arguments.processor_time
        ),
        "accuracy": lambda: accuracy(data, quick=quick),
        "steps": lambda: measure_differences(real_pairs(data, 1)[: 3 if quick else 6], repeats),
        "stages": lambda: measure_stages(real_pairs(data, 1), repeats),
        "scaling": lambda: measure_scaling(
            [pair for pair in real_pairs(data, 1) if pair.dataset == "ucf101"], repeats, num_workers
        ),
        "extract": lambda: measure_extract(data / "videos" / "ucf101", repeats, num_workers, 1 if quick else 4),
    }
    wanted = PARTS if "all" in arguments.parts else arguments.parts
    figures = {part: measures[part]() for part in wanted}
    print_result(
        "tvl1",
        figures=figures,
        target={
            "ratio": TARGET_RATIO,
            "accuracy": {**TARGET, **BARS},
            "scaling": TARGET_SCALING,
            "extract": TARGET_EXTRACT,
        },
        passed=all(found["passed"] for found in figures.values()),
    )


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="+", choices=(*PARTS, "all"), metavar="PART")
    parser.add_argument("--quick", action="store_true", help="fewer pairs and copies")
    parser.add_argument("--data", type=Path, default=DATA, help="folder with videos/ucf101, videos/hmdb51 and flow")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--processor-time", action="store_true", help="speed: processor time instead of wall time")
    return parser.parse_args()


def accuracy(data: Path, *, quick: bool) -> dict[str, Any]:
    against_opencv = measure_accuracy(real_pairs(data, 1 if quick else 5), true_pairs(data))
    against_reference = measure_reference(real_pairs(data, 1)[: 3 if quick else None])
    return {
        "opencv": against_opencv,
        "reference": against_reference,
        "passed": against_opencv["passed"] and against_reference["passed"],
    }


if __name__ == "__main__":
    main()

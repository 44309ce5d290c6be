"""Runs of real frames as .npy files, for machines without PyAV or clips: what `bench_cuda.py --pairs DIR` reads.

    python benchmarks/make_pairs.py OUT [--data DIR] [--frames N]

OUT/340x256.npy    uint8 (runs, frames, 256, 340): neighbouring frames of UCF101 clips, grey, short side 256
OUT/1920x1080.npy  uint8 (1, frames, 1080, 1920): the first of them scaled up, which has the motion of a large video
"""

from __future__ import annotations

import argparse
import itertools
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
from common import DATA

from flowprep.config import DecodeSettings, ResizeSettings
from flowprep.decode import VideoReader
from flowprep.resize import grey, resize, target_size

SCALED = 4  # frames of the large run
STARTS = (5, 30, 60, 90)
Frames = npt.NDArray[np.uint8]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--data", type=Path, default=DATA, help="folder with videos/ucf101")
    parser.add_argument("--frames", type=int, default=9, help="frames of a run")
    arguments = parser.parse_args()
    clips = sorted(path for path in (arguments.data / "videos" / "ucf101").glob("*/*") if path.is_file())
    runs = [run for clip in clips for run in runs_of(clip, arguments.frames)]
    if not runs:
        raise SystemExit(f"{arguments.data} has no clips of 320x240 in videos/ucf101; name the folder with --data")
    arguments.out.mkdir(parents=True, exist_ok=True)
    np.save(arguments.out / "340x256.npy", np.stack(runs))
    large = [cv2.resize(frame, (1920, 1080), interpolation=cv2.INTER_CUBIC) for frame in runs[0][:SCALED]]
    np.save(arguments.out / "1920x1080.npy", np.stack(large)[None])
    print(f"{len(runs)} runs of {arguments.frames} frames in {arguments.out}")


def runs_of(clip: Path, num_frames: int) -> list[Frames]:
    """Neighbouring frames from each of STARTS on, uint8 (num_frames, 256, 340); none where the shape is another."""
    with VideoReader(clip, DecodeSettings()) as reader:
        found = list(itertools.islice(reader.frames(), STARTS[-1] + num_frames))
    size = target_size(found[0].shape[1], found[0].shape[0], ResizeSettings())
    if size != (340, 256):
        return []
    frames = [grey(resize(frame, size)) for frame in found]
    return [np.stack(frames[start : start + num_frames]) for start in STARTS if start + num_frames <= len(frames)]


if __name__ == "__main__":
    main()

"""The data that the commands of the documentation work on, small: UCF101, HMDB51, and what else they name."""

from __future__ import annotations

import shutil
from pathlib import Path

import cv2
import numpy as np
from helpers.fake_slurm import install_slurm
from helpers.foreign import denseflow
from helpers.media import moving_frames, write_video

NUM_FRAMES = 15
WIDTH, HEIGHT = 160, 120
CLASSES = ("Basketball", "Biking")
GROUPS = {"train": (8, 9, 10, 11), "test": (1,)}  # as many as a step of `debug` takes
ACTIONS = ("dive", "wave")
_SRUN = """#!/bin/sh
while :; do
    case "$1" in
        -c) shift 2 ;;
        --*) shift ;;
        *) break ;;
    esac
done
exec "$@"
"""


def make_documented_data(folder: Path) -> Path:
    """Both data sets in their official forms, others without lists, a tree of denseflow, two frames, a small SLURM."""
    _ucf101(folder / "data" / "ucf101")
    _hmdb51(folder / "data" / "hmdb51")
    shutil.copytree(folder / "data" / "hmdb51" / "videos", folder / "mydata")
    for number, name in enumerate(("run", "jump")):
        _video(folder / "clips" / name / f"{name}.mp4", seed=number)
        denseflow(folder / "old", f"{name}/{name}_1", NUM_FRAMES)
    for name, frame in zip("ab", moving_frames(2, WIDTH, HEIGHT), strict=True):
        cv2.imwrite(str(folder / f"{name}.png"), np.ascontiguousarray(frame[..., ::-1]))
    commands, _ = install_slurm(folder, num_nodes=1)
    srun = commands / "srun"  # SLURM's, in so far as it runs what follows its options
    srun.write_text(_SRUN)
    srun.chmod(0o755)
    (folder / "cluster.toml").write_text('[job]\ncores = 2\nmemory = "2GB"\ninterface = "lo"\n')
    return folder


def _video(path: Path, seed: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_video(path, moving_frames(NUM_FRAMES, WIDTH, HEIGHT, seed))


def _ucf101(root: Path) -> None:
    lists: dict[str, list[str]] = {"train": [], "test": []}
    for label, name in enumerate(CLASSES, start=1):
        for part, groups in GROUPS.items():
            for group in groups:
                file = f"{name}/v_{name}_g{group:02d}_c01.avi"
                _video(root / "videos" / file, seed=10 * label + group)
                lists[part].append(f"{file} {label}" if part == "train" else file)
    splits = root / "splits"
    splits.mkdir()
    (splits / "classInd.txt").write_text("".join(f"{k} {name}\n" for k, name in enumerate(CLASSES, start=1)))
    for number in (1, 2, 3):
        for part, files in lists.items():
            (splits / f"{part}list{number:02d}.txt").write_text("\n".join(files) + "\n")


def _hmdb51(root: Path) -> None:
    for label, action in enumerate(ACTIONS):
        files = [f"Film{film}_{action}_f_nm_np1_fr_med_{film}.avi" for film in range(6)]
        for number, file in enumerate(files):
            _video(root / "videos" / action / file, seed=100 * label + number)
        text = "".join(f"{file} {1 if number < 4 else 2} \n" for number, file in enumerate(files))
        (root / "splits").mkdir(exist_ok=True)
        for split in (1, 2, 3):
            (root / "splits" / f"{action}_test_split{split}.txt").write_text(text)

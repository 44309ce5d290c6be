"""What `make demo` runs: synthetic videos, their flow as HDF5 shards, one picture, the proof in small, a whole run."""

from __future__ import annotations

import importlib.util
import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np

import flowprep
from flowprep.colour import flow_to_rgb

FOLDER = Path("demo")
PICTURE = FOLDER / "classes.png"
VERTICAL_FIRST, VERTICAL_LAST = 16, 36  # middle flows of the two phases
SCALE = 2


def run(*arguments: str, command: str = "flowprep") -> None:
    """Show a command of flowprep or `fusion-train` and run it."""
    print(f"\n$ {command} {shlex.join(arguments)}", flush=True)
    # Networks as small as these are slower on two threads than on one.
    environment = {**os.environ, "OMP_NUM_THREADS": "1"} if command == "fusion-train" else None
    subprocess.run([str(Path(sys.executable).with_name(command)), *arguments], check=True, env=environment)


def draw(store_path: Path) -> None:
    """One video of each class: a frame, and the flow in its first and in its second phase."""
    with flowprep.open_store(store_path) as store:
        rows = []
        seen: dict[str, str] = {}
        for video_id in store.ids:
            seen.setdefault(store.clip(video_id).class_name, video_id)
        for class_name, video_id in sorted(seen.items()):
            tiles = [store.image(video_id, "rgb", VERTICAL_FIRST)]
            tiles += [
                flow_to_rgb(store.flow_px(video_id, index), max_px=3.0) for index in (VERTICAL_FIRST, VERTICAL_LAST)
            ]
            strip = cv2.resize(np.hstack(tiles), None, fx=SCALE, fy=SCALE, interpolation=cv2.INTER_NEAREST)
            label = np.full((22, strip.shape[1], 3), 255, np.uint8)
            cv2.putText(label, class_name, (4, 16), cv2.FONT_HERSHEY_SIMPLEX, 0.5, (0, 0, 0), 1, cv2.LINE_AA)
            rows += [label, strip]
        cv2.imwrite(str(PICTURE), cv2.cvtColor(np.vstack(rows), cv2.COLOR_RGB2BGR))


def main() -> None:
    """Make everything anew in ./demo."""
    shutil.rmtree(FOLDER, ignore_errors=True)
    synth, store = FOLDER / "ucf101", FOLDER / "ucf101" / "flow"
    run("synth", str(synth), "--num-train", "240", "--num-test", "120", "--phase-steps", "8")
    run("extract", "--dataset", "ucf101", "--root", str(FOLDER), "--keep-size")
    run("info", str(store))
    draw(store)
    print(
        f"\n{PICTURE}: each class, with a frame, the flow of the first phase and that of the second. In one phase a\n"
        "bright and a dark texture drift up and down, in the other sideways; colour is direction. Which texture goes\n"
        "up (binding), and which phase comes first (order), make the four classes."
    )
    if importlib.util.find_spec("torch") is None:
        print("\nPyTorch is not installed, so no network is trained: pip install '.[train]'")
        return
    train(store)
    train_as_a_user()


def train_as_a_user() -> None:
    """Both streams and the fused network by one command, on 24 videos, with a table at its end."""
    root = FOLDER / "small"
    run("synth", str(root / "ucf101"), "--num-train", "16", "--num-test", "8", "--phase-steps", "8")
    run("extract", "--dataset", "ucf101", "--root", str(root), "--keep-size")
    run("run", "--root", str(root), "--preset", "debug", "--out", str(FOLDER / "run"), command="fusion-train")
    print(
        "\nA whole run by one command, on 24 videos: each of the 8 of the test is 12.5 %. No stream alone can tell\n"
        "the classes, nor can the temporal tower of the fused network, which sees what its stream does; the\n"
        "spatiotemporal tower can."
    )


def train(store: Path) -> None:
    """What `make proof` does, with one seed, fewer videos and three rows."""
    import torch

    from fusion_train.proof.networks import run_seeds
    from fusion_train.proof.rows import DEMO_ROWS
    from fusion_train.proof.settings import ProofSettings
    from fusion_train.proof.table import Proof
    from fusion_train.runtime import started

    pretext = FOLDER / "pretext"
    run("synth", str(pretext / "ucf101"), "--task", "pretext", "--num-train", "240", "--num-test", "8")
    run("extract", "--dataset", "ucf101", "--root", str(pretext), "--keep-size")
    torch.set_num_threads(1)  # networks as small as these are slower on two threads than on one
    # With so few videos an epoch is short: these are about as many steps as those of the proof.
    settings = ProofSettings(seeds=(0,), num_epochs=24, rates="18x2e-2,6x2e-3")
    print("\nNetworks: both streams on the pretext task, then from their convolutions")
    with (
        flowprep.open_store(pretext / "ucf101" / "flow") as before,
        flowprep.open_store(store) as fusion,
        started("cpu") as runtime,
    ):
        shares = run_seeds(before, fusion, FOLDER / "networks", settings, rows=DEMO_ROWS, runtime=runtime, say=print)
    print("\n" + Proof(rows=DEMO_ROWS, seeds=(0,), shares=shares, leaks=(), facts={}).markdown())
    print(
        "Percent of 120 test videos. Neither stream tells a bit, nor does their late fusion. Fused place by place\n"
        "they tell which texture goes up; fused in space and time they tell both. `make proof` has all controls."
    )


if __name__ == "__main__":
    main()

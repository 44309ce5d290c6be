"""What `make demo` runs: synthetic videos, their flow as HDF5 shards, one picture, and small networks trained on it."""

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
VERTICAL_FIRST, VERTICAL_LAST = 18, 42  # middle flows of the two phases
SCALE = 2


def run(*arguments: str, program: str = "flowprep") -> None:
    """Show a command and run it."""
    print(f"\n$ {program} {shlex.join(arguments)}", flush=True)
    # Networks as small as those of `debug` are slower on two threads than on one.
    environment = {**os.environ, "OMP_NUM_THREADS": "1"} if program == "fusion-train" else None
    subprocess.run([str(Path(sys.executable).with_name(program)), *arguments], check=True, env=environment)


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
    run("synth", str(synth), "--num-train", "16", "--num-test", "8")
    run("extract", "--dataset", "ucf101", "--root", str(FOLDER), "--keep-size")
    run("info", str(store))
    draw(store)
    print(
        f"\n{PICTURE}: each class, with a frame, the flow of the first phase and that of the second. In one phase a\n"
        "bright and a dark texture drift up and down, in the other sideways; colour is direction. Which texture goes\n"
        "up, and which phase comes first, make the four classes."
    )
    train(store)


def train(store: Path) -> None:
    """Both streams and the fused network, of a few thousand parameters each."""
    if importlib.util.find_spec("torch") is None:
        print("\nPyTorch is not installed, so no network is trained: pip install '.[train]'")
        return
    run("run", "--data", str(store), "--preset", "debug", "--out", str(FOLDER / "run"), program="fusion-train")
    print(
        "\nA single frame or flow stack does not tell these classes apart, and 25 % is chance. So neither the streams\n"
        "nor their late fusion can do better. The network that joins both in space and time can: most of the 8 test\n"
        "videos are right after 200 steps."
    )


if __name__ == "__main__":
    main()

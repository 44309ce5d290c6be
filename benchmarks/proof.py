"""`make proof`: from nothing to the table of docs/proof.md, by the commands and networks that users have.

Synthetic videos of both tasks, their TV-L1 flow as shards, pre-training of both streams, every configuration with
every seed, and leak tests. What is there already is not done again. Ends with 1 where a row misses its bar.
"""

from __future__ import annotations

import argparse
import json
import shlex
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch
from common import machine_facts

from flowprep import open_store
from fusion_train.proof.bars import draw
from fusion_train.proof.leaks import find_leaks
from fusion_train.proof.networks import run_seeds
from fusion_train.proof.rows import ROWS
from fusion_train.proof.settings import PRETEXT_RATES, ProofSettings
from fusion_train.proof.table import Proof
from fusion_train.runtime import started

PHASE_STEPS = 8
"""With pauses of 12 the phases are 20 steps apart, two taus; see docs/proof.md, "Why phases are two taus apart"."""
RECORD = Path(__file__).resolve().parents[1] / "docs" / "proof.md"
MARKS = "<!-- measured -->\n", "<!-- end of measured -->\n"


def main() -> int:
    options = _options()
    begun, commit = time.perf_counter(), _commit()
    torch.set_num_threads(options.threads)
    stores = {
        task: _store(options, task, num_train, num_test)
        for task, num_train, num_test in (
            ("pretext", options.num_train, 200),
            ("fusion", options.num_train, options.num_test),
        )
    }
    extracted = time.perf_counter()
    proof = ProofSettings(
        seeds=tuple(range(options.seeds)),
        backbone=options.backbone,
        size_px=options.size,
        held_out=options.held_out,
        own_pretext=options.own_pretext,
        rates=options.rates,
        pretext_rates=options.pretext_rates,
        num_epochs=options.epochs,
        videos_at_once=options.videos_at_once,
        num_threads=options.threads,
    )
    with (
        open_store(stores["pretext"]) as pretext,
        open_store(stores["fusion"]) as fusion,
        started(options.device) as runtime,
    ):
        leaks = [] if options.held_out else find_leaks(fusion, stores["fusion"].parent / "labels.jsonl")
        looked = time.perf_counter()
        shares = run_seeds(
            pretext, fusion, options.out / "networks", proof, rows=ROWS, runtime=runtime, say=_say(begun)
        )
    ended = time.perf_counter()
    found = Proof(
        rows=ROWS,
        seeds=proof.seeds,
        shares=shares,
        leaks=leaks,
        facts={
            "commit": commit,
            "torch": torch.__version__,
            **machine_facts(),
            "videos": {"train": options.num_train, "test": options.num_test, "size_px": options.size},
            "backbone": options.backbone,
            "threads": options.threads,
            "seconds": {
                "videos and flow": round(extracted - begun),
                "leak tests": round(looked - extracted),
                "networks": round(ended - looked),
            },
        },
    )
    (options.out / "proof.json").write_text(json.dumps(found.to_json(), indent=1) + "\n", "utf-8")
    draw(found, options.out / "proof.png")
    print(found.markdown())
    for miss in found.misses():
        print(f"missed: {miss}")
    if options.record:
        _record(found)
    return 1 if found.misses() else 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--out", type=Path, default=Path("proof"), help="folder of all that is made")
    parser.add_argument("--seeds", type=int, default=3, help="how many")
    parser.add_argument("--num-train", type=int, default=800, help="training videos of each task")
    parser.add_argument("--num-test", type=int, default=1000, help="test videos")
    parser.add_argument("--backbone", choices=["synthetic", "vggm"], default="synthetic")
    parser.add_argument("--size", type=int, default=96, help="side of the videos in pixels; vggm takes 224")
    parser.add_argument("--device", default="auto", help="auto, cpu or cuda")
    parser.add_argument("--threads", type=int, default=1, help="of PyTorch, and of decoding")
    parser.add_argument("--videos-at-once", type=int, default=32, help="in memory; a divisor of 32")
    parser.add_argument("--held-out", action="store_true", help="measure on held-out groups, to choose settings")
    parser.add_argument("--own-pretext", action="store_true", help="convolutions of its own for each seed")
    parser.add_argument("--epochs", type=int, help="of all configurations")
    parser.add_argument("--rates", help="of all configurations")
    parser.add_argument("--pretext-rates", default=PRETEXT_RATES, help="of both streams on the pretext task")
    parser.add_argument("--record", action="store_true", help="write table, JSON and picture into docs/")
    return parser.parse_args()


def _store(options: argparse.Namespace, task: str, num_train: int, num_test: int) -> Path:
    """Make a store of a task, or complete it."""
    root = options.out / task
    phases = ["--phase-steps", str(PHASE_STEPS)] if task == "fusion" else []
    sizes = ["--width", str(options.size), "--height", str(options.size)]
    counts = ["--num-train", str(num_train), "--num-test", str(num_test)]
    _run("synth", str(root / "ucf101"), "--task", task, *counts, *sizes, *phases)
    _run("extract", "--dataset", "ucf101", "--root", str(root), "--keep-size", "--backend", "native")
    return root / "ucf101" / "flow"


def _run(*arguments: str) -> None:
    print(f"$ flowprep {shlex.join(arguments)}", flush=True)
    subprocess.run([str(Path(sys.executable).with_name("flowprep")), *arguments], check=True)


def _say(begun: float) -> Callable[[str], None]:
    return lambda text: print(f"{time.perf_counter() - begun:7.0f} s  {text}", flush=True)


def _commit() -> str:
    done = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False)
    return done.stdout.strip() or "unknown"


def _record(found: Proof) -> None:
    """The table goes between the marks of docs/proof.md, JSON and picture beside it."""
    text = RECORD.read_text("utf-8")
    before, _, rest = text.partition(MARKS[0])
    _, _, after = rest.partition(MARKS[1])
    RECORD.write_text(f"{before}{MARKS[0]}\n{found.markdown()}\n{MARKS[1]}{after}", "utf-8")
    RECORD.with_suffix(".json").write_text(json.dumps(found.to_json(), indent=1) + "\n", "utf-8")
    draw(found, RECORD.with_suffix(".png"))


if __name__ == "__main__":
    sys.exit(main())

"""The folder of a run as `fusion-train run` leaves it, from made-up scores: any number of classes, in no time."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from fusion_train.late_fusion import fuse, sweep
from fusion_train.protocols import full_settings
from fusion_train.runrecord import RunRecord
from fusion_train.scores import ScoreTable
from fusion_train.train import lasting

SKILLS = {"spatial": 2.0, "temporal": 2.2, "fused spatiotemporal": 3.2, "fused temporal": 2.4}
"""What the true class has more, beside normal noise in all classes."""

MANIFEST = "ab" * 32


def write_run(
    folder: Path,
    classes: Sequence[str],
    *,
    preset: str = "debug",
    splits: Sequence[str] = ("1",),
    num_a_class: int = 4,
    validation: str = "groups",
    ids: Sequence[str] | None = None,
    data: Path = Path("/nowhere/flow"),
) -> Path:
    """A finished run; in split k of the list the videos are others."""
    RunRecord(preset=preset, splits=tuple(splits), data=data).write(folder)
    for number, split in enumerate(splits):
        _write_split(folder / f"split_{split}", classes, preset, split, number, num_a_class, validation, ids)
    return folder


def write_log(
    folder: Path, *, num_steps: int = 400, towers: Sequence[str] = ("spatial",), validation: bool = True
) -> None:
    """A log of training with two drops of the rate, and four epochs."""
    draws = np.random.default_rng(num_steps)
    rows: list[dict[str, Any]] = []
    for step in range(10, num_steps + 1, 10):
        share = step / num_steps
        losses = {f"loss_{tower}": 4 * math.exp(-3 * share) + 0.2 * draws.random() for tower in towers}
        epoch = math.ceil(4 * share)
        rows.append(
            {"step": step, "epoch": epoch, "rate": 1e-3 * 0.1 ** (epoch // 2), "loss": sum(losses.values()), **losses,
             "top1": min(1.0, share * 0.9 + 0.1 * draws.random()), "clips_per_second": 9.0, "wait_share": 0.1,
             "seconds": float(step)}
        )  # fmt: skip
        if validation and step % (num_steps // 4) == 0:
            held_out = {f"val_{name}": loss * 1.2 for name, loss in losses.items()}
            rows.append(
                {"step": step, "epoch": epoch, "val_top1": 0.7 * share, "val_mean_class": 0.7 * share,
                 "val_loss": sum(held_out.values()), **held_out, "val_on": "groups", "seconds": 1.0}
            )  # fmt: skip
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "log.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


def write_stage(folder: Path, preset: str, stage: str, *, towers: Sequence[str], validation: str = "groups") -> None:
    """A trained network: its log and `done.json`, but no weights."""
    write_log(folder, towers=towers, validation=validation != "none")
    settings = lasting(full_settings(preset, stage))
    settings["train"]["val"] = validation
    content = {
        "settings": settings,
        "manifest_sha256": MANIFEST,
        "starts_from": [],
        "network_sha256": sha256_of(stage),
        "versions": {"flowprep": "0.1.0", "torch": "2.14", "device": "cpu"},
    }
    (folder / "done.json").write_text(json.dumps(content))


def sha256_of(stage: str) -> str:
    """What stands for the checksum of a network."""
    return stage.encode().hex().ljust(64, "0")


def _write_split(
    folder: Path,
    classes: Sequence[str],
    preset: str,
    split: str,
    number: int,
    num_a_class: int,
    validation: str,
    ids: Sequence[str] | None,
) -> None:
    draws = np.random.default_rng(number)
    labels = np.repeat(np.arange(len(classes)), num_a_class).astype(np.int64)
    names = list(ids) if ids is not None else [f"v_{split}_{k:04d}" for k in range(len(labels))]

    def scored(name: str, part: str) -> ScoreTable:
        scores = draws.normal(size=(len(labels), len(classes)))
        scores[np.arange(len(labels)), labels] += SKILLS[name]
        # Neighbouring classes are alike.
        scores[np.arange(len(labels)), (labels + 1) % len(classes)] += 1.0
        return ScoreTable(
            name=name, part=f"{part} {split}", manifest_sha256=MANIFEST, ids=names, labels=labels,
            scores=scores.astype(np.float32), classes=classes,
            origin={"checkpoint_sha256": sha256_of(name.partition(" ")[0])},
        )  # fmt: skip

    for stage in ("spatial", "temporal", "fused"):
        towers = ("spatiotemporal", "temporal") if stage == "fused" else (stage,)
        write_stage(folder / stage, preset, stage, towers=towers, validation=validation)
    streams = [scored(stage, "test") for stage in ("spatial", "temporal")]
    towers_ = [scored(f"fused {tower}", "test") for tower in ("spatiotemporal", "temporal")]
    for table, path in zip([*streams, *towers_], ("spatial/test_spatial", "temporal/test_temporal",
                           "fused/test_spatiotemporal", "fused/test_temporal"), strict=True):  # fmt: skip
        table.save(folder / f"{path}.npz")
    weights = None
    if validation == "groups":
        held_out = [scored(f"fused {tower}", "validation") for tower in ("spatiotemporal", "temporal")]
        for table, tower in zip(held_out, ("spatiotemporal", "temporal"), strict=True):
            table.save(folder / "fused" / f"validation_{tower}.npz")
        weights = sweep(*held_out).weights
    fuse(streams).save(folder / "late_fusion.npz")
    fuse(towers_, weights).save(folder / "fused.npz")

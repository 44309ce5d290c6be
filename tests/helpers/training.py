"""A store that a small network learns in seconds, and settings for it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers import clip_store
from helpers.clip_store import Spec, shards, ucf_specs, ucf_splits, write_clip_store

from fusion_train.checkpoint import Checkpoint
from fusion_train.config import FusionSettings
from fusion_train.overrides import overridden
from fusion_train.protocols import full_settings
from fusion_train.runtime import Runtime

torch.set_num_threads(1)
"""The networks are so small that threads would wait for each other."""

RUNTIME = Runtime(device=torch.device("cpu"))
SMALL = (
    "data.crop_size=32", "data.tau_min=1", "data.tau_max=3", "data.test_tau=3", "data.num_test_clips=2",
    "train.batch_size=4", "train.videos_at_once=4", "train.num_threads=1", "evaluate.num_threads=1",
    "train.passes=1", "train.num_epochs=2", "train.log_every=1", "train.rates=2e-2", "train.weight_decay=0",
    "model.spatial_dropout=0", "model.temporal_dropout=0", "fused.data.num_chunks=3",
)  # fmt: skip


def small(stage: str, *sets: str) -> FusionSettings:
    """Settings of a network that takes milliseconds a clip; without dropout."""
    return overridden(full_settings("debug", stage), [*SMALL, *sets], stage=stage)


def write_store(out: Path, *, num_groups: int = 4, num_clips: int = 2, num_splits: int = 1) -> Path:
    """Videos of two classes that differ in brightness and in flow; groups from 3 on are for the test."""
    specs: list[Spec] = ucf_specs(num_groups, num_clips)

    def code(number: int, stream: str, index: int) -> int:
        middle, step = (128, 50) if stream == "rgb" else (128, 30)
        return middle + step * (2 * specs[number].label - 1) + (number + index) % 7

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(clip_store, "code", code)
        split = ucf_splits(specs, first_test_group=num_groups - 1)["1"]
        return write_clip_store(out, shards(), specs, {str(k + 1): split for k in range(num_splits)})


def weights(path: Path) -> Mapping[str, torch.Tensor]:
    """Of a checkpoint."""
    return Checkpoint.load(path).network


def close(first: Mapping[str, torch.Tensor], second: Mapping[str, torch.Tensor], atol: float = 1e-5) -> bool:
    """Whether two networks are the same but for rounding."""
    assert first.keys() == second.keys()
    return all(torch.allclose(first[name], second[name], rtol=1e-4, atol=atol) for name in first)


def equal(first: Mapping[str, torch.Tensor], second: Mapping[str, torch.Tensor]) -> bool:
    """Whether two networks are the same to the bit."""
    assert first.keys() == second.keys()
    return all(torch.equal(first[name], second[name]) for name in first)


class StoppedError(Exception):
    """What a test stops a training with."""


def stop_at(step: int) -> Any:
    """A report that raises when this step is logged."""

    def report(row: Mapping[str, Any]) -> None:
        if row["step"] >= step:
            raise StoppedError

    return report

"""Every network of every preset at its own size: two steps from random weights, and scores of whole frames.

`make nightly` runs this, `make test` does not: it takes tens of minutes on two cores, and 8 GB.
"""

from __future__ import annotations

import itertools
import json
import math
import resource
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.clip_store import shards, ucf_specs, ucf_splits, write_clip_store

from flowprep.stores import Store, open_store
from fusion_train.evaluate import evaluate
from fusion_train.overrides import STAGES, overridden
from fusion_train.presets import PRESETS
from fusion_train.protocols import full_settings
from fusion_train.runtime import Runtime
from fusion_train.train import num_parameters, train
from fusion_train.trainlog import read_log

pytestmark = pytest.mark.nightly

SMALL = (
    "model.spatial_weights=none", "model.temporal_weights=none", "train.val=none", "train.schedule=fixed",
    "train.batch_size=2", "train.videos_at_once=1", "train.num_epochs=1", "train.passes=1", "train.head_epochs=0",
    "train.rates=1e-4", "train.log_every=1", "data.num_test_clips=1", "data.test_flip=false",
)  # fmt: skip
"""Batches of two videos. All else is the preset's: layers, 224 pixels, T, L, crops, dropout, what is frozen."""


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """Four videos to train on, two for the test, of UCF101's size at a short side of 256."""
    specs = [type(spec)(spec.id, num_frames=90, size=(256, 340)) for spec in ucf_specs(num_groups=3, num_clips=1)]
    folder = tmp_path_factory.mktemp("nightly") / "store"
    return open_store(write_clip_store(folder, shards(), specs, ucf_splits(specs, first_test_group=3)))


@pytest.mark.parametrize(("preset", "stage"), list(itertools.product(PRESETS, STAGES)))
def test_two_steps_and_an_evaluation(store: Store, preset: str, stage: str, tmp_path: Path) -> None:
    runtime = Runtime(device=torch.device("cpu"))
    settings = overridden(full_settings(preset, stage), SMALL, stage=stage)
    path = train(store, settings, tmp_path, runtime=runtime)
    rows = list(read_log(tmp_path))
    assert [row["step"] for row in rows] == [1, 2]
    assert all(math.isfinite(row["loss"]) for row in rows)
    for table in evaluate(path, store, part="test", runtime=runtime).values():
        assert table.scores.shape == (2, 2)
        assert np.ptp(table.scores) > 0
    told = {
        "preset": preset,
        "stage": stage,
        "parameters": num_parameters(settings, 2),
        "losses": [round(row["loss"], 3) for row in rows],
        "seconds_of_second_step": round(rows[1]["seconds"] - rows[0]["seconds"], 1),
        "peak_gb_so_far": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6, 2),
    }
    print(f"\n{json.dumps(told)}")

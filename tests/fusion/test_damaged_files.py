"""Checkpoints, score tables and features whose bytes are not as they were written: read, or a sentence with a cure."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers.mutations import mutate
from helpers.training import RUNTIME, small, write_store

from flowprep.errors import StoreError
from flowprep.stores import open_store
from fusion_train.checkpoint import Checkpoint
from fusion_train.features import FeatureTable
from fusion_train.scores import ScoreTable
from fusion_train.train import LAST, train

_NUM_SEEDS = 160

CHECKPOINT = Checkpoint(
    settings=small("spatial"),
    manifest_sha256="0" * 64,
    classes=("Archery", "Biking"),
    network={"a": torch.arange(3.0)},
    training={"step": 3, "optimiser": {"state": {0: {"momentum_buffer": torch.ones(2)}}}},
)
SCORES = ScoreTable(
    name="spatial",
    part="test 1",
    manifest_sha256="0" * 64,
    ids=("a", "b"),
    labels=np.array([0, 1]),
    scores=np.zeros((2, 2), np.float32),
    classes=("Archery", "Biking"),
    origin={},
)
FEATURES = FeatureTable(layer="fc5", checkpoint_sha256="0" * 64, ids=("a",), features=np.zeros((1, 3), np.float32))


def sentence(load: Callable[[Path], Any], path: Path) -> str:
    """What is said of a file, nothing if it is read."""
    try:
        load(path)
    except StoreError as error:
        return str(error)
    return ""


def packed_otherwise(data: bytes) -> bytes:
    """An archive that says of its first entry that it is packed in a way that nobody knows."""
    place = data.index(b"PK\x01\x02") + 10
    return data[:place] + b"\x63" + data[place + 1 :]


@pytest.mark.parametrize("content", [CHECKPOINT, SCORES, FEATURES], ids=["checkpoint", "scores", "features"])
def test_damage_of_any_kind_is_a_sentence(content: Any, tmp_path: Path) -> None:
    """Zip archives, pickles and NumPy's headers raise what they like."""
    path = tmp_path / "file"
    content.save(path)
    whole = path.read_bytes()
    said = []
    for data in (packed_otherwise(whole), *(mutate(whole, whole, seed) for seed in range(_NUM_SEEDS))):
        path.write_bytes(data)
        said.append(sentence(type(content).load, path))
    found = [text for text in said if text]
    assert len(found) > _NUM_SEEDS // 2
    assert all(text.startswith(str(path)) and text.endswith(" again") for text in found)


def without_a_weight(content: Checkpoint) -> Checkpoint:
    return dataclasses.replace(content, network=dict(list(content.network.items())[1:]))


def without_a_step(content: Checkpoint) -> Checkpoint:
    training = dict(content.training or {})
    del training["step"]
    return dataclasses.replace(content, training=training)


@pytest.mark.parametrize("change", [without_a_weight, without_a_step])
def test_a_checkpoint_that_is_not_whole_is_not_gone_on_with(
    change: Callable[[Checkpoint], Checkpoint], tmp_path: Path
) -> None:
    store = open_store(write_store(tmp_path / "store", num_clips=1))
    settings = small("spatial", "train.num_epochs=1", "train.val=none")
    train(store, settings, tmp_path, runtime=RUNTIME)
    last = tmp_path / LAST
    change(Checkpoint.load(last)).save(last)
    with pytest.raises(StoreError, match=rf"{last} is damaged or no checkpoint \(.+\); delete it to train again"):
        train(store, settings, tmp_path, runtime=RUNTIME)

"""Evaluation: means over clips and flips before the softmax, whatever the batch; who is evaluated; what is written."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.training import RUNTIME, small, write_store

from flowprep.errors import SettingsError
from flowprep.stores import Store, open_store
from fusion_train.checkpoint import Checkpoint, data_fingerprint
from fusion_train.config import EvaluateSettings, TrainSettings
from fusion_train.data.augment import network_inputs
from fusion_train.data.dataset import ClipDataset
from fusion_train.data.loader import ClipLoader
from fusion_train.data.splits import num_seen, read_parts, seen_sentence
from fusion_train.evaluate import evaluate, network_of, score
from fusion_train.scores import ScoreTable
from fusion_train.train import train

SETTINGS = small("fused", "data.num_test_clips=3")


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return open_store(write_store(tmp_path_factory.mktemp("evaluation") / "store"))


@pytest.fixture(scope="module")
def trained(store: Store, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return train(store, SETTINGS, tmp_path_factory.mktemp("trained"), runtime=RUNTIME)


@pytest.fixture(scope="module")
def tables(store: Store, trained: Path) -> dict[str, ScoreTable]:
    return evaluate(trained, store, part="test", runtime=RUNTIME)


def test_scores_are_means_over_clips_and_flips_of_whole_frames(
    store: Store, trained: Path, tables: dict[str, ScoreTable]
) -> None:
    network = network_of(Checkpoint.load(trained), trained)
    dataset = ClipDataset(store, read_parts(store, "1").test, SETTINGS.data)
    for row, batch in enumerate(ClipLoader(dataset, batch_size=1, training=False)):
        rgb, flow = network_inputs(batch)
        assert rgb is not None
        assert flow is not None
        assert rgb.shape == (3 * 2, 3, 3, 48, 64)  # clips and their mirror images, T, RGB, the whole frame
        with torch.no_grad():
            clips = [network(rgb[k : k + 1], flow[k : k + 1]) for k in range(6)]
        for tower, table in tables.items():
            slow = np.mean([clip[tower][0].numpy() for clip in clips], axis=0)
            np.testing.assert_allclose(table.scores[row], slow, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("videos_at_once", "clips_at_once"), [(1, 1), (4, 64), (3, 5)])
def test_scores_do_not_depend_on_the_batch(
    store: Store, trained: Path, tables: dict[str, ScoreTable], videos_at_once: int, clips_at_once: int
) -> None:
    settings = EvaluateSettings(videos_at_once=videos_at_once, clips_at_once=clips_at_once, num_threads=1)
    for tower, table in evaluate(trained, store, part="test", runtime=RUNTIME, settings=settings).items():
        assert table.ids == tables[tower].ids
        np.testing.assert_allclose(table.scores, tables[tower].scores, rtol=1e-4, atol=1e-5)


def test_every_rank_has_its_own_videos_and_together_they_have_all(store: Store, trained: Path) -> None:
    network = network_of(Checkpoint.load(trained), trained)
    dataset = ClipDataset(store, read_parts(store, "1").test, SETTINGS.data)
    seen: list[str] = []
    for rank in range(3):
        loader = ClipLoader(dataset, batch_size=1, training=False, rank=rank, world_size=3)
        seen += [video for batch in loader for video in batch.ids]
    assert sorted(seen) == sorted(read_parts(store, "1").test)
    whole = score(network, dataset, SETTINGS.evaluate, RUNTIME)
    assert sorted(whole["temporal"]) == sorted(seen)


def test_a_table_says_where_it_comes_from(store: Store, trained: Path, tables: dict[str, ScoreTable]) -> None:
    assert sorted(tables) == ["spatiotemporal", "temporal"]
    table = tables["spatiotemporal"]
    assert (table.name, table.part, table.scores.dtype) == ("fused spatiotemporal", "test 1", np.float32)
    assert table.manifest_sha256 == data_fingerprint(store)
    assert table.origin["settings"] == SETTINGS.to_json()
    assert table.origin["skipped"] == []
    assert table.ids == read_parts(store, "1").test


def test_evaluation_leaves_a_network_as_it_was(store: Store, trained: Path) -> None:
    network = network_of(Checkpoint.load(trained), trained).train()
    score(network, ClipDataset(store, store.ids[:1], SETTINGS.data), SETTINGS.evaluate, RUNTIME)
    assert network.training
    assert all(parameter.grad is None for parameter in network.parameters())


def test_data_may_be_seen_otherwise_than_in_training(store: Store, trained: Path) -> None:
    data = dataclasses.replace(SETTINGS.data, num_test_clips=1, test_flip=False)
    table = evaluate(trained, store, part="test", runtime=RUNTIME, data=data)["temporal"]
    assert table.origin["data"]["num_test_clips"] == 1


def test_videos_that_the_network_was_trained_on_are_counted(store: Store, trained: Path, tmp_path: Path) -> None:
    """Test lists of the other splits have them."""
    shutil.copytree(store.path, tmp_path / "store")
    path = tmp_path / "store" / "splits.json"
    lists = json.loads(path.read_text())
    train_ids, test_ids = (lists["splits"]["1"][part] for part in ("train", "test"))
    lists["splits"]["2"] = {"train": test_ids[1:], "test": [*train_ids[:3], test_ids[0]]}
    path.write_text(json.dumps(lists))
    with open_store(tmp_path / "store") as both:
        found = [evaluate(trained, both, part="test", split=split, runtime=RUNTIME)["temporal"] for split in "12"]
        assert [(table.part, table.origin["num_seen_in_training"]) for table in found] == [("test 1", 0), ("test 2", 3)]
        assert num_seen(both, TrainSettings(split="3"), train_ids) == 0
        held_out = TrainSettings(val_share=0.4)
        assert num_seen(both, held_out, train_ids) == len(read_parts(both, "1", share=0.4).train) < len(train_ids)
    assert seen_sentence(3, 4, "test 2", "1").startswith("3 of these 4 videos (test 2) are in the training list of s")


def test_what_cannot_be_evaluated_is_said(store: Store, trained: Path, tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"`part` must be one of test, validation, got 'train'"):
        evaluate(trained, store, part="train", runtime=RUNTIME)
    with pytest.raises(SettingsError, match=r"trained on all videos of the training list, so none is left"):
        evaluate(trained, store, part="validation", runtime=RUNTIME)
    checkpoint = dataclasses.replace(Checkpoint.load(trained), classes=("Archery", "Rowing"))
    checkpoint.save(tmp_path / "other.pt")
    with pytest.raises(SettingsError, match=r"other.pt is of other classes than .*store"):
        evaluate(tmp_path / "other.pt", store, part="test", runtime=RUNTIME)

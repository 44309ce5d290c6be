"""Bilinear fusion from training to scores: the SVM at the end, the softmax layer, and what is left of either."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.training import RUNTIME, SMALL, equal, small, weights, write_store
from sklearn.svm import LinearSVC

from flowprep.errors import SettingsError
from flowprep.stores import Store, open_store
from fusion_train.bilinear import fit_classifier
from fusion_train.checkpoint import Checkpoint
from fusion_train.data.augment import network_inputs
from fusion_train.data.dataset import ClipDataset
from fusion_train.data.loader import ClipLoader
from fusion_train.data.splits import read_parts
from fusion_train.evaluate import evaluate, network_of
from fusion_train.forecast import forecast
from fusion_train.metrics import measure
from fusion_train.models import svm
from fusion_train.models.two_stream import FusedNetwork
from fusion_train.run import plan, run
from fusion_train.train import train
from fusion_train.trainlog import read_log

BILINEAR = ("model.fusion=bilinear", "model.temporal_fusion=pool2d", "train.num_val_clips=2", "train.svm_cost=10")
FROZEN = (*BILINEAR, "model.backprop_to=fusion", "model.keep_temporal=false")


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return open_store(write_store(tmp_path_factory.mktemp("bilinear") / "store"))


@pytest.fixture(scope="module")
def frozen(store: Store, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A network of which the SVM alone is trained."""
    return train(store, small("fused", *FROZEN), tmp_path_factory.mktemp("frozen"), runtime=RUNTIME)


def test_scores_are_those_of_a_machine_on_the_training_list(store: Store, frozen: Path) -> None:
    """Features clip by clip, and scikit-learn on them; the test videos by its decision function."""
    network = network_of(Checkpoint.load(frozen), frozen)
    assert isinstance(network, FusedNetwork)
    parts = read_parts(store, "1", validation="none")

    def features(ids: tuple[str, ...], *, num_clips: int, flip: bool) -> tuple[np.ndarray, list[int]]:
        data = dataclasses.replace(small("fused", *FROZEN).data, num_test_clips=num_clips, test_flip=flip)
        found, labels = [], []
        for batch in ClipLoader(ClipDataset(store, ids, data), batch_size=1, training=False, num_threads=1):
            with torch.no_grad():
                rgb, flow = network_inputs(batch)
                assert rgb is not None
                assert flow is not None
                clips = network.bilinear_features(rgb, flow).double().mean((0, 1))
            found.append(clips.numpy())
            labels.append(int(batch.labels[0]))
        return np.stack(found), labels

    rows, labels = features(parts.train, num_clips=2, flip=False)
    machine = LinearSVC(C=10, random_state=0, max_iter=10_000).fit(rows, labels)
    tested, _ = features(parts.test, num_clips=2, flip=True)
    table = evaluate(frozen, store, part="test", runtime=RUNTIME)["spatiotemporal"]
    assert table.ids == parts.test
    np.testing.assert_allclose(table.scores[:, 1], machine.decision_function(tested), rtol=0.02, atol=5e-3)
    assert measure(table).top1.value == 1


def test_nothing_but_the_machine_is_trained_where_all_else_is_frozen(store: Store, frozen: Path) -> None:
    settings = small("fused", *FROZEN)
    rows = list(read_log(frozen.parent))
    assert [set(row) for row in rows] == [{"step", "epoch", "svm_train_top1"}]
    assert rows[0]["svm_train_top1"] == 1
    again = train(store, settings, frozen.parent, runtime=RUNTIME)
    assert len(list(read_log(frozen.parent))) == 1
    assert equal(weights(again), weights(frozen))
    assert not list(frozen.parent.glob(".features*"))


@pytest.mark.parametrize("held_out", [False, True])
def test_streams_are_trained_first_where_they_may(store: Store, tmp_path: Path, held_out: bool) -> None:
    sets = ("train.val=groups", "train.val_share=0.4", "train.batch_size=2", "train.videos_at_once=2")
    settings = small("fused", *BILINEAR, *(sets if held_out else ()))
    path = train(store, settings, tmp_path, runtime=RUNTIME)
    rows = list(read_log(tmp_path))
    assert "loss_temporal" in rows[0]
    assert "svm_train_top1" in rows[-1]
    assert ("val_top1" in rows[-1]) == held_out
    assert set(evaluate(path, store, part="test", runtime=RUNTIME)) == {"spatiotemporal", "temporal"}


def test_the_softmax_layer_is_the_alternative(store: Store, tmp_path: Path) -> None:
    settings = small("fused", *FROZEN, "train.bilinear_classifier=softmax", "train.rates=1", "train.num_epochs=10")
    path = train(store, settings, tmp_path, runtime=RUNTIME)
    rows = list(read_log(tmp_path))
    assert rows[-1]["loss"] < 0.9 * rows[0]["loss"]
    assert all("svm_train_top1" not in row for row in rows)
    assert evaluate(path, store, part="test", runtime=RUNTIME)["spatiotemporal"].scores.shape == (8, 2)


def test_a_whole_run_has_a_bilinear_network(store: Store, tmp_path: Path) -> None:
    sets = [*SMALL, "train.num_epochs=1", *(f"fused.{text}" for text in FROZEN if not text.startswith("train"))]
    result = run(store, preset="debug", splits=["1"], out=tmp_path, sets=sets, runtime=RUNTIME, say=lambda *_: None)
    assert result.rows == ("spatial", "temporal", "late fusion", "fused")
    assert list(read_log(tmp_path / "split_1" / "fused"))[-1]["svm_train_top1"] > 0.5


def test_a_forecast_has_no_steps_where_the_machine_alone_is_trained(store: Store, tmp_path: Path) -> None:
    sets = [*SMALL, *(f"fused.{text}" for text in FROZEN)]
    (planned,) = plan("debug", ["1"], tmp_path, sets)
    found = forecast(store, planned, RUNTIME)
    assert [one.num_steps > 0 for one in found] == [True, True, False]
    assert all(one.seconds > 0 for one in found)


def test_a_list_that_is_too_long_for_the_machine_is_refused_before_anything_is_trained(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(svm, "_MAX_COORDINATES", 6 * 6)
    with pytest.raises(SettingsError, match=r"SVM of bilinear fusion on 8 videos of 1,024 features would take some"):
        train(store, small("fused", *BILINEAR), tmp_path, runtime=RUNTIME)
    assert not list(tmp_path.iterdir())
    train(store, small("fused", *BILINEAR, "train.bilinear_classifier=softmax"), tmp_path, runtime=RUNTIME)


def test_a_class_without_videos_is_named(store: Store, frozen: Path, tmp_path: Path) -> None:
    network = network_of(Checkpoint.load(frozen), frozen)
    assert isinstance(network, FusedNetwork)
    ids = tuple(video_id for video_id in store.ids if "Archery" in video_id)
    with pytest.raises(SettingsError, match=r"must have every class of 0 to 1, got \[0\]"):
        fit_classifier(network, store, ids, small("fused", *FROZEN), tmp_path, RUNTIME)
    assert not list(tmp_path.iterdir())


def test_a_network_of_which_nothing_trains_is_refused(store: Store, tmp_path: Path) -> None:
    sets = ("fused.model.at=prediction", "fused.model.fusion=sum", "fused.model.temporal_fusion=pool2d")
    settings = small("fused", *sets, "fused.model.backprop_to=fusion")
    with pytest.raises(SettingsError, match=r"nothing of this network would be trained: `model.fusion` sum has no w"):
        train(store, settings, tmp_path / "one", runtime=RUNTIME)
    stages: list[str] = []
    with pytest.raises(SettingsError, match=r"set `model.backprop_to` to prediction or input, or join .* `fusion-tr"):
        run(
            store, preset="debug", splits=["1"], out=tmp_path / "run", runtime=RUNTIME,
            sets=[*SMALL, *sets, "fused.model.backprop_to=fusion"], say=lambda stage, row: stages.append(stage),
        )  # fmt: skip
    assert stages == []
    assert not list(tmp_path.iterdir())
    train(store, small("fused", *sets, "fused.model.backprop_to=prediction"), tmp_path / "two", runtime=RUNTIME)

"""Training: it learns, parts of a batch and several processes make the same network, and what is frozen stays."""

from __future__ import annotations

import dataclasses
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers import two_ranks
from helpers.ranks import run_two_ranks
from helpers.training import RUNTIME, close, equal, small, weights, write_store

from flowprep.errors import SettingsError
from flowprep.stores import Store, open_store
from fusion_train.checkpoint import Checkpoint
from fusion_train.data.dataset import ClipDataset
from fusion_train.data.splits import read_parts
from fusion_train.evaluate import evaluate
from fusion_train.late_fusion import fuse
from fusion_train.metrics import cross_entropy, measure
from fusion_train.models import backbones
from fusion_train.models.build import build_network
from fusion_train.scores import ScoreTable
from fusion_train.step import TrainingDivergedError, num_right, sgd, tower_losses
from fusion_train.train import LAST, num_parameters, train
from fusion_train.training import Training
from fusion_train.trainlog import read_log


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return open_store(write_store(tmp_path_factory.mktemp("training") / "store"))


def losses(folder: Path) -> list[float]:
    return [row["loss"] for row in read_log(folder) if "loss" in row]


@pytest.mark.parametrize("stage", ["spatial", "temporal", "fused"])
def test_a_small_network_learns_a_small_store(store: Store, stage: str, tmp_path: Path) -> None:
    path = train(store, small(stage, "train.num_epochs=25"), tmp_path, runtime=RUNTIME)
    found = losses(tmp_path)
    assert np.mean(found[-3:]) < 0.2 * found[0]
    tables = list(evaluate(path, store, part="test", runtime=RUNTIME).values())
    assert measure(tables[0] if len(tables) == 1 else fuse(tables)).top1.value == 1


def test_gradients_of_parts_add_up_to_those_of_the_batch(store: Store, tmp_path: Path) -> None:
    whole = train(store, small("fused"), tmp_path / "whole", runtime=RUNTIME)
    parts = train(store, small("fused", "train.videos_at_once=1"), tmp_path / "parts", runtime=RUNTIME)
    assert close(weights(whole), weights(parts))
    assert losses(tmp_path / "whole") == pytest.approx(losses(tmp_path / "parts"), rel=1e-4)


@pytest.fixture(scope="module")
def by_two(store: Store, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What `helpers.two_ranks` leaves."""
    out = tmp_path_factory.mktemp("two")
    ends = run_two_ranks([sys.executable, two_ranks.__file__, str(store.path), str(out)], out)
    assert [code for code, _ in ends] == [0, 0], ends
    return out


def test_two_processes_make_the_network_of_one_and_evaluate_each_video_once(
    store: Store, by_two: Path, tmp_path: Path
) -> None:
    one = train(store, small("fused"), tmp_path / "one", runtime=RUNTIME)
    assert close(weights(one), weights(by_two / "network.pt"))
    svm = train(store, small("fused", *two_ranks.SVM_ALONE), tmp_path / "svm", runtime=RUNTIME)
    assert close(weights(svm), weights(by_two / "svm" / "network.pt"))
    for tower, table in evaluate(one, store, part="test", runtime=RUNTIME).items():
        for rank in range(2):
            seen = ScoreTable.load(by_two / f"{tower}_seen_by_{rank}.npz")
            assert seen.ids == table.ids == read_parts(store, "1").test
            np.testing.assert_allclose(seen.scores, table.scores, rtol=1e-3, atol=1e-4)


def test_two_processes_validate_the_network_that_they_save(
    store: Store, by_two: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each has seen other batches, and so other statistics; those of the checkpoint are everybody's."""
    monkeypatch.setitem(backbones._TABLES, "debug", two_ranks.NORMED)
    held_out = [row for row in read_log(by_two / "normed") if "val_loss" in row]
    assert len(held_out) == 2
    last = Checkpoint.load(by_two / "normed" / LAST)
    assert last.network["spatial.bn1.running_mean"].any()
    data = dataclasses.replace(last.settings.data, num_test_clips=2, test_flip=False)
    (table,) = evaluate(by_two / "normed" / LAST, store, part="validation", data=data, runtime=RUNTIME).values()
    assert len(table.ids) > 1
    assert cross_entropy(table) == pytest.approx(held_out[-1]["val_loss"], rel=1e-5)
    resumed = by_two / "normed_resumed"
    assert equal(last.network, weights(resumed / LAST))
    assert [row["val_loss"] for row in read_log(resumed) if "val_loss" in row] == [row["val_loss"] for row in held_out]


def test_a_loss_that_is_not_finite_names_its_videos_and_steps_no_further(store: Store) -> None:
    settings = small("spatial", "train.videos_at_once=2")
    dataset = ClipDataset(store, read_parts(store, "1").train, settings.data, streams=("rgb",))
    training = Training(build_network(settings.model, num_classes=2), dataset, settings, RUNTIME)
    steps = iter(training.batches())
    training.take_step(next(steps))
    with torch.no_grad():
        training.network.streams["spatial"].classifier.weight[0, 0] = torch.inf
    with pytest.raises(
        TrainingDivergedError, match=r"loss of spatial is not finite at step 2, .* v_\w+_g0\d_c0\d, v_\w+"
    ):
        training.take_step(next(steps))
    assert training.step == 1


@pytest.mark.parametrize("bad", [torch.inf, torch.nan])
def test_a_gradient_that_is_not_finite_never_reaches_the_weights(store: Store, bad: float) -> None:
    """The loss is finite: only the way back overflows."""
    settings = small("temporal", "train.videos_at_once=2")
    dataset = ClipDataset(store, read_parts(store, "1").train, settings.data, streams=("flow",))
    training = Training(build_network(settings.model, num_classes=2), dataset, settings, RUNTIME)
    steps = iter(training.batches())
    training.take_step(next(steps))
    before = {name: tensor.clone() for name, tensor in training.network.state_dict().items()}
    momentum = [state["momentum_buffer"].clone() for state in training.optimiser.state.values()]
    stream = training.network.streams["temporal"]
    hooks = [stream.conv2.bias.register_hook(lambda grad: grad.index_fill(0, torch.tensor([1]), bad)),
             stream.fc4.bias.register_hook(lambda grad: grad * bad)]  # fmt: skip
    message = (
        r"gradient of temporal\.conv2\.bias is not finite at step 2, and 1 more, though the loss is; lower `train.r"
    )
    with pytest.raises(TrainingDivergedError, match=message):
        training.take_step(next(steps))
    assert training.step == 1
    assert equal(training.network.state_dict(), before)
    assert all(map(torch.equal, momentum, (state["momentum_buffer"] for state in training.optimiser.state.values())))
    for hook in hooks:
        hook.remove()
    training.take_step(next(steps))


@pytest.mark.parametrize("resets", [True, False])
def test_momentum_is_forgotten_between_epochs_where_that_is_wanted(store: Store, resets: bool) -> None:
    """Without decay the momentum after the first step of all is its gradient; so it is again after a reset alone."""
    settings = small("spatial", f"train.reset_momentum={str(resets).lower()}")
    dataset = ClipDataset(store, read_parts(store, "1").train, settings.data, streams=("rgb",))
    training = Training(build_network(settings.model, num_classes=2), dataset, settings, RUNTIME)

    def momentum_is_gradient() -> bool:
        states = training.optimiser.state
        return all(torch.equal(states[p]["momentum_buffer"], p.grad) for p in states if p.grad is not None)

    found = []
    for _ in range(2):
        training.begin_epoch()
        for batches in training.batches():
            training.take_step(batches)
            found.append(momentum_is_gradient())
        training.schedule.end_epoch(None)
    first, rest = found[: training.steps_per_epoch], found[training.steps_per_epoch :]
    assert len(rest) == len(first) > 1
    assert first == [True] + [False] * (len(first) - 1)
    assert rest == [resets] + [False] * (len(rest) - 1)


def test_a_checkpoint_says_how_its_data_was_made(store: Store, tmp_path: Path) -> None:
    """So that `fusion-train predict` can make the flow of a file as that was made."""
    checkpoint = Checkpoint.load(train(store, small("spatial"), tmp_path, runtime=RUNTIME))
    assert checkpoint.content == store.settings.to_json()


def test_what_lies_below_the_fusion_does_not_move(store: Store, tmp_path: Path) -> None:
    settings = small("fused", "model.backprop_to=fusion")
    RUNTIME.seed_step(settings.train.seed, -1)
    before = build_network(settings.model, num_classes=2).state_dict()
    after = weights(train(store, settings, tmp_path, runtime=RUNTIME))
    moved = {name for name in before if not torch.equal(before[name], after[name])}
    assert {name.split(".")[1] for name in moved if not name.startswith("fusions")} == {"fc4", "fc5"}
    assert "fusions.0.conv.weight" in moved


def test_in_the_first_epochs_the_prediction_layer_alone_moves(store: Store, tmp_path: Path) -> None:
    settings = small("temporal", "train.head_epochs=1", "train.num_epochs=1")
    RUNTIME.seed_step(settings.train.seed, -1)
    before = build_network(settings.model, num_classes=2).state_dict()
    after = weights(train(store, settings, tmp_path / "one", runtime=RUNTIME))
    assert {name.rpartition(".")[0] for name in before if not torch.equal(before[name], after[name])} == {
        "temporal.fc5"
    }
    later = weights(train(store, small("temporal", "train.head_epochs=1"), tmp_path / "two", runtime=RUNTIME))
    assert not torch.equal(before["temporal.conv1.weight"], later["temporal.conv1.weight"])


def test_held_out_groups_are_not_trained_on_and_choose_the_network(store: Store, tmp_path: Path) -> None:
    settings = small(
        "spatial", "train.val=groups", "train.val_share=0.4", "train.batch_size=2", "train.videos_at_once=2"
    )
    train(store, settings, tmp_path, runtime=RUNTIME)
    held_out = [row for row in read_log(tmp_path) if "val_top1" in row]
    assert [row["epoch"] for row in held_out] == [1, 2]
    table = evaluate(tmp_path / "network.pt", store, part="validation", runtime=RUNTIME)["spatial"]
    assert table.part == "validation 1"
    assert all(row["val_loss"] == row["val_loss_spatial"] > 0 for row in held_out)
    assert not set(table.ids) & set(read_parts(store, "1", share=0.4).train)


def test_biases_have_a_rate_and_a_decay_of_their_own() -> None:
    settings = small("spatial", "train.bias_rate=2", "train.bias_decay=false", "train.weight_decay=0.1")
    network = build_network(settings.model, num_classes=2)
    groups = sgd(network, settings).param_groups
    assert [(group["rate_factor"], group["weight_decay"]) for group in groups] == [(1.0, 0.1), (2.0, 0.0)]
    assert sum(len(group["params"]) for group in groups) == len(list(network.parameters()))
    assert {parameter.ndim for parameter in groups[1]["params"]} == {1}


def test_losses_are_sums_over_clips_of_means_over_chunks() -> None:
    logits = torch.randn(3, 5, 4, generator=torch.Generator().manual_seed(0))
    labels = torch.tensor([0, 3, 1])
    slow = -sum(logits[b, t].log_softmax(0)[labels[b]] for b in range(3) for t in range(5)) / 5
    assert tower_losses({"spatial": logits}, labels)["spatial"] == pytest.approx(float(slow), rel=1e-5)


def test_right_is_what_the_mean_of_towers_and_chunks_takes_for_the_label() -> None:
    draws = torch.Generator().manual_seed(0)
    logits = {name: torch.randn(50, 5, 4, generator=draws) for name in ("spatiotemporal", "temporal")}
    labels = torch.randint(4, (50,), generator=draws)
    slow = sum(
        int(torch.stack([scores[b, t] for scores in logits.values() for t in range(5)]).mean(0).argmax() == labels[b])
        for b in range(50)
    )
    assert 0 < slow < 50
    assert float(num_right(logits, labels)) == slow


def test_the_log_says_how_many_clips_of_a_step_are_right(store: Store, tmp_path: Path) -> None:
    train(store, small("temporal", "train.num_epochs=25"), tmp_path, runtime=RUNTIME)
    shares = [row["top1"] for row in read_log(tmp_path)]
    assert set(shares) <= {0, 0.25, 0.5, 0.75, 1}  # of a batch of 4
    assert np.mean(shares[-3:]) == 1
    assert (tmp_path / "log.csv").read_text().splitlines()[1].split(",")[4] == str(shares[0])


@pytest.mark.parametrize("network", [pytest.param("bfloat16", id="bfloat16"), pytest.param("float32", id="float32")])
def test_precision_changes_a_network_little(store: Store, network: str, tmp_path: Path) -> None:
    path = train(store, small("fused", f"train.precision={network}"), tmp_path / network, runtime=RUNTIME)
    reference = train(store, small("fused"), tmp_path / "reference", runtime=RUNTIME)
    assert close(weights(path), weights(reference), atol=0.05)
    assert equal(weights(path), weights(reference)) == (network == "float32")


def test_channels_last_changes_nothing_but_the_order_in_memory(store: Store, tmp_path: Path) -> None:
    path = train(store, small("fused", "train.channels_last=true"), tmp_path / "last", runtime=RUNTIME)
    assert close(weights(path), weights(train(store, small("fused"), tmp_path / "first", runtime=RUNTIME)))
    assert weights(path)["spatial.conv2.weight"].is_contiguous()


@pytest.mark.parametrize(
    ("sets", "message"),
    [
        (
            ["train.batch_size=16", "train.videos_at_once=1"],
            r"`train.batch_size` must be at most the 8 videos.* got 16; give --set train.batch_size=8$",
        ),
        (
            ["train.batch_size=16", "train.videos_at_once=16"],
            r"got 16; give --set train.batch_size=8 --set train.videos_at_once=8$",
        ),
        (["train.batch_size=12", "train.videos_at_once=3"], r"got 12; give --set train.batch_size=6$"),
        (["train.split=7"], r"no split '7'; it has 1"),
    ],
)
def test_what_does_not_fit_the_store_is_said(store: Store, sets: list[str], message: str, tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=message):
        train(store, small("spatial", *sets), tmp_path, runtime=RUNTIME)
    assert not list(tmp_path.iterdir())


def test_parameters_are_counted_without_making_a_network() -> None:
    assert num_parameters(small("spatial"), 4) == sum(
        parameter.numel() for parameter in build_network(small("spatial").model, num_classes=4).parameters()
    )

"""`train.compiled`: the same training, from as many graphs as there are sets of trained layers, and none broken."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from helpers.training import RUNTIME, close, small, weights, write_store

from flowprep.stores import Store, open_store
from fusion_train.train import train
from fusion_train.trainlog import read_log

SETS = ("train.head_epochs=1", "train.num_epochs=3", "train.videos_at_once=2")


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return open_store(write_store(tmp_path_factory.mktemp("compiled") / "store"))


@pytest.fixture
def graphs() -> Iterator[dict[str, dict[str, int]]]:
    """What PyTorch's compiler counts, from 0."""
    from torch import _dynamo
    from torch._dynamo.utils import counters

    _dynamo.reset()
    counters.clear()
    yield counters
    _dynamo.reset()


def trained(store: Store, folder: Path, *sets: str) -> tuple[Path, list[float]]:
    path = train(store, small("fused", *SETS, *sets), folder, runtime=RUNTIME)
    return path, [row["loss"] for row in read_log(folder) if "loss" in row]


def test_a_compiled_network_is_traced_once_for_each_set_of_trained_layers(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, graphs: dict[str, dict[str, int]]
) -> None:
    """Once for the prediction layer alone, once for all; the graphs are run as they are, without a C++ compiler."""
    monkeypatch.setattr(torch, "compile", functools.partial(torch.compile, backend="eager"))
    path, losses = trained(store, tmp_path / "compiled", "train.compiled=true")
    assert (graphs["stats"]["unique_graphs"], dict(graphs["graph_break"])) == (2, {})
    plain, expected = trained(store, tmp_path / "plain")
    assert losses == pytest.approx(expected, rel=1e-4)
    assert close(weights(path), weights(plain))


@pytest.mark.nightly
def test_compiled_kernels_make_the_same_network(store: Store, tmp_path: Path) -> None:
    """It takes a C++ compiler and a minute or more."""
    path, losses = trained(store, tmp_path / "compiled", "train.compiled=true")
    plain, expected = trained(store, tmp_path / "plain")
    assert losses == pytest.approx(expected, rel=1e-3)
    assert close(weights(path), weights(plain), atol=1e-3)

"""Networks and training on a CUDA device beside the CPU. Skipped without one; FLOWPREP_REQUIRE_CUDA=1 forbids that."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from helpers.torch_gpu import needs_torch_gpu
from helpers.training import RUNTIME, close, small, weights, write_store

import fusion_train
from flowprep.stores import Store, open_store
from fusion_train.runtime import started
from fusion_train.train import train
from fusion_train.trainlog import read_log

pytestmark = needs_torch_gpu

DEVICE = "cuda"


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return open_store(write_store(tmp_path_factory.mktemp("store") / "out"))


@pytest.mark.parametrize("preset", ["debug", "ucf101-vgg16"])
def test_logits_are_those_of_the_cpu(preset: str) -> None:
    torch.manual_seed(0)
    network = fusion_train.build_network(preset, num_classes=5, weights="none").eval()
    rgb, flow = torch.rand(2, 3, 3, 224, 224) * 255, torch.rand(2, 3, 20, 224, 224) * 255
    with torch.no_grad():
        expected = network(rgb, flow)
        found = network.to(DEVICE)(rgb.to(DEVICE), flow.to(DEVICE))
    assert found.keys() == expected.keys()
    for name, logits in expected.items():
        torch.testing.assert_close(found[name].cpu(), logits, rtol=2e-2, atol=2e-2)  # TF32 has 10 bits


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_a_training_on_a_device_learns_what_the_cpu_learns(store: Store, tmp_path: Path, precision: str) -> None:
    settings = small("fused", f"train.precision={precision}")
    expected = train(store, small("fused"), tmp_path / "cpu", runtime=RUNTIME)
    with started(DEVICE) as runtime:
        found = train(store, settings, tmp_path / "cuda", runtime=runtime)
    assert all(tensor.isfinite().all() for tensor in weights(found).values())
    if precision == "float32":
        assert close(weights(found), weights(expected), atol=5e-2)
    assert len(list(read_log(tmp_path / "cuda"))) == len(list(read_log(tmp_path / "cpu")))

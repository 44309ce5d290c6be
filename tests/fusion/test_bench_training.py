"""`fusion-train bench`: operations counted by hand, peaks by name, rates, and what bounds a training."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from helpers.training import RUNTIME, small, write_store

from flowprep.errors import SettingsError
from flowprep.stores import open_store
from fusion_train.bench import BenchResult, Rate, WithData, measure, num_classes_of
from fusion_train.config import FusionSettings
from fusion_train.flops import peak_flops, training_flops

LAYERS = ((16, 3, 5, 16), (8, 16, 3, 32), (4, 32, 3, 32), (1, 32, 2, 64), (1, 64, 1, 7))
"""Of `debug` on 32 x 32 pixels: side of the map, channels in, side of the filter, channels out; 7 classes."""


def by_hand(in_channels: int) -> list[int]:
    """Operations of each layer, forward: a multiplication and an addition a weight and place."""
    channels = [in_channels, *(layer[1] for layer in LAYERS[1:])]
    return [2 * side**2 * c * kernel**2 * out for c, (side, _, kernel, out) in zip(channels, LAYERS, strict=True)]


@pytest.mark.parametrize(("network", "in_channels"), [("spatial", 3), ("temporal", 20)])
def test_operations_are_those_of_forward_and_backward(network: str, in_channels: int) -> None:
    layers = by_hand(in_channels)
    whole = 3 * sum(layers) - layers[0]  # forward, gradients of weights, gradients of inputs but for the images
    assert training_flops(small(network), 7) == whole
    head = training_flops(small(network, "model.backprop_to=prediction"), 7)
    assert head == sum(layers) + layers[-1]  # the last layer's weights alone have a gradient


def test_what_is_frozen_is_not_counted_twice() -> None:
    settings = small("fused", "model.temporal_fusion=pool2d", "fused.data.num_chunks=1")
    spatial, temporal = by_hand(3), by_hand(20)
    filters = 2 * 4**2 * 64 * 32
    upper = spatial[3:] + temporal[3:]
    expected = sum(spatial) + sum(temporal) + filters + 2 * sum(upper) + filters
    frozen = training_flops(
        dataclasses.replace(settings, model=dataclasses.replace(settings.model, backprop_to="fusion")), 7
    )
    # The temporal tower's first layer above the fusion has frozen inputs, which need no gradient.
    assert frozen == expected - temporal[3]


@pytest.mark.parametrize(
    ("name", "bfloat16", "float32"),
    [
        ("NVIDIA H200", 989.4e12, 494.7e12),
        ("NVIDIA H100 80GB HBM3", 989.4e12, 494.7e12),
        ("NVIDIA H100 PCIe", 756e12, 378e12),
        ("NVIDIA A100-SXM4-80GB", 312e12, 156e12),
        ("NVIDIA L4", 121e12, 60e12),
        ("NVIDIA L40S", 362e12, 183e12),
        ("Tesla V100-SXM2-32GB", None, None),
        ("NVIDIA A1000", None, None),
    ],
)
def test_peaks_are_known_by_name(
    monkeypatch: pytest.MonkeyPatch, name: str, bfloat16: float | None, float32: float | None
) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: name)
    device = torch.device("cuda", 0)
    assert (peak_flops(device, "bfloat16"), peak_flops(device, "float32")) == (bfloat16, float32)
    assert peak_flops(torch.device("cpu"), "float32") is None


def result(settings: FusionSettings, memory: float, loader: float) -> BenchResult:
    def rate(value: float) -> Rate:
        return Rate(median=value, least=value, most=value)

    data = WithData(loader=rate(loader), training=rate(min(memory, loader)), wait_share=0.5, num_threads=4)
    return BenchResult(
        settings=settings, device="a", world_size=2, num_steps=1, num_parameters=2, num_trained=1, flops_per_clip=10**9,
        peak_flops=2e12, memory_bytes=1, from_memory=rate(memory), with_data=data,
    )  # fmt: skip


def test_the_slower_one_bounds() -> None:
    fast = result(small("fused"), memory=1000, loader=300)
    assert (fast.bound, fast.threads_needed, fast.mfu) == ("loader", 14, 0.5)
    slow = result(small("fused"), memory=100, loader=300)
    assert (slow.bound, slow.threads_needed) == ("network", 2)


def test_rates_are_clips_a_second() -> None:
    assert Rate.of([2.0, 1.0, 4.0], 8) == Rate(median=4, least=2, most=8)


@pytest.mark.parametrize("network", ["spatial", "fused"])
def test_a_training_is_measured_with_and_without_a_store(
    tmp_path_factory: pytest.TempPathFactory, network: str
) -> None:
    """The store has two steps a pass, so several passes are needed."""
    told: list[str] = []
    with open_store(write_store(tmp_path_factory.mktemp("bench") / "store")) as store:
        found = measure(
            small(network, "train.num_epochs=1", "train.videos_at_once=2"),
            num_classes=9, runtime=RUNTIME, num_steps=4, num_warm_up=1, store=store, peak=1e12, tell=told.append,
        )  # fmt: skip
    assert len(told) == 3
    assert found.with_data is not None
    assert found.flops_per_clip == training_flops(found.settings, 2)
    for rate in (found.from_memory, found.with_data.loader, found.with_data.training):
        assert 0 < rate.least <= rate.median <= rate.most
    assert 0 <= found.with_data.wait_share <= 1
    assert found.memory_bytes > 0


def test_wrong_numbers_are_named() -> None:
    with pytest.raises(SettingsError, match=r"`num_steps` must be at least 1, got 0"):
        measure(small("spatial"), num_classes=2, runtime=RUNTIME, num_steps=0)
    two = dataclasses.replace(RUNTIME, world_size=2)
    with pytest.raises(SettingsError, match=r"multiple of `train.videos_at_once` times .*, 8, got 4"):
        measure(small("spatial"), num_classes=2, runtime=two, num_steps=1)


def test_classes_are_those_of_the_presets_data_set() -> None:
    assert [num_classes_of(name) for name in ("ucf101-vgg16-authors", "hmdb51-vggm", "debug")] == [101, 51, 4]

"""Where gradients end: frozen parts get none, keep no activations, and leave their statistics alone."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from helpers.networks import clips, debug_network, debug_settings, fused
from torch import Tensor

from fusion_train import build_network
from fusion_train.models.build import new_network
from fusion_train.models.two_stream import Network

BELOW = {"conv1", "conv2", "conv3"}
ABOVE = {"fc4", "fc5"}


def loss_of(network: Network, seed: int = 1) -> Tensor:
    rgb, flow = clips(seed=seed)
    return torch.stack([logits.square().sum() for logits in network(rgb, flow).values()]).sum()


def trained(network: Network) -> set[str]:
    """Names of the parameters' owners that get a gradient which is not zero."""
    loss_of(network).backward()
    got = {
        name.rpartition(".")[0]
        for name, parameter in network.named_parameters()
        if parameter.grad is not None and parameter.grad.count_nonzero()
    }
    for name, parameter in network.named_parameters():
        assert (parameter.grad is not None) == parameter.requires_grad, name
    return got


def of_both(layers: set[str]) -> set[str]:
    return {f"{stream}.{layer}" for stream in ("spatial", "temporal") for layer in layers}


@pytest.mark.parametrize(
    ("backprop_to", "expected"),
    [
        ("fusion", of_both(ABOVE) | {"fusions.0.conv"}),
        ("at", of_both(ABOVE) | {"fusions.0.conv"}),
        ("prediction", of_both({"fc5"})),
        ("input", of_both(BELOW | ABOVE) | {"fusions.0.conv"}),
    ],
)
def test_gradients_end_where_they_are_told_to(backprop_to: str, expected: set[str]) -> None:
    assert trained(fused(backprop_to=backprop_to)) == expected


def test_gradients_end_below_the_first_of_several_fusions() -> None:
    network = fused(backprop_to="fusion", at="relu2,prediction")
    assert trained(network) == of_both({"conv3", *ABOVE}) | {"fusions.0.conv", "fusions.1.conv"}


def test_fusion_at_the_prediction_layer_trains_with_it() -> None:
    assert trained(fused(backprop_to="prediction", at="relu2,prediction")) == of_both({"fc5"}) | {"fusions.1.conv"}


def test_bilinear_classifier_alone_is_trained() -> None:
    network = fused(backprop_to="prediction", fusion="bilinear", temporal_fusion="pool3d", keep_temporal=False)
    assert trained(network) == {"bilinear_classifier"}


@pytest.mark.parametrize("network", ["spatial", "temporal"])
def test_single_streams_are_trained_whole_or_at_the_top(network: str) -> None:
    names = {f"{network}.{layer}" for layer in BELOW | ABOVE}
    assert trained(debug_network(network=network, backprop_to="fusion")) == names
    assert trained(debug_network(network=network, backprop_to="prediction")) == {f"{network}.fc5"}


@pytest.mark.parametrize("network", ["spatial", "temporal"])
def test_single_streams_may_be_frozen_where_fused_ones_are(network: str) -> None:
    assert trained(debug_network(network=network, backprop_to="at")) == {f"{network}.{layer}" for layer in ABOVE}
    conv2_up = {f"{network}.{layer}" for layer in {"conv3", *ABOVE}}
    unequal = debug_network(
        network=network, backprop_to="at", at="relu2:relu1" if network == "spatial" else "relu1:relu2"
    )
    assert trained(unequal) == conv2_up


def test_depth_can_be_changed_during_training() -> None:
    network = fused(backprop_to="prediction")
    network.set_backprop("input")
    assert trained(network) == of_both(BELOW | ABOVE) | {"fusions.0.conv"}


def saved_elements(network: Network) -> int:
    """Numbers that autograd keeps for the way back, parameters aside."""
    parameters = {parameter.data_ptr() for parameter in network.parameters()}
    kept: dict[int, int] = {}

    def pack(tensor: Tensor) -> Tensor:
        if tensor.data_ptr() not in parameters:
            kept[tensor.data_ptr()] = tensor.numel()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        loss = loss_of(network)
    assert loss.requires_grad
    return sum(kept.values())


@pytest.mark.parametrize("fusion", ["conv", "sum"])
def test_frozen_parts_keep_no_activations(fusion: str) -> None:
    temporal_fusion = "conv3d+pool3d" if fusion == "conv" else "pool3d"
    whole = saved_elements(fused(backprop_to="input", fusion=fusion, temporal_fusion=temporal_fusion))
    above = saved_elements(fused(backprop_to="fusion", fusion=fusion, temporal_fusion=temporal_fusion))
    top = saved_elements(fused(backprop_to="prediction", fusion=fusion, temporal_fusion=temporal_fusion))
    clip_elements = 2 * 3 * 16 * 24 * 24  # conv1's map of one stream
    assert whole > 4 * clip_elements
    assert above < clip_elements / 2
    assert top < clip_elements / 20


def test_initial_values_of_frozen_layers_do_not_change_by_a_step() -> None:
    network = fused(backprop_to="fusion").train()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    optimiser = torch.optim.SGD((p for p in network.parameters() if p.requires_grad), 0.1, weight_decay=0.1)
    loss_of(network).backward()
    optimiser.step()
    for name, value in network.state_dict().items():
        frozen = name.split(".")[1] in BELOW | {"input"}
        assert torch.equal(value, before[name]) == frozen, name


@pytest.mark.parametrize(
    ("overrides", "num_batch"),
    [
        ({"batch_norm": "frozen"}, 0),
        ({"batch_norm": "partial"}, 1),
        ({"batch_norm": "batch"}, 53),
        ({"batch_norm": "batch", "backprop_to": "prediction"}, 0),
    ],
)
def test_statistics_of_batch_normalisation(overrides: dict[str, Any], num_batch: int) -> None:
    with torch.device("meta"):
        network = build_network("ucf101-resnet50", num_classes=5, weights="none", network="spatial", **overrides)
    norms = network.streams["spatial"].norms()
    assert len(norms) == 53
    assert [norm.training for norm in norms].count(True) == num_batch
    network.eval()
    assert not any(norm.training for norm in norms)
    network.train()
    assert [norm.training for norm in norms].count(True) == num_batch


def test_new_network_is_in_training_mode() -> None:
    assert new_network(debug_settings(), num_classes=3).training

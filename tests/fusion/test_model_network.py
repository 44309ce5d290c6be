"""What the networks compute: identities between them, independence of batch and order, sizes, and wrong inputs."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from helpers.networks import NUM_CLASSES, clips, debug_network, fused
from torch import Tensor, nn

from flowprep.errors import SettingsError
from fusion_train.models.two_stream import FusedNetwork, Network

ALL_AT_ONCE = {"pool_kernel": "all,own,own", "pool_stride": "1,own,own", "pool_padding": "0,own,own"}

FUSIONS: list[dict[str, Any]] = [
    {},
    {"fusion": "sum", "temporal_fusion": "pool2d"},
    {"fusion": "max", "temporal_fusion": "pool3d"},
    {"fusion": "concat", "temporal_fusion": "pool3d", "at": "relu2"},
    {"fusion": "conv", "temporal_fusion": "pool2d", "at": "relu2,relu3,fc4,prediction"},
    {"fusion": "bilinear", "temporal_fusion": "pool3d"},
    {"fusion": "bilinear", "temporal_fusion": "pool2d", "keep_temporal": False},
    {"fusion": "sum", "temporal_fusion": "pool3d", "at": "prediction"},
    {"network": "spatial"},
    {"network": "temporal"},
]


def same_stream(network: FusedNetwork, name: str) -> Network:
    """The single stream with the weights of a fused network's stream."""
    single = debug_network(network=name)
    single.streams[name].load_state_dict(network.streams[name].state_dict())
    return single


@torch.no_grad()
def without_motion(network: FusedNetwork) -> None:
    """A temporal map of zeros at relu3."""
    conv = network.temporal.convolution("conv3")
    conv.weight.zero_()
    assert conv.bias is not None
    conv.bias.zero_()


@pytest.mark.parametrize("temporal_fusion", ["pool2d", "pool3d"])
@pytest.mark.parametrize("fusion", ["sum", "max", "conv"])
@torch.no_grad()
def test_with_a_temporal_map_of_zeros_the_spatial_logits_are_left(fusion: str, temporal_fusion: str) -> None:
    network = fused(fusion=fusion, temporal_fusion=temporal_fusion, init_spatial=1.0, init_temporal=0.0, **ALL_AT_ONCE)
    without_motion(network)
    rgb, flow = clips()
    if temporal_fusion == "pool3d":
        rgb = rgb[:, :1].expand_as(rgb)  # pooling over equal frames changes nothing
    expected = same_stream(network, "spatial")(rgb)["spatial"]
    torch.testing.assert_close(network(rgb, flow)["spatiotemporal"], expected)
    assert expected.std() > 0.1


@torch.no_grad()
def test_temporal_tower_is_the_temporal_stream() -> None:
    rgb, flow = clips()
    network = fused(fusion="sum", temporal_fusion="pool2d")
    expected = same_stream(network, "temporal")(flow=flow)["temporal"]
    torch.testing.assert_close(network(rgb, flow)["temporal"], expected)
    torch.testing.assert_close(network(255 - rgb, flow)["temporal"], expected)


@torch.no_grad()
def test_sum_at_the_prediction_layer_is_late_fusion() -> None:
    rgb, flow = clips()
    network = fused(fusion="sum", temporal_fusion="pool2d", at="prediction")
    expected = same_stream(network, "spatial")(rgb)["spatial"] + same_stream(network, "temporal")(flow=flow)["temporal"]
    torch.testing.assert_close(network(rgb, flow)["spatiotemporal"], expected)


@torch.no_grad()
def test_order_of_the_chunks_matters_only_where_space_and_time_are_convolved() -> None:
    rgb, flow = clips(num_chunks=5)
    order = [3, 0, 4, 1, 2]
    network = fused(temporal_fusion="pool3d", conv_kernel=3, **ALL_AT_ONCE)
    before, after = network(rgb, flow), network(rgb[:, order], flow[:, order])
    for name in ("spatiotemporal", "temporal"):
        torch.testing.assert_close(before[name], after[name])
    network = fused(**ALL_AT_ONCE)
    before, after = network(rgb, flow), network(rgb[:, order], flow[:, order])
    assert (before["spatiotemporal"] - after["spatiotemporal"]).abs().max() > 1e-3
    torch.testing.assert_close(before["temporal"], after["temporal"])


@torch.no_grad()
def test_block_order_of_concatenation_is_the_interleaved_one_with_channels_permuted() -> None:
    rgb, flow = clips()
    network = fused(fusion="concat", temporal_fusion="pool2d")
    expected = network(rgb, flow)["spatiotemporal"]

    class Interleaved(nn.Module):
        def forward(self, spatial: Tensor, temporal: Tensor, batch_size: int) -> Tensor:
            return torch.stack([spatial, temporal], 2).flatten(1, 2)

    network.fusions[0] = Interleaved()
    fc4 = network.spatial.convolution("fc4")
    half = fc4.in_channels // 2
    fc4.weight.copy_(torch.stack([fc4.weight[:, :half], fc4.weight[:, half:]], 2).flatten(1, 2).clone())
    torch.testing.assert_close(network(rgb, flow)["spatiotemporal"], expected)


@pytest.mark.parametrize("overrides", FUSIONS, ids=str)
@torch.no_grad()
def test_clip_alone_gives_what_it_gives_in_a_batch(overrides: dict[str, Any]) -> None:
    rgb, flow = clips(batch_size=3)
    network = debug_network(**overrides)
    together = network(rgb, flow)
    for name, logits in together.items():
        alone = torch.cat([network(rgb[k : k + 1], flow[k : k + 1])[name] for k in range(3)])
        torch.testing.assert_close(logits, alone, atol=1e-5, rtol=1e-4)
        assert logits.std(0).max() > 1e-4


@pytest.mark.parametrize("overrides", FUSIONS, ids=str)
@torch.no_grad()
def test_logits_of_frames_have_the_clips_mean(overrides: dict[str, Any]) -> None:
    rgb, flow = clips(num_chunks=4, height=64, width=80)
    network = debug_network(**overrides)
    frames = network.frame_logits(rgb.float(), flow.float())
    for name, logits in network(rgb, flow).items():  # 8 bits are taken as they are
        pooled = network.settings.network == "fused" and network.settings.temporal_fusion != "pool2d"
        assert frames[name].shape == (2, 1 if pooled else 4, NUM_CLASSES)
        torch.testing.assert_close(frames[name].mean(1), logits)


def test_networks_have_their_towers() -> None:
    rgb, flow = clips()
    assert list(debug_network(network="spatial")(rgb)) == ["spatial"]
    assert list(debug_network(network="temporal")(None, flow)) == ["temporal"]
    assert list(fused()(rgb, flow)) == ["spatiotemporal", "temporal"]
    one = fused(keep_temporal=False)
    assert list(one(rgb, flow)) == ["spatiotemporal"]
    assert one.temporal.layers[-1].name == "relu3"


@torch.no_grad()
def test_convolutional_form_is_the_classic_one() -> None:
    """At the size whose last map is fc4's kernel: flattened vectors through linear layers."""
    network = debug_network(network="spatial")
    stream = network.streams["spatial"]
    rgb, _ = clips(num_chunks=1, height=32, width=32)
    maps = stream.run(rgb.flatten(0, 1), 2, 0, stream.backbone.last_pool + 1)
    fc4, fc5 = stream.convolution("fc4"), stream.convolution("fc5")
    hidden = nn.functional.linear(maps.flatten(1), fc4.weight.flatten(1), fc4.bias).relu()
    expected = nn.functional.linear(hidden, fc5.weight.flatten(1), fc5.bias)
    torch.testing.assert_close(network(rgb)["spatial"], expected)


def test_dropout_is_set_by_stream_and_acts_in_training() -> None:
    network = fused(spatial_dropout=0.3, temporal_dropout=0.6)
    assert [stream.drop4.p for stream in (network.spatial, network.temporal)] == [0.3, 0.6]
    network = fused(spatial_dropout=0.3, temporal_dropout=0.6, fused_dropout=0.5)
    assert [stream.drop4.p for stream in (network.spatial, network.temporal)] == [0.5, 0.5]
    rgb, flow = clips()
    assert torch.equal(network(rgb, flow)["temporal"], network(rgb, flow)["temporal"])
    network.train()
    assert not torch.equal(network(rgb, flow)["temporal"], network(rgb, flow)["temporal"])


@pytest.mark.parametrize(
    ("rgb", "flow", "message"),
    [
        (None, None, "needs `rgb`, `flow` or both, got neither"),
        (torch.zeros(1, 1, 3, 48, 48), None, "has a temporal stream and needs `flow`, got None"),
        (
            torch.zeros(1, 3, 48, 48),
            None,
            r"`rgb` must be \(B, T, channels, H, W\), none of them 0, got \(1, 3, 48, 48\)",
        ),
        (torch.zeros(1, 0, 3, 48, 48), None, "none of them 0"),
        (
            torch.zeros(1, 1, 3, 48, 48, dtype=torch.int64),
            None,
            "`rgb` must be uint8 or float of 0..255, got torch.int64",
        ),
        (torch.zeros(1, 1, 3, 48, 48), torch.zeros(1, 2, 20, 48, 48), "`rgb` and `flow` must have equal B, T, H and W"),
        (torch.zeros(1, 1, 3, 48, 48), torch.zeros(1, 1, 10, 48, 48), "`flow` must have 20 channels, got 10"),
        (torch.zeros(1, 1, 3, 31, 48), torch.zeros(1, 1, 20, 31, 48), "at least 32x32 pixels for debug, got 31x48"),
    ],
)
def test_wrong_inputs_are_named(rgb: Tensor | None, flow: Tensor | None, message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        fused()(rgb, flow)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"at": "relu9"}, "the layer relu9, which debug of the spatial stream does not have; it has conv1, relu1"),
        ({"at": "relu3:conv5_3"}, "the layer conv5_3, which debug of the temporal stream does not have"),
        ({"at": "relu3,relu2"}, "`at` must go upwards in both streams"),
        ({"at": "relu3:relu1"}, "maps have one point every 8 and 2 pixels"),
        ({"at": "fc5", "fusion": "concat", "temporal_fusion": "pool2d"}, "concat cannot be `at` fc5: no layer above"),
        ({"at": "fc5", "fusion": "bilinear", "temporal_fusion": "pool2d"}, "it cannot be `at` the prediction layer"),
        (
            {"temporal": "vggm", "at": "relu2:relu1", "fusion": "sum", "temporal_fusion": "pool2d"},
            "one point every 4 and 2 pixels",
        ),
        (
            {"temporal": "vggm", "at": "fc4:fc6", "fusion": "sum", "temporal_fusion": "pool2d"},
            "one point every 16 and 32 pixels",
        ),
        (
            {"temporal": "resnet50", "at": "relu2:res2a", "fusion": "max", "temporal_fusion": "pool2d"},
            "max needs as many channels in both maps, .* have 32 and 256; use conv or concat",
        ),
        (
            {"spatial": "resnet50", "at": "res2a:relu2", "fusion": "concat", "temporal_fusion": "pool2d"},
            "concat at res2a needs a convolution above it that takes more channels, and res2b of resnet50 is none",
        ),
    ],
    ids=str,
)
def test_layers_that_cannot_be_joined_are_named(overrides: dict[str, Any], message: str) -> None:
    with torch.device("meta"), pytest.raises(SettingsError, match=message):
        fused(**overrides)

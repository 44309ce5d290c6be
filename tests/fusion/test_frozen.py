"""Maps of frozen layers: training and evaluation on them are those on images; blank streams; what is refused."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.clip_store import Spec, shards, ucf_specs, ucf_splits, write_clip_store
from helpers.training import RUNTIME, close, small, weights

from flowprep.errors import SettingsError
from flowprep.stores import Store, open_store
from fusion_train.config import DataSettings, FusionSettings
from fusion_train.data.augment import network_inputs
from fusion_train.data.dataset import ClipDataset
from fusion_train.data.loader import ClipLoader
from fusion_train.data.maps import FrozenMaps
from fusion_train.data.splits import read_parts
from fusion_train.evaluate import evaluate
from fusion_train.frozen import frozen_maps
from fusion_train.models.build import build_network
from fusion_train.train import train
from fusion_train.trainlog import read_log

WHOLE = (
    "data.crop_size=48", "data.jitter=0", "data.flip=false", "data.test_flip=false", "data.num_chunks=3",
    "data.same_clips=true", "model.backprop_to=at", "train.val=none",
)  # fmt: skip
EPOCHS = 2


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """Square videos of 48 pixels whose codes differ from time to time."""
    specs = [Spec(spec.id, size=(48, 48)) for spec in ucf_specs(4, 2)]
    split = ucf_splits(specs, first_test_group=4)["1"]
    path = tmp_path_factory.mktemp("frozen") / "store"
    return open_store(write_clip_store(path, shards(), specs, {"1": split}))


def settings_of(stage: str, *sets: str) -> FusionSettings:
    return small(stage, *WHOLE, f"train.num_epochs={EPOCHS}", *sets)


def maps_of(store: Store, settings: FusionSettings) -> dict[str, FrozenMaps]:
    """As training of this network begins: random layers of its seed."""
    RUNTIME.seed_step(settings.train.seed, -1)
    network = build_network(settings.model, num_classes=2)
    parts = read_parts(store, "1", validation="none")
    streams = {"spatial": ("rgb",), "temporal": ("flow",), "fused": ("rgb", "flow")}[settings.model.network]
    return {
        stream: frozen_maps(
            network,
            stream,
            training=ClipDataset(store, parts.train, settings.data, streams=(stream,)),
            evaluation=ClipDataset(store, parts.test, settings.data, streams=(stream,)),
            num_passes=EPOCHS,
            seeds=(settings.train.seed,),
        )
        for stream in streams
    }


@pytest.mark.parametrize("stage", ["spatial", "temporal", "fused"])
def test_training_and_evaluation_on_maps_are_those_on_images(store: Store, stage: str, tmp_path: Path) -> None:
    settings = settings_of(stage)
    maps = maps_of(store, settings)
    on_images = train(store, settings, tmp_path / "images", runtime=RUNTIME)
    on_maps = train(store, settings, tmp_path / "maps", runtime=RUNTIME, maps=maps)
    assert close(weights(on_images), weights(on_maps))
    first = evaluate(on_images, store, part="test", runtime=RUNTIME)
    second = evaluate(on_images, store, part="test", runtime=RUNTIME, maps=maps)
    assert first.keys() == second.keys()
    for tower, table in first.items():
        np.testing.assert_allclose(table.scores, second[tower].scores, rtol=1e-4, atol=1e-5)
        assert table.ids == second[tower].ids


def test_the_machine_of_bilinear_fusion_is_fitted_on_images_after_a_training_on_maps(
    store: Store, tmp_path: Path
) -> None:
    settings = settings_of("fused", "model.fusion=bilinear", "model.temporal_fusion=pool2d", "train.num_val_clips=2")
    on_images = train(store, settings, tmp_path / "images", runtime=RUNTIME)
    on_maps = train(store, settings, tmp_path / "maps", runtime=RUNTIME, maps=maps_of(store, settings))
    assert close(weights(on_images), weights(on_maps), atol=1e-4)
    assert [set(row) for row in read_log(tmp_path / "maps")][-1] == {"step", "epoch", "svm_train_top1"}


@pytest.mark.parametrize("temporal_fusion", ["pool2d", "pool3d", "conv3d+pool3d"])
def test_a_fused_network_gives_the_same_logits_of_maps(store: Store, temporal_fusion: str) -> None:
    settings = settings_of("fused", f"model.temporal_fusion={temporal_fusion}", "model.keep_temporal=true")
    maps = maps_of(store, settings)
    RUNTIME.seed_step(settings.train.seed, -1)
    network = build_network(settings.model, num_classes=2).eval()
    ids = read_parts(store, "1", validation="none").train
    logits = []
    for given in (None, maps):
        dataset = ClipDataset(store, ids, settings.data, maps=given)
        (batch, *_) = ClipLoader(dataset, batch_size=4, training=True, num_threads=1)
        network.passed = (
            {} if given is None else {"spatial": maps["rgb"].num_layers, "temporal": maps["flow"].num_layers}
        )
        with torch.no_grad():
            logits.append(network(*network_inputs(batch)))
    assert logits[0].keys() == logits[1].keys() == {"spatiotemporal", "temporal"}
    for tower in logits[0]:
        torch.testing.assert_close(logits[0][tower], logits[1][tower], rtol=1e-4, atol=1e-5)


def test_only_frames_that_clips_come_by_have_a_map(store: Store) -> None:
    settings = settings_of("fused", "data.tau_min=3", "data.tau_max=3")
    maps = maps_of(store, settings)["rgb"]
    dataset = ClipDataset(store, read_parts(store, "1", validation="none").train, settings.data)
    seen = {
        (video.id, time)
        for index, video in enumerate(dataset.videos)
        for plan in (dataset.plan_training(index, seed=0, epoch=k) for k in range(EPOCHS))
        for time in plan.times.flatten().tolist()
    }
    assert {key for key in maps.rows if key[0] in {video.id for video in dataset.videos}} == seen
    assert len(maps.values) == len(maps.rows)
    with pytest.raises(SettingsError, match=r"there is no map of video 'v_.*' at time \d+: .*same settings and seed"):
        maps.of([dataset.plan_training(0, seed=0, epoch=k) for k in range(40)])


def test_a_blank_stream_has_one_map(store: Store) -> None:
    maps = maps_of(store, settings_of("fused", "data.blank=flow"))
    assert len(maps["flow"].values) == 1
    assert set(maps["flow"].rows.values()) == {0}
    assert maps["flow"].rows.keys() == maps["rgb"].rows.keys()
    assert len(maps["rgb"].values) > 1


def test_maps_of_other_layers_are_refused(store: Store, tmp_path: Path) -> None:
    settings = settings_of("fused")
    maps = maps_of(store, settings)
    with pytest.raises(SettingsError, match="the maps of rgb are not of the 8 layers that this network has frozen"):
        train(store, settings_of("fused", "train.seed=7"), tmp_path, runtime=RUNTIME, maps=maps)
    with pytest.raises(SettingsError, match=r"the spatial stream has no frozen layer; set `model\.backprop_to`"):
        maps_of(store, settings_of("fused", "model.backprop_to=input"))


@pytest.mark.parametrize("change", ["data.flip=true", "data.jitter=0.25", "data.test_flip=true", "data.crop_size=40"])
def test_clips_that_are_no_whole_images_are_refused(store: Store, change: str) -> None:
    maps = maps_of(store, settings_of("fused"))
    parts, data = read_parts(store, "1", validation="none"), settings_of("fused", change).data
    loaders = [
        ClipLoader(ClipDataset(store, ids, data, maps=maps), batch_size=4, training=training, num_threads=1)
        for training, ids in ((True, parts.train), (False, parts.test))
    ]
    with pytest.raises(SettingsError, match=r"is mirrored, cropped or resized; set `data\.flip`"):
        list(itertools.chain(*loaders))


@pytest.mark.parametrize(("blank", "stream", "value"), [("rgb", 0, 128), ("flow", 1, 128)])
def test_a_blank_stream_shows_nothing_and_the_other_all(store: Store, blank: str, stream: int, value: int) -> None:
    inputs = []
    for hidden in ("none", blank):
        data = DataSettings(crop_size=32, num_chunks=3, tau_max=3, tau_min=1, blank=hidden)
        (batch, *_) = ClipLoader(ClipDataset(store, store.ids, data), batch_size=8, training=True, num_threads=1)
        # Copied, since the memory of a batch is used again.
        inputs.append([None if images is None else images.clone() for images in network_inputs(batch)])
    shown, hidden_inputs = inputs
    assert (hidden_inputs[stream] == value).all()
    assert not (shown[stream] == value).all()
    assert torch.equal(shown[1 - stream], hidden_inputs[1 - stream])


def test_blank_flow_is_the_zero_of_the_stores_rounding(tmp_path: Path) -> None:
    specs = [Spec("v_Archery_g01_c01"), Spec("v_Biking_g01_c01")]
    truncated = open_store(write_clip_store(tmp_path / "store", shards("truncate"), specs))
    data = DataSettings(crop_size=32, num_chunks=1, blank="flow")
    (batch,) = ClipLoader(ClipDataset(truncated, truncated.ids, data), batch_size=2, training=True, num_threads=1)
    assert (network_inputs(batch)[1] == 127).all()


def test_single_streams_may_see_the_clips_of_fused_networks(store: Store) -> None:
    data = DataSettings(crop_size=48, num_chunks=3, tau_min=3, tau_max=3, test_tau=3, num_test_clips=4)
    same = DataSettings.from_json({**data.to_json(), "same_clips": True})
    fused = ClipDataset(store, store.ids, data).plan_evaluation(0).times
    assert (ClipDataset(store, store.ids, same, streams=("rgb",)).plan_evaluation(0).times == fused).all()
    assert (ClipDataset(store, store.ids, data, streams=("rgb",)).plan_evaluation(0).times != fused).any()

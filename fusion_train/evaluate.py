"""Scores of videos: every clip and its mirror image through the network, whole frames, averaged before the softmax.

Single streams see 25 frames of a video, spread evenly, and fused networks clips of T chunks (`DataSettings`). Frames
are not cropped: the network is fully convolutional, and its map of logits is averaged.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from flowprep.errors import SettingsError
from flowprep.stores import Store
from flowprep.stores.splitsfile import read_splits
from fusion_train.checkpoint import Checkpoint, data_fingerprint, file_sha256
from fusion_train.config import DataSettings, EvaluateSettings, TrainSettings
from fusion_train.data.augment import network_inputs
from fusion_train.data.dataset import ClipDataset
from fusion_train.data.loader import ClipLoader
from fusion_train.data.maps import FrozenMaps
from fusion_train.data.splits import num_seen, parts_of
from fusion_train.frozen import give_maps
from fusion_train.models.build import new_network
from fusion_train.models.two_stream import Network
from fusion_train.outage import device_memory
from fusion_train.runtime import Runtime
from fusion_train.scores import ScoreTable
from fusion_train.training import streams_of

PARTS = ("test", "validation")
Scores = dict[str, NDArray[np.float32]]


@device_memory("lower `evaluate.clips_at_once`, or take a device with more memory that is free")
@torch.no_grad()
def score(network: Network, dataset: ClipDataset, settings: EvaluateSettings, runtime: Runtime) -> dict[str, Scores]:
    """By tower, the scores (C,) of each video of the data set by id: on every process, those of all.

    Means over clips are taken in double and in their order, so they do not depend on how clips are batched, but for the
    last bits of the network itself.
    """
    loader = ClipLoader(
        dataset,
        batch_size=settings.videos_at_once,
        training=False,
        rank=runtime.rank,
        world_size=runtime.world_size,
        num_threads=settings.num_threads,
        pin_memory=runtime.device.type == "cuda",
    )
    give_maps(network, dataset.maps)
    was_training = network.training
    network.eval()
    rows: list[tuple[str, str, NDArray[np.float32]]] = []
    for batch in loader:
        rgb, flow = network_inputs(batch, runtime.device)
        towers: dict[str, list[torch.Tensor]] = {}
        for first in range(0, len(batch), settings.clips_at_once):
            part = slice(first, first + settings.clips_at_once)
            with runtime.autocast(settings.precision):
                logits = network(None if rgb is None else rgb[part], None if flow is None else flow[part])
            for name, values in logits.items():
                towers.setdefault(name, []).append(values.cpu())
        for name, parts in towers.items():
            clips = torch.cat(parts).double()  # (clips of all videos, C)
            for place, video_id in enumerate(batch.ids):
                mean = clips[batch.video == place].mean(0)
                rows.append((name, video_id, mean.float().numpy()))
    network.train(was_training)
    found: dict[str, Scores] = {}
    for name, video_id, values in runtime.gathered(rows):
        assert video_id not in found.setdefault(name, {}), "a video is evaluated once"
        found[name][video_id] = values
    return found


def tables_of(
    found: Mapping[str, Scores], dataset: ClipDataset, *, network: str, part: str, origin: Mapping[str, Any]
) -> dict[str, ScoreTable]:
    """Score tables by tower, in the order of the data set."""
    classes = read_splits(dataset.store.path).classes
    ids = [video.id for video in dataset.videos]
    return {
        tower: ScoreTable(
            name=tower if tower == network else f"{network} {tower}",
            part=part,
            manifest_sha256=data_fingerprint(dataset.store),
            ids=ids,
            labels=np.array([video.label for video in dataset.videos], np.int64),
            scores=np.stack([scores[video_id] for video_id in ids]),
            classes=classes,
            origin={**origin, "tower": tower, "skipped": list(dataset.skipped)},
        )
        for tower, scores in found.items()
    }


def network_of(checkpoint: Checkpoint, path: Path) -> Network:
    """The network of a checkpoint, in evaluation mode. Raises SettingsError where its weights do not fit."""
    network = new_network(checkpoint.settings.model, num_classes=len(checkpoint.classes))
    try:
        network.load_state_dict(dict(checkpoint.network))
    except RuntimeError as error:
        raise SettingsError(f"{path} does not fit its own settings: {str(error).partition(chr(10))[0]}") from error
    return network.eval()


def evaluated_ids(store: Store, options: TrainSettings, part: str) -> Sequence[str]:
    """The stored videos of a part (`test` or `validation`) of the split that a network is trained on."""
    parts = parts_of(store, options)
    return parts.test if part == "test" else parts.validation


def evaluate(
    path: Path,
    store: Store,
    *,
    part: str,
    runtime: Runtime,
    split: str | None = None,
    data: DataSettings | None = None,
    settings: EvaluateSettings | None = None,
    maps: Mapping[str, FrozenMaps] | None = None,
) -> dict[str, ScoreTable]:
    """Score tables by tower of the network in a checkpoint, on the test or validation videos of its split.

    Args:
        path: The checkpoint.
        store: Of the videos; another one than it was trained on must have the same classes.
        part: `test` or `validation`.
        runtime: This process; all processes get the whole tables.
        split: Another one than that of the training.
        data: Instead of the checkpoint's.
        settings: Instead of the checkpoint's.
        maps: Of the frozen layers, by stream, in the place of images; see `fusion_train.frozen`.

    Raises:
        SettingsError: There is no such part, no held-out video (with `train.val` test there is none, since that looks
            at the test list), or the store has other classes.

    The origin of a table has as `num_seen_in_training` how many of its videos the network was trained on.
    """
    if part not in PARTS:
        raise SettingsError(f"`part` must be one of {', '.join(PARTS)}, got {part!r}")
    checkpoint = Checkpoint.load(path)
    own = checkpoint.settings
    if read_splits(store.path).classes != checkpoint.classes:
        raise SettingsError(f"{path} is of other classes than {store.path}; evaluate it on its own data set")
    if part == "validation" and own.train.val == "test":
        raise SettingsError(
            f"{path} was trained with `train.val` test: nothing was held out, and what it was validated on is the test "
            "list; evaluate that, and choose nothing by its figures"
        )
    split = split or own.train.split
    ids = evaluated_ids(store, dataclasses.replace(own.train, split=split), part)
    if not ids:
        raise SettingsError(f"{path} was trained on all videos of the training list, so none is left for validation")
    dataset = ClipDataset(store, ids, data or own.data, streams=streams_of(own.model), maps=maps)
    network = network_of(checkpoint, path).to(runtime.device)
    found = score(network, dataset, settings or own.evaluate, runtime)
    origin: dict[str, Any] = {
        "checkpoint_sha256": file_sha256(path),
        "trained_on_manifest_sha256": checkpoint.manifest_sha256,
        "settings": own.to_json(),
        "data": dataset.settings.to_json(),
        "held_out": own.train.val,
        "num_seen_in_training": num_seen(store, own.train, [video.id for video in dataset.videos]),
    }
    if checkpoint.initial is not None:
        origin["initial_sha256"] = dict(checkpoint.initial)
    return tables_of(found, dataset, network=own.model.network, part=f"{part} {split}", origin=origin)

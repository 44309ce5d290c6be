"""Training of one network, from top to bottom: data, network, epochs of steps, validation, checkpoints."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch

from flowprep.errors import SettingsError
from flowprep.settings import differences
from flowprep.stores import Store
from flowprep.stores.splitsfile import read_splits
from fusion_train.checkpoint import Checkpoint, data_fingerprint
from fusion_train.config import FusionSettings
from fusion_train.data.dataset import ClipDataset
from fusion_train.data.maps import FrozenMaps
from fusion_train.data.splits import read_parts
from fusion_train.evaluate import score, tables_of
from fusion_train.late_fusion import fuse
from fusion_train.metrics import Metrics, measure
from fusion_train.models.build import build_network, new_network
from fusion_train.runtime import Runtime
from fusion_train.training import Speed, Training, streams_of
from fusion_train.trainlog import TrainLog

LAST, NETWORK = "last.pt", "network.pt"
"""Where a training goes on, and what it has made: the best by held-out groups, else the last."""

Report = Callable[[Mapping[str, Any]], None]


def train(
    store: Store,
    settings: FusionSettings,
    folder: Path,
    *,
    runtime: Runtime,
    report: Report | None = None,
    maps: Mapping[str, FrozenMaps] | None = None,
) -> Path:
    """Train a network, or go on with what `folder` has begun. Returns the path of the trained network.

    Args:
        store: The videos.
        settings: Of this network; `settings.model` names its initial weights.
        folder: Gets `last.pt`, `network.pt`, `log.jsonl` and `log.csv`.
        runtime: This process. All processes of torchrun call this.
        report: Called with each line of the log.
        maps: Of the frozen layers, by stream, in the place of images; see `fusion_train.frozen`.

    Raises:
        SettingsError: Settings do not fit each other, the store, or what has been begun.
        MissingDataError: Initial weights are missing.
        TrainingDivergedError: The loss is not finite.
    """
    options, last = settings.train, folder / LAST
    parts = read_parts(store, options.split, validation=options.val, share=options.val_share, seed=options.seed)
    streams = streams_of(settings.model)
    dataset = ClipDataset(store, parts.train, settings.data, streams=streams, maps=maps)
    validation = _validation(store, parts.validation, settings, maps)
    classes, manifest = read_splits(store.path).classes, data_fingerprint(store)
    begun = Checkpoint.load(last) if last.exists() else None

    if begun is None:
        runtime.seed_step(options.seed, -1)
        network = build_network(settings.model, num_classes=len(classes))
    else:
        _check_same(begun, settings, manifest, last)
        network = new_network(settings.model, num_classes=len(classes))
        network.load_state_dict(dict(begun.network))
    training = Training(network, dataset, settings, runtime)
    runtime.send_weights(training.network)
    if begun is not None and begun.training is not None:
        training.load_state_dict(begun.training)

    def save(path: Path, *, whole: bool) -> None:
        if not runtime.is_main:
            return
        weights = {name: tensor.detach().cpu().contiguous() for name, tensor in training.network.state_dict().items()}
        Checkpoint(
            settings=settings,
            manifest_sha256=manifest,
            classes=classes,
            network=weights,
            training=training.state_dict() if whole else None,
        ).save(path)

    with TrainLog(folder, resumed_step=training.step, tensorboard=options.tensorboard, active=runtime.is_main) as log:
        speed = Speed()
        while not training.schedule.is_over:
            training.begin_epoch()
            for batches in training.batches():
                losses = training.take_step(batches)
                speed.count(options.batch_size)
                if training.step % options.log_every == 0 or training.step % training.steps_per_epoch == 0:
                    row = {
                        "step": training.step,
                        "epoch": training.schedule.epoch + 1,
                        "rate": training.schedule.rate,
                        "loss": sum(losses.values()),
                        **{f"loss_{name}": loss for name, loss in losses.items()},
                        "clips_per_second": speed.look(),
                        "wait_share": training.loader.wait_share,
                        "seconds": speed.seconds,
                    }
                    log.add(row, report)
                # After the last step of an epoch comes its validation first.
                if training.step % options.save_every == 0 and training.step % training.steps_per_epoch:
                    save(last, whole=True)
            found = _validate(training, validation)
            if found is not None:
                line: dict[str, Any] = {
                    "step": training.step,
                    "epoch": training.schedule.epoch + 1,
                    "val_top1": found.top1.value,
                    "val_mean_class": found.mean_class,
                    "val_on": options.val,
                    "seconds": speed.seconds,
                }
                log.add(line, report)
            is_best = training.schedule.end_epoch(None if found is None else found.top1.value)
            if is_best and options.val == "groups":  # the test list must not choose
                save(folder / NETWORK, whole=False)
            save(last, whole=True)
            speed.look()
    if options.val != "groups":
        save(folder / NETWORK, whole=False)
    runtime.wait_for_all()
    return folder / NETWORK


def _validation(
    store: Store, ids: tuple[str, ...], settings: FusionSettings, maps: Mapping[str, FrozenMaps] | None
) -> ClipDataset | None:
    if not ids:
        return None
    data = dataclasses.replace(settings.data, num_test_clips=settings.train.num_val_clips, test_flip=False)
    return ClipDataset(store, ids, data, streams=streams_of(settings.model), maps=maps)


def _validate(training: Training, dataset: ClipDataset | None) -> Metrics | None:
    """How good the network is on held-out videos; with two towers, their mean."""
    if dataset is None:
        return None
    settings = training.settings
    found = score(training.network, dataset, settings.evaluate, training.runtime)
    tables = list(tables_of(found, dataset, network=settings.model.network, part="validation", origin={}).values())
    return measure(tables[0] if len(tables) == 1 else fuse(tables))


def lasting(settings: FusionSettings) -> dict[str, Any]:
    """The settings that decide what is trained; others may change when a training goes on, or after it."""
    content = settings.to_json()
    del content["evaluate"]
    for section, names in _FREE.items():
        for name in names:
            del content[section][name]
    return content


_FREE = {
    "train": ("num_threads", "log_every", "save_every", "tensorboard"),
    "data": ("num_test_clips", "test_flip"),  # held-out videos have `num_val_clips`, not mirrored
}


def _check_same(begun: Checkpoint, settings: FusionSettings, manifest: str, path: Path) -> None:
    old, new = lasting(begun.settings), lasting(settings)
    if changed := differences(old, new):
        raise SettingsError(
            f"{path} was begun with other settings ({'; '.join(changed)}); go on with those, or give another folder"
        )
    if begun.manifest_sha256 != manifest:
        raise SettingsError(f"{path} was begun on another state of the store; give another folder to train anew")


def num_parameters(settings: FusionSettings, num_classes: int) -> int:
    """Parameters of a network, without making it."""
    with torch.device("meta"):
        return sum(parameter.numel() for parameter in new_network(settings.model, num_classes=num_classes).parameters())

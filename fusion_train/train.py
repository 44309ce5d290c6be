"""Training of one network, from top to bottom: data, network, epochs of steps, validation, checkpoints."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from flowprep.errors import SettingsError
from flowprep.settings import differences
from flowprep.stores import Store
from flowprep.stores.splitsfile import read_splits
from fusion_train.bilinear import fit_classifier, has_svm, trains_by_descent
from fusion_train.checkpoint import Checkpoint, data_fingerprint, taking_over
from fusion_train.config import FusionSettings
from fusion_train.data.dataset import ClipDataset
from fusion_train.data.maps import FrozenMaps
from fusion_train.data.splits import parts_of_training
from fusion_train.evaluate import score, tables_of
from fusion_train.initial_files import comparable, initial_sha256
from fusion_train.late_fusion import fuse
from fusion_train.metrics import Metrics, cross_entropy, measure
from fusion_train.models.build import new_network
from fusion_train.models.two_stream import FusedNetwork
from fusion_train.models.weights import initialise
from fusion_train.outage import device_memory, remove_unfinished
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
        report: Called with each line of the log, before them with where initial weights come from, under `initial`.
        maps: Of the frozen layers, by stream, in the place of images; see `fusion_train.frozen`.

    Raises:
        SettingsError: Settings do not fit each other, the store, or what has been begun, also where a file of initial
            weights has changed since. `train.rates` and `train.precision` may change until the training has ended.
        MissingDataError: Initial weights are missing.
        TrainingDivergedError: The loss is not finite.
        StoreError: What has been begun is damaged.
    """
    options, last = settings.train, folder / LAST
    check_trains(settings)
    parts = parts_of_training(store, options)
    streams = streams_of(settings.model)
    dataset = ClipDataset(store, parts.train, settings.data, streams=streams, maps=maps)
    validation = _validation(store, parts.validation, settings, maps)
    classes, manifest = read_splits(store.path).classes, data_fingerprint(store)
    initial = initial_sha256(settings.model)
    if runtime.is_main:
        for name in (LAST, NETWORK):
            remove_unfinished(folder / name)
    begun = Checkpoint.load(last) if last.exists() else None
    changed: dict[str, Any] = {}

    if begun is None:
        runtime.seed_step(options.seed, -1)
        network = new_network(settings.model, num_classes=len(classes))
        for name, loaded in initialise(network, classes).items():
            if report is not None and runtime.is_main:
                report({"step": 0, "epoch": 0, "initial": loaded.sentence(name)})
    else:
        changed = _check_same(begun, settings, manifest, initial, last)
        network = new_network(settings.model, num_classes=len(classes))
        with taking_over(last):
            network.load_state_dict(dict(begun.network))
    training = Training(network, dataset, settings, runtime)
    runtime.send_weights(training.network)
    if begun is not None and begun.training is not None:
        with taking_over(last), device_memory("take a device with more memory that is free"):
            training.load_state_dict(begun.training)
    if changed and training.schedule.is_over:
        raise _others(last, [f"{name}: {was} there, {now} asked for" for name, (was, now) in changed.items()])

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
            content=store.settings.to_json(),
            initial=initial if begun is None else begun.initial,  # of files that may be gone now
        ).save(path)

    with TrainLog(folder, resumed_step=training.step, tensorboard=options.tensorboard, active=runtime.is_main) as log:
        if changed:
            log.add({"step": training.step, "epoch": training.schedule.epoch + 1, "changed": changed}, report)
            save(last, whole=True)  # with these settings, so that it is said once
        speed = Speed()
        descends = trains_by_descent(training.network, settings)
        while descends and not training.schedule.is_over:
            training.begin_epoch()
            for batches in training.batches():
                taken = training.take_step(batches)
                speed.count(options.batch_size)
                if training.step % options.log_every == 0 or training.step % training.steps_per_epoch == 0:
                    row = {
                        "step": training.step,
                        "epoch": training.schedule.epoch + 1,
                        "rate": training.schedule.rate,
                        "loss": taken.loss,
                        **{f"loss_{name}": loss for name, loss in taken.losses.items()},
                        "top1": taken.top1,
                        "clips_per_second": speed.look(),
                        "wait_share": training.loader.wait_share,
                        "seconds": speed.seconds,
                    }
                    log.add(row, report)
                # After the last step of an epoch comes its validation first.
                if training.step % options.save_every == 0 and training.step % training.steps_per_epoch:
                    save(last, whole=True)
            if settings.model.batch_norm != "frozen":
                runtime.send_buffers(training.network)  # Note [whose statistics]
            found = _validate(training, validation)
            if found is not None:
                line = {"step": training.step, "epoch": training.schedule.epoch + 1, **found.row(options.val)}
                log.add({**line, "seconds": speed.seconds}, report)
            is_best = training.schedule.end_epoch(None if found is None else found.metrics.top1.value)
            if is_best and options.val == "groups":  # the test list must not choose
                save(folder / NETWORK, whole=False)
            save(last, whole=True)
            speed.look()
        if has_svm(settings):
            runtime.wait_for_all()
            if options.val == "groups" and training.schedule.best_epoch >= 0:  # those have chosen the network
                training.network.load_state_dict(dict(Checkpoint.load(folder / NETWORK).network))
            log.add(_fit_svm(training, store, parts.train, folder, validation), report)
    if options.val != "groups" or has_svm(settings):
        save(folder / NETWORK, whole=False)
    runtime.wait_for_all()
    return folder / NETWORK


def _fit_svm(
    training: Training, store: Store, ids: tuple[str, ...], folder: Path, validation: ClipDataset | None
) -> dict[str, Any]:
    """The SVM of bilinear fusion in the place of the softmax layer; a line of the log."""
    network, settings = training.network, training.settings
    assert isinstance(network, FusedNetwork)
    row: dict[str, Any] = {"step": training.step, "epoch": training.schedule.epoch}
    row["svm_train_top1"] = fit_classifier(network, store, ids, settings, folder, training.runtime)
    found = _validate(training, validation)
    if found is not None:
        row |= found.row(settings.train.val)
    return row


def _validation(
    store: Store, ids: tuple[str, ...], settings: FusionSettings, maps: Mapping[str, FrozenMaps] | None
) -> ClipDataset | None:
    if not ids:
        return None
    data = dataclasses.replace(settings.data, num_test_clips=settings.train.num_val_clips, test_flip=False)
    return ClipDataset(store, ids, data, streams=streams_of(settings.model), maps=maps)


@dataclass(frozen=True, kw_only=True)
class _Found:
    """What a network is worth on held-out videos: metrics, with two towers of their mean, and loss by tower."""

    metrics: Metrics
    losses: Mapping[str, float]

    def row(self, held_out: str) -> dict[str, Any]:
        """What a line of the log says of it."""
        return {
            "val_top1": self.metrics.top1.value,
            "val_mean_class": self.metrics.mean_class,
            "val_loss": sum(self.losses.values()),
            **{f"val_loss_{name}": loss for name, loss in self.losses.items()},
            "val_on": held_out,
        }


def _validate(training: Training, dataset: ClipDataset | None) -> _Found | None:
    if dataset is None:
        return None
    settings = training.settings
    found = score(training.network, dataset, settings.evaluate, training.runtime)
    by_tower = tables_of(found, dataset, network=settings.model.network, part="validation", origin={})
    tables = list(by_tower.values())
    return _Found(
        metrics=measure(tables[0] if len(tables) == 1 else fuse(tables)),
        losses={tower: cross_entropy(table) for tower, table in by_tower.items()},
    )


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


_ADJUSTABLE = ("precision", "rates")
"""Settings of `train` that may change while it is under way, as the cure for a loss that is not finite. The schedule
holds no rate, momentum is a sum of gradients alone, and weights are float32 in either precision."""


def _check_same(
    begun: Checkpoint, settings: FusionSettings, manifest: str, initial: Mapping[str, str], path: Path
) -> dict[str, tuple[Any, Any]]:
    """Of what may be adjusted, what is another: old and new value by name."""
    old, new = comparable(lasting(begun.settings), lasting(settings), begun.initial, initial)
    changed = {
        f"train.{name}": (old["train"].pop(name), new["train"].pop(name))
        for name in _ADJUSTABLE
        if old["train"][name] != new["train"][name]
    }
    if others := differences(old, new):
        raise _others(path, others)
    if begun.manifest_sha256 != manifest:
        raise SettingsError(f"{path} was begun on another state of the store; give another folder to train anew")
    return changed


def _others(path: Path, differing: Sequence[str]) -> SettingsError:
    return SettingsError(
        f"{path} was begun with other settings ({'; '.join(differing)}); go on with those, give another folder, or "
        "delete this one to train anew"
    )


def check_trains(settings: FusionSettings) -> None:
    """Raises SettingsError, with the cure, for a network of which nothing would be trained."""
    with torch.device("meta"):
        network = new_network(settings.model, num_classes=2)
    if not any(parameter.requires_grad for parameter in network.parameters()):
        model = settings.model
        raise SettingsError(
            f"nothing of this network would be trained: `model.fusion` {model.fusion} has no weights, and "
            f"`model.backprop_to` {model.backprop_to} freezes all layers up to `model.at` {model.at}; set "
            "`model.backprop_to` to prediction or input, or join the streams' scores with `fusion-train fuse`"
        )


def num_parameters(settings: FusionSettings, num_classes: int) -> int:
    """Parameters of a network, without making it."""
    with torch.device("meta"):
        return sum(parameter.numel() for parameter in new_network(settings.model, num_classes=num_classes).parameters())

"""`--dry-run`: steps, parameters, memory and time of a run, from a few steps that are measured with random weights."""

from __future__ import annotations

import dataclasses
import itertools
import statistics
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import final

import torch

from flowprep.stores import Store
from flowprep.stores.splitsfile import read_splits
from fusion_train.bilinear import trains_by_descent
from fusion_train.config import FusionSettings
from fusion_train.data.augment import network_inputs
from fusion_train.data.dataset import ClipDataset
from fusion_train.data.loader import ClipLoader
from fusion_train.data.splits import parts_of_training
from fusion_train.models.build import new_network
from fusion_train.models.two_stream import Network
from fusion_train.overrides import STAGES
from fusion_train.runtime import Runtime
from fusion_train.stages import DONE, SplitRun
from fusion_train.train import check_trains
from fusion_train.training import Training, streams_of

_NUM_MEASURED = 2
_SHORT_SECONDS = 1.0


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Forecast:
    """Of one stage: what training and evaluation take.

    `memory_bytes` is the most that is in use, of a device during this stage. Of a process on a CPU the system knows
    the most so far alone, that of the stages before it included (`memory_is_so_far`). `seconds` is of all its epochs
    without held-out videos; with a plateau it may end before that. `test_seconds` is the evaluation of the test list.
    """

    split: str
    stage: str
    is_done: bool
    num_steps: int
    num_parameters: int
    num_trained: int
    memory_bytes: int
    memory_is_so_far: bool
    seconds: float
    test_seconds: float


def forecast(store: Store, run: SplitRun, runtime: Runtime) -> list[Forecast]:
    """What each training of a split would take. Writes nothing, and needs no initial weights.

    Raises SettingsError where a network has nothing to train, or no group can be held out: as the run would.
    """
    for settings in run.settings.values():
        check_trains(settings)
        parts_of_training(store, settings.train)
    return [
        forecast_network(
            store,
            run.settings[stage],
            split=run.split,
            stage=stage,
            is_done=(run.folder / stage / DONE).exists(),
            runtime=runtime,
        )
        for stage in STAGES
    ]


def forecast_network(
    store: Store, settings: FusionSettings, *, split: str, stage: str, is_done: bool, runtime: Runtime
) -> Forecast:
    """What one training would take, or has taken nothing more of if it `is_done`; `split` and `stage` name it."""
    train = settings.train
    parts = parts_of_training(store, train)
    dataset = ClipDataset(store, parts.train, settings.data, streams=streams_of(settings.model))
    is_alone = runtime.forget_peak_memory()
    network = new_network(settings.model, num_classes=len(read_splits(store.path).classes))
    steps = Training(network, dataset, settings, runtime).steps_per_epoch * train.max_epochs
    test_seconds = 0.0 if is_done else _test_seconds(network, store, parts.test, settings, runtime)
    if is_done:
        seconds, memory = 0.0, 0
    elif trains_by_descent(network, settings):
        step_seconds, memory = _measured(network, dataset, settings, runtime)
        seconds = step_seconds * steps
    else:  # the SVM of bilinear fusion sees every video once
        data = dataclasses.replace(settings.data, num_test_clips=train.num_val_clips, test_flip=False)
        once = dataclasses.replace(settings, data=data)
        steps, seconds = 0, _test_seconds(network, store, parts.train, once, runtime)
        memory = runtime.peak_memory_bytes()
    return Forecast(
        split=split,
        stage=stage,
        is_done=is_done,
        num_steps=steps,
        num_parameters=sum(parameter.numel() for parameter in network.parameters()),
        num_trained=sum(parameter.numel() for parameter in network.parameters() if parameter.requires_grad),
        memory_bytes=memory,
        memory_is_so_far=not is_alone,
        seconds=seconds,
        test_seconds=test_seconds,
    )


def memory_sentence(found: Iterable[Forecast]) -> str:
    """What the column of memory is, for who reads the table."""
    if any(one.memory_is_so_far for one in found):
        return "Memory is the most that this process has held so far, in the rows above too."
    return "Memory is the most that a row alone takes on the device."


@torch.no_grad()
def _test_seconds(
    network: Network, store: Store, ids: Sequence[str], settings: FusionSettings, runtime: Runtime
) -> float:
    """Of a whole list of videos, from one video: its inputs, and one of its clips. Decoding runs ahead in threads."""
    streams = streams_of(settings.model)
    videos = ClipDataset(store, ids, settings.data, streams=streams).videos  # without those that are too short
    dataset = ClipDataset(store, [videos[0].id], settings.data, streams=streams)
    (batch,) = ClipLoader(dataset, batch_size=1, training=False, num_threads=settings.evaluate.num_threads)
    start = time.perf_counter()
    rgb, flow = network_inputs(batch, runtime.device)
    runtime.synchronise()
    inputs = time.perf_counter() - start
    network.to(runtime.device).eval()
    taken = []
    for _ in range(_NUM_MEASURED):
        start = time.perf_counter()
        with runtime.autocast(settings.evaluate.precision):
            network(None if rgb is None else rgb[:1], None if flow is None else flow[:1])
        runtime.synchronise()
        taken.append(time.perf_counter() - start)
    network.train()
    return (inputs + min(taken) * len(batch)) * len(videos) / runtime.world_size


def _measured(network: Network, dataset: ClipDataset, settings: FusionSettings, runtime: Runtime) -> tuple[float, int]:
    """Seconds a whole step, and the most memory."""
    batch_size, most = settings.train.batch_size, settings.train.videos_at_once
    # On a CPU a step of one large network takes minutes; then one video is enough to see.
    at_once = most if runtime.device.type == "cuda" else 1
    seconds = _seconds_a_step(network, dataset, settings, runtime, at_once)
    if at_once < most and seconds < _SHORT_SECONDS:
        at_once = most
        seconds = _seconds_a_step(network, dataset, settings, runtime, at_once)
    return seconds * batch_size / (at_once * runtime.world_size), runtime.peak_memory_bytes()


def _seconds_a_step(
    network: Network, dataset: ClipDataset, settings: FusionSettings, runtime: Runtime, at_once: int
) -> float:
    """Of so many videos a process, in the slowest one; the first step is not counted."""
    small = dataclasses.replace(settings.train, batch_size=at_once * runtime.world_size, videos_at_once=at_once)
    training = Training(network, dataset, dataclasses.replace(settings, train=small), runtime)
    training.begin_epoch()
    taken = []
    for batches in itertools.islice(training.batches(), 1 + _NUM_MEASURED):
        start = time.perf_counter()
        training.take_step(batches)  # ends with the losses on the CPU, so all is computed
        taken.append(time.perf_counter() - start)
    return float(max(runtime.gathered([statistics.fmean(taken[1:] or taken)])))  # all decide alike on what follows

"""`fusion-train bench`: how fast a network trains here, with data from memory and from a store, and what bounds it.

A step is what `Stepper` does in a training: all parts of a batch, forward and backward, and the optimiser. Data from
memory is one part of random clips on the device, used again and again, so nothing is decoded, copied or resized.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, final

import torch

from flowprep.errors import SettingsError
from flowprep.stores import Store
from flowprep.stores.splitsfile import read_splits
from fusion_train.config import FusionSettings
from fusion_train.data.dataset import ClipDataset
from fusion_train.data.loader import ClipLoader
from fusion_train.data.splits import parts_of
from fusion_train.flops import peak_flops, training_flops
from fusion_train.models.build import new_network
from fusion_train.runtime import Runtime
from fusion_train.step import Part, Stepper
from fusion_train.training import Training, streams_of

_RATE = 1e-6
"""So small a learning rate that random weights stay finite on random data."""


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Rate:
    """Clips a second of all processes: the median of steps, and the slowest and fastest."""

    median: float
    least: float
    most: float

    @classmethod
    def of(cls, seconds: Sequence[float], num_clips: int) -> Rate:
        """From seconds of steps of so many clips."""
        rates = [num_clips / value for value in seconds]
        return cls(median=statistics.median(rates), least=min(rates), most=max(rates))


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class WithData:
    """The same with a store: the loader alone, the training, and the share of it that waited for data."""

    loader: Rate
    training: Rate
    wait_share: float
    num_threads: int


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class BenchResult:
    """What was measured. `flops_per_clip` are of a step; `peak_flops` of all devices, None where not known."""

    settings: FusionSettings
    device: str
    world_size: int
    num_steps: int
    num_parameters: int
    num_trained: int
    flops_per_clip: int
    peak_flops: float | None
    memory_bytes: int
    from_memory: Rate
    with_data: WithData | None

    @property
    def mfu(self) -> float | None:
        """Model FLOPs utilisation with data from memory, 0 to 1."""
        return self.from_memory.median * self.flops_per_clip / self.peak_flops if self.peak_flops else None

    @property
    def bound(self) -> str | None:
        """What bounds a training from the store: `loader` or `network`, the slower of the two alone."""
        if self.with_data is None:
            return None
        return "loader" if self.with_data.loader.median < self.from_memory.median else "network"

    @property
    def threads_needed(self) -> int | None:
        """Decoding threads, each on a core, with which the loader would keep up, if it grows with them."""
        if self.with_data is None:
            return None
        return math.ceil(self.with_data.num_threads * self.from_memory.median / self.with_data.loader.median)

    def to_json(self) -> dict[str, Any]:
        """A plain JSON object."""
        train, data = self.settings.train, self.settings.data
        return {
            "network": self.settings.model.network,
            "spatial": self.settings.model.spatial,
            "temporal": self.settings.model.temporal,
            "device": self.device,
            "world_size": self.world_size,
            "torch": torch.__version__,
            "precision": train.precision,
            "compiled": train.compiled,
            "channels_last": train.channels_last,
            "batch_size": train.batch_size,
            "videos_at_once": train.videos_at_once,
            "num_chunks": data.num_chunks,
            "crop_size": data.crop_size,
            "num_steps": self.num_steps,
            "num_parameters": self.num_parameters,
            "num_trained": self.num_trained,
            "flops_per_clip": self.flops_per_clip,
            "peak_flops": self.peak_flops,
            "memory_bytes": self.memory_bytes,
            "clips_per_second": dataclasses.asdict(self.from_memory),
            "flops_per_second": self.from_memory.median * self.flops_per_clip,
            "mfu": self.mfu,
            "with_data": None
            if self.with_data is None
            else {**dataclasses.asdict(self.with_data), "bound": self.bound, "threads_needed": self.threads_needed},
        }


def num_classes_of(preset: str) -> int:
    """Classes of a preset's data set; 4 of `debug`, as of the synthetic videos."""
    return {"ucf101": 101, "hmdb51": 51}.get(preset.partition("-")[0], 4)


def measure(
    settings: FusionSettings,
    *,
    num_classes: int,
    runtime: Runtime,
    num_steps: int = 10,
    num_warm_up: int = 3,
    store: Store | None = None,
    peak: float | None = None,
    tell: Callable[[str], None] = lambda _: None,
) -> BenchResult:
    """Train with random weights and measure.

    Args:
        settings: Of the network.
        num_classes: Of its logits; those of `store` if there is one.
        runtime: This process.
        num_steps: Steps that are measured.
        num_warm_up: Steps before them.
        store: To be trained on too.
        peak: Operations a second of one device, where it is not in `flops.PEAK_TFLOPS`.
        tell: Called with what is measured next.

    Raises:
        SettingsError: Wrong numbers, or a batch that does not fit the processes or the store.
    """
    for name, value, least in (("num_steps", num_steps, 1), ("num_warm_up", num_warm_up, 0)):
        if value < least:
            raise SettingsError(f"`{name}` must be at least {least}, got {value}")
    if store is not None:
        num_classes = len(read_splits(store.path).classes)
    network = new_network(settings.model, num_classes=num_classes)
    counts = [(parameter.numel(), parameter.requires_grad) for parameter in network.parameters()]
    tell(f"training with data from memory: {num_warm_up} steps of {settings.train.batch_size} clips, then {num_steps}")
    stepper = Stepper(network, settings, runtime)
    from_memory = Rate.of(
        _timed(_memory_steps(stepper, num_classes), num_steps, num_warm_up, runtime), settings.train.batch_size
    )
    memory_bytes = runtime.peak_memory_bytes()
    del stepper
    with_data = (
        None if store is None else _with_data(store, settings, num_classes, runtime, num_steps, num_warm_up, tell)
    )
    peak = peak or peak_flops(runtime.device, settings.train.precision)
    return BenchResult(
        settings=settings,
        device=torch.cuda.get_device_name(runtime.device) if runtime.device.type == "cuda" else "cpu",
        world_size=runtime.world_size,
        num_steps=num_steps,
        num_parameters=sum(num for num, _ in counts),
        num_trained=sum(num for num, trained in counts if trained),
        flops_per_clip=training_flops(settings, num_classes),
        peak_flops=None if peak is None else peak * runtime.world_size,
        memory_bytes=memory_bytes,
        from_memory=from_memory,
        with_data=with_data,
    )


def _memory_steps(stepper: Stepper, num_classes: int) -> Iterator[None]:
    """A step each time it is asked for, on random clips that lie on the device."""
    settings, runtime = stepper.settings, stepper.runtime
    train, data = settings.train, settings.data
    at_once = train.videos_at_once * runtime.world_size
    if train.batch_size % at_once:
        raise SettingsError(
            f"`train.batch_size` must be a multiple of `train.videos_at_once` times the number of processes, "
            f"{at_once}, got {train.batch_size}"
        )
    generator = torch.Generator().manual_seed(train.seed + runtime.rank)
    shape = train.videos_at_once, data.num_chunks, data.crop_size, data.crop_size

    def clips(channels: int) -> torch.Tensor:
        images = torch.randint(0, 256, (*shape[:2], channels, *shape[2:]), dtype=torch.uint8, generator=generator)
        return images.to(runtime.device).float()

    streams = streams_of(settings.model)
    part = Part(
        ids=("random clips",),
        rgb=clips(3) if "rgb" in streams else None,
        flow=clips(2 * data.stack_length) if "flow" in streams else None,
        labels=(torch.arange(train.videos_at_once) % num_classes).to(runtime.device),
    )
    for number in itertools.count():
        stepper.take(itertools.repeat(part, train.batch_size // at_once), number=number, rate=_RATE)
        yield


def _timed(steps: Iterator[None], num_steps: int, num_warm_up: int, runtime: Runtime) -> list[float]:
    """Seconds of each step after the first ones."""
    for _ in itertools.islice(steps, num_warm_up):
        pass
    seconds = []
    runtime.synchronise()
    for _ in range(num_steps):
        start = time.perf_counter()
        next(steps)
        runtime.synchronise()
        seconds.append(time.perf_counter() - start)
    return seconds


def _with_data(
    store: Store,
    settings: FusionSettings,
    num_classes: int,
    runtime: Runtime,
    num_steps: int,
    num_warm_up: int,
    tell: Callable[[str], None],
) -> WithData:
    train = settings.train
    parts = parts_of(store, train)
    dataset = ClipDataset(store, parts.train, settings.data, streams=streams_of(settings.model))
    training = Training(new_network(settings.model, num_classes=num_classes), dataset, settings, runtime)
    per_step = training.batches_per_step

    tell("the loader alone")
    batches = _endless(training.loader)

    def decoded() -> Iterator[None]:
        while True:
            for _ in range(per_step):
                next(batches)
            yield

    loader = Rate.of(_timed(decoded(), num_steps, num_warm_up, runtime), train.batch_size)
    batches.close()
    training.loader.epoch, training.loader.batch = 0, 0
    tell("training from the store")
    steps = _training_steps(training)
    rate = Rate.of(_timed(steps, num_steps, num_warm_up, runtime), train.batch_size)
    wait_share = training.loader.wait_share
    return WithData(loader=loader, training=rate, wait_share=wait_share, num_threads=training.loader.num_threads)


def _endless(loader: ClipLoader) -> Any:
    """Batches of one pass after another: a generator."""
    while True:
        yield from loader


def _training_steps(training: Training) -> Iterator[None]:
    while True:
        training.begin_epoch()
        for batches in training.batches():
            parts = (Part.of(batch, training.runtime.device) for batch in batches)
            training.stepper.take(parts, number=training.step, rate=_RATE)
            training.step += 1
            yield
        training.schedule.end_epoch(None)

"""A network in training: network, optimiser, schedule and position in the data, step after step."""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterator, Mapping
from typing import Any, final

from flowprep.errors import SettingsError
from fusion_train.bilinear import has_svm
from fusion_train.config import FusionSettings, ModelSettings
from fusion_train.data.batch import ClipBatch
from fusion_train.data.dataset import ClipDataset
from fusion_train.data.loader import ClipLoader
from fusion_train.data.maps import MapBatch
from fusion_train.frozen import give_maps
from fusion_train.models.svm import check_svm_size
from fusion_train.models.two_stream import FusedNetwork, Network
from fusion_train.runtime import Runtime
from fusion_train.schedule import Schedule
from fusion_train.step import Part, Step, Stepper
from fusion_train.step import TrainingDivergedError as TrainingDivergedError  # what training raises


def streams_of(settings: ModelSettings) -> tuple[str, ...]:
    """What a network takes of a store."""
    return {"spatial": ("rgb",), "temporal": ("flow",), "fused": ("rgb", "flow")}[settings.network]


@final
class Training:
    """What changes from step to step. A step is `batch_size` videos of all processes, in parts that fit in memory."""

    def __init__(self, network: Network, dataset: ClipDataset, settings: FusionSettings, runtime: Runtime) -> None:
        """Raises SettingsError if the batch does not divide among the processes, or is larger than the list.

        The same if the list is too long for the SVM of bilinear fusion: before all else is trained, not after it.
        """
        train = settings.train
        at_once = train.videos_at_once * runtime.world_size
        if train.batch_size % at_once:
            raise SettingsError(
                f"`train.batch_size` must be a multiple of `train.videos_at_once` times the number of processes, "
                f"{at_once}, got {train.batch_size}"
            )
        if train.batch_size > len(dataset):
            raise SettingsError(
                f"`train.batch_size` must be at most the {len(dataset)} videos that are trained on, "
                f"got {train.batch_size}; {_smaller_batch(len(dataset), train.videos_at_once, runtime.world_size)}"
            )
        if isinstance(network, FusedNetwork) and network.bilinear_classifier is not None and has_svm(settings):
            check_svm_size(len(dataset), network.bilinear_classifier.in_channels)
        self.stepper = Stepper(network, settings, runtime)
        self.network = self.stepper.network
        self.optimiser = self.stepper.optimiser
        give_maps(self.network, dataset.maps)
        self.settings = settings
        self.runtime = runtime
        self.schedule = Schedule(train)
        self.loader = ClipLoader(
            dataset,
            batch_size=train.videos_at_once,
            training=True,
            seed=train.seed,
            rank=runtime.rank,
            world_size=runtime.world_size,
            num_threads=train.num_threads,
            pin_memory=runtime.device.type == "cuda",
        )
        self.batches_per_step = train.batch_size // at_once
        self.steps_per_epoch = len(self.loader) // self.batches_per_step * train.passes
        self.step = 0

    def begin_epoch(self) -> None:
        """What changes with the epoch: trained layers, momentum. Harmless in the middle of one that is resumed."""
        model, train = self.settings.model, self.settings.train
        self.network.set_backprop("prediction" if self.schedule.trains_head_only else model.backprop_to)
        if train.reset_momentum and self.step == self.schedule.epoch * self.steps_per_epoch:
            self.optimiser.state.clear()

    def batches(self) -> Iterator[Iterator[ClipBatch | MapBatch]]:
        """For each step that is left of this epoch its batches. What fills no step at a pass's end is left out."""
        last_pass = (self.schedule.epoch + 1) * self.settings.train.passes
        steps_per_pass = self.steps_per_epoch // self.settings.train.passes
        while self.loader.epoch < last_pass:
            # The position of a loader counts batches that were given out, and it is only read between steps.
            done = self.loader.batch // self.batches_per_step
            given = iter(self.loader)
            for _ in range(done, steps_per_pass):
                yield itertools.islice(given, self.batches_per_step)
            given.close()  # type: ignore[attr-defined]
            self.loader.epoch, self.loader.batch = self.step // steps_per_pass, 0

    def take_step(self, batches: Iterator[ClipBatch | MapBatch]) -> Step:
        """One step of gradient descent.

        Raises:
            TrainingDivergedError: A loss or a gradient is not finite.
        """
        parts = (Part.of(batch, self.runtime.device) for batch in batches)
        taken = self.stepper.take(parts, number=self.step, rate=self.schedule.rate)
        self.step += 1
        return taken

    def state_dict(self) -> dict[str, Any]:
        """All but the network's weights; between steps."""
        return {
            "step": self.step,
            "optimiser": self.optimiser.state_dict(),
            "schedule": self.schedule.state_dict(),
            "loader": self.loader.state_dict(),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from `state_dict`. Raises SettingsError if the data or the size of the batch is another."""
        self.loader.load_state_dict(state["loader"])
        self.optimiser.load_state_dict(state["optimiser"])
        self.schedule.load_state_dict(state["schedule"])
        self.step = state["step"]


def _smaller_batch(num_videos: int, videos_at_once: int, world_size: int) -> str:
    """The largest batch that so many videos fill, as it is entered."""
    if num_videos < world_size:
        return f"start at most {num_videos} processes"
    at_once = min(videos_at_once, num_videos // world_size)
    size = num_videos // (at_once * world_size) * at_once * world_size
    less = f" --set train.videos_at_once={at_once}" if at_once < videos_at_once else ""
    return f"give --set train.batch_size={size}{less}"


@final
class Speed:
    """Clips a second since the last look, of all processes."""

    def __init__(self) -> None:
        self._start, self._clips = time.perf_counter(), 0
        self._began = self._start

    @property
    def seconds(self) -> float:
        """Since this was made."""
        return time.perf_counter() - self._began

    def count(self, num_clips: int) -> None:
        """So many more are done."""
        self._clips += num_clips

    def look(self) -> float:
        """Clips a second, and begin anew."""
        now = time.perf_counter()
        speed = self._clips / max(now - self._start, 1e-9)
        self._start, self._clips = now, 0
        return speed

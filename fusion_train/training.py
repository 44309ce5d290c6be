"""A network in training: network, optimiser, schedule and position in the data, and one step of all of them."""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, final

import torch
from torch import Tensor, nn
from torch.nn import functional

from flowprep.errors import FlowprepError, SettingsError
from fusion_train.config import FusionSettings, ModelSettings
from fusion_train.data.augment import network_inputs
from fusion_train.data.batch import ClipBatch
from fusion_train.data.dataset import ClipDataset
from fusion_train.data.loader import ClipLoader
from fusion_train.data.maps import MapBatch
from fusion_train.frozen import give_maps
from fusion_train.models.two_stream import Network
from fusion_train.runtime import Runtime
from fusion_train.schedule import Schedule


class TrainingDivergedError(FlowprepError, ArithmeticError):
    """The loss is not finite; the weights are still those before the step."""


def streams_of(settings: ModelSettings) -> tuple[str, ...]:
    """What a network takes of a store."""
    return {"spatial": ("rgb",), "temporal": ("flow",), "fused": ("rgb", "flow")}[settings.network]


def tower_losses(logits: Mapping[str, Tensor], labels: Tensor) -> dict[str, Tensor]:
    """Cross-entropy by tower: the sum over clips, of the mean over the time steps that are left.

    Args:
        logits: By tower, (B, T', C) of `Network.frame_logits`; with 2D pooling every chunk has its own loss.
        labels: int64 (B,).
    """
    found = {}
    for name, scores in logits.items():
        num_steps = scores.shape[1]
        repeated = labels.repeat_interleave(num_steps)
        found[name] = functional.cross_entropy(scores.flatten(0, 1), repeated, reduction="sum") / num_steps
    return found


def sgd(network: nn.Module, settings: FusionSettings) -> torch.optim.SGD:
    """Weights and biases in two groups; `rate_factor` is what a group's learning rate is, times that of weights."""
    train = settings.train
    biases = [parameter for name, parameter in network.named_parameters() if name.endswith(".bias")]
    weights = [parameter for name, parameter in network.named_parameters() if not name.endswith(".bias")]
    decay = train.weight_decay
    groups = [
        {"params": weights, "rate_factor": 1.0, "weight_decay": decay},
        {"params": biases, "rate_factor": train.bias_rate, "weight_decay": decay if train.bias_decay else 0.0},
    ]
    return torch.optim.SGD([group for group in groups if group["params"]], lr=0.0, momentum=train.momentum)


@final
class Training:
    """What changes from step to step. A step is `batch_size` videos of all processes, in parts that fit in memory."""

    def __init__(self, network: Network, dataset: ClipDataset, settings: FusionSettings, runtime: Runtime) -> None:
        """Raises SettingsError if the batch does not divide among the processes, or is larger than the list."""
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
                f"got {train.batch_size}"
            )
        self.network = network.to(runtime.device)
        give_maps(network, dataset.maps)
        self.settings = settings
        self.runtime = runtime
        self.optimiser = sgd(self.network, settings)
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
        self._forward = torch.compile(network.frame_logits) if train.compiled else network.frame_logits

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

    def take_step(self, batches: Iterator[ClipBatch | MapBatch]) -> dict[str, float]:
        """One step of gradient descent. Returns the mean loss a clip by tower, over all processes.

        Raises:
            TrainingDivergedError: A loss is not finite; it names the videos.
        """
        train = self.settings.train
        self.network.train()
        self.runtime.seed_step(train.seed, self.step)
        self.optimiser.zero_grad(set_to_none=True)
        losses: list[dict[str, Tensor]] = []
        ids: list[tuple[str, ...]] = []
        for batch in batches:
            rgb, flow = network_inputs(batch, self.runtime.device)
            with self.runtime.autocast(train.precision):
                logits = self._forward(rgb, flow)
            towers = tower_losses(logits, batch.labels.to(self.runtime.device))
            loss = torch.stack(list(towers.values())).sum() / train.batch_size
            loss.backward()  # type: ignore[no-untyped-call]
            losses.append({name: loss.detach() for name, loss in towers.items()})
            ids.append(batch.ids)
        names = list(losses[0])
        own = torch.stack([torch.stack([loss[name] for name in names]) for loss in losses])  # (batches, towers)
        total = own.sum(0)
        self.runtime.add_up(total)
        if not total.isfinite().all():
            self._diverged(own, names, ids)
        self.runtime.add_up_gradients(self.network.parameters())
        for group in self.optimiser.param_groups:
            group["lr"] = self.schedule.rate * group["rate_factor"]
        self.optimiser.step()
        self.step += 1
        return dict(zip(names, (total / train.batch_size).tolist(), strict=True))

    def _diverged(self, own: Tensor, names: Sequence[str], ids: Sequence[tuple[str, ...]]) -> None:
        bad = own.isfinite().logical_not()
        where = f"at step {self.step + 1}"
        cure = "lower `train.rates`, or look at these videos with `flowprep preview`"
        if not bad.any():
            raise TrainingDivergedError(f"the loss is not finite {where}, in another process")
        batch = int(bad.any(1).nonzero()[0])
        towers = ", ".join(name for name, is_bad in zip(names, bad[batch].tolist(), strict=True) if is_bad)
        raise TrainingDivergedError(
            f"the loss of {towers} is not finite {where}, in the batch of videos {', '.join(ids[batch])}; {cure}"
        )

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

"""One step of gradient descent: losses of the towers, gradients of parts that add up, the optimiser."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils import get_total_norm

from flowprep.errors import FlowprepError
from fusion_train.config import FusionSettings
from fusion_train.data.augment import network_inputs
from fusion_train.data.batch import ClipBatch
from fusion_train.data.maps import MapBatch
from fusion_train.models.two_stream import Network
from fusion_train.outage import device_memory
from fusion_train.runtime import Runtime


class TrainingDivergedError(FlowprepError, ArithmeticError):
    """The loss or a gradient is not finite; the weights are still those before the step."""


@final
@dataclass(frozen=True, eq=False)
class Part:
    """Clips that pass through the network at once: rgb (B, T, 3, H, W), flow (B, T, 2L, H, W), labels int64 (B,).

    In the place of images there may be maps of frozen layers, (B, T, C, h, w) of each stream.
    """

    ids: tuple[str, ...]
    rgb: Tensor | None
    flow: Tensor | None
    labels: Tensor

    @classmethod
    def of(cls, batch: ClipBatch | MapBatch, device: torch.device) -> Part:
        """The clips of a batch, resized and mirrored on the device."""
        rgb, flow = network_inputs(batch, device)
        return cls(batch.ids, rgb, flow, batch.labels.to(device))


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


@torch.no_grad()
def num_right(logits: Mapping[str, Tensor], labels: Tensor) -> Tensor:
    """How many clips the mean of towers and time steps gets right, as a number of float32 without shape.

    Args:
        logits: By tower, (B, T', C) of `Network.frame_logits`.
        labels: int64 (B,).
    """
    mean = torch.stack([scores.float().mean(1) for scores in logits.values()]).mean(0)  # (B, C)
    return (mean.argmax(1) == labels).sum().float()


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
@dataclass(frozen=True, kw_only=True)
class Step:
    """What a step says of its clips, over all processes: the mean loss by tower, and the share that is right.

    Both are those of training: with dropout, and before the weights change.
    """

    losses: Mapping[str, float]
    top1: float

    @property
    def loss(self) -> float:
        """Of all towers: what is made smaller."""
        return sum(self.losses.values())


@final
class Stepper:
    """A network on its device, and its optimiser."""

    def __init__(self, network: Network, settings: FusionSettings, runtime: Runtime) -> None:
        with device_memory("take a device with more memory that is free"):
            self.network = network.to(runtime.device)
        if settings.train.channels_last:
            for module in self.network.modules():
                if isinstance(module, nn.Conv2d):  # maps follow the filters
                    module.to(memory_format=torch.channels_last)
        self.settings = settings
        self.runtime = runtime
        self.optimiser = sgd(self.network, settings)
        self._forward = torch.compile(network.frame_logits) if settings.train.compiled else network.frame_logits

    @device_memory("lower `train.videos_at_once`, or take a device with more memory that is free")
    def take(self, parts: Iterable[Part], *, number: int, rate: float) -> Step:
        """Step `number`, from 0, of `train.batch_size` clips of all processes in such parts.

        Raises:
            TrainingDivergedError: A loss or a gradient is not finite; it names the videos or the parameters. In all
                processes, and before the optimiser has seen it.
            DeviceMemoryError: A part does not fit into memory.
        """
        train = self.settings.train
        self.network.train()
        self.runtime.seed_step(train.seed, number)
        self.optimiser.zero_grad(set_to_none=True)
        losses: list[dict[str, Tensor]] = []
        rights: list[Tensor] = []
        ids: list[tuple[str, ...]] = []
        for part in parts:
            with self.runtime.autocast(train.precision):
                logits = self._forward(part.rgb, part.flow)
            towers = tower_losses(logits, part.labels)
            loss = torch.stack(list(towers.values())).sum() / train.batch_size
            loss.backward()  # type: ignore[no-untyped-call]
            rights.append(num_right(logits, part.labels))
            losses.append({name: loss.detach() for name, loss in towers.items()})
            ids.append(part.ids)
        names = list(losses[0])
        own = torch.stack([torch.stack([loss[name] for name in names]) for loss in losses])  # (parts, towers)
        total = torch.cat([own.sum(0), torch.stack(rights).sum(0, keepdim=True)])  # (towers + 1,)
        self.runtime.add_up(total)
        self.runtime.add_up_gradients(self.network.parameters())
        # Gradients may overflow under a loss that does not, and a checkpoint of such weights never trains again. The
        # sum of their magnitudes has every inf and NaN. It is that of all processes; the device is waited for once.
        size = get_total_norm([p.grad for p in self.network.parameters() if p.grad is not None], 1)
        if not torch.cat([total, size[None]]).isfinite().all():
            if not total.isfinite().all():
                _diverged(own, names, ids, number)
            _overflown(self.network, number)
        for group in self.optimiser.param_groups:
            group["lr"] = rate * group["rate_factor"]
        self.optimiser.step()
        *means, top1 = (total / train.batch_size).tolist()
        return Step(losses=dict(zip(names, means, strict=True)), top1=top1)


def _overflown(network: Network, number: int) -> None:
    bad = [name for name, p in network.named_parameters() if p.grad is not None and not bool(p.grad.isfinite().all())]
    where = f"{bad[0] if bad else 'all layers'} is not finite at step {number + 1}"
    more = f", and {len(bad) - 1} more" if bad[1:] else ""
    raise TrainingDivergedError(
        f"the gradient of {where}{more}, though the loss is; lower `train.rates`, or set `train.precision` to float32: "
        "what has been begun goes on with that"
    )


def _diverged(own: Tensor, names: Sequence[str], ids: Sequence[tuple[str, ...]], number: int) -> None:
    bad = own.isfinite().logical_not()
    where = f"at step {number + 1}"
    cure = "go on with lower `train.rates`, or look at these videos with `flowprep preview`"
    if not bad.any():
        raise TrainingDivergedError(f"the loss is not finite {where}, in another process")
    part = int(bad.any(1).nonzero()[0])
    towers = ", ".join(name for name, is_bad in zip(names, bad[part].tolist(), strict=True) if is_bad)
    raise TrainingDivergedError(
        f"the loss of {towers} is not finite {where}, in the batch of videos {', '.join(ids[part])}; {cure}"
    )

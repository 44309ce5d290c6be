"""Where a network runs: device, precision, the processes of torchrun, and random numbers.

Note [random numbers by step]: before every step the generators are seeded by (seed, step, rank) alone. So a resumed run
draws what the uninterrupted one would have drawn, and a checkpoint needs no state of any generator.

Note [whose statistics]: batch normalisation that is trained keeps running means and variances of what its process has
seen, so they differ between processes, where weights do not. Those of the first count, as in PyTorch's
DistributedDataParallel: they are what a checkpoint has, and the others get them before anything is evaluated. Means
over the processes would use more data, but depend in their last bits on how often they are taken, and so on where a
training was stopped; the statistics of the first process do not know of the others.
"""

from __future__ import annotations

import contextlib
import gc
import os
import resource
import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, TypeVar, final

import torch
from torch import Tensor, distributed, nn

from flowprep.errors import BackendUnavailableError, SettingsError
from fusion_train import reduction
from fusion_train.data.draws import Draws
from fusion_train.meeting import Meeting

_T = TypeVar("_T")
_PATIENCE_SECONDS = 30.0
"""What processes that fail for the same reason may be apart."""


@final
@dataclass(frozen=True, kw_only=True)
class Runtime:
    """This process among `world_size`, and its device; with others there is a `meeting`."""

    device: torch.device
    rank: int = 0
    world_size: int = 1
    meeting: Meeting | None = None

    @property
    def is_main(self) -> bool:
        """Whether this is the process that writes files and reports."""
        return self.rank == 0

    def autocast(self, precision: str) -> torch.autocast:
        """Where `precision` is bfloat16, what is safe in it is computed in it."""
        return torch.autocast(self.device.type, torch.bfloat16, enabled=precision == "bfloat16")

    def synchronise(self) -> None:
        """Return when the device has done what it was given."""
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)

    def peak_memory_bytes(self) -> int:
        """The most memory so far: of the device, or of this process where it is a CPU."""
        if self.device.type == "cuda":
            return torch.cuda.max_memory_allocated(self.device)
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)

    def forget_peak_memory(self) -> bool:
        """From now on `peak_memory_bytes` is of what comes. Returns whether it can be: of a CPU's process it cannot."""
        if self.device.type != "cuda":
            return False
        self.release_memory()
        torch.cuda.reset_peak_memory_stats(self.device)
        return True

    def release_memory(self) -> None:
        """Give back what nothing refers to any more, e.g. of a training that has failed."""
        gc.collect()
        if self.device.type == "cuda":
            torch.cuda.empty_cache()

    def seed_step(self, seed: int, step: int) -> None:
        """Seed the generators of CPU and device for a step, see Note [random numbers by step]."""
        torch.manual_seed(Draws("step", seed, step, self.rank).bits() >> 1)

    def add_up(self, tensor: Tensor) -> None:
        """Make `tensor` the sum over all processes, in place."""
        if self.world_size > 1:
            distributed.all_reduce(tensor)

    def add_up_gradients(self, parameters: Iterable[nn.Parameter]) -> None:
        """Make gradients the sums over all processes; equal on all, as the order of addition is."""
        if self.world_size > 1:
            reduction.add_up_gradients(parameters)

    def send_weights(self, network: nn.Module) -> None:
        """Give all processes the weights of the first, and its buffers."""
        self._send(network.state_dict().values())

    def send_buffers(self, network: nn.Module) -> None:
        """Give all processes the buffers of the first, see Note [whose statistics]."""
        self._send(network.buffers())

    def _send(self, tensors: Iterable[Tensor]) -> None:
        if self.world_size > 1:
            for tensor in tensors:
                distributed.broadcast(tensor, 0)

    def gathered(self, rows: list[Any]) -> list[Any]:
        """The rows of all processes, in all of them."""
        if self.world_size == 1:
            return rows
        parts: list[Any] = [None] * self.world_size
        distributed.all_gather_object(parts, rows)
        return [row for part in parts for row in part]

    def of_first(self, work: Callable[[], _T]) -> _T:
        """What `work` gives or raises in the first process, in all of them, however long it takes: plain JSON.

        `work` must not use what all processes do together.
        """
        return work() if self.meeting is None else self.meeting.of_first(work)

    def all_have_failed(self) -> bool:
        """Whether what has failed here has failed in all processes, so that they can go on together."""
        return self.meeting is None or self.meeting.all_have_failed(seconds=_PATIENCE_SECONDS)

    def wait_for_all(self) -> None:
        """Return when all processes are here, so that what the first has written is seen by the others."""
        if self.world_size > 1:
            distributed.barrier()


@contextlib.contextmanager
def started(device: str = "auto", *, deterministic: bool = False) -> Iterator[Runtime]:
    """The runtime of this process; under torchrun it meets the others (nccl on CUDA, gloo elsewhere).

    If the block raises, the process group is left as it is: an orderly end would wait for processes that wait for this
    one. The process must then end; torchrun ends the others.

    Raises:
        SettingsError: The device is unknown or not here.
        BackendUnavailableError: There are several processes, and this PyTorch is built for one.
    """
    world_size, rank, local_rank = (
        int(os.environ.get(name, default))
        for name, default in (("WORLD_SIZE", "1"), ("RANK", "0"), ("LOCAL_RANK", "0"))
    )
    chosen = _device(device, local_rank)
    if chosen.type == "cuda":
        torch.cuda.set_device(chosen)
    with _determinism(deterministic):
        if world_size == 1:
            yield Runtime(device=chosen)
            return
        meeting = _met(chosen, rank, world_size)
        yield Runtime(device=chosen, rank=rank, world_size=world_size, meeting=meeting)
        distributed.destroy_process_group()


def _met(device: torch.device, rank: int, world_size: int) -> Meeting:
    """Meet the other processes, in a process group and beside it."""
    if not distributed.is_available():
        raise BackendUnavailableError(
            f"PyTorch {torch.__version__} is built without torch.distributed, which {world_size} processes need; "
            "install another build, or start one process without torchrun"
        )
    from torch.distributed.distributed_c10d import PrefixStore
    from torch.distributed.rendezvous import rendezvous

    store, _, _ = next(rendezvous("env://", rank, world_size))
    backend = "nccl" if device.type == "cuda" else "gloo"
    distributed.init_process_group(backend, store=PrefixStore("group", store), rank=rank, world_size=world_size)
    return Meeting(store, rank, world_size)


def _device(name: str, local_rank: int) -> torch.device:
    found = torch.cuda.is_available()
    if name == "auto":
        name = "cuda" if found else "cpu"
    try:
        device = torch.device(name)
    except RuntimeError:
        raise SettingsError(f"`device` must be auto, cpu, cuda or cuda:N, got {name!r}") from None
    if device.type == "cuda":
        if not found:
            raise SettingsError("`device` cuda is not there: PyTorch finds no GPU; use cpu, or `flowprep doctor`")
        device = torch.device("cuda", local_rank if device.index is None else device.index)
        if device.index >= torch.cuda.device_count():
            raise SettingsError(f"`device` {device} is not there: this machine has {torch.cuda.device_count()}")
    return device


@contextlib.contextmanager
def _determinism(wanted: bool) -> Iterator[None]:
    """Only deterministic kernels inside."""
    if not wanted:  # PyTorch imports its compiler to be told so
        yield
        return
    before = torch.are_deterministic_algorithms_enabled()
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # read by cuBLAS when it is first used
    torch.use_deterministic_algorithms(True)
    torch.backends.cudnn.benchmark = False
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before)

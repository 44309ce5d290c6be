"""Batches in a fixed order, decoded ahead by threads.

OpenCV lets go of the interpreter while it decodes, and bytes come from memory maps, so threads use all cores without
copies between processes. Each batch that is on its way has memory of its own, and what is let go is used again; a video
is one task.
"""

from __future__ import annotations

import hashlib
import itertools
import time
from collections import deque
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, final

import numpy as np
import torch
from numpy.typing import NDArray

from flowprep.errors import SettingsError
from flowprep.machine import num_cores
from fusion_train.data import order
from fusion_train.data.batch import ClipBatch, Crops
from fusion_train.data.canvas import Canvases
from fusion_train.data.clips import Indices
from fusion_train.data.dataset import ClipDataset, Plan
from fusion_train.data.maps import MapBatch, map_batch


@final
class ClipLoader:
    """Iterating gives the batches from the position to the end of the pass; then the position is the next pass's start.

    `state_dict` is that position, exact to the batch, and `load_state_dict` goes on there. `rank` and `world_size` are
    those of torchrun. A pass that is abandoned cancels what it has begun; threads end with it. An error of a thread
    reaches the consumer with the video's name, at that video's batch.
    """

    def __init__(
        self,
        dataset: ClipDataset,
        *,
        batch_size: int,
        training: bool,
        seed: int = 0,
        rank: int = 0,
        world_size: int = 1,
        num_threads: int = 0,
        num_ahead: int = 0,
        pin_memory: bool = False,
    ) -> None:
        """`num_threads` 0: one a core. `num_ahead` 0: as many batches as keep all threads at work, at least 2.

        Raises SettingsError for wrong numbers.
        """
        for name, value, least in (
            ("batch_size", batch_size, 1),
            ("world_size", world_size, 1),
            ("num_threads", num_threads, 0),
            ("num_ahead", num_ahead, 0),
        ):
            if value < least:
                raise SettingsError(f"`{name}` must be at least {least}, got {value}")
        if not 0 <= rank < world_size:
            raise SettingsError(f"`rank` must be from 0 to `world_size` - 1 = {world_size - 1}, got {rank}")
        self.dataset = dataset
        self.batch_size = batch_size
        self.training = training
        self.seed = seed
        self.rank, self.world_size = rank, world_size
        self.num_threads = num_threads or num_cores()
        self.num_ahead = num_ahead or max(2, -(-2 * self.num_threads // batch_size))
        self._canvases = Canvases(pin_memory=pin_memory)
        self.epoch = 0
        self.batch = 0
        """Batches of this pass that have been given out."""
        self.seconds_waited = 0.0
        self.seconds_total = 0.0
        self._asked: float | None = None
        """When the consumer asked for the batch that it has."""
        self._evaluation: list[list[int]] = []
        if training:
            self._num_batches = order.num_training_batches(len(dataset), batch_size=batch_size, world_size=world_size)
        else:
            sizes = [(video.height, video.width) for video in dataset.videos]
            self._evaluation = order.evaluation_batches(sizes, batch_size=batch_size, rank=rank, world_size=world_size)
            self._num_batches = len(self._evaluation)

    def __len__(self) -> int:
        """Batches of a whole pass."""
        return self._num_batches

    @property
    def wait_share(self) -> float:
        """Share of time, from the pass's first batch on, that the consumer has waited for data, 0 to 1."""
        total = self.seconds_total + (time.perf_counter() - self._asked if self._asked else 0.0)
        return self.seconds_waited / total if total else 0.0

    def state_dict(self) -> dict[str, Any]:
        """The position, and what makes it mean the same batches: plain numbers and texts."""
        return {"epoch": self.epoch, "batch": self.batch, **self._identity()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on where `state_dict` was taken. Raises SettingsError that names what differs.

        The number of processes may differ if batch_size times their number is the same.
        """
        for name, here in self._identity().items():
            if state.get(name) != here:
                raise SettingsError(
                    f"`{name}` of the saved position is {state.get(name)!r}, here it is {here!r}; "
                    "resume with the same data, seed and global batch size"
                )
        self.epoch, self.batch = int(state["epoch"]), int(state["batch"])

    def _identity(self) -> dict[str, Any]:
        ids = "\0".join(video.id for video in self.dataset.videos).encode("utf-8", "surrogatepass")
        return {
            "seed": self.seed,
            "global_batch_size": self.batch_size * self.world_size,
            "training": self.training,
            "videos_sha256": hashlib.sha256(ids).hexdigest(),
        }

    def __iter__(self) -> Iterator[ClipBatch | MapBatch]:
        """The batches that are left of this pass."""
        plans = self._plans()
        begun: deque[tuple[ClipBatch | MapBatch, list[tuple[Plan, Future[None]]]]] = deque()
        pool = ThreadPoolExecutor(self.num_threads, thread_name_prefix="clips")
        self.seconds_waited, self.seconds_total = 0.0, 0.0
        try:
            while True:
                start = self._asked = time.perf_counter()
                while len(begun) < self.num_ahead and (batch_plans := next(plans, None)) is not None:
                    begun.append(self._begin(pool, batch_plans))
                if not begun:
                    break
                batch, tasks = begun.popleft()
                while tasks:
                    _finish(*tasks.pop(0))  # no name is left for what holds the batch
                given = time.perf_counter()
                self.seconds_waited += given - start
                self.batch += 1
                yield batch
                del batch
                self.seconds_total += time.perf_counter() - start
                self._asked = None
        finally:
            if self._asked is not None:  # the end, or given up in the middle of a batch
                self.seconds_total += time.perf_counter() - self._asked
                self._asked = None
            plans.close()
            pool.shutdown(wait=True, cancel_futures=True)
        self.epoch, self.batch = self.epoch + 1, 0

    def _plans(self) -> Generator[list[Plan], None, None]:
        """What is to be decoded for each batch that is left."""
        if not self.training:
            for places in self._evaluation[self.batch :]:
                yield [self.dataset.plan_evaluation(k) for k in places]
            return
        epoch = self.epoch
        shuffled = order.training_order([video.id for video in self.dataset.videos], seed=self.seed, epoch=epoch)
        for number in range(self.batch, self._num_batches):
            places = order.training_batch(
                shuffled, number, batch_size=self.batch_size, rank=self.rank, world_size=self.world_size
            )
            yield [self.dataset.plan_training(k, seed=self.seed, epoch=epoch) for k in places]

    def _begin(
        self, pool: ThreadPoolExecutor, plans: Sequence[Plan]
    ) -> tuple[ClipBatch | MapBatch, list[tuple[Plan, Future[None]]]]:
        """A batch, and what is still to be done for it."""
        if self.dataset.maps is not None:
            return map_batch(plans, self.dataset.maps), []
        batch = empty_batch(self.dataset, plans, self._canvases)
        return batch, [
            (plan, pool.submit(self.dataset.decode, plan, rgb, flow))
            for plan, rgb, flow in zip(plans, _arrays(batch.rgb, plans), _arrays(batch.flow, plans), strict=True)
        ]


def _arrays(crops: Crops | None, plans: Sequence[Plan]) -> list[NDArray[np.uint8]] | list[None]:
    """The place of each video's strips, uint8 (n, H, W, C)."""
    return [None] * len(plans) if crops is None else [images.numpy() for images in crops.strips()]


def _finish(plan: Plan, task: Future[None]) -> None:
    """Wait for a task; what it raised is raised here, with the video."""
    try:
        task.result()
    except Exception as error:
        error.add_note(f"while the clips of video {plan.id!r} were decoded")
        raise


def decoded_batch(dataset: ClipDataset, plans: Sequence[Plan], canvases: Canvases) -> ClipBatch:
    """A batch of these videos, decoded in this thread."""
    batch = empty_batch(dataset, plans, canvases)
    for plan, rgb, flow in zip(plans, _arrays(batch.rgb, plans), _arrays(batch.flow, plans), strict=True):
        dataset.decode(plan, rgb, flow)
    return batch


def empty_batch(dataset: ClipDataset, plans: Sequence[Plan], canvases: Canvases) -> ClipBatch:
    """A batch of these videos whose crops are still to be decoded. All plans have one output size."""
    (output_size,) = {plan.output_size for plan in plans}
    sizes = [(plan.strip.height, plan.strip.width) for plan in plans]
    columns = [plan.columns for plan in plans]
    images, fields = [len(plan.images) for plan in plans], [plan.num_flow_images for plan in plans]
    rgb = Crops.empty(canvases, images, sizes, columns, 3) if "rgb" in dataset.streams else None
    flow = Crops.empty(canvases, fields, sizes, columns, 4) if "flow" in dataset.streams else None
    counts = [len(plan.flips) for plan in plans]
    return ClipBatch(
        ids=tuple(plan.id for plan in plans),
        video=torch.from_numpy(np.repeat(np.arange(len(plans)), counts)),
        labels=torch.from_numpy(np.repeat(np.array([plan.label for plan in plans], np.int64), counts)),
        times=_joined([plan.times for plan in plans]),
        flips=tuple(flip for plan in plans for flip in plan.flips),
        rgb=rgb,
        rgb_index=_joined([plan.image_index for plan in plans], itertools.accumulate(images, initial=0)),
        flow=flow,
        flow_index=_joined(
            [plan.flow_index for plan in plans], (2 * first for first in itertools.accumulate(fields, initial=0))
        ),
        output_size=output_size,
        flip_sum=dataset.flip_sum,
        interpolation=dataset.settings.interpolation,
    )


def _joined(arrays: Sequence[Indices], first: Iterable[int] = itertools.repeat(0)) -> torch.Tensor:
    """The arrays of all videos in one, each counted from its own first number."""
    return torch.from_numpy(np.concatenate([array + start for array, start in zip(arrays, first, strict=False)]))

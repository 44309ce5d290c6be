"""Which videos are in which batch of which rank: arithmetic alone.

Training: an order a pass from (seed, epoch) and the ids, cut into global batches of batch_size * world_size videos, of
which rank r takes the r-th part. So N ranks see what one process with N times the batch size sees, and all have equally
many batches; what is left over at the end of a pass is left out (other videos in the next one).

Evaluation: the list in its order, rank r takes videos r, r + world_size, ..: each exactly once. Neighbours of one
size share a batch.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby

from flowprep.errors import SettingsError
from fusion_train.data.draws import Draws


def training_order(ids: Sequence[str], *, seed: int, epoch: int) -> list[int]:
    """Places of the ids in the order of a pass: by a hash of seed, epoch and id."""
    return sorted(range(len(ids)), key=lambda k: (Draws(seed, "order", epoch, ids[k]).bits(), ids[k]))


def num_training_batches(num_videos: int, *, batch_size: int, world_size: int) -> int:
    """Batches of a pass, for every rank. Raises SettingsError if there is none."""
    num_batches = num_videos // (batch_size * world_size)
    if not num_batches:
        raise SettingsError(
            f"`batch_size` of all processes together must be at most the {num_videos} videos of the training list, "
            f"got {batch_size} x {world_size}"
        )
    return num_batches


def training_batch(order: list[int], batch: int, *, batch_size: int, rank: int, world_size: int) -> list[int]:
    """A rank's part of a global batch."""
    first = (batch * world_size + rank) * batch_size
    return order[first : first + batch_size]


def evaluation_batches(
    sizes: Sequence[tuple[int, int]], *, batch_size: int, rank: int, world_size: int
) -> list[list[int]]:
    """A rank's batches of videos of these sizes."""
    batches = []
    for _, same in groupby(range(rank, len(sizes), world_size), key=sizes.__getitem__):
        places = list(same)
        batches += [places[k : k + batch_size] for k in range(0, len(places), batch_size)]
    return batches

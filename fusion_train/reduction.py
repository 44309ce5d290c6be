"""Gradients of all processes added up, in buckets.

One all-reduce a parameter is latency: two ResNet-50 have over 300, most of them tiny. So gradients are copied into
buckets of 25 MiB in the parameters' order, a few of which travel at a time while the next are filled.

Note [why not DistributedDataParallel]: it would overlap the last backward pass with the reduction. But gradients of a
step add up over many parts first, so there is one reduction a step and little to hide; what trains changes with the
epoch (`head_epochs`), for which DDP must be made anew; and it changes its buckets after the first step, so that a
resumed run of more than two processes could add in another order than the uninterrupted one. Here it is the same.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from typing import Any

import torch
from torch import Tensor, distributed, nn

BUCKET_BYTES = 25 * 2**20
_NUM_AT_ONCE = 4


def add_up_gradients(parameters: Iterable[nn.Parameter], *, bucket_bytes: int = BUCKET_BYTES) -> None:
    """Make the gradients of a process group's members their sums, in place; equal on all members.

    All members must have gradients of the same parameters.
    """
    underway: deque[tuple[Any, Tensor, list[Tensor]]] = deque()
    for gradients in _buckets((p.grad for p in parameters if p.grad is not None), bucket_bytes):
        bucket = torch.cat([gradient.flatten() for gradient in gradients])
        underway.append((distributed.all_reduce(bucket, async_op=True), bucket, gradients))
        if len(underway) >= _NUM_AT_ONCE:
            _arrive(*underway.popleft())
    while underway:
        _arrive(*underway.popleft())


def _arrive(work: Any, bucket: Tensor, gradients: list[Tensor]) -> None:
    work.wait()
    parts = torch.split(bucket, [gradient.numel() for gradient in gradients])
    for gradient, part in zip(gradients, parts, strict=True):
        gradient.copy_(part.view_as(gradient))


def _buckets(gradients: Iterable[Tensor], bucket_bytes: int) -> Iterator[list[Tensor]]:
    """Neighbours of one dtype, up to so many bytes; a larger one is alone."""
    bucket: list[Tensor] = []
    size = 0
    for gradient in gradients:
        num_bytes = gradient.numel() * gradient.element_size()
        if bucket and (size + num_bytes > bucket_bytes or gradient.dtype != bucket[0].dtype):
            yield bucket
            bucket, size = [], 0
        bucket.append(gradient)
        size += num_bytes
    if bucket:
        yield bucket

"""Which frames and flow fields a clip has: index arithmetic alone.

All numbers count from 0: *time* t is the t-th decoded image, flow i goes from time i to time i + step. A clip has T
chunks, each an image at time t and the L flow fields t - L//2 .. t - L//2 + L - 1 around it (10 fields: t-5 .. t+4).
A store may lack the first image (`Store.first_image`), so image j of it is that of time j + first_image.

Two protocols (docs/fusion.md has them side by side): *paper*, ordered clips of a random tau and start; *authors*, what
`cnn_ucf101_get_im_flow_batch.m` and `cnn_train_dag.m` of feichtenhofer/twostreamfusion (a098f08) compute, which is
written here with their numbers from 1 and converted at the end.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from fusion_train.config import DataSettings
from fusion_train.data.draws import Draws

Indices = NDArray[np.int64]


def valid_times(*, num_images: int | None, first_image: int, num_flows: int | None, stack_length: int) -> range:
    """Times at which a chunk finds its image and all of its flow; None where a network does not use that stream.

    Of N images and N-1 flow fields with L = 10 these are 5 .. N-6, the code's 6 .. N-5 counted from 1. A video with
    fewer than L flow fields has its middle alone, and repeats the first and the last field (`flow_indices`). The range
    is empty where a stream that is used has nothing.
    """
    times = range(10**9) if num_images is None else range(first_image, first_image + num_images)
    if num_flows is None:
        return times
    if not num_flows:
        return range(0)
    before = stack_length // 2
    flows = range(before, num_flows - stack_length + before + 1)
    if not flows:
        flows = range(num_flows // 2, num_flows // 2 + 1)
    return range(max(times.start, flows.start), min(times.stop, flows.stop))


def flow_indices(times: Indices, *, stack_length: int, num_flows: int) -> Indices:
    """Flow fields of the chunks at `times` of any shape, int64 (..., L); those beyond an end repeat the one there."""
    offsets = np.arange(stack_length) - stack_length // 2
    fields: Indices = np.clip(times[..., None] + offsets, 0, num_flows - 1)
    return fields


def training_times(valid: range, settings: DataSettings, draws: Draws) -> Indices:
    """The times of a training clip's chunks, int64 (T,)."""
    num_chunks, (tau_min, tau_max) = settings.num_chunks, settings.taus
    if num_chunks == 1:  # both protocols: any one
        return np.array([valid[draws.below(len(valid))]])
    if settings.protocol == "authors":
        tau = draws.between(tau_min, tau_max)
        samples = authors_samples(valid[0] + 1, valid[-1] + 1, tau, num_chunks, num_chunks)
        if len(samples) > num_chunks:
            # randi starts at 1 and what is skipped at 0, so the first point of the grid is never used.
            start = draws.between(1, len(samples) - num_chunks)
            samples = samples[start : start + num_chunks]
        return np.array(samples) - 1
    fitting = (len(valid) - 1) // (num_chunks - 1)
    if not fitting:
        return _spread(valid[0], valid[-1], num_chunks)
    tau = draws.between(min(tau_min, fitting), min(tau_max, fitting))
    start = valid[draws.below(len(valid) - (num_chunks - 1) * tau)]
    return start + tau * np.arange(num_chunks)


def evaluation_times(valid: range, settings: DataSettings) -> Indices:
    """The times of the clips on which a video is evaluated, int64 (clips, T)."""
    num_clips, num_chunks, tau = settings.num_test_clips, settings.num_chunks, settings.test_tau
    assert tau is not None
    if num_chunks == 1:
        return _spread(valid[0], valid[-1], num_clips)[:, None]
    if settings.protocol == "authors":
        count = num_clips * num_chunks
        samples = authors_samples(valid[0] + 1, valid[-1] + 1, tau, count, num_chunks, fill=True)
        start = (len(samples) - count) // 2  # theirs is random, and an evaluation must not be
        # They cut the flat list into columns: chunk k of clip c is sample c + clips * k, so clips are not in order.
        return np.array(samples[start : start + count]).reshape(num_chunks, num_clips).T - 1
    fitting = (len(valid) - 1) // (num_chunks - 1)
    if not fitting:
        return np.tile(_spread(valid[0], valid[-1], num_chunks), (num_clips, 1))
    tau = min(tau, fitting)
    starts = _spread(valid[0], valid[-1] - (num_chunks - 1) * tau, num_clips)
    return starts[:, None] + tau * np.arange(num_chunks)


def running_times(valid: range, centres: Sequence[int], settings: DataSettings) -> Indices:
    """The times of ordered clips whose middles are nearest to `centres`, int64 (centres, T).

    Chunks are tau of the evaluation apart, or as far as the video allows; near its ends clips are moved inwards.
    """
    num_chunks, tau = settings.num_chunks, settings.test_tau
    assert tau is not None
    if num_chunks == 1:
        return np.clip(np.array(centres, np.int64), valid[0], valid[-1])[:, None]
    tau = min(tau, (len(valid) - 1) // (num_chunks - 1))
    if not tau:
        return np.tile(_spread(valid[0], valid[-1], num_chunks), (len(centres), 1))
    span = (num_chunks - 1) * tau
    starts = np.clip(np.array(centres, np.int64) - span // 2, valid[0], valid[-1] - span)
    times: Indices = starts[:, None] + tau * np.arange(num_chunks)
    return times


def authors_samples(first: int, last: int, stride: int, count: int, group: int, *, fill: bool = False) -> list[int]:
    """At least `count` samples of first .. last, as the released code picks them before it draws a run of them.

    A grid of `stride`; where that has too few points, whole groups of denser grids, from the back and the front in
    turns, are appended to it. `fill` is what the code does first in evaluation ('temporalStride').
    """
    samples = _grid(first, last, stride)
    if fill and len(samples) < group:
        samples = _spread(first, last, group).tolist()
        stride = samples[1] - samples[0]
    if len(samples) < count and len(samples) > group:
        samples = _whole_groups(samples, group)
    turn = 0
    while len(samples) < count:
        missing = count - len(samples)
        if turn > 20:
            added = _spread(first, last, group).tolist()
        elif turn % 2:
            added = _whole_groups(_grid(first, last, stride), group)[:missing]
        else:
            added = _whole_groups(_grid(-last, -first, stride), group)[:missing]
            added = [-sample for sample in reversed(added)]
        samples += added
        stride = max(stride - 1, 1)
        turn += 1
    return samples


def _grid(first: int, last: int, stride: int) -> list[int]:
    """MATLAB's first:stride:last, which is empty for a stride of 0."""
    return list(range(first, last + 1, stride)) if stride else []


def _whole_groups(samples: list[int], group: int) -> list[int]:
    return samples[: len(samples) - len(samples) % group]


def _spread(first: int, last: int, count: int) -> Indices:
    """`count` times from first to last, evenly, halves rounded up (both ends belong to it); of one, the middle."""
    if count == 1:
        return np.array([(first + last) // 2])
    return np.array([math.floor(first + (last - first) * k / (count - 1) + 0.5) for k in range(count)])


def unique_rows(indices: Indices) -> tuple[Sequence[int], Indices]:
    """The distinct values of an array, rising, and the array with each value's place among them."""
    values, places = np.unique(indices, return_inverse=True)
    return values.tolist(), places.reshape(indices.shape)

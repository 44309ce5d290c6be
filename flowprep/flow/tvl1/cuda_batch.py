"""How many pairs are computed together: derived, not tuned on a device (`benchmarks/bench_cuda.py` tries others).

A batch should be so large that, as worked out in `docs/benchmarks/2026-11-28-cuda-plan.md`,

- the host is done with launches before the device: a batch of 340x256 has some 920 launches of about 10 us, and a pair
  takes some 285 us, so from 32 pairs on;
- the device is full to the end although pairs end at different passes: two blocks run on a multiprocessor, 264 on 132,
  and the coarsest level of 340x256 has 15 tiles, so that 18 pairs that still go on fill it. With 15 times as many
  almost all of a batch's time is spent with more than that.

Both grow with the multiprocessors, and fall with the pixels of a frame. More than that only costs memory: 2.7 GB with
its frames, as it is.
"""

from __future__ import annotations

PIXELS_A_MULTIPROCESSOR = 180_000
"""Pixels of the pairs that are computed together, at most: 272 pairs of 340x256 on 132 multiprocessors."""

MAX_PAIRS = 1024
"""Of the smallest frames, whose lists would become long."""

SHARE_OF_MEMORY = 0.8
"""Of the free memory of a device that a batch may have."""


def most_pairs(height: int, width: int, num_multiprocessors: int) -> int:
    """Pairs of a size that are computed together, if memory allows."""
    return max(1, min(MAX_PAIRS, PIXELS_A_MULTIPROCESSOR * num_multiprocessors // (height * width)))

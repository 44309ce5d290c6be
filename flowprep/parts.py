"""Parts of a list: runs of neighbouring videos whose files are about equally large.

Neighbours, so that most shards lie within one part, which then packs them.
"""

from __future__ import annotations

import bisect
import itertools
from collections.abc import Sequence


def part_slices(num_bytes: Sequence[int], num_parts: int) -> list[range]:
    """List indices of each part, in order and without gaps; `num_bytes` has the size of each video's file.

    A video belongs to the part in which its middle byte lies, so that no part is larger than its share by more than one
    video. Each counts a byte more than it has: a list of empty files is divided too.
    """
    ends = list(itertools.accumulate(size + 1 for size in num_bytes))
    total = ends[-1] if ends else 0
    middles = [2 * end - size - 1 for end, size in zip(ends, num_bytes, strict=True)]  # twice the place of the middle
    cuts = [bisect.bisect_left(middles, -(-2 * total * part // num_parts)) for part in range(num_parts + 1)]
    return [range(start, end) for start, end in itertools.pairwise(cuts)]

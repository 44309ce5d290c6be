"""Other choices than those that `native-cuda` makes by assumption, one at a time: a part of bench_cuda.py.

Batch: pairs that are computed together. Halo: rows and columns that tiles share, which is how many iterations a pass
has. Look: passes between two looks at how many pairs go on. Blocks: of a multiprocessor, at most. The flow is the same
to the bit whatever is chosen; a GPU says which choice is fastest.
"""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Callable, Iterator
from typing import Any

from flowprep.flow.parameters import parse_parameters
from flowprep.flow.tvl1 import cuda_rooms, cuda_solver
from flowprep.flow.tvl1.cuda import NativeCUDABackend
from flowprep.flow.tvl1.cuda_tiles import TILE, best_halo

CHOICES = {"halo": TILE.halos, "look": (1, 2, 3, 4), "blocks": (2, 4, 8, 16, 32)}
"""What is tried of each, beside batches."""


@contextlib.contextmanager
def chosen(**choice: int) -> Iterator[None]:
    """These choices instead of those that would be made."""
    kept = cuda_solver._PASSES_A_LOOK, cuda_solver._BLOCKS_OF_A_MULTIPROCESSOR
    if "halo" in choice:
        cuda_rooms.best_halo = lambda *_: choice["halo"]  # type: ignore[assignment]
    cuda_solver._PASSES_A_LOOK = choice.get("look", kept[0])
    cuda_solver._BLOCKS_OF_A_MULTIPROCESSOR = choice.get("blocks", kept[1])
    try:
        yield
    finally:
        cuda_rooms.best_halo = best_halo
        cuda_solver._PASSES_A_LOOK, cuda_solver._BLOCKS_OF_A_MULTIPROCESSOR = kept


def sweep(rate: Callable[[NativeCUDABackend, int], float], batches: list[int], alone: int) -> dict[str, Any]:
    """Pairs a second by `rate(backend, pairs)` for each batch, and for each other choice with the best batch and alone.

    `alone` is the number of pairs that are computed at a time where one interactive pair is meant. Gives the figures
    and the best of each.
    """
    found: dict[str, dict[str, float]] = {"batch": {}}
    for batch in batches:
        found["batch"][str(batch)] = _one(rate, batch, batch, {})
    best = max(batches, key=lambda batch: found["batch"][str(batch)])
    for (name, values), pairs in itertools.product(CHOICES.items(), (best, alone)):
        key = name if pairs == best else f"{name} of {alone}"
        found[key] = {str(value): _one(rate, pairs, pairs, {name: value}) for value in values}
    return {"pairs_per_s": found, "best": {name: max(rates, key=rates.__getitem__) for name, rates in found.items()}}


def _one(
    rate: Callable[[NativeCUDABackend, int], float], num_pairs: int, max_pairs: int, choice: dict[str, int]
) -> float:
    values: Any = parse_parameters("native-cuda", "cuda", {})
    with chosen(**choice), NativeCUDABackend(values, max_pairs=max_pairs) as backend:
        return round(rate(backend, num_pairs), 1)

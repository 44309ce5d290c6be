"""How a level is cut into tiles, and how many iterations a tile does at a time.

A block of threads keeps a tile of the level in registers and does several iterations before it writes it back. What
lies `halo` pixels or less from a side where the tile was cut out is wrong by then, since an iteration looks one pixel
far in each direction; so tiles overlap by twice the halo, and each owns what lies further inside. No pixel is computed
by other operations because of that: the halo changes time, never a result.

Sums of changes are kept for cells of CELL_ROWS pixels above one another. Halos and tiles are multiples of that, so that
every cell belongs to one tile, and the sums do not depend on the tiles either.
"""

from __future__ import annotations

import math
from typing import NamedTuple

CELL_ROWS = 4
"""Rows of a cell of changes."""


class Tile(NamedTuple):
    """The threads of a block, `columns` x `strips`, each with `rows` pixels above one another."""

    columns: int
    strips: int
    rows: int

    @property
    def height(self) -> int:
        """Rows of pixels."""
        return self.strips * self.rows

    @property
    def halos(self) -> tuple[int, ...]:
        """Halos that leave at least one cell."""
        side = min(self.columns, self.height)
        return tuple(range(CELL_ROWS, (side - CELL_ROWS) // 2 + 1, CELL_ROWS))


TILE = Tile(64, 4, 8)
"""For u and p of two components: 34 KB of shared memory and 128 registers a thread, two blocks a multiprocessor."""

TILE_WITH_ILLUMINATION = Tile(32, 8, 4)
"""For three components."""

# Times in microseconds of a block, assumed and not measured: two launches, reading and writing a tile, an iteration.
_LAUNCHES_US = 8.0
_TRANSFER_US = 3.0
_ITERATION_US = 1.5
_BLOCKS_OF_A_MULTIPROCESSOR = 2


def num_tiles(size: int, side: int, halo: int) -> int:
    """Tiles of `side` pixels that cover `size` pixels: the first begins at 0, each owns side - 2 * halo more."""
    assert side > 2 * halo
    return 1 if size <= side else -(-(size - 2 * halo) // (side - 2 * halo))


def tiles_of(height: int, width: int, tile: Tile, halo: int) -> tuple[int, int]:
    """Rows and columns of tiles of a level."""
    return num_tiles(height, tile.height, halo), num_tiles(width, tile.columns, halo)


def best_halo(height: int, width: int, num_pairs: int, tile: Tile, num_multiprocessors: int) -> int:
    """The halo with the least time an iteration, by the assumptions above.

    Long passes save launches and transfers, and compute much of the level twice. One pair alone leaves most of the
    device idle, so that this costs it nothing; many pairs fill it.
    """

    def microseconds(halo: int) -> float:
        rows, columns = tiles_of(height, width, tile, halo)
        waves = math.ceil(rows * columns * num_pairs / (num_multiprocessors * _BLOCKS_OF_A_MULTIPROCESSOR))
        return (_LAUNCHES_US + waves * (_TRANSFER_US + halo * _ITERATION_US)) / halo

    return min(tile.halos, key=microseconds)

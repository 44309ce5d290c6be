"""How levels are cut into tiles: every pixel has one owner, far enough from what is cut; what a halo costs."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flowprep.flow.tvl1.cuda_tiles import (
    CELL_ROWS,
    TILE,
    TILE_WITH_ILLUMINATION,
    Tile,
    best_halo,
    num_tiles,
    tiles_of,
)

TILES = pytest.mark.parametrize("tile", [TILE, TILE_WITH_ILLUMINATION, Tile(16, 4, 4)], ids=str)


def owned(size: int, side: int, halo: int) -> list[range]:
    """The pixels that each tile owns, by the rule in the kernel."""
    num = num_tiles(size, side, halo)
    ranges = []
    for k in range(num):
        origin = k * (side - 2 * halo)
        first = origin if k == 0 else origin + halo
        end = origin + side if k == num - 1 else origin + side - halo
        ranges.append(range(first, min(end, size)))
    return ranges


@given(size=st.integers(1, 3000), side=st.sampled_from([16, 32, 64]), halo=st.integers(1, 7))
def test_every_pixel_has_one_owner_that_is_far_from_what_is_cut(size: int, side: int, halo: int) -> None:
    ranges = owned(size, side, halo)
    assert [pixel for part in ranges for pixel in part] == list(range(size))
    assert all(ranges), "a tile that owns nothing is work for nothing"
    for k, (part, after) in enumerate(pairwise(ranges)):
        origin = k * (side - 2 * halo)
        assert part.stop <= origin + side - halo
        assert after.start >= origin + side - 2 * halo + halo


@TILES
def test_cells_are_never_cut(tile: Tile) -> None:
    """Sums of changes are by cells of rows: tiles begin, and what they own begins, at whole cells."""
    assert tile.rows % CELL_ROWS == 0
    assert tile.halos
    for halo in tile.halos:
        assert halo % CELL_ROWS == (tile.height - 2 * halo) % CELL_ROWS == 0
        assert tile.height - 2 * halo >= CELL_ROWS
        assert tile.columns - 2 * halo >= CELL_ROWS


@TILES
def test_a_block_is_one_that_devices_take(tile: Tile) -> None:
    num_components = 3 if tile == TILE_WITH_ILLUMINATION else 2
    shared_bytes = 4 * num_components * (2 * tile.columns * tile.height + tile.columns * tile.strips)
    assert shared_bytes <= 48 * 1024, "static shared memory"
    assert tile.columns * tile.strips <= 256, "two blocks of 128 registers a thread in 65536"
    assert tile.columns * tile.strips % 32 == 0


def test_halos_are_short_where_the_device_is_full_and_long_where_it_is_idle() -> None:
    full = best_halo(256, 340, 256, TILE, 132)
    alone = best_halo(105, 139, 1, TILE, 132)
    assert full == 4
    assert alone > full
    assert best_halo(16, 16, 1, TILE, 132) == max(TILE.halos), "one tile has no halo, so that passes may be long"


def test_levels_that_fit_are_one_tile() -> None:
    assert tiles_of(32, 64, TILE, 4) == (1, 1)
    assert tiles_of(33, 65, TILE, 4) == (2, 2)
    assert tiles_of(1, 1, TILE, 12) == (1, 1)

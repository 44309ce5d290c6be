"""Damage drawn at random from a seed, of the kinds that files meet with: for the fuzz suite."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence

_HEAD_BYTES = 600  # where most containers have their header; MP4 has it at the end too
_NUMBERS = (0, 1, 0x7F, 0x80, 0xFF, 0x7FFF, 0x8000, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, (1 << 63) - 1)
"""Sizes and counts at which arithmetic goes wrong."""

Mutation = Callable[[bytearray, bytes, random.Random], bytearray]
"""Damages data; gets another file of the same format too, and where its random numbers come from."""


def mutate(data: bytes, other: bytes, seed: int) -> bytes:
    """`data` damaged in one to three ways that `seed` alone decides; `other` is what may be spliced in."""
    draws = random.Random(seed)
    damaged = bytearray(data)
    for mutation in draws.choices(MUTATIONS, k=draws.choice((1, 1, 2, 3))):
        if damaged:
            damaged = mutation(damaged, other, draws)
    return bytes(damaged)


def _place(data: Sequence[int], draws: random.Random) -> int:
    """A place in the data; every third one is in the header, every sixth near the end."""
    kind = draws.randrange(6)
    if kind < 2:
        return draws.randrange(min(len(data), _HEAD_BYTES))
    return draws.randrange(max(0, len(data) - _HEAD_BYTES), len(data)) if kind == 2 else draws.randrange(len(data))


def _length(data: Sequence[int], draws: random.Random) -> int:
    """Bytes of a block: short ones are as likely as long ones."""
    return min(1 << draws.randrange(1, 13), max(1, len(data) // 2))


def flip_bits(data: bytearray, _: bytes, draws: random.Random) -> bytearray:
    """Up to 16 bits, anywhere."""
    for _number in range(draws.randrange(1, 17)):
        data[_place(data, draws)] ^= 1 << draws.randrange(8)
    return data


def cut(data: bytearray, _: bytes, draws: random.Random) -> bytearray:
    """The end is missing."""
    return data[: _place(data, draws)]


def cut_out(data: bytearray, _: bytes, draws: random.Random) -> bytearray:
    """A part is missing, and the rest has moved up."""
    at = _place(data, draws)
    return data[:at] + data[at + _length(data, draws) :]


def splice(data: bytearray, other: bytes, draws: random.Random) -> bytearray:
    """From some place on it is another file."""
    return data[: _place(data, draws)] + other[_place(other, draws) :]


def insert(data: bytearray, other: bytes, draws: random.Random) -> bytearray:
    """A block of another file lies in between."""
    at, begin = _place(data, draws), _place(other, draws)
    return data[:at] + other[begin : begin + _length(other, draws)] + data[at:]


def hole(data: bytearray, _: bytes, draws: random.Random) -> bytearray:
    """A block that was never written, or is noise."""
    at, size = _place(data, draws), _length(data, draws)
    size = min(size, len(data) - at)
    data[at : at + size] = draws.choice((bytes(size), b"\xff" * size, draws.randbytes(size)))
    return data


def swap_blocks(data: bytearray, _: bytes, draws: random.Random) -> bytearray:
    """Two blocks in each other's place."""
    size = min(_length(data, draws), len(data) // 2)
    a, b = sorted(draws.randrange(max(1, len(data) - 2 * size + 1)) for _number in range(2))
    b = max(b, a + size)
    return data[:a] + data[b : b + size] + data[a + size : b] + data[a : a + size] + data[b + size :]


def number(data: bytearray, _: bytes, draws: random.Random) -> bytearray:
    """A field of 1 to 8 bytes says a number that nobody expects there."""
    size = draws.choice((1, 2, 4, 4, 8))
    value = draws.choice(_NUMBERS) & ((1 << 8 * size) - 1)
    at = _place(data, draws)
    data[at : at + size] = value.to_bytes(size, draws.choice(("big", "little")))[: len(data) - at]
    return data


MUTATIONS: tuple[Mutation, ...] = (
    flip_bits,
    flip_bits,
    cut,
    cut_out,
    splice,
    insert,
    hole,
    swap_blocks,
    number,
    number,
)

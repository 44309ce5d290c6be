"""Numbers in sentences."""

from __future__ import annotations


def counted(number: int, noun: str, nouns: str = "") -> str:
    """The number with its noun: `1 video`, `2 videos`; `nouns` is the plural where that takes more than an s."""
    return f"{number} {noun if number == 1 else nouns or f'{noun}s'}"

"""The rows of the proof's table: which networks they are, what they can know in theory, and what they must reach."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import final

MEASURES = ("classes", "binding", "order")
"""Share of videos whose class is right, and the two bits of a class by themselves."""

CHANCE_MARGIN = 0.06
KNOWN = 0.90
"""A bit at chance is within the margin of a half; one that can be known is right in at least this share of videos."""


@final
@dataclass(frozen=True, kw_only=True)
class Configuration:
    """A network that is trained. What is not said here is equal in all of them."""

    network: str = "fused"
    temporal_fusion: str = "conv3d+pool3d"
    blank: str = "none"


CONFIGURATIONS: Mapping[str, Configuration] = {
    "spatial": Configuration(network="spatial"),
    "temporal": Configuration(network="temporal"),
    "no motion": Configuration(blank="flow"),
    "no appearance": Configuration(blank="rgb"),
    "2D + 2D": Configuration(temporal_fusion="pool2d"),
    "2D + 3D": Configuration(temporal_fusion="pool3d"),
    "3D + 3D": Configuration(),
}


@final
@dataclass(frozen=True, kw_only=True)
class Row:
    """A line of the table: a configuration, or the late fusion of two. `binding` and `order`: can it be known?"""

    title: str
    of: tuple[str, ...]
    binding: bool = False
    order: bool = False
    classes_at_most: float | None = None
    classes_at_least: float | None = None

    @property
    def expected(self) -> dict[str, float]:
        """By measure, the share that is right if every bit that can be known is, and the other is guessed."""
        binding, order = (1.0 if known else 0.5 for known in (self.binding, self.order))
        return {"classes": binding * order, "binding": binding, "order": order}

    def bars(self) -> dict[str, tuple[float, float]]:
        """By measure that has one, the least and the largest share that every seed must have."""
        chance = 0.5 - CHANCE_MARGIN, 0.5 + CHANCE_MARGIN
        found = {name: (KNOWN, 1.0) if known else chance
                 for name, known in (("binding", self.binding), ("order", self.order))}  # fmt: skip
        if self.classes_at_most is not None:
            found["classes"] = (0.0, self.classes_at_most)
        if self.classes_at_least is not None:
            found["classes"] = (self.classes_at_least, 1.0)
        return found


ROWS = (
    Row(title="spatial stream", of=("spatial",)),
    Row(title="temporal stream", of=("temporal",)),
    Row(title="late fusion of both streams", of=("spatial", "temporal"), classes_at_most=0.32),
    Row(title="3D conv + 3D pool, flow replaced by zero motion", of=("no motion",)),
    Row(title="3D conv + 3D pool, RGB replaced by its mean", of=("no appearance",), order=True),
    Row(title="late fusion of these two", of=("no motion", "no appearance"), order=True),
    Row(title="2D conv + 2D pool", of=("2D + 2D",), binding=True),
    Row(title="2D conv + 3D pool", of=("2D + 3D",), binding=True),
    Row(title="3D conv + 3D pool (full T)", of=("3D + 3D",), binding=True, order=True, classes_at_least=0.95),
)
DEMO_ROWS = tuple(row for row in ROWS if row.of in (("spatial", "temporal"), ("2D + 3D",), ("3D + 3D",)))


def needed(rows: tuple[Row, ...]) -> tuple[str, ...]:
    """Names of the configurations that these rows are of, in the order of `CONFIGURATIONS`."""
    return tuple(name for name in CONFIGURATIONS if any(name in row.of for row in rows))

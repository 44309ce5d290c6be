"""How far two flow fields are apart, and how far one is from the truth."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from tvl1_pairs import UNKNOWN_PX, Flow

from flowprep.config import QuantiseSettings
from flowprep.quantise import quantise

HEADER = ("median px", "mean px", "max px", "equal %", "within 1 %")


class Difference(NamedTuple):
    """Of two flow fields: end-point differences (H, W) in pixels, and the larger difference of codes a pixel."""

    lengths_px: npt.NDArray[np.float64]
    levels: npt.NDArray[np.int64]

    @classmethod
    def of(cls, flow: Flow, other: Flow) -> Difference:
        """The difference of two flow fields, float32 (H, W, 2)."""
        codes = [np.stack(quantise(field, QuantiseSettings()), -1).astype(int) for field in (flow, other)]
        return cls(np.hypot(*np.moveaxis(flow.astype(float) - other, -1, 0)), np.abs(codes[0] - codes[1]).max(-1))

    @property
    def median_px(self) -> float:
        """Median over pixels."""
        return float(np.median(self.lengths_px))

    @property
    def mean_px(self) -> float:
        """Mean over pixels."""
        return float(self.lengths_px.mean())

    def within(self, levels: int) -> float:
        """Share of pixels with both codes within so many levels."""
        return float((self.levels <= levels).mean())

    def cells(self) -> tuple[str, ...]:
        """As cells of a table, see HEADER."""
        lengths = f"{self.median_px:.1e}", f"{self.mean_px:.1e}", f"{self.lengths_px.max():.2f}"
        return *lengths, f"{100 * self.within(0):.2f}", f"{100 * self.within(1):.2f}"


def pooled(differences: Sequence[Difference]) -> Difference:
    """All pixels of all pairs as one field."""
    lengths, levels = ([getattr(d, field).ravel() for d in differences] for field in Difference._fields)
    return Difference(np.concatenate(lengths), np.concatenate(levels))


def error_px(flow: Flow, truth: Flow) -> float:
    """Mean end-point error over the pixels whose truth is known."""
    known = (np.abs(truth) < UNKNOWN_PX).all(axis=-1)
    return float(np.hypot(*np.moveaxis(flow.astype(float) - truth, -1, 0))[known].mean())

"""What the paper reports, beside what is measured: top-1 accuracy in percent by preset and row of a run's table."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import final

ALL_SPLITS = "mean of 3 splits"


@final
@dataclass(frozen=True, slots=True)
class Reported:
    """A figure, of split 1 or the mean of three, and where it stands."""

    percent: float
    of: str
    source: str

    def text(self) -> str:
        """As it stands in a table."""
        return f"{self.percent:.2f} ({self.of}, {self.source})"


def _split_1(percent: float, table: int) -> Reported:
    return Reported(percent, "split 1", f"table {table}")


def _mean(percent: float, table: int = 5) -> Reported:
    return Reported(percent, ALL_SPLITS, f"table {table}")


_UCF101_VGG16 = {
    "spatial": _split_1(82.61, 3),
    "temporal": _split_1(86.25, 3),
    "late fusion": _split_1(90.62, 3),
    "fused spatiotemporal": _mean(91.8),
    "fused": _mean(92.5),
}
_HMDB51_VGG16 = {
    "spatial": _split_1(47.06, 3),
    "temporal": _split_1(55.23, 3),
    "late fusion": _split_1(58.17, 3),
    "fused spatiotemporal": _mean(64.6),
    "fused": _mean(65.4),
}

REPORTED: Mapping[str, Mapping[str, Reported]] = {
    "ucf101-vgg16": _UCF101_VGG16,
    "ucf101-vgg16-authors": {**_UCF101_VGG16, "fused": Reported(91.5, "split 1", "the author of the released code")},
    "ucf101-vggm": {
        "spatial": _split_1(74.22, 3),
        "temporal": _split_1(82.34, 3),
        "late fusion": _split_1(85.94, 3),
        "fused": _split_1(85.96, 1),
    },
    "ucf101-vgg16-vggm": {
        "spatial": _split_1(82.61, 3),
        "temporal": _split_1(82.34, 3),
        "fused": _split_1(90.40, 4),
    },
    "hmdb51-vgg16": _HMDB51_VGG16,
    "hmdb51-vgg16-authors": _HMDB51_VGG16,
    "hmdb51-vggm": {
        "spatial": _split_1(36.77, 3),
        "temporal": _split_1(51.50, 3),
        "late fusion": _split_1(54.90, 3),
    },
    "hmdb51-vgg16-vggm": {
        "spatial": _split_1(47.06, 3),
        "temporal": _split_1(51.50, 3),
        "fused": _split_1(58.63, 4),
    },
}
"""Rows: `spatial`, `temporal`, `late fusion` of both, `fused spatiotemporal` (that tower alone), `fused` (all).

Of split 1 where the paper has that, else the mean of three. `reported` has what belongs beside a run.
"""

_MEANS: Mapping[str, Mapping[str, Reported]] = {
    "ucf101-vgg16": {"late fusion": _mean(91.7)},
    "ucf101-vgg16-authors": {"late fusion": _mean(91.7), "fused": _mean(92.5)},
    "ucf101-vgg16-vggm": {"fused": _mean(90.8)},
    "hmdb51-vgg16": {"late fusion": _mean(58.7)},
    "hmdb51-vgg16-authors": {"late fusion": _mean(58.7)},
    "hmdb51-vgg16-vggm": {"fused": _mean(62.1)},
}
"""Figures of table 5 for which `REPORTED` has one of split 1."""


def reported(preset: str, num_splits: int) -> Mapping[str, Reported]:
    """What the paper has for the rows of a run: beside one split its figures of one, beside several its means."""
    means = _MEANS.get(preset, {}) if num_splits > 1 else {}
    return {**REPORTED.get(preset, {}), **means}

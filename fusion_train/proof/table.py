"""The table of the proof, as Markdown and JSON: mean and spread over seeds beside what is expected, and what missed."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, final

from fusion_train.metrics import Share
from fusion_train.proof.leaks import CONTROL, Leak
from fusion_train.proof.rows import MEASURES, Row

HEADS = {"classes": "4 classes", "binding": "binding", "order": "order"}


@final
@dataclass(frozen=True, kw_only=True)
class Proof:
    """What came out: for each seed the shares by title of a row and by measure, and the leak tests.

    `facts` is plain JSON: versions, settings, times.
    """

    rows: Sequence[Row]
    seeds: Sequence[int]
    shares: Sequence[Mapping[str, Mapping[str, Share]]]
    leaks: Sequence[Leak]
    facts: Mapping[str, Any]

    def of(self, row: Row, measure: str) -> list[float]:
        """The share of each seed."""
        return [found[row.title][measure].value for found in self.shares]

    def misses(self) -> list[str]:
        """What is not as it must be: rows of any seed beyond their bars, leaks, blind controls. Empty is a proof."""
        found = []
        for row in self.rows:
            for measure, (low, high) in row.bars().items():
                for seed, value in zip(self.seeds, self.of(row, measure), strict=True):
                    if not low <= value <= high:
                        found.append(
                            f"{row.title}: {HEADS[measure]} of seed {seed} is {100 * value:.1f} %, and must be "
                            f"{100 * low:.0f} to {100 * high:.0f} %"
                        )
        for leak in self.leaks:
            if not leak.passes:
                must = f"at least {100 * CONTROL:.0f}" if leak.is_control else f"50 ± {100 * leak.margin:.1f}"
                found.append(
                    f"{leak.looks_at}: {leak.asked} is told in {100 * leak.share.value:.1f} % of "
                    f"{leak.share.num_videos}, and must be in {must} %"
                )
        return found

    def markdown(self) -> str:
        """Two tables: the networks, and the leak tests where there are any."""
        head = ["configuration", *(f"{name}, expected | {name}, measured" for name in HEADS.values())]
        lines = [f"| {' | '.join(head)} |", "|---" + "|--:" * (2 * len(HEADS)) + "|"]
        for row in self.rows:
            cells = [row.title]
            for measure in MEASURES:
                cells += [f"{100 * row.expected[measure]:.0f}", _spread(self.of(row, measure))]
            lines.append(f"| {' | '.join(cells)} |")
        if self.leaks:
            lines += ["", "| a linear classifier looks at | asked | right | of | expected |", "|---|---|--:|--:|---|"]
            for leak in self.leaks:
                expected = f"over {100 * CONTROL:.0f}" if leak.is_control else f"50 ± {100 * leak.margin:.0f}"
                asked = f"{leak.asked} (control)" if leak.is_control else leak.asked
                cells = [leak.looks_at, asked, f"{100 * leak.share.value:.1f}", str(leak.share.num_videos), expected]
                lines.append(f"| {' | '.join(cells)} |")
        return "\n".join(lines) + "\n"

    def to_json(self) -> dict[str, Any]:
        """A JSON object."""
        return {
            "facts": dict(self.facts),
            "seeds": list(self.seeds),
            "rows": {
                row.title: {
                    measure: {
                        "expected": row.expected[measure],
                        "measured": self.of(row, measure),
                        "num_videos": self.shares[0][row.title][measure].num_videos,
                        **({"bar": list(row.bars()[measure])} if measure in row.bars() else {}),
                    }
                    for measure in MEASURES
                }
                for row in self.rows
            },
            "leaks": [
                {
                    "looks_at": leak.looks_at,
                    "asked": leak.asked,
                    "control": leak.is_control,
                    "right": leak.share.value,
                    "num": leak.share.num_videos,
                    "margin": leak.margin,
                    "passes": leak.passes,
                }
                for leak in self.leaks
            ],
            "misses": self.misses(),
        }


def _spread(values: Sequence[float]) -> str:
    """Mean, and standard deviation where there are several, in percent."""
    mean = f"{100 * statistics.fmean(values):.1f}"
    return f"{mean} ± {100 * statistics.stdev(values):.1f}" if len(values) > 1 else mean

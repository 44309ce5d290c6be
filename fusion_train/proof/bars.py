"""The table of the proof as a picture: a bar a measure, a dot a seed, and a line where theory has it."""

from __future__ import annotations

import statistics
from pathlib import Path

from matplotlib.figure import Figure

from fusion_train.proof.rows import MEASURES
from fusion_train.proof.table import HEADS, Proof

COLOURS = {"classes": "#4c4c4c", "binding": "#0072b2", "order": "#e69f00"}  # told apart by colour-blind readers too
HEIGHT = 0.26


def draw(proof: Proof, path: Path) -> None:
    """Write a PNG."""
    figure = Figure(figsize=(9, 0.9 + 0.7 * len(proof.rows)), dpi=120, layout="constrained")
    axes = figure.subplots()
    for place, row in enumerate(proof.rows):
        for k, measure in enumerate(MEASURES):
            y = place + (k - 1) * HEIGHT
            values = [100 * value for value in proof.of(row, measure)]
            label = HEADS[measure] if place == 0 else None
            axes.barh(y, statistics.fmean(values), 0.9 * HEIGHT, color=COLOURS[measure], alpha=0.75, label=label)
            axes.scatter(
                values, [y] * len(values), s=9, color="black", zorder=3, label="a seed" if label and k == 2 else None
            )
            expected = 100 * row.expected[measure]
            axes.plot([expected, expected], [y - HEIGHT / 2, y + HEIGHT / 2], color="#d55e00", linewidth=2.5, zorder=2,
                      label="expected" if label and k == 2 else None)  # fmt: skip
            axes.text(max(*values, expected) + 1.2, y, f"{statistics.fmean(values):.0f}", va="center", fontsize=8)
    axes.set_yticks(range(len(proof.rows)), [row.title.replace(", ", ",\n") for row in proof.rows])
    axes.set_ylim(len(proof.rows) - 0.4, -0.6)
    axes.set_xlim(0, 106)
    axes.set_xlabel("% of test videos")
    axes.grid(axis="x", alpha=0.3)
    axes.set_axisbelow(True)
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)
    axes.tick_params(axis="y", length=0)
    figure.legend(loc="outside upper center", ncols=5, frameon=False)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path)

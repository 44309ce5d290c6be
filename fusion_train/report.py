"""`fusion-train report`: one HTML page about a run, that asks for nothing beside itself."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray

from flowprep.outfile import whole_file
from flowprep.stores import Store
from fusion_train.heldout import HELD_OUT
from fusion_train.paper import REPORTED
from fusion_train.reporting.ablation import ablation_charts
from fusion_train.reporting.classes import class_rows, largest_gain
from fusion_train.reporting.confusion import MAX_LABELLED, ConfusedPair, confused_pairs, heat_map
from fusion_train.reporting.contents import RunContents, StageContents, read_run
from fusion_train.reporting.curves import learning_curves
from fusion_train.reporting.page import render
from fusion_train.reporting.provenance import changed_store, facts, setting_rows
from fusion_train.reporting.results import Measured, measured, results
from fusion_train.reporting.strips import Strip, opened, strip_of, wheel_picture
from fusion_train.reporting.sweeps import sweep_charts
from fusion_train.reporting.videos import JudgedVideo, best_and_worst

_SECTIONS = {
    "results": "Results",
    "curves": "Learning curves",
    "confusion": "Confusion",
    "classes": "Classes",
    "weights": "Weights",
    "ablations": "Ablations",
    "videos": "Videos",
    "settings": "Settings and provenance",
}


@final
@dataclass(frozen=True, kw_only=True)
class Report:
    """What was written: the page, and sentences on what it has not."""

    out: Path
    notes: tuple[str, ...]


@final
@dataclass(frozen=True, kw_only=True)
class ShownVideo:
    """A video of the page; `strip` is None without a store."""

    video: JudgedVideo
    strip: Strip | None


def write_report(folder: Path, out: Path, *, data: Path | None = None) -> Report:
    """Write the page about the run in `folder`; an existing file is replaced. The same run gives the same bytes.

    Args:
        folder: Written by `fusion-train run`, finished or not. Ablations are shown where it has those, too or alone.
        out: The page.
        data: The store of the videos, if it is not where it was during the run.

    Raises:
        MissingDataError: `folder` is not that of a run, there is no store at `data`, or `out` cannot be written.
        StoreError: A file of the run or of the store is damaged.
    """
    run = read_run(folder)
    metrics = measured(run)
    with opened(data, run.data) as store:
        best, worst = best_and_worst(run) if run.rows else ([], [])
        strips_note = _strips_note(run, store)
        networks, settings = setting_rows(run)
        content: dict[str, Any] = {
            "title": _title(run),
            "lead": _lead(run),
            "unfinished": run.left_to_do(),
            "warnings": run.warnings(),
            "held_out": HELD_OUT.get(run.validation or ""),
            "has_paper": any(row in REPORTED.get(run.preset or "", {}) for row in run.rows),
            "rows": run.rows,
            "num_evaluated": sum(bool(rows) for rows in metrics.values()),
            "pooled_splits": _whole(run, metrics),
            "results": results(run, metrics),
            "curves": [(split.name, figures) for split in run.splits if (figures := _curves(split.stages.values()))],
            "confusion": list(_confusions(run, metrics)),
            "classes": (by_class := class_rows(pooled(run, metrics), run.classes)),
            "largest_gain": largest_gain(by_class),
            "weights": [(split.name, figures) for split in run.splits if (figures := sweep_charts(split))],
            "ablations": ablation_charts(folder),
            "best": _shown(best, store),
            "worst": _shown(worst, store),
            "strips_note": strips_note,
            "wheel": wheel_picture() if store is not None else None,
            "facts": facts(run, store),
            "networks": networks,
            "setting_rows": settings,
        }
    is_run = bool(run.splits) or not content["ablations"]  # results and curves say what is missing
    empty = {"results": not is_run, "curves": not is_run, "videos": not best, "settings": not is_run}
    content["sections"] = {
        anchor: name for anchor, name in _SECTIONS.items() if not empty.get(anchor, not content.get(anchor))
    }
    page = render(content)
    with whole_file(out) as temporary:
        temporary.write_text(page, "utf-8")
    return Report(out=out, notes=(*run.left_to_do(), *run.warnings(), *([strips_note] if strips_note and best else [])))


def pooled(run: RunContents, metrics: Measured) -> Mapping[str, NDArray[np.int64]]:
    """Confusion matrices by row of the results, int64 (C, C), summed over the splits that have all rows."""
    whole = _whole(run, metrics)
    return {row: np.sum([metrics[name][row].confusion for name in whole], axis=0) for row in run.rows if whole}


def _whole(run: RunContents, metrics: Measured) -> list[str]:
    """The splits that have all rows that any has."""
    return [name for name, rows in metrics.items() if set(run.rows) <= rows.keys()]


def _title(run: RunContents) -> str:
    name = run.preset or run.folder.resolve().name
    return f"Two-stream fusion: {name}" if run.splits or run.preset else f"Ablations: {name}"


def _lead(run: RunContents) -> str:
    names = ", ".join(split.name for split in run.splits)
    splits = f": split{'s' if len(run.splits) > 1 else ''} {names}" if names else ""
    return f"{run.folder.resolve().name}{splits}"


def _curves(stages: Iterable[StageContents]) -> list[Markup]:
    return [figure for stage in stages for figure in learning_curves(stage)]


def _confusions(run: RunContents, metrics: Measured) -> Iterator[tuple[str, Markup, list[ConfusedPair]]]:
    """Of many classes that of the last row alone, since a page of all would be too large."""
    found = pooled(run, metrics)
    for row in run.rows if len(run.classes) <= MAX_LABELLED else run.rows[-1:]:
        if row in found:
            yield row, heat_map(row, found[row], run.classes), confused_pairs(found[row], run.classes)


def _shown(videos: Sequence[JudgedVideo], store: Store | None) -> list[ShownVideo]:
    return [ShownVideo(video=video, strip=strip_of(store, video.id) if store else None) for video in videos]


def _strips_note(run: RunContents, store: Store | None) -> str | None:
    if store is None:
        where = f"the store is not at {run.data}" if run.data else "the run does not say where its store is"
        return f"Frames and flow are missing, since {where}: name it with --data STORE."
    if changed_store(run, store):
        return f"The store {store.path} is not as it was when the networks were trained; its videos may be others."
    return None

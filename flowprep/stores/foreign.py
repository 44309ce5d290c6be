"""Trees of other tools: what they are, as far as it is known. What is not known is asked for, never guessed."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from flowprep.config import LAYOUTS, ExtractSettings, FlowSettings, QuantiseSettings, ResizeSettings, StoreSettings
from flowprep.datasets.ids import finish_ids, raw_bytes
from flowprep.errors import SettingsError, StoreError
from flowprep.records import Row, State, Video
from flowprep.stores.alignment import check_as_a_whole, judge
from flowprep.stores.inventory import FoundVideo, Inventory, layouts_of_file, take_inventory
from flowprep.stores.jpeg_tree import TreeStore
from flowprep.stores.jpegfile import jpeg_size, read_plain_file
from flowprep.stores.layouts import layout_of
from flowprep.stores.rowtable import FoundRows

_log = logging.getLogger(__name__)

HOW_TO_KNOW = {
    "bound_px": "the bound is in the command that made the tree: denseflow's -b (32 where it was left out; its README "
    "and mmaction2 give 20), dense_flow's -b (15 where it was left out; TSN and GluonCV give 20), 20 in gpu_flow and "
    "in mmaction2's flow_extraction.py",
    "rounding": "denseflow, dense_flow (TSN) and gpu_flow (Feichtenhofer) round; mmaction2's flow_extraction.py and "
    "flowty truncate",
    "step": "the step is in the command that made the tree; it is the number of images less the number of flows of a "
    "video",
}
"""Where the facts are to be found that no file of a tree holds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """What the user says about a tree. None: not said."""

    layout: str
    bound_px: float | None = None
    rounding: str | None = None
    step: int | None = None

    def __post_init__(self) -> None:
        if self.layout not in LAYOUTS:
            raise SettingsError(f"`layout` must be one of {', '.join(LAYOUTS)}, got {self.layout!r}")


def open_foreign(path: Path, facts: Facts) -> TreeStore:
    """A tree of another tool, open for reading; nothing is written.

    Names, numbers and counts of the files and the size of each video's first JPEG are looked at. A video that is not as
    the layout demands is left out and logged: `flowprep adopt` gives each one's reason.

    Raises MissingDataError, StoreError, and SettingsError where a fact is missing or contradicts the tree.
    """
    inventory = take_inventory(path, facts.layout)
    settings = foreign_settings(path, facts, inventory)
    check_as_a_whole(inventory.videos, settings)
    names = {_class_of(found.location) for found in inventory.videos} - {""}
    labels = {name: label for label, name in enumerate(sorted(names, key=raw_bytes))}
    videos = [
        Video(
            id=found.location,
            path=found.location,
            class_name=(name := _class_of(found.location)),
            label=labels.get(name, -1),
        )
        for found in inventory.videos
    ]
    rows = list(_rows(path, settings, inventory.videos, finish_ids(videos)))
    if len(rows) < len(videos):
        _log.warning(
            "%s: %d of %d videos are not as layout %s demands and are left out; `flowprep adopt` says why",
            path,
            len(videos) - len(rows),
            len(videos),
            facts.layout,
        )
    return TreeStore(path, FoundRows(settings, rows))


def foreign_settings(path: Path, facts: Facts, inventory: Inventory, *, dataset: str = "folder") -> ExtractSettings:
    """The settings of a tree, from what is said about it and the streams that at least half of its videos have.

    Raises SettingsError that names what is missing and where to find it, or what contradicts the tree.
    """
    num = Counter(series for found in inventory.videos for series in found.spans)
    half = len(inventory.videos) / 2
    common = {series for series, count in num.items() if count >= half}
    steps = sorted({step for stream, step in common if stream != "rgb"})
    step = _step(path, facts, steps)
    flow = any(stream != "rgb" and (facts.layout != "denseflow" or found == step) for stream, found in common)
    streams = {stream for stream, found in common if stream == "rgb" or facts.layout != "denseflow" or found == step}
    _check_names(path, facts, inventory, flow=flow, rgb="rgb" in streams)
    if flow and not {"flow_x", "flow_y"} <= streams:
        raise SettingsError(
            f"{path} has files of {', '.join(sorted(streams))}, but a store has flow_x and flow_y, and back_x and "
            "back_y only beside them"
        )
    for name in ("bound_px", "rounding") if flow else ():
        if getattr(facts, name) is None:
            raise missing_fact(path, name)
    quantise = QuantiseSettings()
    if flow:
        assert facts.bound_px is not None, "checked above"
        assert facts.rounding is not None, "checked above"
        quantise = QuantiseSettings(bound_px=facts.bound_px, rounding=facts.rounding)
    return ExtractSettings(
        dataset=dataset,
        resize=ResizeSettings(),
        flow=FlowSettings(step=step, backward={"back_x", "back_y"} <= streams),
        quantise=quantise,
        store=StoreSettings(format="jpeg", layout=facts.layout, rgb="rgb" in streams, flow=flow, adopted=True),
    )


def _check_names(path: Path, facts: Facts, inventory: Inventory, *, flow: bool, rgb: bool) -> None:
    """A tree without images or without flow is one; but not where other files are named as another layout does."""
    others = [found.others[0] for found in inventory.videos if found.others]
    if (flow and rgb) or 2 * len(others) <= len(inventory.videos):
        return
    fitting = [name for name in layouts_of_file(others[0]) if name != facts.layout]
    if fitting:
        raise SettingsError(
            f"{path} has no {'images' if flow else 'flow'} of layout {facts.layout}, but files such as {others[0]}, "
            f"which are named as in layout {' or '.join(fitting)}"
        )


def missing_fact(path: Path, name: str, evidence: str = "") -> SettingsError:
    """The error for a fact that is neither said nor to be seen. `evidence` is what the data say about it."""
    return SettingsError(f"`{name}` of {path} is not known, and never guessed: {HOW_TO_KNOW[name]}{evidence}")


def _step(path: Path, facts: Facts, found: Sequence[int]) -> int:
    """The step of the flow: by the layout, by the names of denseflow, else as it is said."""
    if not found:
        return 1
    if facts.layout in ("mmaction2", "tsn", "feichtenhofer"):
        return facts.step or 1  # these have no other one, and settings refuse it
    if facts.layout == "denseflow":
        if facts.step is None and len(found) == 1:
            return found[0]
        if facts.step is None:
            names = ", ".join(map(str, found))
            raise SettingsError(f"{path} holds flow of the steps {names}, and a store has one; give `step`")
        if facts.step not in found:
            names = " and ".join(map(str, found))
            raise SettingsError(f"{path} holds flow of step {names} by the names of its files, not {facts.step}")
        return facts.step
    if facts.step is None:
        raise missing_fact(path, "step")
    return facts.step


def _rows(root: Path, settings: ExtractSettings, found: Sequence[FoundVideo], videos: Sequence[Video]) -> Iterator[Row]:
    """The rows of the videos that can be read."""
    layout, stream = layout_of(settings), settings.streams[0]
    for one, video in zip(found, videos, strict=True):
        judged = judge(one, settings)
        if judged.failures:
            continue
        part, name = layout.file(stream, 0)
        file = root / layout.folders(one.location, settings.streams)[part] / name
        try:
            width, height = jpeg_size(read_plain_file(file))
        except StoreError:
            continue
        yield Row(
            id=video.id,
            path=video.path,
            class_name=video.class_name,
            label=video.label,
            state=State.FLAGGED if judged.flags else State.OK,
            reasons=judged.flags,
            frames=judged.frames,
            flows=judged.flows,
            width=width,
            height=height,
            location=one.location,
        )


def _class_of(location: str) -> str:
    return location.partition("/")[0] if "/" in location else ""

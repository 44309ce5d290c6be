"""Whether a store is fit for training: what would stop a run, spoil its figures or only surprise, a sentence each."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from flowprep.errors import StoreError
from flowprep.records import Row
from flowprep.stores import Store, open_store
from flowprep.stores.splitsfile import Splits, read_splits
from fusion_train.config import DataSettings
from fusion_train.data.clips import valid_times
from fusion_train.data.splits import group_of, tested_part, without_splits

SATURATED_SHARE = 0.05
"""From this share of saturated flow pixels on, a video counts as saturated: its bound is too small for its motion."""

MEANINGS = {
    "damage": "a stored video cannot be read as the manifest says",
    "counts": "numbers of images and flow fields do not fit each other",
    "stream": "the store lacks a stream",
    "not_stored": "listed videos are not stored",
    "label": "labels and classes do not fit each other",
    "no_split": "there is no split to train on",
    "overlap": "a video is in both parts of a split",
    "leak": "a group of a class is in both parts of a split",
    "class": "a class has no stored video in a part of a split",
    "too_short": "videos have no whole chunk",
    "short": "videos are too short for the largest tau",
    "saturated": "flow is cut off at the bound",
    "small": "images are smaller than the network's input",
}
NOTES = frozenset({"short", "saturated", "small"})
"""What is said without being a failure."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One thing that was found: its code word of `MEANINGS`, a sentence, and the videos that it is about, if any."""

    code: str
    sentence: str
    ids: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.code not in MEANINGS:
            raise ValueError(f"`code` must be one of the words in check.MEANINGS, got {self.code!r}")

    @property
    def is_note(self) -> bool:
        """True if training may go on as if it were not there."""
        return self.code in NOTES


@dataclass(frozen=True, slots=True, kw_only=True)
class Health:
    """What `check` found of a store, and its facts."""

    path: Path
    num_videos: int
    bound_px: float
    rounding: str
    parts: dict[str, dict[str, int]] = field(default_factory=dict)
    """Split to part to number of stored videos."""
    findings: tuple[Finding, ...] = ()

    @property
    def exit_code(self) -> int:
        """0: fit (there may be notes); 1: not as it should be; 4: damaged."""
        codes = {finding.code for finding in self.findings if not finding.is_note}
        return 4 if "damage" in codes else 1 if codes else 0

    def to_json(self) -> dict[str, Any]:
        """A plain JSON object."""
        findings = [
            {"code": found.code, "note": found.is_note, "sentence": found.sentence, "ids": list(found.ids)}
            for found in self.findings
        ]
        return {
            "path": str(self.path),
            "num_videos": self.num_videos,
            "bound_px": self.bound_px,
            "rounding": self.rounding,
            "parts": self.parts,
            "findings": findings,
            "exit_code": self.exit_code,
        }


def check(path: Path, *, split: str | None = None, settings: DataSettings | None = None, quick: bool = False) -> Health:
    """Look at a store: of all splits or of one, with the last image of every stream decoded unless `quick`.

    Raises MissingDataError where there is no store, UnfinishedStoreError where its run has not ended, StoreError
    where it is damaged.
    """
    settings = settings or DataSettings()
    with open_store(path) as store:
        rows = list(store.rows)
        splits = read_splits(path)
        chosen = {
            name: {part: parts[part] for part in ("train", "val", "test") if part in parts}
            for name, parts in splits.splits.items()
            if split in (None, name)
        }
        stored = {row.id: row for row in rows}
        findings = [
            *_streams(store),
            *_counts(store, rows),
            *(() if quick else _reads(store, rows)),
            *_labels(splits, rows),
            *_lengths(store, rows, settings),
            *_saturation(rows),
            *_sizes(rows, settings),
            *_splits(path, splits, split),
        ]
        for name, parts in chosen.items():
            findings += _one_split(name, parts, stored, splits)
        return Health(
            path=path,
            num_videos=len(rows),
            bound_px=store.settings.quantise.bound_px,
            rounding=store.settings.quantise.rounding,
            parts={
                name: {part: sum(map(stored.__contains__, ids)) for part, ids in parts.items()}
                for name, parts in chosen.items()
            },
            findings=tuple(findings),
        )


def _streams(store: Store) -> Iterator[Finding]:
    for stream, stored in (("rgb", store.settings.store.rgb), ("flow", store.settings.store.flow)):
        if not stored:
            other = {"rgb": "temporal", "flow": "spatial"}[stream]
            yield Finding(
                code="stream",
                sentence=f"the store has no stream {stream}: only the {other} stream alone can be trained",
            )


def _counts(store: Store, rows: Sequence[Row]) -> Iterator[Finding]:
    if not (store.settings.store.rgb and store.settings.store.flow):
        return
    step = store.settings.flow.step
    wrong = [row for row in rows if row.flows != max(0, row.frames + store.first_image - step)]
    if wrong:
        row = wrong[0]
        yield _about(
            "counts",
            wrong,
            f"{row.frames} images and {row.flows} flow fields do not fit step {step}; extract again",
        )


def _reads(store: Store, rows: Sequence[Row]) -> Iterator[Finding]:
    """The last image of each stream is there, decodes and has the size that the manifest says."""
    for row in rows:
        for stream in store.settings.streams:
            num_images = row.frames if stream == "rgb" else row.flows
            try:
                if num_images:
                    store.image(row.id, stream, num_images - 1)
            except StoreError as error:
                yield Finding(code="damage", sentence=str(error), ids=(row.id,))
                break


def _labels(splits: Splits, rows: Sequence[Row]) -> Iterator[Finding]:
    names = dict(enumerate(splits.classes))
    without = [row for row in rows if row.label < 0]
    if without:
        cure = (
            "files lie in a folder for each class of --videos, or a list has a column `class`"
            if splits.dataset in ("folder", "list")
            else "the official lists are given with --splits DIR"
        )
        yield _about("label", without, f"no class is known; there is one where {cure}")
    wrong = [row for row in rows if row.label >= 0 and names and names.get(row.label) != row.class_name]
    if wrong:
        yield _about("label", wrong, f"label {wrong[0].label} is not that of {wrong[0].class_name!r}; extract again")


def _lengths(store: Store, rows: Sequence[Row], settings: DataSettings) -> Iterator[Finding]:
    length, span = settings.stack_length, (settings.num_chunks - 1) * settings.taus[1]
    kept = store.settings.store
    without, repeating, short = [], [], []
    for row in rows:
        times = valid_times(
            num_images=row.frames if kept.rgb else None,
            first_image=store.first_image,
            num_flows=row.flows if kept.flow else None,
            stack_length=length,
        )
        if not times:
            without.append(row)
        elif kept.flow and row.flows < length:
            repeating.append(row)
        elif len(times) <= span:
            short.append(row)
    if without:
        yield _about("too_short", without, "no image has flow; they will be left out")
    if repeating:
        yield _about(
            "too_short", repeating, f"fewer than {length} flow fields, of which the first and last will be repeated"
        )
    if short:
        what = f"too short for {settings.num_chunks} chunks {settings.taus[1]} frames apart, which will lie closer"
        yield _about("short", short, what)


def _saturation(rows: Sequence[Row]) -> Iterator[Finding]:
    many = [row for row in rows if row.saturated_share >= SATURATED_SHARE]
    if many:
        worst = max(many, key=lambda row: row.saturated_share)
        yield _about(
            "saturated",
            many,
            f"{SATURATED_SHARE:.0%} of the flow or more is beyond the bound, most in {worst.id!r} "
            f"({worst.saturated_share:.1%}); a larger --bound would keep it",
        )


def _sizes(rows: Sequence[Row], settings: DataSettings) -> Iterator[Finding]:
    small = [row for row in rows if min(row.height, row.width) < settings.crop_size]
    if small:
        row = small[0]
        what = f"{row.width}x{row.height} is smaller than a crop of {settings.crop_size} and will be scaled up"
        yield _about("small", small, what)


def _splits(path: Path, splits: Splits, split: str | None) -> Iterator[Finding]:
    if not splits.splits:
        what = f"{path} has no split to train and test on: {without_splits(splits.dataset)}"
        yield Finding(code="no_split", sentence=what)
    elif split is not None and split not in splits.splits:
        yield Finding(code="no_split", sentence=f"there is no split {split!r}; there are {', '.join(splits.splits)}")


def _one_split(
    name: str, parts: Mapping[str, Sequence[str]], stored: Mapping[str, Row], splits: Splits
) -> Iterator[Finding]:
    present = {part: [stored[video_id] for video_id in ids if video_id in stored] for part, ids in parts.items()}
    for part, ids in parts.items():
        missing = [video_id for video_id in ids if video_id not in stored]
        if missing:
            sentence = f"split {name}, {part}: {_some(missing)} of {len(ids)} not stored, to be left out"
            yield Finding(code="not_stored", sentence=sentence, ids=tuple(missing))
        if part in ("train", tested_part(splits.dataset, parts)):
            having = {row.label for row in present[part]}
            absent = [class_name for label, class_name in enumerate(splits.classes) if label not in having]
            if absent:
                what = f"{_some(absent, 'class', 'classes')} of {len(splits.classes)} without a stored video"
                yield Finding(code="class", sentence=f"split {name}, {part}: {what}")
    for one, other in itertools.combinations(parts, 2):
        both = sorted(set(parts[one]) & set(parts[other]))
        if both:
            sentence = f"split {name}: {_some(both)} in both {one} and {other}"
            yield Finding(code="overlap", sentence=sentence, ids=tuple(both))
        groups = _groups(present[one]) & _groups(present[other])
        if groups:
            texts = [f"{group} of {class_name}" for class_name, group in sorted(groups)]
            ids = tuple(
                row.id for row in present[other] if (row.class_name, group_of(row.id, row.class_name)) in groups
            )
            sentence = f"split {name}: {_some(texts, 'group', 'groups')} with videos in both {one} and {other}"
            yield Finding(code="leak", sentence=sentence, ids=ids)


def _groups(rows: Iterable[Row]) -> set[tuple[str, str]]:
    return {(row.class_name, group_of(row.id, row.class_name)) for row in rows}


def _about(code: str, rows: Sequence[Row], what: str) -> Finding:
    ids = tuple(row.id for row in rows)
    return Finding(code=code, sentence=f"{_some(ids)}: {what}", ids=ids)


def _some(names: Sequence[str], one: str = "video", several: str = "videos") -> str:
    """How many, and the first three."""
    more = ", .." if len(names) > 3 else ""
    return f"{len(names)} {one if len(names) == 1 else several} ({', '.join(names[:3])}{more})"

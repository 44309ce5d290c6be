"""Videos that a network is most sure of, rightly, and those that it gets most wrong: by margin of the true class."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import final

import numpy as np
from numpy.typing import NDArray

from fusion_train.late_fusion import softmax
from fusion_train.reporting.contents import RunContents, SplitContents
from fusion_train.scores import ScoreTable

NUM_SHOWN = 6
MOST_OF_A_CLASS = 2
_NUM_GUESSES = 3


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Guess:
    """A class, and its probability by the softmax of the video's scores."""

    name: str
    probability: float
    is_true: bool


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class JudgedVideo:
    """A test video. `margin` is the score of the true class less the highest of the others, before the softmax.

    `said` is what each row of the results takes it for, and whether that is right.
    """

    id: str
    split: str
    true: str
    margin: float
    guesses: tuple[Guess, ...]
    said: Mapping[str, tuple[str, bool]]


def best_and_worst(run: RunContents) -> tuple[list[JudgedVideo], list[JudgedVideo]]:
    """At most six videos each, at most two of a class, by the last row of the results, over all splits that have it."""
    row = run.rows[-1]
    found = [
        (float(margin), k, split)
        for split in run.splits
        if row in split.tables
        for k, margin in enumerate(margins(split.tables[row]))
    ]
    num = min(NUM_SHOWN, len(found) // 2)
    ordered = sorted(found, key=lambda entry: (entry[0], entry[2].tables[row].ids[entry[1]], entry[2].name))
    return _chosen(ordered[::-1], row, num), _chosen(ordered, row, num)


def margins(table: ScoreTable) -> NDArray[np.float32]:
    """Score of the true class less the highest other one, float32 (N,); of one class alone infinity."""
    places = np.arange(len(table.ids)), table.labels
    others = table.scores.copy()
    others[places] = -np.inf
    found: NDArray[np.float32] = table.scores[places] - others.max(1)
    return found


def _chosen(ordered: Sequence[tuple[float, int, SplitContents]], row: str, num: int) -> list[JudgedVideo]:
    of_class: Counter[int] = Counter()
    seen: set[str] = set()
    found: list[JudgedVideo] = []
    for margin, place, split in ordered:
        table = split.tables[row]
        label, video_id = int(table.labels[place]), table.ids[place]
        if len(found) < num and of_class[label] < MOST_OF_A_CLASS and video_id not in seen:
            of_class[label] += 1
            seen.add(video_id)
            found.append(_judged(split, row, place, margin))
    return found


def _judged(split: SplitContents, row: str, place: int, margin: float) -> JudgedVideo:
    table = split.tables[row]
    label, video_id = int(table.labels[place]), table.ids[place]
    probabilities = softmax(table.scores[place : place + 1])[0]
    guesses = tuple(
        Guess(name=table.classes[k], probability=float(probabilities[k]), is_true=k == label)
        for k in np.argsort(-table.scores[place], kind="stable")[:_NUM_GUESSES].tolist()
    )
    said = {}
    for name, other in split.tables.items():
        if video_id in other.ids:
            best = int(other.scores[other.ids.index(video_id)].argmax())
            said[name] = other.classes[best], best == label
    return JudgedVideo(
        id=video_id, split=split.name, true=table.classes[label], margin=margin, guesses=guesses, said=said
    )

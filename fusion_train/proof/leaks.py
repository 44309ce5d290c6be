"""Whether the videos tell their bits by anything but what they are meant to: linear classifiers on parts of them.

Each classifier looks at stored JPEGs, as networks do, and at no more than one stream shows at once. It learns on the
training list and is asked about the test list. Beside them stand controls: what the same classifier does find in the
same numbers, so that chance is not the classifier's fault.

Windows are taken from the left to the right, or by which one goes up: by texture would give the answer away.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import final

import numpy as np
from numpy.typing import NDArray
from sklearn.linear_model import RidgeClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from flowprep.errors import MissingDataError
from flowprep.stores import Store
from fusion_train.metrics import Share
from fusion_train.proof.looks import Look, look

LEAK_MARGIN = 0.04
LEAST_QUESTIONS = 1000
CONTROL = 0.7
"""Share of right answers that a control must have."""
SHRINKAGE = 10.0
BITS = ("binding", "order")

Array = NDArray[np.float64]
Looks = Mapping[str, Sequence[Look]]
"""By part, train and test."""


@final
@dataclass(frozen=True, kw_only=True)
class Leak:
    """What a linear classifier makes of some numbers: `share` of questions about test videos that it answers rightly.

    With `is_control` the answer is in the numbers, and it should be found.
    """

    looks_at: str
    asked: str
    share: Share
    is_control: bool = False

    @property
    def margin(self) -> float:
        """Distance to a half that counts as chance: 4 %, or four standard errors where questions are too few."""
        num = self.share.num_videos
        return LEAK_MARGIN if num >= LEAST_QUESTIONS else 2 / math.sqrt(max(num, 1))

    @property
    def passes(self) -> bool:
        """Whether it is chance; of a control, whether it is clearly better."""
        if self.is_control:
            return self.share.value >= CONTROL
        return abs(self.share.value - 0.5) <= self.margin


def find_leaks(store: Store, labels_file: Path) -> list[Leak]:
    """All tests on a store of the fusion task; `labels_file` is the `labels.jsonl` beside its videos.

    Raises:
        MissingDataError: There is no such file.
    """
    if not labels_file.is_file():
        raise MissingDataError(f"there is no {labels_file}; `flowprep synth` writes it beside the videos")
    labels = [json.loads(line) for line in labels_file.read_text("utf-8").splitlines()]
    stored = set(store.ids)
    looks = {
        part: [look(store, label) for label in labels if label["split"] == part and label["id"] in stored]
        for part in ("train", "test")
    }
    return list(ask_all(looks))


def ask_all(looks: Looks) -> Iterator[Leak]:
    """All tests, as questions about what was measured of the videos."""
    what = "places of the windows, motion of the background"
    for bit in BITS:
        yield Leak(looks_at=what, asked=bit, share=_ask(looks, _places, _bit(bit)))
    yield _control(looks, what, "left window above right", _places, lambda seen: [int(seen.places[1] < seen.places[3])])

    what = "single frames: grey of cells, sharpness in the windows"
    num_times = len(looks["test"][0].frames)
    for bit in BITS:
        # A classifier a time, since what it means that a window is blurred may depend on the time.
        yield Leak(
            looks_at=what, asked=bit, share=_added([_ask(looks, _frame(k), _bit(bit)) for k in range(num_times)])
        )
    yield _control(looks, what, "bright texture left", _frame(0), lambda seen: [seen.is_bright_left])

    what = "single stacks: flow of cells, either phase"
    for bit in BITS:
        yield Leak(looks_at=what, asked=bit, share=_ask(looks, lambda seen: seen.stacks, _bit(bit, 2)))
    yield _control(looks, what, "left window goes up", _vertical_stack, lambda seen: [seen.is_left_up])

    what = "flow of each window: means and deviations, either phase"
    for bit in BITS:
        yield Leak(looks_at=what, asked=bit, share=_ask(looks, _window_flow, _bit(bit, 2)))
    is_vertical = lambda seen: [int(seen.vertical == phase) for phase in (0, 1)]  # noqa: E731
    yield _control(looks, what, "windows go up and down", _window_flow, is_vertical)

    what = "flow of the window that goes up, less that of the other"
    yield Leak(looks_at=what, asked="binding", share=_ask(looks, _up_less_down, _bit("binding")))


def _control(
    looks: Looks, looks_at: str, asked: str, numbers: Callable[[Look], Array], answers: Callable[[Look], Sequence[int]]
) -> Leak:
    return Leak(looks_at=looks_at, asked=asked, share=_ask(looks, numbers, answers), is_control=True)


def _ask(looks: Looks, numbers: Callable[[Look], Array], answers: Callable[[Look], Sequence[int]]) -> Share:
    """Fit on `train`, ask about `test`. `numbers` is (questions, features) of a video, `answers` one a question."""
    data = {
        part: (np.concatenate([numbers(seen) for seen in seens]), np.concatenate([answers(seen) for seen in seens]))
        for part, seens in looks.items()
    }
    classifier = make_pipeline(StandardScaler(), RidgeClassifier(alpha=SHRINKAGE)).fit(*data["train"])
    questions, right_answers = data["test"]
    return Share(num_right=int((classifier.predict(questions) == right_answers).sum()), num_videos=len(right_answers))


def _added(shares: Sequence[Share]) -> Share:
    return Share(
        num_right=sum(share.num_right for share in shares), num_videos=sum(share.num_videos for share in shares)
    )


def _bit(name: str, num_questions: int = 1) -> Callable[[Look], Sequence[int]]:
    return lambda seen: [getattr(seen, name)] * num_questions


def _places(seen: Look) -> Array:
    return seen.places[None]


def _frame(time: int) -> Callable[[Look], Array]:
    return lambda seen: seen.frames[time : time + 1]


def _vertical_stack(seen: Look) -> Array:
    return seen.stacks[seen.vertical : seen.vertical + 1]


def _window_flow(seen: Look) -> Array:
    """Signed and unsigned, left window then right, a row a phase."""
    return seen.windows.reshape(2, -1)


def _up_less_down(seen: Look) -> Array:
    """Without signs, which say what goes up and no more."""
    left, right = np.abs(seen.windows[seen.vertical])
    difference: Array = left - right if seen.is_left_up else right - left
    return difference[None]

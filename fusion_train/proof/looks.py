"""What the leak tests measure of one video: places, single frames, single stacks, flow in and around each window."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, final

import numpy as np
from numpy.typing import NDArray

from flowprep.stores import Store

CELLS = 12
"""Frames and flow are averaged over so many cells in x and in y."""
STACK_LENGTH = 10

Array = NDArray[np.float64]


@final
@dataclass(frozen=True, kw_only=True, eq=False)
class Look:
    """Numbers of one video. Windows are in the order left, right.

    `places` is (6,): x, y of the windows, motion of the background. `frames` is (5, CELLS**2 + 4): in all pauses and
    phases, mean grey of cells, then mean steps of grey along x and y in each window. `stacks` is (2, 2 * CELLS**2):
    for each phase, mean u and v of cells in pixels. `windows` is (2, 2, 12): for each phase and window, of its core and
    of a ring around its edge, means and deviations of u and v, and means of their magnitudes.
    """

    binding: int
    order: int
    is_bright_left: int
    places: Array
    frames: Array
    stacks: Array
    windows: Array

    @property
    def vertical(self) -> int:
        """Which phase is the vertical one, 0 or 1."""
        return self.order

    @property
    def is_left_up(self) -> int:
        """Whether the left window goes up in the vertical phase."""
        return int(self.is_bright_left == self.binding)


def look(store: Store, label: Mapping[str, Any]) -> Look:
    """Measure a stored video by its line of `labels.jsonl`."""
    video, num_frames = label["id"], store.clip(label["id"]).num_frames
    places = [window["centre_px"] for window in label["windows"]]  # bright, dark
    left, right = sorted(places)
    ends = [(phase["first_flow"], phase["first_flow"] + phase["num_flows"]) for phase in label["phases"]]
    (first, pause), (second, last) = ends
    times = [first // 2, (first + pause) // 2, (pause + second) // 2, (second + last) // 2, (last + num_frames) // 2]
    radius = label["diameter_px"] / 2
    grey = [store.image(video, "rgb", time).mean(2) for time in times]
    shape = grey[0].shape
    cores = [_disc(shape, centre, radius - 3) for centre in (left, right)]
    rings = [_disc(shape, centre, radius + 3) & ~core for centre, core in zip((left, right), cores, strict=True)]
    flows = [_stack(store, video, (start + stop) // 2) for start, stop in ends]
    return Look(
        binding=int(label["binding"]),
        order=int(label["order"]),
        is_bright_left=int(places[0] == left),
        places=np.array([*left, *right, *label["background_px"]]),
        frames=np.stack(
            [np.r_[_cells(image), [step for core in cores for step in _steps(image, core)]] for image in grey]
        ),
        stacks=np.stack([np.r_[_cells(flow[..., 0].mean(0)), _cells(flow[..., 1].mean(0))] for flow in flows]),
        windows=np.stack(
            [
                [
                    [value for mask in masks for value in _statistics(flow[:, mask])]
                    for masks in zip(cores, rings, strict=True)
                ]
                for flow in flows
            ]
        ),
    )


def _stack(store: Store, video: str, time: int) -> Array:
    """The flow of a chunk at `time`, float64 (L, H, W, 2) in pixels."""
    first = time - STACK_LENGTH // 2
    return np.stack([store.flow_px(video, index) for index in range(first, first + STACK_LENGTH)]).astype(np.float64)


def _disc(shape: tuple[int, ...], centre_px: Sequence[float], radius_px: float) -> NDArray[np.bool_]:
    rows, columns = np.indices(shape)
    inside: NDArray[np.bool_] = np.hypot(columns - centre_px[0], rows - centre_px[1]) < radius_px
    return inside


def _cells(image: Array) -> Array:
    """Means of an image over CELLS x CELLS parts, flat."""
    rows = [part.mean(0) for part in np.array_split(image, CELLS, 0)]
    return np.stack([part.mean(1) for part in np.array_split(np.stack(rows), CELLS, 1)], 1).ravel()


def _steps(image: Array, mask: NDArray[np.bool_]) -> tuple[float, float]:
    """Mean difference of neighbours along x and along y."""
    return (
        float(np.abs(np.diff(image, axis=1, append=image[:, -1:]))[mask].mean()),
        float(np.abs(np.diff(image, axis=0, append=image[-1:]))[mask].mean()),
    )


def _statistics(flow: Array) -> list[float]:
    """Of flow (L, n, 2)."""
    return [*flow.mean((0, 1)), *flow.std((0, 1)), *np.abs(flow).mean((0, 1))]

"""A film of a prediction: frame, flow in colours, and what the networks say as the video goes on.

The score at a time is that of one clip around it, see `data.clips.running_times`; between times it is interpolated.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from flowprep.drawing import (
    GREY,
    INK,
    Picture,
    blank,
    flow_panel,
    frame_panel,
    nice_px,
    paste,
    put_text,
    shown_size,
    text_size,
    wheel,
)
from flowprep.film import write_film
from flowprep.quantise import dequantise
from flowprep.stores import Store
from fusion_train.data.augment import network_inputs
from fusion_train.data.canvas import Canvases
from fusion_train.data.loader import decoded_batch
from fusion_train.late_fusion import softmax
from fusion_train.outage import device_memory
from fusion_train.predict import Prediction, Predictor

NUM_TIMES = 60
"""Times at most at which clips are taken."""

_MARGIN, _GAP, _ROW, _HEAD, _CURVES = 14, 8, 22, 26, 150
_WHEEL_RADIUS = 16
_SCALE_FLOWS, _SCALE_PERCENTILE = 8, 99.5
_COLOURS = ((31, 119, 180), (214, 95, 14), (44, 140, 60), (150, 80, 170), (120, 110, 100))
"""Of the five classes, told apart on paper; INK is for text alone."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Running:
    """Probabilities (times, C) at `times`, indices of decoded frames, rising."""

    times: NDArray[np.int64]
    probabilities: NDArray[np.float64]

    def at(self, time: int) -> NDArray[np.float64]:
        """Probabilities (C,) at a frame."""
        return np.array([np.interp(time, self.times, column) for column in self.probabilities.T])


@device_memory("take a device with more memory that is free")
@torch.no_grad()
def running(predictor: Predictor, stores: Sequence[Store], video_id: str, *, num_times: int = NUM_TIMES) -> Running:
    """What the networks say of clips around up to `num_times` times, evenly from the first frame to the last."""
    num_frames = _num_frames(stores, video_id)
    times = np.unique(np.linspace(0, num_frames - 1, min(num_times, num_frames)).round().astype(np.int64))
    towers = []
    for member, store in zip(predictor.members, stores, strict=True):
        dataset = member.dataset(store, video_id)
        settings = member.checkpoint.settings.evaluate
        parts: dict[str, list[NDArray[np.float32]]] = {}
        for first in range(0, len(times), settings.clips_at_once):
            plan = dataset.plan_running(0, times[first : first + settings.clips_at_once].tolist())
            rgb, flow = network_inputs(decoded_batch(dataset, [plan], Canvases()), predictor.runtime.device)
            with predictor.runtime.autocast(settings.precision):
                logits = member.network(rgb, flow)
            for name, values in logits.items():
                parts.setdefault(name, []).append(values.float().cpu().numpy())
        towers.append({name: np.concatenate(values) for name, values in parts.items()})
    scores = predictor.joined(towers)
    return Running(
        times=times, probabilities=scores.astype(np.float64) if predictor.on == "softmax" else softmax(scores)
    )


def write_running_film(out: Path, predictor: Predictor, stores: Sequence[Store], prediction: Prediction) -> int:
    """Write the film of a video and count its pages. Raises MissingDataError where it cannot be written."""
    found = running(predictor, stores, prediction.video_id)
    page = _Pages(stores, prediction, predictor.classes, found)
    return write_film(out, page.all(), page.fps)


def _num_frames(stores: Sequence[Store], video_id: str) -> int:
    """Decoded frames that a store knows of."""
    counts = []
    for store in stores:
        clip = store.clip(video_id)
        counts.append(store.first_image + clip.num_frames if clip.num_frames else clip.num_flows)
    return max(counts)


class _Pages:
    """Draws the pages of one video."""

    def __init__(self, stores: Sequence[Store], prediction: Prediction, classes: Sequence[str], found: Running) -> None:
        self._id, self._found, self._prediction = prediction.video_id, found, prediction
        self._images = next((s for s in stores if s.settings.store.rgb and s.clip(self._id).num_frames), None)
        self._flows = next((s for s in stores if s.settings.store.flow and s.clip(self._id).num_flows), None)
        self._num_frames = _num_frames(stores, self._id)
        self._shown = prediction.top(len(_COLOURS))
        self._names = [classes[k] for k in self._shown]
        clip = stores[0].clip(self._id)
        self._size = shown_size(clip.width, clip.height)
        self.fps = clip.fps if 0 < clip.fps <= 1000 else 25.0
        self._max_px = self._scale()
        num_panels = (self._images is not None) + (self._flows is not None)
        inner = max(num_panels * self._size[0] + (num_panels - 1) * _GAP, 480)
        self._width = _even(inner + 2 * _MARGIN)
        self._left = (self._width - num_panels * self._size[0] - (num_panels - 1) * _GAP) // 2
        self._top = _HEAD + _MARGIN
        self._bars = self._top + self._size[1] + _GAP + 10
        self._curves = self._bars + _ROW * len(self._shown) + 14
        self._height = _even(self._curves + _CURVES + 2 * _MARGIN + 8)
        self._base = self._still()

    def all(self) -> Iterator[Picture]:
        """A page a frame."""
        for time in range(self._num_frames):
            yield self._page(time)

    def _scale(self) -> float:
        """Pixels at the rim of the wheel: nearly the longest of some fields."""
        if self._flows is None:
            return 1.0
        num = self._flows.clip(self._id).num_flows
        places = sorted({round(k * (num - 1) / max(_SCALE_FLOWS - 1, 1)) for k in range(_SCALE_FLOWS)})
        fields = [self._flows.flow_px(self._id, place) for place in places]
        return nice_px(max(float(np.percentile(np.hypot(f[..., 0], f[..., 1]), _SCALE_PERCENTILE)) for f in fields))

    def _x(self, time: float) -> int:
        """Where a time is in the curves."""
        left, right = _MARGIN + 40, self._width - _MARGIN
        return round(left + (right - left) * time / max(self._num_frames - 1, 1))

    def _y(self, share: float) -> int:
        return round(self._curves + _CURVES * (1 - share))

    def _still(self) -> Picture:
        """What is the same on all pages: title, axes and curves."""
        page = blank(self._width, self._height)
        whole = f"whole video: {self._names[0]} {100 * self._prediction.probabilities[self._shown[0]]:.0f} %"
        end = put_text(page, self._id, (_MARGIN, 24), scale=0.55, bold=True, max_width=self._width // 2)
        put_text(page, whole, (end + 18, 24), colour=GREY, max_width=self._width - end - 18 - _MARGIN)
        for share in (0.0, 0.5, 1.0):
            y = self._y(share)
            cv2.line(page, (self._x(0), y), (self._x(self._num_frames - 1), y), (215, 215, 215), 1)
            label = f"{100 * share:.0f} %"
            put_text(page, label, (self._x(0) - 8 - text_size(label, 0.38)[0], y + 4), scale=0.38, colour=GREY)
        for colour, place in zip(_COLOURS, self._shown, strict=False):
            points = [(self._x(t), self._y(p)) for t, p in
                      zip(self._found.times, self._found.probabilities[:, place], strict=True)]  # fmt: skip
            cv2.polylines(page, [np.array(points, np.int32)], False, colour, 2, cv2.LINE_AA)
        return page

    def _page(self, time: int) -> Picture:
        page = self._base.copy()
        left = self._left
        if self._images is not None:
            index = min(max(time - self._images.first_image, 0), self._images.clip(self._id).num_frames - 1)
            paste(page, frame_panel(self._images.image(self._id, "rgb", index), self._size), left, self._top)
            left += self._size[0] + _GAP
        if self._flows is not None:
            self._paste_flow(page, self._flows, time, left)
        values = self._found.at(time)
        for row, (colour, place, name) in enumerate(zip(_COLOURS, self._shown, self._names, strict=False)):
            self._bar(page, self._bars + _ROW * row, name, values[place], colour)
        x = self._x(time)
        cv2.line(page, (x, self._y(1)), (x, self._y(0)), INK, 1)
        label = f"{time / self.fps:.2f} s"
        width = text_size(label, 0.4)[0]
        left = min(max(x - width // 2, self._x(0)), self._width - _MARGIN - width)
        put_text(page, label, (left, self._y(0) + 20), scale=0.4, colour=GREY)
        return page

    def _paste_flow(self, page: Picture, store: Store, time: int, left: int) -> None:
        index = min(time, store.clip(self._id).num_flows - 1)
        codes = np.ascontiguousarray(store.stack(self._id, index, 1).transpose(1, 2, 0))
        quantise = store.settings.quantise
        flow_px = dequantise(codes, quantise)
        # Codes next to that of no motion are its noise.
        flow_px = np.where(np.abs(flow_px) < 1.2 * quantise.bound_px / 255, np.float32(0), flow_px)
        saturated = ((codes == 0) | (codes == 255)).any(axis=-1)
        paste(page, flow_panel(flow_px, saturated, self._size, max_px=self._max_px), left, self._top)
        # Still flow is as white as the page.
        corners = (left, self._top), (left + self._size[0] - 1, self._top + self._size[1] - 1)
        cv2.rectangle(page, *corners, (215, 215, 215), 1)
        disc = wheel(_WHEEL_RADIUS)
        side = disc.shape[0]
        if self._size[1] > 2 * side and self._size[0] > 2 * side:
            corner = left + self._size[0] - side - 4, self._top + self._size[1] - side - 4
            paste(page, disc, *corner)
            put_text(page, f"{self._max_px:g} px", (corner[0] - 44, corner[1] + side - 3), scale=0.38, colour=GREY)

    def _bar(self, page: Picture, top: int, name: str, value: float, colour: tuple[int, int, int]) -> None:
        start, end = _MARGIN + 170, self._width - _MARGIN - 52
        put_text(page, name, (_MARGIN, top + 14), max_width=160)
        cv2.rectangle(page, (start, top + 3), (end, top + 16), (236, 236, 236), -1)
        if length := round((end - start) * value):
            cv2.rectangle(page, (start, top + 3), (start + length, top + 16), colour, -1)
        put_text(page, f"{100 * value:.0f} %", (end + 8, top + 14))


def _even(length: float) -> int:
    return 2 * math.ceil(length / 2)

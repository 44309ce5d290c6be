"""A look at a stored video: its frames, its flow in colours and as arrows, and which codes are saturated."""

from __future__ import annotations

import dataclasses
import difflib
import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from flowprep.config import PreviewSettings
from flowprep.drawing import nice_px
from flowprep.errors import FrameIndexError, SettingsError, StoreError, UnknownVideoError
from flowprep.film import write_film
from flowprep.outfile import whole_file
from flowprep.quantise import dequantise, stilled
from flowprep.records import Row
from flowprep.sample import spread
from flowprep.stores import Store, find_manifest, open_store
from flowprep.stores.manifest import read_manifest
from flowprep.storyboard import Shot, Title, draw_film_page, draw_sheet

_SHEET_FRAMES = 4
_SCALE_FLOWS = 8  # flow fields of a film that its scale is taken from
_SCALE_PERCENTILE = 99.5  # a few pixels that fly off shall not make all others pale
_MAX_NAMED, _MAX_COMPARED = 3, 20_000
_MAX_PNG_PIXELS = 200_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Preview:
    """What was written: the frames that it shows, the length in pixels at the rim of the wheel, what is missing."""

    out: Path
    video: str
    frames: tuple[int, ...]
    max_px: float
    notes: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """A JSON object."""
        return {**dataclasses.asdict(self), "out": str(self.out)}


def preview(store: Path, video: str, out: Path, settings: PreviewSettings | None = None) -> Preview:
    """Write a picture (`out` ends in .png) or a film (.mp4) of a stored video; an existing file is replaced.

    Raises:
        SettingsError: `out` has another suffix, or the store has no backward flow.
        MissingDataError, StoreError: There is no finished store, or it is damaged; or `out` cannot be written.
        UnknownVideoError: The video is not stored; the message says why, or which ids are like it.
        FrameIndexError: The video has no frame from `settings.start` on.
    """
    settings = settings or PreviewSettings()
    if out.suffix.lower() not in (".png", ".mp4"):
        raise SettingsError(f"{out}: the name must end in .png or .mp4")
    with open_store(store) as opened:
        look = _Look(opened, video, settings)
        chosen: Sequence[int]
        if out.suffix.lower() == ".png":
            chosen = look.spread_out(settings.num_frames or _SHEET_FRAMES)
            shots = [look.shot(index) for index in chosen]
            title = look.title(shots)
            _write_png(out, draw_sheet(title, shots))
        else:
            chosen = look.following(settings.num_frames)
            title = look.title([look.shot(chosen[k]) for k in spread(min(_SCALE_FLOWS, len(chosen)), len(chosen))])
            pages = (draw_film_page(title, look.shot(index)) for index in chosen)
            write_film(out, pages, look.fps)
        return Preview(out=out, video=video, frames=tuple(chosen), max_px=title.max_px, notes=look.notes)


class _Look:
    """One video of an open store, by the index of the frame, as decoded, that a flow starts from."""

    def __init__(self, store: Store, video: str, settings: PreviewSettings) -> None:
        self._store, self._video, self._settings = store, video, settings
        self._row = _find(store, video)
        self._step = store.settings.flow.step
        kinds = store.settings.store
        if settings.backward and not store.settings.flow.backward:
            raise SettingsError(f"{store.path} has no backward flow; leave out --backward")
        self._has_images = kinds.rgb and self._row.frames > 0
        self._has_flow = kinds.flow and self._row.flows > 0
        self._times = store.pts_seconds(video) if self._has_images else np.empty(0)
        self.notes = tuple(self._missing())
        first, last = self._indices()
        self._all = range(max(first, settings.start), last)
        if first == last:
            raise FrameIndexError(f"{video!r} has neither frames nor flow in the store; extract without --no-rgb")
        if not self._all:
            raise FrameIndexError(
                f"{video!r} has {'flow from' if self._has_flow else 'the'} frames {first} to {last - 1}, none of them "
                f"from {settings.start} on; give another --start"
            )

    def _missing(self) -> Iterator[str]:
        kinds = self._store.settings.store
        if not kinds.rgb:
            yield "The store has no frames (--no-rgb)."
        if not kinds.flow:
            yield "The store has no flow (--no-flow)."
        elif not self._has_flow:
            yield "The video has no flow."
        for reason in self._row.reasons:
            yield f"Flagged {reason.code}: {reason.detail}."

    def _indices(self) -> tuple[int, int]:
        """The first frame that can be shown, and the one after the last."""
        first = self._step if self._settings.backward else 0
        if self._has_flow:
            return first, first + self._row.flows
        return self._store.first_image, self._store.first_image + self._row.frames

    @property
    def fps(self) -> float:
        """Frames a second, 25 where the store does not know."""
        return self._row.fps if 0 < self._row.fps <= 1000 else 25.0

    def spread_out(self, num_frames: int) -> list[int]:
        """Frames at equal distances."""
        return [self._all[place] for place in spread(min(num_frames, len(self._all)), len(self._all))]

    def following(self, num_frames: int | None) -> range:
        """Frames one after another."""
        return self._all if num_frames is None else self._all[:num_frames]

    def shot(self, index: int) -> Shot:
        """What is stored of a frame and of the flow from it."""
        stored = index - self._store.first_image
        known = 0 <= stored < self._row.frames
        codes = self._codes(index) if self._has_flow else None  # (H, W, 2)
        quantise = self._store.settings.quantise
        flow_px = None if codes is None else dequantise(codes, quantise)
        lengths = np.zeros(1) if flow_px is None else np.hypot(flow_px[..., 0], flow_px[..., 1])
        return Shot(
            index=index,
            target=None if codes is None else index + (-self._step if self._settings.backward else self._step),
            seconds=self._seconds(index, stored),
            image=self._store.image(self._video, "rgb", stored) if known and self._has_images else None,
            flow_px=None if flow_px is None else stilled(flow_px, quantise),
            saturated=None if codes is None else ((codes == 0) | (codes == 255)).any(axis=-1),
            mean_px=float(lengths.mean()),
            longest_px=float(lengths.max()),
        )

    def _codes(self, index: int) -> NDArray[np.uint8]:
        backward = self._settings.backward
        place = index - self._step if backward else index
        return np.ascontiguousarray(self._store.stack(self._video, place, 1, backward=backward).transpose(1, 2, 0))

    def _seconds(self, index: int, stored: int) -> float | None:
        """The time of a frame. Times are stored with images alone, and adopted trees have none: the rate tells too."""
        if 0 <= stored < len(self._times) and math.isfinite(self._times[stored]):
            return float(self._times[stored])
        return index / self._row.fps if self._row.fps > 0 and not self._has_images else None

    def title(self, shots: Sequence[Shot]) -> Title:
        """What stands over the shots, with a scale that suits them."""
        flow, quantise, row = self._store.settings.flow, self._store.settings.quantise, self._row
        fields = [shot.flow_px for shot in shots if shot.flow_px is not None]
        lengths = (np.percentile(np.hypot(*field.transpose(2, 0, 1)), _SCALE_PERCENTILE) for field in fields)
        facts = [f"{row.width}x{row.height}", f"{row.frames} frames", f"{row.flows} flows"]
        facts += [f"{row.fps:g} fps"] if row.fps else []
        lines = [", ".join(facts)]
        if self._has_flow:
            # What computed an adopted tree is not known, nor are sums over its flow.
            adopted = self._store.settings.store.adopted
            name = "adopted" if adopted else " ".join(filter(None, (flow.backend, flow.variant)))
            way = f"{'backward, ' if self._settings.backward else ''}step {self._step}"
            lines.append(f"{name}, {way}; bound {quantise.bound_px:g} px, {quantise.rounding}")
            if not adopted:
                share = f"{100 * row.saturated_share:.2g} % beyond the bound"
                lines.append(f"whole video: mean {row.mean_magnitude_px:.2f} px, {share}")
        return Title(
            video=self._video,
            lines=(*lines, *self.notes),
            width=row.width,
            height=row.height,
            max_px=nice_px(max(map(float, lengths), default=0.0)),
        )


def _find(store: Store, video: str) -> Row:
    """The row of a stored video, or an UnknownVideoError that says what became of it, or what it may be."""
    try:
        place = store.ids.index(video)
    except ValueError:
        raise UnknownVideoError(_why_unknown(store, video)) from None
    return store.rows[place]


def _why_unknown(store: Store, video: str) -> str:
    ids = []
    for row in read_manifest(find_manifest(store.path))[1]:
        if row.id == video:
            reasons = "; ".join(f"{reason.code}: {reason.detail}" for reason in row.reasons)
            return f"{video!r} is not stored in {store.path}, its state is {row.state}: {reasons}"
        ids.append(row.id)
    near = _near(video, ids)
    hint = f"did you mean {' or '.join(map(repr, near))}?" if near else f"it has {len(store.ids)} videos"
    return f"{store.path} has no video {video!r}; {hint}"


def _near(video: str, ids: Sequence[str]) -> list[str]:
    """Ids of the same name in another class or with another suffix, then those that are spelled alike."""
    name = Path(video).stem.casefold()
    same = (id_ for id_ in ids if name and name in id_.casefold())
    alike = difflib.get_close_matches(video, ids[:_MAX_COMPARED], n=_MAX_NAMED)
    return list(dict.fromkeys(itertools.chain(itertools.islice(same, _MAX_NAMED), alike)))[:_MAX_NAMED]


def _write_png(out: Path, picture: NDArray[np.uint8]) -> None:
    if math.prod(picture.shape[:2]) > _MAX_PNG_PIXELS:
        raise SettingsError(f"{out} would have {picture.shape[1]}x{picture.shape[0]} pixels; give fewer --num-frames")
    done, data = cv2.imencode(".png", cv2.cvtColor(picture, cv2.COLOR_RGB2BGR))
    if not done:
        raise StoreError(f"{out} could not be encoded")
    with whole_file(out) as temporary:
        temporary.write_bytes(data.tobytes())

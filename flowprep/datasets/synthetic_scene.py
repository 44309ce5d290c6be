"""What the synthetic videos show: one random draw, the classes made from it, and their frames.

Note [one draw, every class]: each random number (places, speeds, textures, background, the sign of the sideways drift)
is drawn once and used for one video of each class. So nothing random can differ between the classes, whatever is
measured, and where the classes do not differ (the first pause) their frames are the same to the byte.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from flowprep.config import SynthSettings
from flowprep.datasets.synthetic_texture import DotTexture, FieldTexture, FloatArray

MID_GREY = 128
HEADROOM = 112.0
"""Grey levels stay this near to mid-grey: above 0 and below 255 by as much, so that neither texture is clipped more."""

DIAMETER = 0.3
BORDER = 0.04
GAP = 0.1
"""Window diameter, least distance to the border, and least distance between windows, as shares of the short side."""

BACKGROUND_SPEED_PX = (0.1, 0.4)
SPLITS = ("train", "test")
TEXTURES = ("bright", "dark")
DIRECTIONS: Mapping[str, tuple[int, int]] = {"down": (0, 1), "left": (-1, 0), "right": (1, 0), "up": (0, -1)}
"""Unit vectors (x, y) in image coordinates, y down."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SynthClass:
    """A class: its name, its label (from 0; labels follow the names' order) and the bits that make it."""

    name: str
    label: int
    bits: Mapping[str, int | str]


def synth_classes(task: str) -> tuple[SynthClass, ...]:
    """The classes of a task in label order.

    fusion: `binding` 1 where the bright texture (A) goes up and the dark one (B) down, 0 the other way round; `order`
    0 where the vertical phase comes first, 1 where it comes last; label = 2 * binding + order.
    pretext: `texture` and `direction` by name.
    """
    if task == "fusion":
        return tuple(
            SynthClass(
                name=f"Bright{('Down', 'Up')[binding]}Vertical{('First', 'Last')[order]}",
                label=2 * binding + order,
                bits={"binding": binding, "order": order},
            )
            for binding in (0, 1)
            for order in (0, 1)
        )
    pairs = [(texture, direction) for texture in TEXTURES for direction in DIRECTIONS]
    return tuple(
        SynthClass(
            name=texture.capitalize() + direction.capitalize(),
            label=label,
            bits={"texture": texture, "direction": direction},
        )
        for label, (texture, direction) in enumerate(pairs)
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Phase:
    """Motion between frames `first_flow` and `first_flow + num_flows`; `velocities_px` (x, y) a frame, a window."""

    motion: str
    first_flow: int
    num_flows: int
    velocities_px: tuple[tuple[float, float], ...]


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Draw:
    """All that is random in the videos of one draw.

    `entropy` seeds it. `centres_px` (x, y) a window, in pixel coordinates where (0, 0) is the centre of the first
    pixel. `speeds_px` (vertical, sideways) a window, both positive. `sideways_sign` is the sideways sense of the first
    window, the second has the opposite one.
    """

    entropy: tuple[int, ...]
    diameter_px: float
    centres_px: tuple[tuple[float, float], ...]
    speeds_px: tuple[tuple[float, float], ...]
    sideways_sign: int
    background_px: tuple[float, float]
    background: FieldTexture
    textures: tuple[DotTexture, ...]

    @classmethod
    def sample(cls, settings: SynthSettings, split: str, index: int) -> Self:
        """Draw number `index` of a split. Depends on the seed, the task, the sizes and speeds, and on no other draw."""
        entropy = (settings.seed, settings.num_classes, SPLITS.index(split), index)
        rng = np.random.default_rng(entropy)
        num_windows = 2 if settings.task == "fusion" else 1
        short_side = min(settings.width, settings.height)
        diameter = DIAMETER * short_side
        # Within a phase no dot is seen twice: the tile is larger than the window and the way that it drifts.
        tile = diameter + settings.phase_steps * settings.max_speed_px + 8
        centres = _window_centres(rng, settings.width, settings.height, num_windows)
        speeds = rng.uniform(settings.min_speed_px, settings.max_speed_px, (num_windows, 2))
        angle, speed, drifts = rng.uniform(0, 2 * np.pi), rng.uniform(*BACKGROUND_SPEED_PX), rng.integers(2)
        return cls(
            entropy=entropy,
            diameter_px=diameter,
            centres_px=centres,
            speeds_px=tuple((float(vertical), float(sideways)) for vertical, sideways in speeds),
            sideways_sign=int(rng.choice((-1, 1))),
            background_px=(float(drifts * speed * np.cos(angle)), float(drifts * speed * np.sin(angle))),
            background=FieldTexture.sample(rng, max(settings.width, settings.height) + 32),
            textures=tuple(DotTexture.sample(rng, tile) for _ in range(num_windows)),
        )

    def window_textures(self, wanted: SynthClass) -> tuple[str, ...]:
        """Name of the texture behind each window."""
        return (str(wanted.bits["texture"]),) if "texture" in wanted.bits else TEXTURES

    def phases(self, settings: SynthSettings, wanted: SynthClass) -> tuple[Phase, ...]:
        """The phases of motion of a class in time order; between them all windows are still.

        fusion: pause, phase, pause, phase, pause. pretext: the texture drifts from the first frame to the last.
        """
        if "direction" in wanted.bits:
            x, y = DIRECTIONS[str(wanted.bits["direction"])]
            vertical, sideways = self.speeds_px[0]
            velocity = (x * sideways, y * vertical)
            motion = str(wanted.bits["direction"])
            return (Phase(motion=motion, first_flow=0, num_flows=settings.num_steps, velocities_px=(velocity,)),)
        (bright_vertical, bright_sideways), (dark_vertical, dark_sideways) = self.speeds_px
        down = -1 if wanted.bits["binding"] else 1
        velocities = {
            "vertical": ((0.0, down * bright_vertical), (0.0, -down * dark_vertical)),
            "sideways": ((self.sideways_sign * bright_sideways, 0.0), (-self.sideways_sign * dark_sideways, 0.0)),
        }
        motions = ("sideways", "vertical") if wanted.bits["order"] else ("vertical", "sideways")
        starts = (settings.pause_steps, 2 * settings.pause_steps + settings.phase_steps)
        return tuple(
            Phase(motion=motion, first_flow=start, num_flows=settings.phase_steps, velocities_px=velocities[motion])
            for motion, start in zip(motions, starts, strict=True)
        )

    def facts(self, settings: SynthSettings, wanted: SynthClass) -> dict[str, Any]:
        """What `labels.jsonl` tells of a video besides its names: bits, places, speeds, seed. Plain JSON."""
        return {
            **wanted.bits,
            "seed": list(self.entropy),
            "diameter_px": self.diameter_px,
            "windows": [
                {"texture": texture, "centre_px": list(centre)}
                for texture, centre in zip(self.window_textures(wanted), self.centres_px, strict=True)
            ],
            "phases": [
                {
                    "motion": phase.motion,
                    "first_flow": phase.first_flow,
                    "num_flows": phase.num_flows,
                    "velocities_px": [list(velocity) for velocity in phase.velocities_px],
                }
                for phase in self.phases(settings, wanted)
            ],
            "background_px": list(self.background_px),
        }

    def background_frames(self, settings: SynthSettings) -> FloatArray:
        """The background alone, the same for every class: (F, H, W) float32 relative to mid-grey."""
        size = (settings.width, settings.height)
        if self.background_px == (0.0, 0.0):
            still = self.background.values(*size, np.zeros(2))
            return np.broadcast_to(still, (settings.num_frames, *still.shape))
        velocity = np.array(self.background_px)
        return np.stack([self.background.values(*size, i * velocity) for i in range(settings.num_frames)])

    def frames(self, settings: SynthSettings, wanted: SynthClass, background: FloatArray) -> npt.NDArray[np.uint8]:
        """The frames of a class over `background` (see `background_frames`): (F, H, W) uint8."""
        scene = background.copy()
        for window, shifts_px in enumerate(self._shifts(settings, wanted)):
            xs, ys, cover = _window(self.centres_px[window], self.diameter_px)
            sign = (1, -1)[TEXTURES.index(self.window_textures(wanted)[window])]
            seen = scene[:, int(ys[0]) : int(ys[-1]) + 1, int(xs[0]) : int(xs[-1]) + 1]
            before = None
            for i, shift_px in enumerate(shifts_px):
                if before is None or not np.array_equal(shift_px, before):
                    values = sign * self.textures[window].values(xs, ys, shift_px)
                    before = shift_px
                seen[i] += cover * (values - seen[i])
        return (np.rint(np.clip(scene, -HEADROOM, HEADROOM)) + MID_GREY).astype(np.uint8)

    def _shifts(self, settings: SynthSettings, wanted: SynthClass) -> npt.NDArray[np.float64]:
        """Displacement of each window's texture at each frame, (windows, F, 2), x then y, in pixels."""
        steps = np.zeros((len(self.centres_px), settings.num_frames, 2))
        for phase in self.phases(settings, wanted):
            frames = slice(phase.first_flow + 1, phase.first_flow + 1 + phase.num_flows)
            steps[:, frames] = np.array(phase.velocities_px)[:, None]
        return steps.cumsum(axis=1)


def _window(centre_px: tuple[float, float], diameter_px: float) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Columns (w,), rows (h,) and coverage (h, w), 0..1 with an edge one pixel wide, of a round window."""
    radius = diameter_px / 2
    xs, ys = (np.arange(np.floor(c - radius), np.ceil(c + radius) + 1, dtype=np.float32) for c in centre_px)
    distances = np.hypot(xs[None, :] - centre_px[0], ys[:, None] - centre_px[1])
    return xs, ys, np.clip(radius + 0.5 - distances, 0, 1).astype(np.float32)


def _window_centres(
    rng: np.random.Generator, width: int, height: int, num_windows: int
) -> tuple[tuple[float, float], ...]:
    """Places of all windows, uniform among those that are clear of the border and of each other."""
    short_side = min(width, height)
    margin = (DIAMETER / 2 + BORDER) * short_side
    low, high = np.array([margin, margin]), np.array([width - 1 - margin, height - 1 - margin])
    while True:
        centres = rng.uniform(low, high, (num_windows, 2))
        if num_windows == 1 or np.hypot(*(centres[1] - centres[0])) >= (DIAMETER + GAP) * short_side:
            return tuple((float(x), float(y)) for x, y in centres)

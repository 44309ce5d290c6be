"""Random textures that drift by any fraction of a pixel without being resampled.

Interpolation blurs by the fraction of the shift, so that one frame of a resampled texture tells that it moves, and
along which axis. Both textures here are evaluated afresh at each shift instead, from dots with known centres or from
a band-limited spectrum, so that a still and a moving texture look the same in every single frame.

Values are grey levels relative to mid-grey: the negative of a texture is its values times -1.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float32]

DOT_SPACING_PX = 5.0
"""Least distance between the centres of two dots."""

DOT_DENSITY = 0.022
"""Dots a square pixel; random placement jams at 0.547 / (pi/4 * DOT_SPACING_PX**2) = 0.028."""

DOT_SIGMA_PX = (1.2, 1.8)
DOT_HEIGHT = (60.0, 100.0)
FIELD_SIGMA_PX = 2.5
FIELD_CONTRAST = 20.0
"""Standard deviation of the field in grey levels."""


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class DotTexture:
    """Bright Gaussian dots on mid-grey, on a square tile that repeats every `tile_px`.

    `centres_px` (N, 2) x then y, `sigmas_px` (N,), `heights` (N,) grey levels above mid-grey; all float32.
    """

    tile_px: float
    centres_px: FloatArray
    sigmas_px: FloatArray
    heights: FloatArray

    @classmethod
    def sample(cls, rng: np.random.Generator, tile_px: float) -> Self:
        """Dots at random places, none closer than `DOT_SPACING_PX` to another, of random size and height."""
        centres = _spread_points(rng, tile_px, DOT_SPACING_PX, round(DOT_DENSITY * tile_px**2))
        num_dots = len(centres)
        return cls(
            tile_px=tile_px,
            centres_px=centres.astype(np.float32),
            sigmas_px=rng.uniform(*DOT_SIGMA_PX, num_dots).astype(np.float32),
            heights=rng.uniform(*DOT_HEIGHT, num_dots).astype(np.float32),
        )

    def values(self, xs: FloatArray, ys: FloatArray, shift_px: npt.NDArray[np.float64]) -> FloatArray:
        """The texture moved by `shift_px` (x, y), at columns `xs` (W,) and rows `ys` (H,): (H, W) float32."""
        columns = self._profile(xs, self.centres_px[:, 0] + np.float32(shift_px[0]))  # (N, W)
        rows = self._profile(ys, self.centres_px[:, 1] + np.float32(shift_px[1]))  # (N, H)
        return np.asarray((rows * self.heights[:, None]).T @ columns, np.float32)

    def _profile(self, positions: FloatArray, centres: FloatArray) -> FloatArray:
        half = np.float32(self.tile_px / 2)
        distances = (positions[None, :] - centres[:, None] + half) % np.float32(self.tile_px) - half
        return np.asarray(np.exp(-0.5 * (distances / self.sigmas_px[:, None]) ** 2), np.float32)


@dataclass(frozen=True, slots=True, eq=False)
class FieldTexture:
    """A periodic Gaussian random field: low-pass, with mean 0 and as often above mid-grey as below.

    `spectrum` is its `rfft2`, (S, S // 2 + 1) complex64; the low-pass leaves nothing at the Nyquist frequency, so that
    a shift by a phase is exact.
    """

    spectrum: npt.NDArray[np.complex64]

    @classmethod
    def sample(cls, rng: np.random.Generator, size_px: int) -> Self:
        """A field on a tile of `size_px` squared."""
        frequencies_y, frequencies_x = np.fft.fftfreq(size_px)[:, None], np.fft.rfftfreq(size_px)[None, :]
        low_pass = np.exp(-2 * (np.pi * FIELD_SIGMA_PX) ** 2 * (frequencies_x**2 + frequencies_y**2))
        low_pass[0, 0] = 0
        spectrum = np.fft.rfft2(rng.standard_normal((size_px, size_px))) * low_pass
        contrast = np.fft.irfft2(spectrum, s=(size_px, size_px)).std()
        return cls((spectrum * (FIELD_CONTRAST / contrast)).astype(np.complex64))

    def values(self, width: int, height: int, shift_px: npt.NDArray[np.float64]) -> FloatArray:
        """The upper left `width` x `height` pixels of the field moved by `shift_px` (x, y): (H, W) float32."""
        size = self.spectrum.shape[0]
        phase_x = np.exp(-2j * np.pi * np.fft.rfftfreq(size) * shift_px[0])[None, :]
        phase_y = np.exp(-2j * np.pi * np.fft.fftfreq(size) * shift_px[1])[:, None]
        moved = np.fft.irfft2(self.spectrum * (phase_y * phase_x).astype(np.complex64), s=(size, size))
        return moved[:height, :width].astype(np.float32)


def _spread_points(
    rng: np.random.Generator, tile_px: float, spacing_px: float, num_points: int
) -> npt.NDArray[np.float64]:
    """Up to `num_points` points (N, 2) on a repeating square, no two closer than `spacing_px` (dart throwing)."""
    points = np.empty((num_points, 2))
    num_placed = 0
    for candidate in rng.uniform(0, tile_px, (num_points * 20, 2)):
        if num_placed == num_points:
            break
        apart = np.abs(points[:num_placed] - candidate)
        apart = np.minimum(apart, tile_px - apart)
        if not (np.square(apart).sum(axis=1) < spacing_px**2).any():
            points[num_placed] = candidate
            num_placed += 1
    return points[:num_placed]

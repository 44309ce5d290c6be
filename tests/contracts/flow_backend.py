"""What every flow backend must do. A new backend subclasses this and inherits the tests."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import cv2
import numpy as np
import pytest
from helpers.shared_data import FLOW, needs_shared

from flowprep.errors import SettingsError
from flowprep.flow.backend import FlowBackend

SIZES = [(1, 1), (1, 7), (7, 1), (2, 2), (5, 5), (2, 60), (8, 300), (300, 8), (11, 40), (12, 12), (16, 17), (33, 20)]


def moving_texture(num_frames: int, height: int = 48, width: int = 64, seed: int = 0) -> np.ndarray[Any, Any]:
    """uint8 (T, H, W): smoothed noise that moves by (1, -1) px a frame."""
    noise = np.random.default_rng(seed).normal(size=(height + num_frames, width + num_frames))
    smooth = cv2.GaussianBlur(noise, (0, 0), 2)
    smooth = np.clip(128 + 60 * smooth / smooth.std(), 0, 255).astype(np.uint8)
    return np.stack([smooth[k : k + height, num_frames - k : num_frames - k + width] for k in range(num_frames)])


class FlowBackendContract:
    """Subclasses give `make_backend`, and the tolerances where theirs are wider."""

    translation_tolerance_px = 0.1
    still_border_px = 0.0

    def make_backend(self) -> FlowBackend:
        raise NotImplementedError

    @pytest.fixture
    def backend(self) -> Iterator[FlowBackend]:
        with self.make_backend() as backend:
            yield backend

    def test_flow_is_float32_pairs_of_the_frames_size(self, backend: FlowBackend) -> None:
        frames = backend.prepare(moving_texture(3))
        flow = backend.compute(frames[:-1], frames[1:])
        assert flow.shape == (2, 48, 64, 2)
        assert flow.dtype == np.float32
        assert np.isfinite(flow).all()

    def test_translation_is_recovered_with_its_sign(self, backend: FlowBackend) -> None:
        frames = backend.prepare(moving_texture(2))
        forward, backward = backend.compute([frames[0], frames[1]], [frames[1], frames[0]])
        np.testing.assert_allclose(np.median(forward, (0, 1)), (1, -1), atol=self.translation_tolerance_px)
        np.testing.assert_allclose(np.median(backward, (0, 1)), (-1, 1), atol=self.translation_tolerance_px)

    @needs_shared
    def test_shift_of_a_real_image_is_recovered(self, backend: FlowBackend) -> None:
        image = cv2.imread(str(FLOW / "rubberwhale" / "frame0.png"), cv2.IMREAD_GRAYSCALE)
        assert image is not None
        pair = np.stack([image[200:280, 300:400], image[199:279, 298:398]]).astype(np.uint8)
        (flow,) = backend.compute(*([frame] for frame in backend.prepare(pair)))
        np.testing.assert_allclose(np.median(flow, (0, 1)), (2, 1), atol=self.translation_tolerance_px)

    def test_no_motion_gives_no_flow(self, backend: FlowBackend) -> None:
        frames = backend.prepare(moving_texture(1).repeat(2, axis=0))
        (flow,) = backend.compute(frames[:1], frames[1:])
        assert np.abs(flow[8:-8, 8:-8]).max() < 1e-3
        assert np.abs(flow).max() <= self.still_border_px

    def test_a_batch_equals_pairs_one_by_one_in_any_order(self, backend: FlowBackend) -> None:
        prepared = backend.prepare(moving_texture(5, 20, 28))
        pairs = [(0, 1), (1, 2), (2, 3), (3, 4), (4, 0)]
        batch = backend.compute([prepared[a] for a, _ in pairs], [prepared[b] for _, b in pairs])
        for k in (3, 0, 4, 2, 1):
            a, b = pairs[k]
            (alone,) = backend.compute([prepared[a]], [prepared[b]])
            np.testing.assert_array_equal(alone, batch[k])
        reverse = backend.compute([prepared[a] for a, _ in pairs[::-1]], [prepared[b] for _, b in pairs[::-1]])
        np.testing.assert_array_equal(reverse[::-1], batch)

    def test_prepared_frames_do_not_follow_their_array(self, backend: FlowBackend) -> None:
        frames = moving_texture(2, 20, 28)
        prepared = backend.prepare(frames)
        before = backend.compute(prepared[:1], prepared[1:])
        kept = frames.copy()
        prepared = backend.prepare(frames)
        frames[...] = 0
        np.testing.assert_array_equal(backend.compute(prepared[:1], prepared[1:]), before)
        again = backend.prepare(kept)
        np.testing.assert_array_equal(backend.compute(again[:1], again[1:]), before)

    def test_views_are_accepted(self, backend: FlowBackend) -> None:
        frames = moving_texture(2, 40, 40)
        whole = np.zeros((2, 50, 60), np.uint8)
        whole[:, 5:45, 10:50] = frames
        view, copy = backend.prepare(whole[:, 5:45, 10:50]), backend.prepare(frames)
        np.testing.assert_array_equal(backend.compute(view[:1], view[1:]), backend.compute(copy[:1], copy[1:]))

    def test_earlier_frames_of_other_sizes_change_nothing(self, backend: FlowBackend) -> None:
        frames = moving_texture(2)
        with self.make_backend() as fresh:
            prepared = fresh.prepare(frames)
            expected = fresh.compute(prepared[:1], prepared[1:])
        for height, width in ((16, 16), (18, 18), (5, 9), (20, 50)):
            small = backend.prepare(moving_texture(2, height, width))
            backend.compute(small[:1], small[1:])
        prepared = backend.prepare(frames)
        np.testing.assert_array_equal(backend.compute(prepared[:1], prepared[1:]), expected)

    @pytest.mark.parametrize(("height", "width"), SIZES)
    def test_every_size_gives_finite_repeatable_flow(self, backend: FlowBackend, height: int, width: int) -> None:
        noise = np.random.default_rng(1).integers(0, 256, (2, height, width), np.uint8)
        frames = backend.prepare(noise)
        flow = backend.compute(frames[:1], frames[1:])
        assert flow.shape == (1, height, width, 2)
        assert np.isfinite(flow).all()
        np.testing.assert_array_equal(backend.compute(frames[:1], frames[1:]), flow)

    def test_no_frames_are_prepared_to_no_frames(self, backend: FlowBackend) -> None:
        assert backend.prepare(np.zeros((0, 8, 8), np.uint8)) == []

    @pytest.mark.parametrize(
        "frames",
        [np.zeros((2, 8, 8), np.float32), np.zeros((8, 8), np.uint8), np.zeros((2, 8, 0), np.uint8)],
        ids=["float32", "2-D", "empty"],
    )
    def test_other_arrays_are_refused(self, backend: FlowBackend, frames: Any) -> None:
        with pytest.raises(SettingsError, match=r"`frames` must be uint8 \(T, H, W\), got"):
            backend.prepare(frames)

    def test_batches_that_do_not_fit_are_refused(self, backend: FlowBackend) -> None:
        large, small = backend.prepare(moving_texture(2)), backend.prepare(moving_texture(2, 20, 20))
        with pytest.raises(SettingsError, match="got 2 and 1"):
            backend.compute(large, large[:1])
        with pytest.raises(SettingsError, match="at least one"):
            backend.compute([], [])
        with pytest.raises(SettingsError, match="one size"):
            backend.compute(large[:1], small[:1])

    def test_parameters_are_complete_json(self, backend: FlowBackend) -> None:
        assert backend.parameters
        assert json.loads(json.dumps(dict(backend.parameters), allow_nan=False)) == backend.parameters
        assert None not in backend.parameters.values()

    def test_close_may_be_called_twice(self) -> None:
        backend = self.make_backend()
        backend.close()
        backend.close()

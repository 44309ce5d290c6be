"""How long a video may take before its child is taken to hang."""

from __future__ import annotations

_STALL_SECONDS = 300.0  # a network disk may pause for minutes
_SECONDS_PER_MEGAPIXEL = 300.0
"""For one frame. The slowest backend there is, OpenCV on a CPU, takes up to 45 s a pair with its default settings."""
_BATCH_MEGAPIXELS = 2.0  # the pipeline's batches are no larger, unless one frame is


class Limits:
    """Seconds without progress (`stall_seconds`) and in all (`wall_seconds`) after which a video is given up.

    Both go by the pixels of its frames, as progress is reported a batch; `given_seconds` replaces the former. In all a
    video may take one stall, and for each of its frames as long as a frame of this size ever may. A header may announce
    too few frames, so those that are done count too.
    """

    def __init__(self, given_seconds: float | None) -> None:
        self._given_seconds = given_seconds
        self._num_announced = self._num_done = 0
        self._megapixels = 0.0

    def opened(self, num_frames: int, num_pixels: int) -> None:
        """The header announces `num_frames` (0: no count), the largest of `num_pixels` (0: no size)."""
        self._num_announced, self._megapixels = num_frames, num_pixels / 1e6

    def done(self, num_frames: int) -> None:
        """So many more frames have been done."""
        self._num_done += num_frames

    @property
    def stall_seconds(self) -> float:
        """Longest time without progress."""
        batch_seconds = max(_BATCH_MEGAPIXELS, self._megapixels) * _SECONDS_PER_MEGAPIXEL
        return self._given_seconds or _STALL_SECONDS + batch_seconds

    @property
    def wall_seconds(self) -> float:
        """Longest time in all."""
        frame_seconds = 1 + self._megapixels * _SECONDS_PER_MEGAPIXEL
        return self.stall_seconds + max(self._num_announced, self._num_done) * frame_seconds

"""What of training can be set: frozen, keyword-only, validated, with a JSON round trip (`flowprep.settings`).

Note [loads nothing heavy]: this module is imported by `fusion-train --help`; it needs the standard library alone.
"""

from __future__ import annotations

from dataclasses import dataclass

from flowprep.errors import SettingsError
from flowprep.settings import Settings, setting

_BY_PROTOCOL = {
    "paper": {"tau_min": 1, "tau_max": 10, "test_tau": 10, "crops": "borders"},
    "authors": {"tau_min": 5, "tau_max": 15, "test_tau": 15, "crops": "diagonal"},
}
"""What the settings that are left out become. The paper names no tau for testing: there it is the largest of training,
as in the released code."""


@dataclass(frozen=True, kw_only=True)
class DataSettings(Settings):
    """Which frames of a video a network sees, and how they are cropped. docs/fusion.md has both protocols side by side.

    A field of which the protocol decides is None only until the object is made.
    """

    protocol: str = setting(
        "paper",
        "paper, or authors: indices, crops and flip as the released code has them.",
        choices=("paper", "authors"),
    )
    num_chunks: int = setting(5, "T, the chunks of a clip.", minimum=1, maximum=1000)
    stack_length: int = setting(10, "L, the flow fields around the frame of a chunk.", minimum=1, maximum=100)
    tau_min: int | None = setting(None, "Smallest distance of two chunks in training.", minimum=1, maximum=1000)
    tau_max: int | None = setting(None, "Largest distance of two chunks in training.", minimum=1, maximum=1000)
    test_tau: int | None = setting(None, "Distance of two chunks in evaluation.", minimum=1, maximum=1000)
    num_test_clips: int = setting(
        10, "Clips of a video in evaluation, spread evenly: 25 with one chunk for single streams.", minimum=1
    )
    test_flip: bool = setting(True, "Evaluate each clip mirrored too.")
    crop_size: int = setting(224, "Side of the network's input in pixels.", minimum=8, maximum=4096)
    crops: str | None = setting(
        None,
        "Where training crops lie: borders (y and x each near a border), diagonal (top left or bottom right, as the "
        "released code has it), corners (four corners and the centre, sides of 3/4 to 8/7 in four steps).",
        choices=("borders", "diagonal", "corners"),
    )
    jitter: float = setting(
        0.25,
        "Height and width of a crop differ from its size by up to this share, each by itself.",
        minimum=0,
        maximum=0.9,
    )
    border: float = setting(
        0.25, "Crops lie at most this share of the free space from a border; 0.5 is anywhere.", minimum=0, maximum=0.5
    )
    flip: bool = setting(True, "Mirror every second clip of training, by chance.")
    interpolation: str = setting(
        "bicubic", "How crops are resized; both with antialiasing, as Pillow.", choices=("bicubic", "bilinear")
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        for name, value in _BY_PROTOCOL[self.protocol].items():
            if getattr(self, name) is None:
                object.__setattr__(self, name, value)
        if self.taus[0] > self.taus[1]:
            raise SettingsError(
                f"`tau_min` must be at most `tau_max`, got {self.tau_min} and {self.tau_max}; "
                f"left out, protocol {self.protocol} has {_BY_PROTOCOL[self.protocol]['tau_min']} and "
                f"{_BY_PROTOCOL[self.protocol]['tau_max']}"
            )

    @property
    def taus(self) -> tuple[int, int]:
        """Smallest and largest distance of two chunks in training."""
        assert self.tau_min is not None
        assert self.tau_max is not None
        return self.tau_min, self.tau_max

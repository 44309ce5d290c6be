"""What reading a whole video gives, as a value that can be compared."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np

from flowprep.config import DecodeSettings
from flowprep.decode import VideoReader
from flowprep.errors import VideoError
from flowprep.records import DecodeFacts, Segment

KEEP = DecodeSettings(on_damage="keep-flagged")
PREFIX = DecodeSettings(on_damage="keep-prefix")


class Outcome:
    """What reading a whole file gave."""

    def __init__(self, path: Path, settings: DecodeSettings, segment: Segment | None = None) -> None:
        self.digest = hashlib.sha256()
        self.num_frames = 0
        self.code, self.detail = "", ""
        self.facts = DecodeFacts()
        self.shape: tuple[int, ...] = ()
        self.first: np.ndarray | None = None
        try:
            with VideoReader(path, settings, segment) as reader:
                for rgb in reader.frames():
                    self.first = rgb if self.first is None else self.first
                    self.digest.update(rgb)
                    self.num_frames += 1
                    self.shape = rgb.shape
                self.facts = reader.facts
                self.flags = [reason.code for reason in reader.reasons]
                self.reasons = reader.reasons
                self.pts = reader.pts_seconds
                self.fps = reader.fps
        except VideoError as error:
            self.code, self.detail = error.code, error.detail


def read(path: Path, settings: DecodeSettings | None = None, segment: Segment | None = None) -> Outcome:
    """The outcome of reading a file."""
    return Outcome(path, settings or DecodeSettings(), segment)

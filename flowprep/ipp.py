"""OpenCV without Intel's IPP, where results must not depend on the machine or on where an array lies in memory."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import cv2


@contextlib.contextmanager
def without_ipp() -> Iterator[None]:
    """Switch IPP off in this thread, and back at the end; see Note [IPP off] in flow/opencv.py."""
    before = cv2.ipp.useIPP()
    cv2.ipp.setUseIPP(False)
    try:
        yield
    finally:
        cv2.ipp.setUseIPP(before)

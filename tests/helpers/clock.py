"""A clock that is days off, for processes that are told so by `CLOCK_DAYS`."""

from __future__ import annotations

import os
import time


def set_clock() -> None:
    """Let `time.time` of this process be so many days ahead; once, however often that is called."""
    days = float(os.environ.get("CLOCK_DAYS", "0"))
    if days and not hasattr(time, "real_time"):
        time.real_time = time.time  # type: ignore[attr-defined]
        time.time = lambda: time.real_time() + 86400 * days  # type: ignore[attr-defined]

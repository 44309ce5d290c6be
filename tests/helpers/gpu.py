"""Tests that need an NVIDIA GPU: skipped where `native-cuda` cannot run, never with FLOWPREP_REQUIRE_CUDA=1."""

from __future__ import annotations

import os

import pytest

from flowprep.flow import backends

_status = next(status for status in backends() if status.name == "native-cuda")

REQUIRED = os.environ.get("FLOWPREP_REQUIRE_CUDA", "0") == "1"

needs_gpu = pytest.mark.skipif(
    not _status.available and not REQUIRED,
    reason=f"native-cuda cannot run here ({_status.reason}); FLOWPREP_REQUIRE_CUDA=1 forbids this skip",
)

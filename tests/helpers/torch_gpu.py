"""Tests that need PyTorch on an NVIDIA GPU: skipped where there is none, never with FLOWPREP_REQUIRE_CUDA=1."""

from __future__ import annotations

import os

import pytest
import torch

needs_torch_gpu = pytest.mark.skipif(
    not torch.cuda.is_available() and os.environ.get("FLOWPREP_REQUIRE_CUDA", "0") != "1",
    reason="PyTorch finds no CUDA device; FLOWPREP_REQUIRE_CUDA=1 forbids this skip",
)

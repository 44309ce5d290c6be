"""That kernels are compiled is said on stderr, once, and not again when they are there."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import cv2
import numpy as np
from helpers.command import FLOWPREP


def test_the_first_flow_says_that_it_compiles_and_the_second_does_not(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (24, 32), np.uint8)
    for name, shift in (("a", 0), ("b", 1)):
        cv2.imwrite(str(tmp_path / f"{name}.png"), np.roll(noise, shift, axis=1))
    command = [FLOWPREP, "flow", "a.png", "b.png", "-o", "flow.npy", "--backend", "native"]
    environment = {**os.environ, "FLOWPREP_CACHE_DIR": str(tmp_path / "cache")}
    said = []
    for _ in range(2):
        done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=True)
        assert "compiling" not in done.stdout
        said.append(done.stderr.count("compiling the TV-L1 kernels for "))
    assert said == [1, 0]
    assert np.load(tmp_path / "flow.npy").shape == (24, 32, 2)

"""Case 81: flow that is no number never becomes a store's, and costs no other video anything."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers import in_process
from helpers.command import manifest
from helpers.in_process import be_quick
from helpers.media import moving_frames, write_video

import flowprep
from flowprep.config import ExtractSettings, FlowSettings, ResizeSettings, RunSettings
from flowprep.verify import verify

SETTINGS = ExtractSettings(flow=FlowSettings(backend="dis", backward=True), resize=ResizeSettings(short_side=None))


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf], ids=str)
@pytest.mark.parametrize("direction", ["forward", "backward"])
def test_case_81_flow_that_is_not_finite(
    value: float, direction: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One value of one pair in the middle of a video is enough."""
    be_quick(monkeypatch)
    for name in ("a", "b"):
        write_video(tmp_path / f"{name}.avi", moving_frames(5, 32, 32, seed=ord(name))).rename(
            _made(tmp_path / "videos") / f"{name}.avi"
        )
    open_backend, num_calls = in_process.open_backend, 0

    def broken_backend(settings: ExtractSettings) -> Any:
        backend = open_backend(settings)
        assert backend is not None
        compute = backend.compute

        def spoiled(*arguments: Any, **named: Any) -> Any:
            nonlocal num_calls
            num_calls += 1
            flow_px = compute(*arguments, **named)
            if num_calls == (1 if direction == "forward" else 2):  # of the first video
                flow_px[2, 7, 9, 1] = value
            return flow_px

        monkeypatch.setattr(backend, "compute", spoiled)
        return backend

    monkeypatch.setattr(in_process, "open_backend", broken_backend)
    run = RunSettings(jobs=1, durability="fast")
    summary = flowprep.extract(videos=tmp_path / "videos", out=tmp_path / "out", settings=SETTINGS, run=run)
    assert (summary.exit_code, summary.states) == (1, {"ok": 1, "failed": 1})
    bad, good = manifest(tmp_path / "out")[1]
    assert (bad["id"], [reason["code"] for reason in bad["reasons"]]) == ("a", ["numeric"])
    assert (bad["frames"], bad["flows"], good["state"], good["flows"]) == (0, 0, "ok", 4)
    assert verify(tmp_path / "out").findings == ()


def _made(folder: Path) -> Path:
    folder.mkdir(exist_ok=True)
    return folder

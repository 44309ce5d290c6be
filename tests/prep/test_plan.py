"""What a dry run expects: jobs share what workers do, and devices the flow."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest
from helpers.media import moving_frames, write_video

from flowprep import plan as plans
from flowprep.config import ExtractSettings, FlowSettings, RunSettings, StoreSettings
from flowprep.flow.opencv import DISBackend
from flowprep.request import Request


@pytest.fixture
def request_of(tmp_path: Path) -> Any:
    folder = tmp_path / "videos" / "c"
    folder.mkdir(parents=True)
    for name in "abcd":
        write_video(folder / f"{name}.avi", moving_frames(12, 64, 48))

    def make(jobs: int) -> Request:
        return Request(
            videos=folder.parent,
            out=tmp_path / "out",
            settings=ExtractSettings(dataset="folder", flow=FlowSettings(backend="dis")),
            run=RunSettings(jobs=jobs),
        )

    return make


def test_jobs_share_the_flow_of_a_device_and_do_not_divide_it(request_of: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """DIS stands in for the device; a pair is made to take so long that nothing else counts."""
    compute = DISBackend.compute

    def slow(self: DISBackend, sources: Any, targets: Any, *rest: Any) -> Any:
        time.sleep(0.05 * len(sources))
        return compute(self, sources, targets, *rest)

    monkeypatch.setattr(DISBackend, "compute", slow)
    monkeypatch.setattr(plans, "devices_of", lambda *_: ("cuda:0",))
    assert plans.plan(request_of(4)).estimated_seconds >= 4 * 11 * 0.05


@pytest.mark.parametrize(
    ("jobs", "num_devices", "seconds"), [(4, 0, 5.0), (4, 1, 16.0), (4, 2, 8.0), (1, 8, 4.0), (8, 8, 2.0)]
)
def test_what_is_slower_counts(jobs: int, num_devices: int, seconds: float) -> None:
    sample = plans._Sample(
        source_bytes=1, num_frames=10, measured_frames=10, seconds=10.0, flow_seconds=8.0, stored_bytes=1
    )
    assert plans._seconds([sample, sample], jobs, num_devices) == seconds


def test_a_length_that_no_header_says_is_estimated_by_bytes(tmp_path: Path) -> None:
    (tmp_path / "videos").mkdir()
    write_video(
        tmp_path / "videos" / "pipe.avi",
        moving_frames(90, 64, 48),
        codec="mjpeg",
        pixel_format="yuvj420p",
        to_pipe=True,
    )
    settings = ExtractSettings(dataset="folder", store=StoreSettings(flow=False))
    request = Request(videos=tmp_path / "videos", out=tmp_path / "out", settings=settings, run=RunSettings(jobs=1))
    assert 60 <= plans.plan(request).estimated_frames <= 120

"""Which stage bounds a run on a device: with DIS in the place of a GPU, and with a backend whose times are made up."""

from __future__ import annotations

import types
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
from helpers.media import moving_frames, write_video

from flowprep import devicetimes
from flowprep.config import BenchSettings, ExtractSettings, FlowSettings, ResizeSettings
from flowprep.device import server
from flowprep.devicetimes import DEVICE_STAGES, WorkerTimes, measure_device
from flowprep.errors import VideoError
from flowprep.flow.backend import FlowBackend
from flowprep.stagebound import StageTime
from flowprep.stagetimes import measure_stages

FRAMES = np.ascontiguousarray(moving_frames(7, 48, 32)[..., 0])


class Device(FlowBackend):
    """A device that takes as long as it is told for a frame to go up, a pair, and a pair to come down, by `clock`."""

    name = "native-cuda"
    variant = "cuda"
    now: ClassVar[float] = 0.0

    def __init__(self, upload: float = 0.0, compute: float = 0.0, download: float = 0.0, most: int = 10_000) -> None:
        self.parameters, self.build = {}, "none"
        self.upload, self.pair, self.down, self.most = upload, compute, download, most
        self.batches: list[int] = []
        self.waiting = 0

    def _prepare(self, frames: Any) -> list[Any]:
        self.waiting += len(frames)
        return list(frames)

    def wait(self) -> None:
        Device.now += self.upload * self.waiting
        self.waiting = 0

    def _compute(self, sources: Any, targets: Any, height: int, width: int, initial_flow: Any) -> Any:
        for source, target in zip(sources, targets, strict=True):
            assert any(
                np.array_equal(source, FRAMES[a]) and np.array_equal(target, FRAMES[b])
                for a in range(len(FRAMES))
                for b in (a - 1, a + 1)
                if 0 <= b < len(FRAMES)
            ), "pairs are neighbours of the video"
        if len(sources) > self.most:
            raise VideoError("memory", "no room")
        self.batches.append(len(sources))
        self.download_seconds = self.down * len(sources)
        Device.now += (self.pair + self.down) * len(sources)
        return np.zeros((len(sources), height, width, 2), np.float32)

    def close(self) -> None:
        pass


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> None:
    """Time goes on where a device is told so, and a little with each look at the clock."""

    def perf_counter() -> float:
        Device.now += 1e-6
        return Device.now

    monkeypatch.setattr(devicetimes, "time", types.SimpleNamespace(perf_counter=perf_counter))


def workers(decode: float, encode: float, jobs: int = 4, num_cores: int = 16) -> WorkerTimes:
    seconds = {"decode": decode, "flow": 100.0, "quantise": 9.0, "encode flow": encode}
    stages = [StageTime(stage=name, seconds=one, cpu_seconds=one, share=0) for name, one in seconds.items()]
    return WorkerTimes.without_flow(stages, jobs, num_cores)


@pytest.mark.usefixtures("clock")
@pytest.mark.parametrize(
    ("device", "decode", "bound_by"),
    [
        (Device(compute=0.002), 1e-4, "device: compute"),
        (Device(upload=0.002, compute=1e-4), 1e-4, "device: upload"),
        (Device(compute=1e-4, download=0.002), 1e-4, "device: download"),
        (Device(), 10.0, "workers: decode"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_the_slower_side_bounds_and_its_longest_stage_is_named(device: Device, decode: float, bound_by: str) -> None:
    found = measure_device(FRAMES, 3, device, ExtractSettings(), workers(decode, 1e-5))
    assert found.bound_by == bound_by
    assert set(found.seconds) == set(DEVICE_STAGES)
    assert found.device_frames_per_second == pytest.approx(1 / sum(found.seconds.values()))
    assert set(found.workers) == {"decode", "encode flow"}
    assert found.workers["decode"] == pytest.approx(4 / decode)
    assert set(device.batches) == {4 * 3}, "a slot of each worker"


def test_batches_are_those_of_the_owner() -> None:
    large = np.zeros((2, 2048, 2048), np.uint8)
    found = measure_device(large, 3, Silent(), ExtractSettings(), workers(1, 1, jobs=100))
    assert found.num_pairs == server.MAX_BATCH_PIXELS // 2048**2 == 8
    few = Device(most=5)
    found = measure_device(FRAMES, 3, few, ExtractSettings(), workers(1, 1))
    assert found.num_pairs == 3
    with pytest.raises(VideoError, match="no room"):
        measure_device(FRAMES, 3, Device(most=0), ExtractSettings(), workers(1, 1))


class Silent(Device):
    def _compute(self, sources: Any, targets: Any, height: int, width: int, initial_flow: Any) -> Any:
        return np.zeros((len(sources), height, width, 2), np.float32)


def test_workers_share_the_cores_that_owners_leave() -> None:
    assert workers(0.5, 0.5, jobs=4, num_cores=16).frames_per_second(1) == pytest.approx(4)
    assert workers(0.5, 0.5, jobs=4, num_cores=4).frames_per_second(1) == pytest.approx(3)
    assert workers(0.5, 0.5, jobs=9, num_cores=2).frames_per_second(4) == pytest.approx(1)


def test_backward_flow_is_a_second_pair_and_devices_divide_the_work() -> None:
    device = Device(compute=0.002)
    settings = ExtractSettings(flow=FlowSettings(backend="dis", backward=True))
    found = measure_device(FRAMES, 3, device, settings, workers(1e-4, 1e-5), num_devices=3)
    assert found.device_frames_per_second == pytest.approx(3 / 2 / sum(found.seconds.values()))


def test_the_stages_of_an_extraction_are_those_of_workers_and_device(tmp_path: Path) -> None:
    """DIS stands in for the device."""
    write_video(tmp_path / "a.mp4", moving_frames(30, 96, 64))
    settings = ExtractSettings(flow=FlowSettings(backend="dis"), resize=ResizeSettings(short_side=48))
    bench = BenchSettings(num_frames=20, jobs=2)
    found = measure_stages(tmp_path / "a.mp4", tmp_path, ("some", 36_000), settings, bench, devices=("cuda:0",))
    device = found.device
    assert device is not None
    assert (device.num_devices, device.num_pairs, device.width, device.height) == (1, 2 * 16, 72, 48)
    assert {"flow", "quantise"}.isdisjoint(stage.stage for stage in found.stages)
    assert sum(stage.share for stage in found.stages) == pytest.approx(1)
    slower = min(device.device_frames_per_second, device.workers_frames_per_second)
    assert found.jobs_frames_per_second == pytest.approx(slower)
    assert found.hours == pytest.approx(36_000 / slower / 3600)
    assert found.bound_by == device.bound_by
    side, _, stage = found.bound_by.partition(": ")
    assert stage in (DEVICE_STAGES if side == "device" else {*(one.stage for one in found.stages), "disk"})
    assert found.to_json()["device"]["seconds"].keys() == DEVICE_STAGES.keys()
    assert measure_stages(tmp_path / "a.mp4", tmp_path, ("some", 100), settings, bench).device is None


def test_it_is_shown(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from flowprep_cli.tables import show_stages

    write_video(tmp_path / "a.mp4", moving_frames(20, 96, 64))
    settings = ExtractSettings(flow=FlowSettings(backend="dis"), resize=ResizeSettings(short_side=48))
    bench = BenchSettings(num_frames=20, jobs=2)
    show_stages(measure_stages(tmp_path / "a.mp4", tmp_path, ("some", 999), settings, bench, devices=("cuda:0",)))
    text = capsys.readouterr().out
    assert "frames/s (exchange " in text
    assert "frames/s (decode " in text
    assert "32 pairs of 72x48, on 1 device" in text

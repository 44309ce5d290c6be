"""Memory in a dry run: of each stage alone on a device, and said to be the most so far on a CPU."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from helpers.training import RUNTIME, SMALL, write_store

from flowprep.stores import Store, open_store
from fusion_train import forecast as forecasts
from fusion_train.forecast import Forecast, forecast, memory_sentence
from fusion_train.run import plan
from fusion_train.runtime import Runtime


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return open_store(write_store(tmp_path_factory.mktemp("forecast") / "store"))


class Device:
    """The memory of a device: each stage takes less than the one before, so a peak that is kept would be seen."""

    def __init__(self) -> None:
        self.left = [30, 20, 10]
        self.peak = 0

    def forgets(self, runtime: Runtime) -> bool:
        self.peak = 0
        return True

    def measured(self, *arguments: object) -> tuple[float, int]:
        self.peak = max(self.peak, self.left.pop(0))
        return 1.0, self.peak


def forecast_of(store: Store, folder: Path) -> Sequence[Forecast]:
    (planned,) = plan("debug", ["1"], folder, SMALL)
    return forecast(store, planned, RUNTIME)


def test_a_stage_has_not_the_memory_of_those_before_it(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    device = Device()
    monkeypatch.setattr(Runtime, "forget_peak_memory", lambda runtime: device.forgets(runtime))
    monkeypatch.setattr(forecasts, "_measured", device.measured)
    found = forecast_of(store, tmp_path)
    assert [one.memory_bytes for one in found] == [30, 20, 10]
    assert not any(one.memory_is_so_far for one in found)
    assert memory_sentence(found) == "Memory is the most that a row alone takes on the device."


def test_on_a_cpu_memory_is_said_to_be_the_most_so_far(store: Store, tmp_path: Path) -> None:
    found = forecast_of(store, tmp_path)
    memory = [one.memory_bytes for one in found]
    assert 0 < memory[0] <= memory[1] <= memory[2]
    assert all(one.memory_is_so_far for one in found)
    assert memory_sentence(found) == "Memory is the most that this process has held so far, in the rows above too."


def test_a_device_forgets_its_peak(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[torch.device] = []
    monkeypatch.setattr(torch.cuda, "reset_peak_memory_stats", asked.append)
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: None)
    device = torch.device("cuda", 0)
    assert Runtime(device=device).forget_peak_memory()
    assert asked == [device]
    assert not RUNTIME.forget_peak_memory()
    assert asked == [device]

"""One process owns a device for all workers: the same bytes as without, and its death blames no innocent video."""

from __future__ import annotations

import json
import os
import signal
import socket
import sys
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers.media import moving_frames, write_video
from helpers.processes import children_of, eventually

import flowprep
from flowprep import executors, run, wire
from flowprep.childprocess import Task, Work
from flowprep.config import ExtractSettings, FlowSettings, ResizeSettings, RunSettings
from flowprep.datasets import list_videos
from flowprep.device import process, server
from flowprep.device.client import DeviceFlow
from flowprep.device.lane import LaneMemory, LaneShape
from flowprep.device.load import Load, load_notes
from flowprep.device.process import Device
from flowprep.errors import DeviceLostError, RunStoppedError, SettingsError
from flowprep.flow import create_backend
from flowprep.flowstage import FlowCodes, FlowStage, LocalFlow
from flowprep.limits import Limits
from flowprep.publisher import open_publisher
from flowprep.records import Reason, State
from flowprep.request import devices_of
from flowprep.supervisor import Done

FAULTY = Path(__file__).parents[1] / "helpers" / "faulty_device.py"
SETTINGS = ExtractSettings(flow=FlowSettings(backend="dis"), resize=ResizeSettings(short_side=None))
POISON_LEVEL = 60


@pytest.fixture
def work(tmp_path: Path) -> Iterator[Work]:
    """Work for one device, which computes with DIS. Nothing of it is left when the test has ended."""
    (tmp_path / "videos").mkdir()
    threads, children = set(threading.enumerate()), children_of(os.getpid())
    yield Work(
        videos=tmp_path / "videos", out=tmp_path / "out", settings=SETTINGS, durability="fast", devices=("cuda:0",)
    )
    assert eventually(lambda: set(children_of(os.getpid())) <= set(children))
    assert eventually(lambda: {thread.name for thread in {*threading.enumerate()} - threads} <= {"start-children"})
    staging = tmp_path / "out" / ".flowprep" / "staging"
    assert not staging.exists() or list(staging.iterdir()) == []


def faulty(monkeypatch: pytest.MonkeyPatch, faults: str, mark: Path | None = None) -> None:
    monkeypatch.setattr(server, "COMMAND", (sys.executable, str(FAULTY)))
    monkeypatch.setenv("FAULTS", faults)
    monkeypatch.setenv("FAULT_MARK", str(mark))


def tasks_of(work: Work, num_good: int, *, poison: bool = True, num_frames: int = 20) -> list[Task]:
    """Good videos, of two sizes, and in their midst one of grey frames of `POISON_LEVEL`."""
    for index in range(num_good):
        size = (48, 32) if index % 3 else (64, 40)
        write_video(work.videos / f"{index}.avi", moving_frames(num_frames + index, *size, seed=index))
    if poison:
        write_video(work.videos / "2poison.avi", np.full((num_frames, 32, 48, 3), POISON_LEVEL, np.uint8))
    return [Task(list_index=k, video=video) for k, video in enumerate(list_videos("folder", work.videos).videos)]


def outcomes(work: Work, tasks: list[Task], jobs: int = 3) -> dict[str, Done]:
    return {done.row.id: done for done in executors.run_tasks(work, tasks, jobs)}


# -- the same flow -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("step", "backward", "num_devices"), [(1, False, 1), (3, True, 2)])
def test_what_is_stored_is_what_workers_would_compute(work: Work, step: int, backward: bool, num_devices: int) -> None:
    settings = replace(SETTINGS, flow=FlowSettings(backend="dis", step=step, backward=backward))
    work = replace(work, settings=settings, devices=("cuda:0", "cuda:1")[:num_devices])
    tasks = tasks_of(work, 5, poison=False, num_frames=17)
    write_video(work.videos / "short.avi", moving_frames(1, 48, 32))
    tasks.append(Task(list_index=5, video=list_videos("folder", work.videos).videos[-1]))
    loads: dict[str, Load] = {}
    on_device = {done.row.id: done for done in executors.run_tasks(work, tasks, 3, loads=loads)}
    assert set(loads) == set(work.devices)
    assert sum(load.busy_seconds for load in loads.values()) > 0
    assert sum(load.waited_seconds for load in loads.values()) > 0
    alone = outcomes(replace(work, devices=(), out=work.out.with_name("alone")), tasks, jobs=1)
    assert {name: done.row for name, done in on_device.items()} == {name: done.row for name, done in alone.items()}
    assert on_device["0"].row.flows == 17 - step
    assert on_device["0"].row.stream_sha256.keys() >= ({"back_x", "flow_x"} if backward else {"flow_x"})
    assert on_device["short"].row.reasons[0].code == "too_short"
    assert {done.build for name, done in on_device.items() if name != "short"} == {alone["0"].build}


def codes_by_direction(flow: FlowStage, frames: Any, sizes: list[int]) -> list[list[FlowCodes]]:
    codes, start = [], 0
    for size in sizes:
        codes += flow.add(frames[start : start + size])
        start += size
    codes += flow.finish()
    flow.close()
    return [[one for one in codes if one.backward is backward] for backward in (False, True)]


@pytest.mark.parametrize("sizes", [[4, 4, 4, 1], [1] * 13, [13], [3, 10], [6, 0, 7]])
def test_batches_of_any_size_are_taken(work: Work, sizes: list[int]) -> None:
    """Those after the first may be larger than its slot."""
    settings = replace(SETTINGS, flow=FlowSettings(backend="dis", step=2, backward=True))
    frames = np.ascontiguousarray(moving_frames(13, 48, 32)[..., 0])
    device = Device("cuda:0", settings, threading.Event())
    try:
        found = codes_by_direction(DeviceFlow(device.address(), settings), frames, sizes)
    finally:
        device.close()
    with create_backend("dis") as backend:
        expected = codes_by_direction(LocalFlow(backend, settings), frames, sizes)
    for mine, theirs in zip(found, expected, strict=True):
        assert [one.facts for one in mine] == [one.facts for one in theirs]
        for one, other in zip(mine, theirs, strict=True):
            np.testing.assert_array_equal(one.x, other.x)
            np.testing.assert_array_equal(one.y, other.y)


# -- memory ------------------------------------------------------------------------------------------------------------


def test_batches_are_halved_until_they_fit(work: Work, monkeypatch: pytest.MonkeyPatch) -> None:
    faulty(monkeypatch, "pairs=3")
    tasks = tasks_of(work, 4, poison=False)
    assert {str(done.row.state) for done in outcomes(work, tasks).values()} == {"ok"}


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        ("memory", Reason("gpu_memory", "out of memory")),
        ("nan", Reason("numeric", "the flow has values that are not finite; please report this video")),
    ],
)
def test_what_one_video_cannot_have_fails_that_video(
    work: Work, monkeypatch: pytest.MonkeyPatch, fault: str, reason: Reason
) -> None:
    faulty(monkeypatch, f"{fault}={POISON_LEVEL}")
    done = outcomes(work, tasks_of(work, 5))
    bad = done.pop("2poison").row
    assert (bad.state, bad.reasons) == (State.FAILED, (reason,))
    assert {(str(one.row.state), one.num_attempts) for one in done.values()} == {("ok", 1)}


# -- death -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fault", "detail"),
    [
        ("crash", "the process that owns the device was killed by signal 11 (SIGSEGV)"),
        ("hang", "the process that owns the device made no progress"),
    ],
)
def test_who_kills_the_device_alone_and_twice_is_quarantined(
    work: Work, monkeypatch: pytest.MonkeyPatch, fault: str, detail: str
) -> None:
    faulty(monkeypatch, f"{fault}={POISON_LEVEL}")
    work = replace(work, stall_seconds=1.5 if fault == "hang" else None)
    done = outcomes(work, tasks_of(work, 6))
    bad = done.pop("2poison")
    assert (bad.row.state, bad.row.reasons) == (State.QUARANTINED, (Reason("gpu_crash", detail),))
    assert [attempt.outcome for attempt in bad.attempts] == ["gpu_crash"] * 3
    for one in done.values():
        assert one.row.state is State.OK
        assert [attempt.outcome for attempt in one.attempts] in (["ok"], ["gpu_crash", "ok"])


def test_a_death_that_does_not_come_again_costs_nothing(
    work: Work, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    faulty(monkeypatch, f"crash-once={POISON_LEVEL}", tmp_path / "mark")
    done = outcomes(work, tasks_of(work, 3))
    assert {str(one.row.state) for one in done.values()} == {"ok"}
    assert [attempt.outcome for attempt in done["2poison"].attempts] == ["gpu_crash", "ok"]


@pytest.mark.parametrize(
    ("fault", "text"),
    [
        ("dead", "own cuda:0 cannot start: .*no driver of that kind; mend that and run the same command again"),
        ("sick", "own cuda:0 cannot start: its process was killed by signal 11 "),
        ("dies", "owns cuda:0 has died 3 times without computing anything"),
    ],
)
def test_a_broken_device_ends_the_run_and_blames_nobody(
    work: Work, monkeypatch: pytest.MonkeyPatch, fault: str, text: str
) -> None:
    faulty(monkeypatch, fault)
    tasks = tasks_of(work, 6, poison=False)
    with pytest.raises(RunStoppedError, match=text):
        outcomes(work, tasks, jobs=1)
    publisher = open_publisher(work.out, SETTINGS)
    assert all(publisher.read_row(task.video, task.list_index) is None for task in tasks)


def test_a_large_batch_may_take_its_time() -> None:
    """One of 16 workers, 16 frames each, both directions, at 2 pairs a second; and two of the largest before a worker
    is given up."""
    assert process.stall_seconds(340 * 256, 2 * 256) > 2 * 256 / 2
    for pixels in (340 * 256, 1280 * 720, 1920 * 1080, 7680 * 4320):
        limits = Limits(None)
        limits.opened(0, pixels)
        assert 2 * process.stall_seconds(pixels, 2 * server.MAX_BATCH_PIXELS // pixels) < limits.stall_seconds


def test_the_owner_says_how_large_a_batch_is(work: Work, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[int, int]] = []

    def remembered(num_pixels: int, num_pairs: int) -> float:
        asked.append((num_pixels, num_pairs))
        return 60.0

    monkeypatch.setattr(process, "stall_seconds", remembered)
    settings = replace(SETTINGS, flow=FlowSettings(backend="dis", backward=True))
    device = Device("cuda:0", settings, threading.Event())
    try:
        frames = np.ascontiguousarray(moving_frames(5, 48, 32)[..., 0])
        codes_by_direction(DeviceFlow(device.address(), settings), frames, [5])
    finally:
        device.close()
    assert asked == [(48 * 32, 10)]


def test_an_owner_that_does_not_end_holds_up_no_run(work: Work, monkeypatch: pytest.MonkeyPatch) -> None:
    """As where a driver hangs in giving back a context."""
    faulty(monkeypatch, "stays")
    monkeypatch.setattr(process, "_END_SECONDS", 0.5)
    device, others = Device("cuda:0", SETTINGS, threading.Event()), children_of(os.getpid())
    device.address()
    (owner,) = set(children_of(os.getpid())) - set(others)
    closing = threading.Thread(target=device.close)
    closing.start()
    closing.join(20)
    is_held_up = closing.is_alive()
    if is_held_up:
        os.kill(owner, signal.SIGKILL)
        closing.join()
    assert not is_held_up


def test_a_device_that_cannot_be_used_again_stops_the_run(
    work: Work, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """That is no wrong use, as it would be before any work: what is finished is kept, and the exit code is 3."""
    faulty(monkeypatch, f"crash-once={POISON_LEVEL} gone", tmp_path / "mark")
    with pytest.raises(RunStoppedError, match=r"cuda:0 has been lost, and no process can use it again: .*free memory"):
        outcomes(work, tasks_of(work, 3))


def test_workers_are_told_when_there_is_no_owner() -> None:
    with pytest.raises(DeviceLostError, match="does not answer"):
        DeviceFlow("\0flowprep-nobody", SETTINGS)


# -- what bounds a run -------------------------------------------------------------------------------------------------


def test_who_bounded_the_run_is_told() -> None:
    idle, full, unused = Load(), Load(), Load()
    idle.add(waited=0.0, busy=1.0)
    idle.add(waited=3.0, busy=0.0)
    full.add(waited=1.0, busy=9.0)
    first, second = load_notes({"cuda:0": idle, "cuda:1": full, "cuda:2": unused})
    assert first.startswith("cuda:0 waited 75 % of its time for frames: the workers (decoding, encoding, disk) bound")
    assert second.startswith("cuda:1 waited 10 % of its time for frames: it bounds the run")
    assert idle.to_json() == {"busy_seconds": 1.0, "waited_seconds": 3.0, "bound_by": "workers"}
    assert full.to_json()["bound_by"] == "device"


def test_a_run_says_it_at_its_end(work: Work, monkeypatch: pytest.MonkeyPatch) -> None:
    """DIS stands in for the device of a whole run."""
    monkeypatch.setattr(run, "devices_of", lambda settings, _run: ("cuda:0",))
    tasks_of(work, 3, poison=False)
    summary = flowprep.extract("folder", videos=work.videos, out=work.out, settings=SETTINGS)
    assert summary.exit_code == 0
    assert summary.devices["cuda:0"]["busy_seconds"] > 0
    stored = json.loads((work.out / "run.json").read_text(encoding="utf-8"))
    assert stored["devices"] == summary.devices
    assert sum(note.startswith("cuda:0 waited ") for note in stored["notes"]) == 1
    other = replace(SETTINGS, flow=FlowSettings(backend="farneback"))
    with pytest.raises(SettingsError, match=r"flow\.backend"):  # flow of two backends is never mixed
        flowprep.extract("folder", videos=work.videos, out=work.out, settings=other)


# -- lanes -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "data",
    [
        None,
        {"height": 4, "width": 4, "frames": 1},
        {"height": 0, "width": 4, "frames": 1, "directions": 1},
        {"height": 4, "width": 4, "frames": 1, "directions": 3},
        {"height": 4, "width": True, "frames": 1, "directions": 1},
        {"height": 1 << 20, "width": 1 << 20, "frames": 1, "directions": 1},
    ],
)
def test_shapes_that_make_no_sense_are_refused(data: Any) -> None:
    with pytest.raises(ValueError, match="lane"):
        LaneShape.from_json(data)


def test_the_parts_of_a_lane_do_not_overlap() -> None:
    shape = LaneShape(height=3, width=5, frames=4, directions=2)
    memory, descriptor = LaneMemory.create(shape)
    os.close(descriptor)
    for slot in (0, 1):
        memory.frames(slot, 4)[...] = 10 * slot + 1
        memory.codes(slot, 8)[...] = 10 * slot + 2
    for slot in (0, 1):
        assert (memory.frames(slot, 4) == 10 * slot + 1).all()
        assert memory.codes(slot, 8).shape == (8, 2, 3, 5)
        assert (memory.codes(slot, 8) == 10 * slot + 2).all()
    memory.close()


@pytest.mark.parametrize(
    "data",
    [
        b"\xff\xff\xff\xff",
        wire.encode({"open": 1}),
        wire.encode({"open": {"height": 4, "width": 4, "frames": 1, "directions": 1}}),
        wire.encode({"add": 1, "slot": 0}),
        b"",
    ],
)
def test_a_worker_that_sends_nonsense_is_left_alone(work: Work, data: bytes) -> None:
    device = Device("cuda:0", SETTINGS, threading.Event())
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as stranger:
            stranger.connect(device.address())
            stranger.sendall(data)
            stranger.shutdown(socket.SHUT_WR)
            assert stranger.recv(1) == b""
        frames = np.ascontiguousarray(moving_frames(3, 48, 32)[..., 0])
        codes = codes_by_direction(DeviceFlow(device.address(), SETTINGS), frames, [3])
        assert len(codes[0]) == 2
    finally:
        device.close()


# -- the option --------------------------------------------------------------------------------------------------------


def test_devices_are_for_backends_that_have_one() -> None:
    opencv = replace(SETTINGS, flow=FlowSettings(backend="opencv-cuda"))
    assert devices_of(opencv, RunSettings()) == ("cuda:0",)
    assert devices_of(opencv, RunSettings(device="cuda:1,cuda:0")) == ("cuda:1", "cuda:0")
    assert devices_of(SETTINGS, RunSettings()) == ()
    with pytest.raises(SettingsError, match="--device cuda:0: flow backend dis computes on no device"):
        devices_of(SETTINGS, RunSettings(device="cuda:0"))
    for text in ("cuda", "cuda:0,cuda:0", "0", "cuda:01", "cuda:0,"):
        with pytest.raises(SettingsError, match="`device` must be different devices such as cuda:0,cuda:1"):
            RunSettings(device=text)

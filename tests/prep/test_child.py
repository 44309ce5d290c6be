"""The child as its run finds it: messages, limits, and what it takes over from the process that starts it."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from helpers.media import moving_frames, write_video
from hypothesis import given
from hypothesis import strategies as st

from flowprep import child, wire
from flowprep.config import ExtractSettings, FlowSettings, ResizeSettings
from flowprep.limits import Limits
from flowprep.records import Row, Video
from flowprep.spawn import spawn

SETTINGS = ExtractSettings(flow=FlowSettings(backend="dis"), resize=ResizeSettings(short_side=16))

# -- messages ----------------------------------------------------------------------------------------------------------


@given(
    st.lists(st.dictionaries(st.text(st.characters()), st.integers() | st.text() | st.none(), max_size=3), max_size=5),
    st.integers(1, 7),
)
def test_messages_arrive_whole_however_they_are_cut(messages: list[dict[str, Any]], size: int) -> None:
    data = b"".join(wire.encode(message) for message in messages)
    splitter = wire.Splitter()
    pieces = [data[k : k + size] for k in range(0, len(data), size)]
    assert [message for piece in pieces for message in splitter.feed(piece)] == messages
    stream = io.BytesIO(data)
    assert [wire.read(stream) for _ in messages] == messages
    assert wire.read(stream) is None


@pytest.mark.parametrize("data", [b"\xff\xff\xff\xff", b"\x02\0\0\0{]", b"\x02\0\0\0[]", b"\x01\0\0\0\xff"])
def test_what_is_no_message_is_refused(data: bytes) -> None:
    with pytest.raises(wire.WireError):
        list(wire.Splitter().feed(data))


# -- a child -----------------------------------------------------------------------------------------------------------


def hello(tmp_path: Path, **changes: Any) -> dict[str, Any]:
    work = {
        "videos": str(tmp_path),
        "out": str(tmp_path / "out"),
        "settings": SETTINGS.to_json(),
        "durability": "fast",
        "memory_bytes": 1 << 30,
        "on_device": False,
    }
    return {"work": {**work, **changes}}


@pytest.fixture
def started() -> Iterator[subprocess.Popen[bytes]]:
    process = spawn([*child.COMMAND, str(os.getpid())])
    yield process
    process.kill()
    process.wait()
    for stream in (process.stdin, process.stdout, process.stderr):
        assert stream is not None
        stream.close()


def say(process: subprocess.Popen[bytes], message: dict[str, Any]) -> None:
    assert process.stdin is not None
    process.stdin.write(wire.encode(message))
    process.stdin.flush()


def hear(process: subprocess.Popen[bytes]) -> dict[str, Any]:
    assert process.stdout is not None
    message = wire.read(process.stdout)
    assert message is not None
    return message


def test_a_child_tells_what_it_does_and_leaves_when_its_input_ends(
    started: subprocess.Popen[bytes], tmp_path: Path
) -> None:
    write_video(tmp_path / "v.avi", moving_frames(20, 48, 32))
    say(started, hello(tmp_path))
    assert hear(started)["event"] == "ready"
    task = {"video": Video(id="v", path="v.avi").to_json(), "list_index": 0, "attempt": "1", "device": None}
    say(started, {"task": task})
    assert hear(started) == {"event": "begun"}
    assert hear(started) == {"event": "opened", "frames": 20, "pixels": 48 * 32}
    assert [hear(started) for _ in range(2)] == [{"event": "frames", "num": 16}, {"event": "frames", "num": 4}]
    assert Row.from_json(hear(started)["row"]).flows == 19
    assert started.stdin is not None
    started.stdin.close()
    assert started.wait(10) == 0


def test_a_child_is_shut_off_from_the_terminal_and_limited(started: subprocess.Popen[bytes], tmp_path: Path) -> None:
    say(started, hello(tmp_path))
    assert hear(started)["event"] == "ready"
    assert os.getsid(started.pid) == started.pid != os.getsid(0)
    proc = Path(f"/proc/{started.pid}")
    limits = {line[:25].strip(): line[25:].split()[0] for line in (proc / "limits").read_text().splitlines()[1:]}
    assert limits["Max core file size"] == "0"
    status = dict(line.split(":\t", 1) for line in (proc / "status").read_text().splitlines())
    mapped_bytes = int(status["VmSize"].split()[0]) << 10
    assert 0 <= int(limits["Max address space"]) - (1 << 30) - mapped_bytes + (64 << 20) <= 128 << 20
    assert int(status["SigIgn"], 16) & 0b0100_0000_0000_0010 == 0b0100_0000_0000_0010  # SIGINT, SIGTERM
    assert b"OMP_NUM_THREADS=1" in (proc / "environ").read_bytes().split(b"\0")
    assert all(os.readlink(proc / "fd" / str(fd)).startswith("pipe:") for fd in (0, 1, 2))


def test_modules_in_the_working_folder_are_not_taken_for_ours(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    (tmp_path / "cv2.py").write_text("raise RuntimeError('not yours')")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [path for path in sys.path if path])
    started = request.getfixturevalue("started")
    say(started, hello(tmp_path))
    assert hear(started)["event"] == "ready"


def test_a_child_whose_parent_has_gone_leaves_at_once() -> None:
    assert subprocess.run([*child.COMMAND, str(os.getppid())], stdin=subprocess.PIPE, check=False).returncode == 3


def test_a_lower_limit_of_the_user_stays(tmp_path: Path) -> None:
    write_video(tmp_path / "v.avi", moving_frames(3, 48, 32))
    script = (
        "import resource, sys\n"
        "from flowprep import child\n"
        "resource.setrlimit(resource.RLIMIT_AS, (64 << 30, resource.RLIM_INFINITY))\n"
        "child._limit_memory(1 << 40)\n"
        "assert resource.getrlimit(resource.RLIMIT_AS)[0] == 64 << 30\n"
        "child._limit_memory(1 << 30)\n"
        "assert resource.getrlimit(resource.RLIMIT_AS)[0] < 64 << 30\n"
    )
    subprocess.run([sys.executable, "-c", script], check=True)


# -- limits ------------------------------------------------------------------------------------------------------------


def test_limits_grow_with_the_frames() -> None:
    limits = Limits(None)
    assert limits.wall_seconds >= limits.stall_seconds >= 300 + 2 * 45  # a batch of the slowest backend
    limits.opened(100, 320 * 240)
    small = limits.stall_seconds
    assert small + 100 < limits.wall_seconds < 10_000
    limits.opened(1, 7680 * 4320)
    assert limits.stall_seconds > 300 + 33 * 2 * 45
    assert limits.wall_seconds > limits.stall_seconds


def test_a_header_that_announces_too_few_frames_costs_nothing() -> None:
    honest, lying = Limits(None), Limits(None)
    honest.opened(1000, 320 * 240)
    lying.opened(1, 320 * 240)
    lying.done(1000)
    assert lying.wall_seconds == honest.wall_seconds


def test_a_given_limit_holds_for_every_size() -> None:
    limits = Limits(5)
    assert limits.stall_seconds == 5
    limits.opened(10, 7680 * 4320)
    assert limits.stall_seconds == 5
    assert limits.wall_seconds > 10 * 33 * 45

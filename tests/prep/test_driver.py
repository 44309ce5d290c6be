"""Driver files: the same part is refused while its process lives, whatever clocks say."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from flowprep import driver
from flowprep.driver import Driver, holders, refuse_others
from flowprep.errors import SettingsError
from flowprep.machine import file_system_seconds


@pytest.fixture
def out(tmp_path: Path) -> Path:
    (tmp_path / "out").mkdir()
    return tmp_path / "out"


def driver_file(out: Path, name: str) -> Path:
    return out / ".flowprep" / "drivers" / f"{name}.json"


def change(path: Path, **values: Any) -> None:
    """Alter a driver file, without touching it in the sense of a beat."""
    status = path.stat()
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


def age(path: Path, seconds: float) -> None:
    now = file_system_seconds(path.parent)
    os.utime(path, (now - seconds, now - seconds))


@pytest.mark.parametrize(
    ("first", "second", "together"),
    [
        (None, None, False),
        ("1/3", "1/3", False),
        ("1/3", "2/3", True),
        ("1/3", "1/4", True),
        (None, "2/3", False),
        ("2/3", None, False),
    ],
)
def test_who_may_work_together(out: Path, first: str | None, second: str | None, together: bool) -> None:
    with Driver(out, first):
        if together:
            with Driver(out, second):
                assert {holder.part for holder in holders(out)} == {first, second}
        else:
            with pytest.raises(
                SettingsError, match=rf"is being made by process {os.getpid()} on .*, since 20.*takeover"
            ):
                Driver(out, second).__enter__()
    assert list(driver_file(out, "x").parent.iterdir()) == []
    with Driver(out, second):
        pass


@pytest.mark.parametrize("is_asked_for", [True, False])
def test_a_process_that_has_ended_holds_nothing(out: Path, is_asked_for: bool) -> None:
    """Whether its parent has asked for its exit code, or has not yet."""
    ended = subprocess.Popen([sys.executable, "-c", ""], stdout=subprocess.PIPE)
    assert ended.stdout is not None
    ended.stdout.read()
    if is_asked_for:
        ended.wait()
    else:
        os.waitid(os.P_PID, ended.pid, os.WEXITED | os.WNOWAIT)
    with Driver(out, "1/2"):
        change(driver_file(out, "1-of-2"), pid=ended.pid)
        refuse_others(out, "1/2")
        # The same number on another machine, or after another start of this one, says nothing.
        change(driver_file(out, "1-of-2"), machine="another")
        with pytest.raises(SettingsError, match=f"part 1/2 of the store .* process {ended.pid}"):
            refuse_others(out, "1/2")
    ended.wait()
    ended.stdout.close()


def test_silence_is_judged_by_the_clock_of_the_file_system(out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = driver_file(out, "run")
    with Driver(out, None):
        change(path, machine="another")
        monkeypatch.setattr(time, "time", lambda: 1e12)  # our own clock is far ahead
        refuse = pytest.raises(SettingsError, match="is being made by")
        with refuse:
            refuse_others(out, None)
        age(path, driver.STALE_SECONDS - 10)
        with refuse:
            refuse_others(out, None)
        age(path, driver.STALE_SECONDS + 1)
        refuse_others(out, None)
        with Driver(out, None):
            assert [holder.silent_seconds < 10 for holder in holders(out)] == [True]
        assert not path.exists()


def test_it_beats_and_stops_when_somebody_takes_over(out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(driver, "BEAT_SECONDS", 0.05)
    path = driver_file(out, "run")
    with Driver(out, None):
        age(path, 1000)
        deadline = time.monotonic() + 5
        while holders(out)[0].silent_seconds > 500:
            assert time.monotonic() < deadline
            time.sleep(0.02)
        monkeypatch.setattr(driver, "BEAT_SECONDS", 1000)
        with Driver(out, None, takeover=True):
            monkeypatch.setattr(driver, "BEAT_SECONDS", 0.05)
            age(path, 1000)
            time.sleep(0.3)
            assert holders(out)[0].silent_seconds > 500
        assert not path.exists()
        path.write_text("somebody else's")
    assert path.exists()


def test_files_that_are_no_driver_files_disturb_nobody(out: Path) -> None:
    folder = driver_file(out, "x").parent
    folder.mkdir(parents=True)
    for number, text in enumerate(("", "[]", "{}", '{"host": 1}', "\x00")):
        (folder / f"{number}.json").write_text(text)
    assert holders(out) == []
    (folder / "run.json").write_text("torn")
    with Driver(out, None):
        assert [holder.part for holder in holders(out)] == [None]

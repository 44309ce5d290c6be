"""Paths that the system refuses to look at: one sentence with the path and a cure, never a traceback."""

from __future__ import annotations

import errno
import os
import subprocess
from pathlib import Path
from typing import NoReturn

import click
import pytest
from helpers.command import FLOWPREP, flowprep

from flowprep import machine
from flowprep_cli.entry import leave_with

LONG = "x" * 300
"""Longer than a name may be: as a folder that we may not look into, for root too."""


def leave(error: Exception, patch: pytest.MonkeyPatch) -> None:
    """End a command that raises this."""

    @click.group()
    def group() -> NoReturn:
        raise error

    group.add_command(click.Command("do"))
    patch.setattr("sys.argv", ["flowprep", "do"])
    patch.setattr("signal.signal", lambda *_: None)
    leave_with(group, "flowprep", stopped="stopped")


@pytest.mark.parametrize(
    ("code", "exit_code", "cure"),
    [
        (errno.EACCES, 2, "mend its permissions, or give another path"),
        (errno.ENAMETOOLONG, 2, "mend its permissions, or give another path"),
        (errno.EIO, 3, "mend its disk and run again"),
        (errno.ESTALE, 3, "mend its disk and run again"),
    ],
)
def test_what_the_system_says_of_a_path_is_one_sentence(
    code: int, exit_code: int, cure: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as left:
        leave(OSError(code, os.strerror(code), "/data/secret"), monkeypatch)
    assert left.value.code == exit_code
    assert capsys.readouterr().err == f"Error: /data/secret: {os.strerror(code)}; {cure}\n"


def test_a_mistake_of_ours_keeps_its_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(FileNotFoundError):
        leave(FileNotFoundError(errno.ENOENT, "No such file or directory", "x"), monkeypatch)


def test_a_command_says_it(tmp_path: Path) -> None:
    path = tmp_path / LONG
    said = flowprep("verify", path, expect=2).stderr
    assert said.startswith(f"Error: {path} cannot be looked at: File name too long; ")
    assert len(said.splitlines()) == 1


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full")
def test_a_full_disk_under_stdout_is_one_sentence() -> None:
    with Path("/dev/full").open("wb") as full:
        result = subprocess.run([FLOWPREP, "--version"], stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert result.returncode == 3
    assert result.stderr == "Error: stdout: No space left on device; mend its disk and run again\n"


def test_the_nearest_folder_is_that_above_what_may_not_be_looked_at(tmp_path: Path) -> None:
    assert machine.existing_folder(tmp_path / LONG / "store") == tmp_path

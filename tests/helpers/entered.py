"""`fusion-train` by its installed entry point, but in this process: loading PyTorch for each command takes seconds."""

from __future__ import annotations

import contextlib
import io
import signal
import sys
from importlib.metadata import entry_points
from pathlib import Path
from subprocess import CompletedProcess

import pytest


def entered(*arguments: str | Path, expect: int = 0) -> CompletedProcess[str]:
    """Run `fusion-train` and check its exit code."""
    (point,) = entry_points(group="console_scripts", name="fusion-train")
    command = ["fusion-train", *map(str, arguments)]
    stdout, stderr = io.StringIO(), io.StringIO()
    before = signal.getsignal(signal.SIGTERM)
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(stdout), contextlib.redirect_stderr(stderr):
        patch.setattr(sys, "argv", command)
        with pytest.raises(SystemExit) as left:
            point.load()()
    signal.signal(signal.SIGTERM, before)
    code = left.value.code
    done = CompletedProcess(command, code if isinstance(code, int) else 0, stdout.getvalue(), stderr.getvalue())
    assert done.returncode == expect, f"exit code {code}, not {expect}\n{done.stdout}\n{done.stderr}"
    return done

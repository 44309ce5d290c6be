"""stdout and stderr whose readers have gone, and names that they cannot show."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from pathlib import Path

import pytest
from helpers.command import FLOWPREP
from helpers.media import moving_frames, write_video

from flowprep_cli.main import cli
from flowprep_cli.options import expand_homes
from flowprep_cli.streams import prepare_streams


def without_reader() -> int:
    """The end for writing of a pipe that nobody reads."""
    reading, writing = os.pipe()
    os.close(reading)
    return writing


def test_a_run_goes_on_where_nobody_reads_what_it_says(tmp_path: Path) -> None:
    (tmp_path / "videos").mkdir()
    write_video(tmp_path / "videos" / "a.avi", moving_frames(4, 48, 32))
    writing = without_reader()
    command = [FLOWPREP, "extract", "--dataset", "folder", "--videos", tmp_path / "videos", "--out", tmp_path / "out"]
    run = subprocess.run([*command, "--backend", "dis", "--keep-size"], stdout=writing, stderr=writing, check=False)
    os.close(writing)
    assert run.returncode == 0
    assert (tmp_path / "out" / "manifest.jsonl").exists()


def test_results_that_nobody_reads_are_no_failure_of_the_command() -> None:
    writing = without_reader()
    run = subprocess.run([FLOWPREP, "--help"], stdout=writing, stderr=subprocess.PIPE, text=True, check=False)
    os.close(writing)
    assert (run.returncode, run.stderr) == (141, "")  # as the shell says of other commands under `| head`


def test_names_that_cannot_be_shown_are_escaped(monkeypatch: pytest.MonkeyPatch) -> None:
    for encoding, shown in (("utf-8", "b\\udcffd \u00fc"), ("ascii", "b\\udcffd \\xfc")):
        written = io.BytesIO()
        for name in ("stdout", "stderr"):
            stream = io.TextIOWrapper(written, encoding=encoding, errors="strict", write_through=True)
            monkeypatch.setattr(sys, name, stream)
        prepare_streams()
        print("b\udcffd \u00fc")
        print("b\udcffd \u00fc", file=sys.stderr)
        assert written.getvalue().decode(encoding).splitlines() == [shown, shown]


def test_the_home_folder_is_found_where_no_shell_looks_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/me")
    expand_homes(cli)
    context = cli.commands["extract"].make_context(
        "extract", ["--dataset", "folder", "--videos=~/clips", "--out", "a~"]
    )
    assert (context.params["videos"], context.params["out"]) == (Path("/home/me/clips"), Path("a~"))

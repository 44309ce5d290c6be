"""What a person sees: the live display on a terminal, plain lines elsewhere."""

import json
import os
import pty
import subprocess
from pathlib import Path

import cv2
import numpy as np
from helpers.command import FLOWPREP, flowprep
from helpers.media import moving_frames, write_video

from flowprep.config import BACKENDS
from flowprep.driver import Driver
from flowprep.flowfile import read_flow


def on_a_terminal(*arguments: str | Path, columns: int = 120) -> tuple[int, str]:
    """Run `flowprep` on a pseudo-terminal; exit code and everything that was shown."""
    master, slave = pty.openpty()
    environment = {**os.environ, "TERM": "xterm", "COLUMNS": str(columns)}
    command = [str(FLOWPREP), *map(str, arguments)]
    with subprocess.Popen(command, stdin=slave, stdout=slave, stderr=slave, env=environment) as process:
        os.close(slave)
        shown = b""
        while True:
            try:
                block = os.read(master, 65536)
            except OSError:  # the terminal ends with its last process
                break
            if not block:
                break
            shown += block
    os.close(master)
    return process.returncode, shown.decode()


def test_live_progress_and_summary(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / "videos" / name).mkdir(parents=True)
        write_video(tmp_path / "videos" / name / "x.avi", moving_frames(6))
    (tmp_path / "videos" / "b" / "bad.mp4").write_bytes(b"no video")
    out = tmp_path / "out"
    code, shown = on_a_terminal(
        "extract",
        "--dataset",
        "folder",
        "--videos",
        tmp_path / "videos",
        "--out",
        out,
        "--backend",
        "dis",
        "--keep-size",
    )
    assert code == 1
    assert "3/3" in shown
    assert "frames/s" in shown
    assert "1 failed" in shown
    assert "failed b/bad.mp4: not_video" in shown
    assert "3 videos: 1 failed, 2 ok" in shown.replace("\r\n", "\n")
    code, shown = on_a_terminal("info", out)
    assert code == 0
    assert "12 images, 10 flows of step 1" in shown
    code, shown = on_a_terminal(
        *("extract", "--dataset", "folder", "--videos", tmp_path / "videos", "--out", out, "--backend", "dis"),
        *("--keep-size", "--retry", "all"),
        columns=40,
    )
    assert code == 1
    assert any("1/1" in line and "0:00:" in line and "ETA" in line for line in shown.replace("\r", "\n").split("\n"))
    assert "--retry all tries these again" in shown
    code, shown = on_a_terminal("doctor")
    assert code == 0
    assert "flow dis" in shown


def test_names_that_would_break_a_terminal_are_escaped(tmp_path: Path) -> None:
    (tmp_path / "videos").mkdir()
    (tmp_path / "videos" / "a\x1b[2J[bold]b.mp4").write_bytes(b"no video")
    result = flowprep(
        "extract", "--dataset", "folder", "--videos", tmp_path / "videos", "--out", tmp_path / "out", expect=1
    )
    assert "a\\x1b[2J[bold]b.mp4" in result.stderr
    assert "\x1b" not in result.stderr


def test_doctor_and_flow(tmp_path: Path) -> None:
    health = json.loads(flowprep("doctor", "--json").stdout)
    assert health["works"]
    findings = {finding["name"]: finding for finding in health["findings"]}
    assert {name.removeprefix("flow ") for name in findings if name.startswith("flow ")} == set(BACKENDS)
    assert findings["space"]["facts"]["free_bytes"] > 0
    frames = moving_frames(2, width=96, height=80)
    for name, frame in zip(("a.png", "b.png"), frames, strict=True):
        cv2.imwrite(str(tmp_path / name), frame)
    pair = (tmp_path / "a.png", tmp_path / "b.png")
    for suffix in ("flo", "npy"):
        flowprep("flow", *pair, "-o", tmp_path / f"f.{suffix}", "--backend", "dis")
        flow = read_flow(tmp_path / f"f.{suffix}")
        assert flow.shape == (80, 96, 2)
        assert abs(np.median(flow[20:-20, 20:-20, 0]) - 2.0) < 0.3
    flowprep("flow", *pair, "-o", tmp_path / "f.png", "--backend", "dis")
    picture = cv2.imread(str(tmp_path / "f.png"))
    assert picture is not None
    assert picture[40, 30, 2] > picture[40, 30, 0]  # motion to the right is red
    assert "must end in .flo, .npy or .png" in flowprep("flow", *pair, "-o", tmp_path / "f.jpg", expect=2).stderr
    assert "there is no such file" in flowprep("flow", "x.png", pair[1], "-o", tmp_path / "f.flo", expect=2).stderr
    cv2.imwrite(str(tmp_path / "c.png"), frames[0][:40])
    result = flowprep("flow", pair[0], tmp_path / "c.png", "-o", tmp_path / "f.flo", expect=2)
    assert "must have one size, got 96x80 and 96x40" in result.stderr


def test_synth_then_extract(tmp_path: Path) -> None:
    flowprep("synth", tmp_path / "ucf101", "--num-train", "4", "--num-test", "4", "--width", "64", "--height", "64")
    out = tmp_path / "out"
    flowprep(
        *("extract", "--dataset", "ucf101", "--videos", tmp_path / "ucf101" / "videos", "--out", out),
        *("--splits", tmp_path / "ucf101" / "splits", "--keep-size", "--backend", "dis"),
    )
    described = flowprep("info", out, "--json").stdout
    assert '"num_videos": 8' in described
    assert '"num_flows": 480' in described


def test_a_store_that_is_none_is_said(tmp_path: Path) -> None:
    assert "there is no store" in flowprep("info", tmp_path / "nothing", expect=2).stderr
    assert "it is not a flowprep store" in flowprep("info", tmp_path, expect=2).stderr


def test_who_is_at_work_on_a_store_is_said(tmp_path: Path) -> None:
    (tmp_path / "out" / ".flowprep").mkdir(parents=True)
    with Driver(tmp_path / "out", None):
        said = flowprep("info", tmp_path / "out", expect=3).stderr
        assert f"is not finished: at work on it: process {os.getpid()} on" in said
    assert "its run has not ended; run the same" in flowprep("info", tmp_path / "out", expect=3).stderr


def test_the_videos_of_a_dataset_that_is_not_there(tmp_path: Path) -> None:
    for name, where in (
        ("ucf101", "Center for Research in Computer Vision"),
        ("hmdb51", "Serre"),
        ("kinetics", "CVDF"),
        ("ssv2", "Qualcomm"),
    ):
        message = flowprep("extract", "--dataset", name, cwd=tmp_path, expect=2).stderr
        assert f"data/{name}/videos" in message
        assert where in message

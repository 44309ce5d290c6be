"""`flowprep bench` as a user enters it."""

import json
import signal
import subprocess
from pathlib import Path

import pytest
from helpers.command import FLOWPREP, flowprep
from helpers.media import moving_frames, write_video


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("videos")
    for name in ("wave", "run"):
        (folder / name).mkdir()
        write_video(folder / name / f"{name}.avi", moving_frames(12))
    return folder


def test_side_by_side(videos: Path) -> None:
    arguments = ("bench", videos, "--compare", "opencv", "--short-side", "64", "--pairs", "2", "--repeats", "1")
    shown = flowprep(*arguments, "--hours-for", "hmdb51", "--jobs", "8")
    assert "native runs variant cpu" in shown.stderr
    assert "Pair 2 of 2: wave/wave.avi frame 5, 96x64" in shown.stderr
    header, first, second, *_ = shown.stdout.splitlines()
    assert header.split()[:4] == ["pair", "size", "native", "cpu"]
    assert first.split()[:3] == ["run/run.avi", "5", "96x64"]
    assert second.split()[:3] == ["wave/wave.avi", "5", "96x64"]
    assert "hmdb51, 6766 videos of 93 frames: pairs x mean time of a pair / 8 jobs" in shown.stdout
    assert "times as fast" in shown.stdout
    result = json.loads(flowprep(*arguments, "--json").stdout)
    assert result["stages"] is None
    assert result["measured"]["hours"] > 0
    assert result["comparison"]["differences"][0]["mean_px"] < 0.01
    assert result["comparison"]["other"]["variant"] == "cpu"


def test_one_backend_alone_and_all_stages(videos: Path, tmp_path: Path) -> None:
    arguments = ("bench", videos, "--backend", "dis", "--param", "preset=fast", "--pairs", "3", "--short-side", "64")
    arguments += ("--out", tmp_path, "--hours-for", "100x50", "--jobs", "2")
    shown = flowprep(*arguments, "--no-rgb", "--format", "jpeg")
    assert len([line for line in shown.stderr.splitlines() if line.startswith("Pair ")]) == 3
    assert "All stages of wave/wave.avi: 24 frames so far." in shown.stderr
    assert "dis " in shown.stdout
    assert "ratio" not in shown.stdout
    lines = {line.split(":")[0]: line for line in shown.stdout.splitlines()}
    assert {"decode", "resize", "flow", "quantise", "encode flow", "write", "commit", "other"} <= set(lines)
    assert not {"encode frames", "pack"} & set(lines)
    assert "24 frames of 2 videos, all stages, one process" in shown.stdout
    assert "for 100x50 with 2 jobs, all stages" in shown.stdout
    assert "bound by " in shown.stdout
    result = json.loads(flowprep(*arguments, "--json").stdout)
    assert result["measured"]["backend"] == "dis"
    assert result["stages"]["hours"] > 0
    assert result["stages"]["bound_by"]
    assert list(tmp_path.iterdir()) == []


def test_wrong_use_is_one_sentence(videos: Path, tmp_path: Path) -> None:
    for arguments, message in (
        ((videos, "--pairs", "0"), "`num_pairs` must be at least 1, got 0"),
        ((videos, "--compare", "opencv", "--backend", "opencv"), "with itself"),
        ((videos, "--param", "num_warp=3"), "num_warp"),
        ((tmp_path / "none",), "cannot be read"),
    ):
        shown = flowprep("bench", *arguments, expect=2)
        assert shown.stderr.startswith("Error: ")
        assert message in shown.stderr
        assert len(shown.stderr.splitlines()) == 1


def test_interrupted_it_shows_what_it_has(videos: Path) -> None:
    command = [str(FLOWPREP), "bench", str(videos / "run" / "run.avi"), "--backend", "dis", "--pairs", "9", "--json"]
    with subprocess.Popen([*command, "--repeats", "500"], stdout=-1, stderr=-1, text=True) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        while "Pair 1 of 9" not in process.stderr.readline():
            pass
        process.send_signal(signal.SIGINT)
        result = json.loads(process.stdout.read())
        assert "Traceback" not in process.stderr.read()
    assert process.returncode == 3
    assert 1 <= len(result["pairs"]) < 9
    assert not result["complete"]

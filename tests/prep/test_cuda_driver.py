"""`native-cuda` on a driver without a device: memory, contexts, launches and errors on the real host code of Numba.

The simulator has none of that. Needs a C compiler for the driver; with NVIDIA's compiler library (NVVM) launches of the
compiled kernels are looked at too.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from helpers.command import FLOWPREP
from helpers.media import moving_frames, write_video

pytest.importorskip("numba_cuda", reason="the backend is of numba-cuda: pip install numba-cuda")

TESTS = Path(__file__).resolve().parents[1]
COMPILER = shutil.which("cc") or shutil.which("gcc")
pytestmark = pytest.mark.skipif(COMPILER is None, reason="the driver that stands in is C, and there is no C compiler")


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Variables with which a process finds the driver."""
    folder = tmp_path_factory.mktemp("driver")
    source, library = TESTS / "helpers" / "fake_libcuda.c", folder / "libcuda.so.1"
    subprocess.run([str(COMPILER), "-shared", "-fPIC", "-o", str(library), str(source), "-ldl"], check=True)
    return {
        **{name: value for name, value in os.environ.items() if not name.startswith("NUMBA_")},
        "LD_LIBRARY_PATH": str(folder),
        "PYTHONPATH": os.pathsep.join([str(TESTS), str(TESTS.parent), os.environ.get("PYTHONPATH", "")]),
        "FAKE_CUDA_VERSION": "13000",
    }


@pytest.fixture(scope="module")
def found(environment: dict[str, str]) -> Any:
    command = [sys.executable, "-m", "helpers.cuda_driver"]
    ended = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=300)
    assert ended.returncode == 0, ended.stderr
    return {**json.loads(ended.stdout), "stderr": ended.stderr}


def test_batches_leave_no_memory_and_no_context_behind(found: Any) -> None:
    first, *_, last = found["memory"]["seen"]
    for what in ("device_bytes", "device_blocks", "pinned_bytes", "pinned_blocks"):
        assert last[what] == first[what]
    assert last["depth"] == first["depth"] == 1, "the context is pushed once"
    assert last["launches"] > first["launches"]


def test_a_batch_is_as_large_as_memory_allows(found: Any) -> None:
    want = found["want"]
    assert 1 <= want["capacity"] < want["after"] == 5
    assert want["refused"].startswith("VideoError: memory: the GPU has not enough free memory for frames of 1200x960")


def test_a_device_that_is_lost_stays_lost_and_is_quiet(found: Any) -> None:
    first, second = found["lost"]["first"], found["lost"]["second"]
    assert first.startswith("BackendUnavailableError: flow backend native-cuda has lost its device (the launch ")
    assert "CUDA_ERROR_ILLEGAL_ADDRESS, with frames of 50x40); start a new process" in first
    assert first == second
    assert "Exception ignored" not in found["stderr"]


@pytest.mark.parametrize(
    ("what", "sentence"),
    [
        ("wrong", "computes wrong flow on this GPU (a small pair differs"),
        ("full", "finds too little free memory on device 0 to start; end what else runs on it"),
        ("broken", "cannot start on device 0 ([<CUresult.CUDA_ERROR_ILLEGAL_ADDRESS: 700>]"),
    ],
)
def test_a_device_that_cannot_be_used_is_one_sentence(found: Any, what: str, sentence: str) -> None:
    """`wrong`: no kernel runs here, and the self-test sees it."""
    assert found["start"][what].startswith(f"BackendUnavailableError: flow backend native-cuda {sentence}")


def test_launches_are_packed_as_numba_packs_them(found: Any) -> None:
    if not found["compiled"]:
        pytest.skip('no NVVM that this NumPy does for: pip install "numba-cuda[cu12]" "numpy<2.5"')
    launches = found["launches"]
    assert len(launches["own"]) == 13
    assert all(launches["own"].values())
    assert launches["by Numba"] is True, "where they differ Numba launches"
    assert launches["launches by Numba"] == launches["launches"]


@pytest.mark.parametrize(
    ("device", "sentence"),
    [
        ("cuda:7", "has no device 7: there are 1, counted from 0; choose another, or check CUDA_VISIBLE_DEVICES"),
        ("cuda:0", "computes wrong flow on this GPU"),
    ],
)
def test_a_run_ends_with_that_sentence(
    found: Any, environment: dict[str, str], tmp_path: Path, device: str, sentence: str
) -> None:
    """The owner of the device says it, and the command: nothing is blamed on a video."""
    if not found["compiled"]:
        pytest.skip('no NVVM that this NumPy does for: pip install "numba-cuda[cu12]" "numpy<2.5"')
    (tmp_path / "videos").mkdir()
    write_video(tmp_path / "videos" / "a.avi", moving_frames(4, 48, 32))
    command = [FLOWPREP, "extract", "--dataset", "folder", "--videos", str(tmp_path / "videos")]
    command += ["--out", str(tmp_path / "out"), "--backend", "native-cuda", "--device", device, "--keep-size"]
    ended = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=300)
    assert ended.returncode == 2
    assert f"flow backend native-cuda {sentence}" in " ".join(ended.stderr.split())
    assert "Traceback" not in ended.stderr

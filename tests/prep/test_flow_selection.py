"""What a backend name means here, and what is told where it cannot run."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from flowprep.config import BACKENDS
from flowprep.errors import BackendUnavailableError, SettingsError
from flowprep.flow import backends, create_backend, resolve

ROOT = Path(__file__).resolve().parents[2]


def run_python(code: str, *first_on_path: Path) -> subprocess.CompletedProcess[str]:
    path = ":".join(str(folder) for folder in (*first_on_path, ROOT))
    return subprocess.run(
        [sys.executable, "-c", code], env={"PYTHONPATH": path}, capture_output=True, text=True, check=True
    )


STATUSES = """
import dataclasses, json
from flowprep.flow import backends
print(json.dumps({status.name: [status.available, status.reason, status.cure] for status in backends()}))
"""


def test_every_backend_has_a_status_with_a_reason_where_it_is_missing() -> None:
    statuses = backends()
    assert [status.name for status in statuses] == list(BACKENDS)
    for status in statuses:
        assert status.variants == BACKENDS[status.name]
        assert bool(status.reason) == bool(status.cure) == (not status.available)
    assert {status.name for status in statuses if status.available} >= {"opencv", "dis", "farneback"}


@pytest.mark.parametrize(
    ("backend", "variant", "expected"),
    [
        ("opencv", None, ("opencv", "cpu", None)),
        ("opencv", "cpu", ("opencv", "cpu", None)),
        ("dis", None, ("dis", None, None)),
        ("farneback", None, ("farneback", None, None)),
    ],
)
def test_a_named_backend_is_what_it_says(backend: str, variant: str | None, expected: tuple[str | None, ...]) -> None:
    assert resolve(backend, variant) == expected


@pytest.mark.parametrize(
    ("backend", "variant", "message"),
    [
        ("dis", "cpu", "backend dis is not"),
        ("farneback", "cuda", "backend farneback is not"),
        ("opencv", "cuda", "opencv computes variant cpu, not cuda"),
        ("opencv-cuda", "cpu", "opencv-cuda computes variant cuda, not cpu"),
        ("opencl", None, "must be one of auto, opencv"),
        ("auto", "gpu", "must be one of cuda, cpu"),
    ],
)
def test_wrong_use_is_a_settings_error(backend: str, variant: str | None, message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        resolve(backend, variant)


def test_auto_is_provisional_and_says_so_once() -> None:
    found = run_python("from flowprep.flow import resolve; resolve(); resolve(); resolve('auto', 'cpu')")
    assert found.stderr.count("provisional") == 1
    assert found.stdout == ""


needs_no_cuda = pytest.mark.skipif(
    any(status.name == "opencv-cuda" and status.available for status in backends()), reason="OpenCV has CUDA here"
)


@needs_no_cuda
def test_what_cannot_run_is_refused_with_reason_and_cure() -> None:
    with pytest.raises(BackendUnavailableError, match=r"opencv-cuda cannot run here: .*without CUDA.*opencv-cuda\.md"):
        create_backend("opencv-cuda")
    with pytest.raises(BackendUnavailableError, match=r"variant cuda runs here: opencv-cuda: .*without CUDA"):
        resolve("auto", "cuda")


@pytest.mark.parametrize(
    ("module", "reason", "cure"),
    [
        (
            "raise ImportError('libGL.so.1: cannot open shared object file: No such file or directory')",
            "importing cv2 failed: libGL.so.1",
            "opencv-contrib-python-headless",
        ),
        ("raise ImportError('numpy.core.multiarray failed to import')", "multiarray", "--force-reinstall"),
        ("raise ModuleNotFoundError('No module named cv2', name='cv2')", "cv2 is not installed", "pip install"),
        ("", "OpenCV is not in it", "--force-reinstall"),
    ],
    ids=["libGL", "numpy", "not installed", "empty folder"],
)
def test_an_opencv_that_cannot_be_imported_is_a_reason_not_a_traceback(
    tmp_path: Path, module: str, reason: str, cure: str
) -> None:
    (tmp_path / "cv2").mkdir()
    (tmp_path / "cv2" / "__init__.py").write_text(module)
    statuses = json.loads(run_python(STATUSES, tmp_path).stdout)
    for available, told, remedy in statuses.values():
        assert not available
        assert reason in told
        assert cure in remedy


def test_an_opencv_without_contrib_has_no_tvl1_but_the_rest(tmp_path: Path) -> None:
    (tmp_path / "cv2.py").write_text(
        "__version__ = '4.12.0'\nDISOpticalFlow_create = FarnebackOpticalFlow_create = print\n"
    )
    statuses = json.loads(run_python(STATUSES, tmp_path).stdout)
    assert [name for name, (available, *_) in statuses.items() if available] == ["dis", "farneback"]
    assert "without contrib" in statuses["opencv"][1]
    assert "opencv-contrib-python" in statuses["opencv"][2]
    assert "without CUDA" in statuses["opencv-cuda"][1]


def test_a_fault_while_importing_opencv_is_not_hidden(tmp_path: Path) -> None:
    (tmp_path / "cv2.py").write_text("raise RuntimeError('a fault')\n")
    with pytest.raises(subprocess.CalledProcessError) as caught:
        run_python(STATUSES, tmp_path)
    assert "RuntimeError: a fault" in caught.value.stderr


def test_names_and_defaults_are_known_without_numpy_or_opencv() -> None:
    run_python(
        "import sys; from flowprep.flow import parameter_names; assert parameter_names('dis', None); "
        "heavy = {'numpy', 'cv2'} & set(sys.modules); assert not heavy, heavy"
    )

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
    assert {status.name for status in statuses if status.available} >= {"native", "opencv", "dis", "farneback"}


@pytest.mark.parametrize(
    ("backend", "variant", "expected"),
    [
        ("native", None, ("native", "cuda")),
        ("native", "cpu", ("native", "cpu")),
        ("opencv", None, ("opencv", "cpu")),
        ("opencv", "cpu", ("opencv", "cpu")),
        ("dis", None, ("dis", None)),
        ("farneback", None, ("farneback", None)),
    ],
)
def test_a_named_backend_is_what_it_says(backend: str, variant: str | None, expected: tuple[str | None, ...]) -> None:
    assert resolve(backend, variant) == expected


@pytest.mark.parametrize(
    ("backend", "variant", "message"),
    [
        ("dis", "cpu", "backend dis is not"),
        ("farneback", "cuda", "backend farneback is not"),
        ("opencv", "cuda", "opencv computes variant cpu, not cuda; cuda needs native or native-cuda or opencv-cuda"),
        ("opencv-cuda", "cpu", "opencv-cuda computes variant cuda, not cpu; cpu needs native or native-cuda or opencv"),
        ("opencl", None, "must be one of auto, native, native-cuda, opencv"),
        ("auto", "gpu", "must be one of cuda, cpu"),
    ],
)
def test_wrong_use_is_a_settings_error(backend: str, variant: str | None, message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        resolve(backend, variant)


@pytest.mark.parametrize(("variant", "expected"), [(None, "cuda"), ("cuda", "cuda"), ("cpu", "cpu")])
def test_auto_is_the_backend_of_our_own(variant: str | None, expected: str) -> None:
    has_gpu = any(status.name == "native-cuda" and status.available for status in backends())
    best = ("native-cuda" if has_gpu else "native", expected)
    assert resolve("auto", variant) == best
    with create_backend(variant=variant) as backend:
        assert (backend.name, backend.variant) == best


def test_auto_says_nothing() -> None:
    found = run_python("from flowprep.flow import resolve; resolve(); resolve('auto', 'cpu')")
    assert (found.stdout, found.stderr) == ("", "")


@pytest.mark.parametrize("backend", ["opencv", "dis", "farneback"])
def test_a_cpu_baseline_is_for_native_only(backend: str) -> None:
    with pytest.raises(SettingsError, match=f"`cpu_baseline` is for the backend native and not for {backend}"):
        create_backend(backend, cpu_baseline="x86-64-v3")


needs_no_cuda = pytest.mark.skipif(
    any(status.name == "opencv-cuda" and status.available for status in backends()), reason="OpenCV has CUDA here"
)


@needs_no_cuda
def test_what_cannot_run_is_refused_with_reason_and_cure() -> None:
    with pytest.raises(BackendUnavailableError, match=r"opencv-cuda cannot run here: .*without CUDA.*opencv-cuda\.md"):
        create_backend("opencv-cuda")


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
    assert statuses.pop("native") == [True, "", ""]
    del statuses["native-cuda"]
    for available, told, remedy in statuses.values():
        assert not available
        assert reason in told
        assert cure in remedy


def test_an_opencv_without_contrib_has_no_tvl1_but_the_rest(tmp_path: Path) -> None:
    (tmp_path / "cv2.py").write_text(
        "__version__ = '4.12.0'\nDISOpticalFlow_create = FarnebackOpticalFlow_create = print\n"
    )
    statuses = json.loads(run_python(STATUSES, tmp_path).stdout)
    available = [name for name, (available, *_) in statuses.items() if available and name != "native-cuda"]
    assert available == ["native", "dis", "farneback"]
    assert "without contrib" in statuses["opencv"][1]
    assert "opencv-contrib-python" in statuses["opencv"][2]
    assert "without CUDA" in statuses["opencv-cuda"][1]


@pytest.mark.parametrize(
    ("module", "reason", "cure"),
    [
        ("raise ModuleNotFoundError('', name='numba')", "the module numba is not installed", "pip install numba"),
        ("raise ModuleNotFoundError('', name='llvmlite')", "the module llvmlite is not installed", "pip install numba"),
        ("raise ImportError('Numba needs NumPy 2.9 or less')", "importing numba failed: Numba needs", "--upgrade"),
    ],
    ids=["numba", "llvmlite", "numpy"],
)
def test_a_numba_that_cannot_be_imported_is_a_reason_and_auto_takes_nothing_else(
    tmp_path: Path, module: str, reason: str, cure: str
) -> None:
    (tmp_path / "numba.py").write_text(module)
    statuses = json.loads(run_python(STATUSES, tmp_path).stdout)
    assert [name for name in ("native", "opencv", "dis", "farneback") if not statuses[name][0]] == ["native"]
    assert reason in statuses["native"][1]
    assert cure in statuses["native"][2]
    told = run_python(
        "from flowprep.flow import create_backend, resolve\n"
        "from flowprep.errors import BackendUnavailableError\n"
        "for choose in (lambda: create_backend('native'), lambda: resolve('auto'), lambda: resolve('auto', 'cpu')):\n"
        "    try: choose()\n"
        "    except BackendUnavailableError as error: print(error)\n",
        tmp_path,
    ).stdout.splitlines()
    assert told[0].startswith("flow backend native cannot run here: ")
    assert told[1].startswith("no backend for TV-L1 runs here: native-cuda: ")
    assert told[2].startswith("no backend for TV-L1 variant cpu runs here: native-cuda: ")
    assert all("; native: " in line for line in told[1:])
    assert all(reason in line and cure in line for line in told)


@pytest.mark.parametrize("library", ["cv2", "numba"])
def test_a_fault_while_importing_a_library_is_not_hidden(tmp_path: Path, library: str) -> None:
    (tmp_path / f"{library}.py").write_text("raise RuntimeError('a fault')\n")
    with pytest.raises(subprocess.CalledProcessError) as caught:
        run_python(STATUSES, tmp_path)
    assert "RuntimeError: a fault" in caught.value.stderr


def test_names_and_defaults_are_known_without_numpy_numba_or_opencv() -> None:
    run_python(
        "import sys; from flowprep.flow import parameter_names; assert parameter_names('dis', None); "
        "heavy = {'numpy', 'numba', 'cv2'} & set(sys.modules); assert not heavy, heavy"
    )


def test_a_numba_that_does_not_compile_is_a_reason_with_a_cure() -> None:
    done = subprocess.run(
        [sys.executable, "-c", STATUSES],
        env={"PYTHONPATH": str(ROOT), "NUMBA_DISABLE_JIT": "1"},
        capture_output=True,
        text=True,
        check=True,
    )
    available, reason, cure = json.loads(done.stdout)["native"]
    assert not available
    assert "NUMBA_DISABLE_JIT" in reason
    assert "unset NUMBA_DISABLE_JIT" in cure

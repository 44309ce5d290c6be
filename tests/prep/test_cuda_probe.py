"""What is told where `native-cuda` cannot run: one sentence and a cure for each reason, and what `auto` means then."""

from __future__ import annotations

import contextlib
import ctypes
import importlib.metadata
import importlib.util
import subprocess
import sys
from collections import defaultdict
from pathlib import Path
from typing import Any, Self

import pytest

from flowprep import doctor, extract
from flowprep.config import ExtractSettings, FlowSettings
from flowprep.errors import BackendUnavailableError
from flowprep.flow import backends, create_backend, cuda_driver, probe_cuda, resolve
from flowprep.flow.cuda_driver import CudaDriver, DriverFailureError, NoDriverError

needs_numba_cuda = pytest.mark.skipif(importlib.util.find_spec("numba_cuda") is None, reason="pip install numba-cuda")

H200 = (9, 0)
ASKED = probe_cuda._find_numpy_obstacle
"""The real one; `machine` puts another in its place."""


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Sets what the driver says and which toolkit is installed; a sound machine by default."""
    with contextlib.suppress(ImportError):  # it looks for its own package when it is first imported
        importlib.import_module("numba.cuda")
    monkeypatch.delenv("NUMBA_ENABLE_CUDASIM", raising=False)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: object())

    def set_up(
        version: tuple[int, int] = (12, 9),
        capabilities: tuple[tuple[int, int], ...] = (H200,),
        error: Exception | None = None,
        toolkit: tuple[int, str] | None = (12, "12.9.86"),
    ) -> None:
        def load() -> CudaDriver:
            if error is not None:
                raise error
            return CudaDriver(version, capabilities)

        monkeypatch.setattr(CudaDriver, "load", load)
        monkeypatch.setattr(probe_cuda, "_installed_toolkit", lambda: toolkit)
        monkeypatch.setattr(probe_cuda, "_finds_compiler", lambda: toolkit is not None)
        monkeypatch.setattr(probe_cuda, "_find_numpy_obstacle", lambda: None)

    set_up()
    return set_up


def status() -> Any:
    return next(status for status in backends() if status.name == "native-cuda")


def test_a_sound_machine_has_no_obstacle_and_auto_takes_it(machine: Any) -> None:
    assert status().available
    assert resolve() == ("native-cuda", "cuda")
    assert resolve("auto", "cpu") == ("native-cuda", "cpu")
    assert resolve("native-cuda", "cpu") == ("native-cuda", "cpu")


def test_a_baseline_of_processors_means_native(machine: Any) -> None:
    assert resolve("auto", None, "x86-64-v3") == ("native", "cuda")


@pytest.mark.parametrize(
    ("facts", "reason", "cure"),
    [
        ({"error": NoDriverError("libcuda.so.1: cannot open")}, "no NVIDIA driver (libcuda", "install NVIDIA's driver"),
        ({"error": DriverFailureError(999)}, "does not start (CUDA error 999)", "nvidia-smi"),
        ({"error": DriverFailureError(34)}, "is a stub", "LD_LIBRARY_PATH"),
        ({"error": DriverFailureError(803)}, "different versions", "restart"),
        ({"capabilities": ()}, "finds no GPU", "CUDA_VISIBLE_DEVICES"),
        ({"version": (11, 8)}, "too old: it runs CUDA 11.8, and installed is CUDA 12.9.86", "update the driver"),
        (
            {"version": (12, 4), "toolkit": (13, "13.5.37")},
            "too old: it runs CUDA 12.4, and installed is CUDA 13.5.37",
            "flowprep[cuda]",
        ),
        (
            {"version": (13, 0), "toolkit": (13, "13.5.37"), "capabilities": ((7, 0),)},
            "compute capability 7.0, and CUDA 13.5.37 needs 7.5",
            "flowprep[cuda]",
        ),
        ({"capabilities": ((3, 7),)}, "compute capability 3.7, and CUDA 12.9.86 needs 5.0", "use the backend native"),
        (
            {"toolkit": (12, "12.6.85"), "capabilities": ((12, 0),)},
            "compute capability 12.0, which CUDA 12.6.85 does not know",
            "pip install --upgrade nvidia-cuda-nvcc-cu12",
        ),
        ({"toolkit": None}, "does not find NVIDIA's compiler library (NVVM)", "flowprep[cuda]"),
        ({"toolkit": None, "version": (13, 1)}, "does not find NVIDIA's compiler library", 'flowprep[cuda13]", or set'),
    ],
    ids=lambda value: str(value) if isinstance(value, dict) else "",
)
def test_each_obstacle_has_a_sentence_and_a_cure(
    machine: Any, facts: dict[str, Any], reason: str, cure: str, tmp_path: Path
) -> None:
    """From `backends()`, `doctor` and `extract`."""
    machine(**facts)
    found = status()
    assert not found.available
    assert reason in found.reason
    assert cure in found.cure
    assert not found.reason.endswith(".")
    assert resolve() == ("native", "cuda"), "auto takes the next"
    with pytest.raises(BackendUnavailableError, match="flow backend native-cuda cannot run here: "):
        create_backend("native-cuda")
    (finding,) = [one for one in doctor._backends(defaultdict(Loaded)) if one.name == "flow native-cuda"]
    assert (finding.state, reason in finding.text, cure in finding.cure) == ("note", True, True)
    settings = ExtractSettings(flow=FlowSettings(backend="native-cuda"))
    with pytest.raises(BackendUnavailableError) as caught:
        extract(videos=tmp_path, out=tmp_path / "out", settings=settings)
    assert reason in str(caught.value)
    assert cure in str(caught.value)
    assert list(tmp_path.iterdir()) == [], "before any work"


class Loaded:
    """What is known of a library that loads."""

    crashed = False


def test_the_package_is_not_installed(machine: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert (status().reason, status().cure[:30]) == (
        "the package numba-cuda is not installed",
        'pip install "flowprep[cuda]", ',
    )


def test_the_simulator_is_never_taken_for_a_gpu(machine: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NUMBA_ENABLE_CUDASIM", "1")
    assert "NUMBA_ENABLE_CUDASIM" in status().reason


@needs_numba_cuda
@pytest.mark.parametrize("device", [-1, 1])
def test_an_index_that_is_not_there(machine: Any, device: int) -> None:
    with pytest.raises(BackendUnavailableError, match=f"no device {device}: there are 1, counted from 0; .*CUDA_VIS"):
        create_backend("native-cuda", device=device)


@needs_numba_cuda
def test_a_card_that_does_not_do_is_told_before_it_is_used(machine: Any) -> None:
    machine(capabilities=(H200, (3, 7)))
    assert status().available, "the other one runs"
    with pytest.raises(BackendUnavailableError, match=r"cannot run on device 1: the GPU has compute capability 3\.7"):
        create_backend("native-cuda", device=1)


@needs_numba_cuda
def test_an_object_is_made_without_touching_the_device(machine: Any) -> None:
    machine(capabilities=(H200, (8, 0)))
    with create_backend("native-cuda", device=1, parameters={"iterations": 7}) as backend:
        assert backend.parameters["iterations"] == 7
        assert backend.build.startswith("numba-cuda ")
        assert backend.build.endswith(" sm_80")


class FakeLibrary:
    """libcuda with two GPUs, or what is left of it."""

    def __init__(self, start: int = 0) -> None:
        self._start = start

    def cuInit(self, flags: int) -> int:  # noqa: N802
        return self._start

    def cuDriverGetVersion(self, number: Any) -> int:  # noqa: N802
        number._obj.value = 12080
        return 0

    def cuDeviceGetCount(self, number: Any) -> int:  # noqa: N802
        number._obj.value = 2
        return 0

    def cuDeviceGet(self, device: Any, index: int) -> int:  # noqa: N802
        device._obj.value = 10 + index
        return 0

    def cuDeviceGetAttribute(self, value: Any, attribute: int, device: Any) -> int:  # noqa: N802
        found = {(75, 10): 9, (76, 10): 0, (16, 10): 132, (75, 11): 8, (76, 11): 6, (16, 11): 80}
        value._obj.value = found[attribute, device.value]
        return 0

    def cuDeviceGetName(self, name: Any, size: int, device: Any) -> int:  # noqa: N802
        name.value = f"card {device.value}".encode()
        return 0

    def cuDeviceTotalMem_v2(self, num_bytes: Any, device: Any) -> int:  # noqa: N802
        num_bytes._obj.value = device.value << 30
        return 0

    @classmethod
    def instead(cls, monkeypatch: pytest.MonkeyPatch, start: int) -> Self:
        library = cls(start)
        monkeypatch.setattr(ctypes, "CDLL", lambda name: library)
        return library


def test_what_the_driver_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    FakeLibrary.instead(monkeypatch, 0)
    driver = CudaDriver.load()
    assert (driver.version, driver.capabilities) == ((12, 8), ((9, 0), (8, 6)))
    assert driver.cards == (("card 10", 10 << 30, 132), ("card 11", 11 << 30, 80))
    FakeLibrary.instead(monkeypatch, 100)
    assert CudaDriver.load().capabilities == ()
    FakeLibrary.instead(monkeypatch, 999)
    with pytest.raises(DriverFailureError) as caught:
        CudaDriver.load()
    assert caught.value.code == 999
    monkeypatch.undo()
    monkeypatch.setattr(cuda_driver, "_LIBRARY", "libnothing-of-that-name.so")
    with pytest.raises(NoDriverError, match="libnothing"):
        CudaDriver.load()


def test_versions_of_the_toolkit_are_those_of_its_wheels(monkeypatch: pytest.MonkeyPatch) -> None:
    installed = {"nvidia-cuda-nvcc-cu12": "12.9.86"}

    def version(name: str) -> str:
        if name not in installed:
            raise importlib.metadata.PackageNotFoundError(name)
        return installed[name]

    monkeypatch.setattr(importlib.metadata, "version", version)
    assert probe_cuda._installed_toolkit() == (12, "12.9.86")
    installed["nvidia-nvvm"] = "13.5.37"
    assert probe_cuda._installed_toolkit() == (13, "13.5.37")
    installed.clear()
    assert probe_cuda._installed_toolkit() is None


OLD = "if numpy_version >= (2, 0):\n    overload(np.row_stack)(impl_np_vstack)\n"
MENDED = "if numpy_version >= (2, 0) and numpy_version < (2, 5):\n    overload(np.row_stack)(impl_np_vstack)\n"


@pytest.mark.parametrize(
    ("numpy", "source", "fits"),
    [("2.5.2", OLD, False), ("2.10.0", OLD, False), ("2.4.6", OLD, True), ("2.5.2", MENDED, True), ("2.5.2", "", True)],
)
def test_a_numpy_that_numba_cuda_does_not_fit(
    machine: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, numpy: str, source: str, fits: bool
) -> None:
    for name, version in (("numpy", numpy), ("numba_cuda", "0.30.4")):
        folder = tmp_path / f"{name}-{version}.dist-info"
        folder.mkdir()
        (folder / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
    place = tmp_path / "numba_cuda/numba/cuda/np/arrayobj.py"
    place.parent.mkdir(parents=True)
    place.write_text(source)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(probe_cuda, "_find_numpy_obstacle", ASKED)
    if fits:
        assert status().available
    else:
        assert status().reason == f"numba-cuda 0.30.4 compiles nothing with NumPy {numpy}"
        assert status().cure.startswith('pip install "numpy<2.5"')
        assert resolve() == ("native", "cuda")


@needs_numba_cuda
def test_what_is_installed_fits_where_nothing_is_said() -> None:
    """numba-cuda loads the module in question before its first kernel, GPU or not."""
    code = "import numba.cuda.np.arrayobj"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (result.returncode == 0) == (ASKED() is None), result.stderr


def test_the_compiler_is_looked_for_as_numba_cuda_does(monkeypatch: pytest.MonkeyPatch) -> None:
    pathfinder = pytest.importorskip("cuda.pathfinder", reason="it comes with numba-cuda: pip install numba-cuda")
    asked: list[str] = []

    def load(name: str) -> None:
        asked.append(name)
        if len(asked) == 2:
            raise pathfinder.DynamicLibNotFoundError("no")
        if len(asked) == 3:
            raise OSError("the file is damaged")

    monkeypatch.setattr(pathfinder, "load_nvidia_dynamic_lib", load)
    assert [probe_cuda._finds_compiler() for _ in range(3)] == [True, False, False]
    assert asked == ["nvvm"] * 3


def test_asking_loads_neither_numba_nor_numpy() -> None:
    code = "import sys; from flowprep.flow.probe_cuda import find_native_cuda_obstacle as f; f(); print(*sys.modules)"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not {"numba", "numpy", "cuda"} & set(found.stdout.split())

"""Compiled code on the disk: taken again, shared by processes that start at once, never trusted, never in the way.

Each process here compiles the smallest kernel alone (about a second), the one that makes a frame's pyramid.
"""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import llvmlite.binding
import pytest

from flowprep.errors import SettingsError
from flowprep.flow import create_backend
from flowprep.flow.tvl1 import jit

x86_64 = pytest.mark.skipif(platform.machine() != "x86_64", reason="a baseline of x86-64")

PREPARE = """
import hashlib, sys
import numpy as np
from flowprep.flow import create_backend
baseline = sys.argv[1] if len(sys.argv) > 1 else None
frame = np.random.default_rng(0).integers(0, 256, (1, 40, 50), np.uint8)
with create_backend("native", variant="cpu", cpu_baseline=baseline) as backend:
    print(hashlib.sha256(backend.prepare(frame)[0].data).hexdigest())
"""


def start(cache: Path | None, *arguments: str, **environment: str) -> subprocess.Popen[str]:
    variables = {name: value for name, value in os.environ.items() if name not in ("FLOWPREP_CACHE_DIR", "TMPDIR")}
    if cache is not None:
        variables["FLOWPREP_CACHE_DIR"] = str(cache)
    return subprocess.Popen(
        [sys.executable, "-W", "error", "-c", PREPARE, *arguments],
        env={**variables, **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finish(process: subprocess.Popen[str]) -> tuple[str, str]:
    """What it computed, and what it told."""
    digest, told = process.communicate(timeout=120)
    assert process.returncode == 0, told
    return digest.strip(), told


@pytest.fixture(scope="session")
def filled(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A cache that one process has filled, for copying, and what that computed."""
    cache = tmp_path_factory.mktemp("cache") / "new"
    digest, told = finish(start(cache))
    assert "compiling the TV-L1 kernels for " in told
    return cache, digest


@pytest.fixture
def cache(filled: tuple[Path, str], tmp_path: Path) -> Path:
    return shutil.copytree(filled[0], tmp_path / "cache")


def files_of(cache: Path, ending: str = "") -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in cache.rglob("*" + ending) if path.is_file()}


def test_the_second_process_does_not_compile(filled: tuple[Path, str], cache: Path) -> None:
    before = files_of(cache)
    assert finish(start(cache)) == (filled[1], "")
    assert files_of(cache) == before


def test_processes_that_start_at_once_share_a_cache_that_is_whole(filled: tuple[Path, str], tmp_path: Path) -> None:
    processes = [start(tmp_path) for _ in range(4)]
    assert [finish(process)[0] for process in processes] == [filled[1]] * 4
    assert {path.suffix for path in files_of(tmp_path)} == {".nbi", ".nbc"}, "temporary files are left"
    assert finish(start(tmp_path)) == (filled[1], "")


@pytest.mark.parametrize(
    ("ending", "damage"),
    [
        (".nbi", lambda data: data[: len(data) // 2]),
        (".nbc", lambda data: data[:-9]),
        (".nbc", lambda data: b"garbage"),
    ],
    ids=["truncated index", "truncated code", "garbage"],
)
def test_a_damaged_cache_is_told_once_and_made_anew(
    filled: tuple[Path, str], cache: Path, ending: str, damage: Callable[[bytes], bytes]
) -> None:
    for path, data in files_of(cache, ending).items():
        path.write_bytes(damage(data))
    digest, told = finish(start(cache))
    assert digest == filled[1]
    assert told.count("cannot be used") == 1
    assert finish(start(cache)) == (filled[1], "")


def test_an_index_without_its_code_is_completed(filled: tuple[Path, str], cache: Path) -> None:
    for path in files_of(cache, ".nbc"):
        path.unlink()
    assert finish(start(cache))[0] == filled[1]
    assert finish(start(cache)) == (filled[1], "")


def test_without_a_folder_to_write_each_process_compiles(filled: tuple[Path, str], tmp_path: Path) -> None:
    """Below a file no folder can be made, by root neither."""
    (tmp_path / "file").write_bytes(b"")
    digest, told = finish(start(tmp_path / "file" / "cache"))
    assert digest == filled[1]
    assert "no folder for compiled kernels is this user's alone" in told


def test_without_a_home_folder_code_is_kept_in_a_private_temporary_one(
    filled: tuple[Path, str], tmp_path: Path
) -> None:
    (tmp_path / "file").write_bytes(b"")
    elsewhere = {"XDG_CACHE_HOME": str(tmp_path / "file"), "TMPDIR": str(tmp_path)}
    assert finish(start(None, **elsewhere))[0] == filled[1]
    (folder,) = (tmp_path / f"flowprep-{os.getuid()}" / "kernels").iterdir()
    assert folder.stat().st_mode & 0o777 == 0o700
    assert finish(start(None, **elsewhere)) == (filled[1], "")


def test_a_folder_that_others_can_write_is_not_used(filled: tuple[Path, str], cache: Path) -> None:
    (folder,) = (cache / "kernels").iterdir()
    folder.chmod(0o777)
    for path in files_of(cache):  # loading it would be seen
        path.write_bytes(b"garbage")
    digest, told = finish(start(cache))
    assert digest == filled[1]
    assert "compiling" in told
    assert "cannot be used" not in told
    assert set(files_of(cache).values()) == {b"garbage"}


@x86_64
def test_each_target_has_a_folder_of_its_own(filled: tuple[Path, str], cache: Path) -> None:
    digest, told = finish(start(cache, "x86-64-v3"))
    assert digest == filled[1], "bilinear interpolation has no approximate instructions"
    assert "compiling the TV-L1 kernels for x86-64-v3" in told
    folders = sorted(path.name for path in (cache / "kernels").iterdir())
    assert len(folders) == 2
    assert any(name.startswith("x86-64-v3-") for name in folders)
    assert finish(start(cache, "x86-64-v3")) == (filled[1], "")
    assert finish(start(cache)) == (filled[1], "")


# -- targets -----------------------------------------------------------------------------------------------------------

SELECT = """
import sys
from flowprep.errors import SettingsError
from flowprep.flow import create_backend
for baseline in sys.argv[1:]:
    try:
        create_backend("native", cpu_baseline=baseline if baseline != "here" else None).close()
        print("made")
    except SettingsError as error:
        print(error)
"""


@x86_64
@pytest.mark.parametrize(
    ("first", "second", "message"),
    [
        ("here", "x86-64-v3", " in this process already and cannot for x86-64-v3 as well; use one process for each"),
        ("x86-64-v3", "here", "Numba compiles for x86-64-v3 in this process already and cannot for this processor"),
    ],
)
def test_a_process_has_one_target(first: str, second: str, message: str) -> None:
    done = subprocess.run([sys.executable, "-c", SELECT, first, first, second, first], capture_output=True, text=True)
    told = done.stdout.splitlines()
    assert told[:2] == ["made", "made"], done.stderr
    assert message in told[2]
    assert told[3] == "made"


def test_a_processor_that_lacks_the_baseline_is_told_what_it_lacks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(llvmlite.binding, "get_host_cpu_features", lambda: {"avx2": True, "fma": False})
    with pytest.raises(SettingsError, match=r"this processor has no bmi2, fma, which x86-64-v3 needs; leave it out"):
        create_backend("native", cpu_baseline="x86-64-v3")


def test_every_baseline_has_its_features() -> None:
    from flowprep.config import CPU_BASELINES

    assert set(jit._FEATURES) == set(CPU_BASELINES)

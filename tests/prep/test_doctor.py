"""`flowprep doctor`: mounts by their text, the disk tried out, owners of cv2, broken imports, memory, GPUs."""

from __future__ import annotations

import base64
import errno
import fcntl
import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest
from helpers.command import FLOWPREP

from flowprep import machine
from flowprep.doctor import Finding, Health, disk, examine, gpu, packages
from flowprep.doctor.hardware import jobs_that_fit
from flowprep.doctor.mounts import find_mount, kind_of
from flowprep.flow import probe_cuda
from flowprep.flow.cuda_driver import CudaDriver
from flowprep.flow.probe import explain_opencv

GIB = 1 << 30
MOUNTINFO = r"""
22 27 0:21 / /proc rw,relatime - proc proc rw
27 1 254:0 / / rw,relatime - ext4 /dev/vda rw,discard
40 27 0:50 / /data rw,relatime shared:7 - nfs4 filer:/export/data rw,vers=4.2
41 40 0:51 / /data/fast\040disk rw,relatime master:1 propagate_from:2 - xfs /dev/sdb1 rw
42 27 0:52 / /scratch rw,relatime - lustre 10.0.0.1@tcp:/scratch rw
43 27 0:53 / /bucket rw,nosuid - fuse.s3fs s3fs rw
44 27 0:54 / /home ro,relatime - beegfs beegfs_nodev rw
45 27 0:55 / /usb rw - fuseblk /dev/sdc1 rw
46 27 0:56 / /odd rw - fuse.homemade x rw
47 27 0:57 / /tmp rw - tmpfs tmpfs rw
48 27 0:58 / /twice rw - tmpfs tmpfs rw
49 27 0:59 / /twice rw - overlay overlay ro
this line - is none
"""


def by_name(findings: Iterable[Finding]) -> dict[str, Finding]:
    return {finding.name: finding for finding in findings}


# -- mounts ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("folder", "type_", "kind", "follows"),
    [
        ("/", "ext4", "local", "all that a run needs"),
        ("/databank", "ext4", "local", "all that a run needs"),  # not below /data
        ("/data", "nfs4", "network", "keep --durability video"),
        ("/data/ucf101/flow", "nfs4", "network", "shards are read without any"),
        ("/data/fast disk/x", "xfs", "local", ""),
        ("/scratch/me", "lustre", "network", "lfs setstripe -c 1"),
        ("/bucket/x", "fuse.s3fs", "object store", "not atomic"),
        ("/usb", "fuseblk", "foreign", "differ in case"),
        ("/odd", "fuse.homemade", "FUSE", "user space"),
        ("/tmp/x", "tmpfs", "memory", "gone after a restart"),
        ("/twice", "overlay", "overlay", "ends with the container"),
    ],
)
def test_mount_of_a_folder(folder: str, type_: str, kind: str, follows: str) -> None:
    mount = find_mount(Path(folder), MOUNTINFO)
    assert mount is not None
    assert (mount.type, mount.kind) == (type_, kind)
    assert follows in mount.follows


def test_mounts_that_are_read_only_or_not_told() -> None:
    assert [find_mount(Path(path), MOUNTINFO).read_only for path in ("/home", "/twice", "/data")] == [True, True, False]  # type: ignore[union-attr]
    assert find_mount(Path("/data"), "") is None


def test_kinds() -> None:
    network = ("nfs", "cifs", "smb3", "9p", "ceph", "gpfs", "beegfs", "lustre", "fuse.sshfs", "fuse.glusterfs")
    assert {kind_of(type_) for type_ in network} == {"network"}
    assert {kind_of(type_) for type_ in ("fuse.gcsfuse", "fuse.rclone", "fuse.mount-s3")} == {"object store"}
    assert kind_of("newfs") == "unknown"


# -- the disk ----------------------------------------------------------------------------------------------------------


def mountinfo(folder: Path, type_: str, options: str = "rw") -> str:
    return f"1 1 0:1 / {folder} {options} - {type_} source {options}\n"


def test_a_local_disk_and_nothing_is_left(tmp_path: Path) -> None:
    found = by_name(disk.examine_disk(tmp_path / "not" / "yet", mountinfo(tmp_path, "ext4")))
    assert list(tmp_path.iterdir()) == []
    assert "(not there yet): ext4 (local)" in found["file system"].text
    expected = ["file system", "space", "flushing", "renaming", "hard links", "locks", "mapping", "names"]
    assert list(found) == expected
    assert {finding.state for name, finding in found.items() if name != "space"} == {"ok"}
    assert found["flushing"].facts["median_ms"] > 0
    assert found["space"].facts["free_bytes"] > 0


@pytest.mark.parametrize(
    ("type_", "state", "blocks"),
    [
        ("nfs4", "ok", False),
        ("tmpfs", "note", False),
        ("fuse.s3fs", "problem", False),
        ("fuse.homemade", "note", False),
    ],
)
def test_kind_of_disk_decides(tmp_path: Path, type_: str, state: str, blocks: bool) -> None:
    finding = by_name(disk.examine_disk(tmp_path, mountinfo(tmp_path, type_)))["file system"]
    assert (finding.state, finding.blocks, finding.facts["type"]) == (state, False, type_)


def test_a_disk_that_is_read_only_or_closed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(**_: Any) -> str:
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr(disk.tempfile, "mkdtemp", refuse)
    found = by_name(disk.examine_disk(tmp_path, mountinfo(tmp_path, "ext4", "ro")))
    assert found["file system"].blocks
    assert "mounted read-only" in found["file system"].text
    assert found["writing"].blocks
    assert "cannot be written: Read-only file system" in found["writing"].text
    assert not Health(findings=tuple(found.values())).works


def failing(number: int) -> Callable[..., None]:
    def fail(*_: Any, **__: Any) -> None:
        raise OSError(number, os.strerror(number))

    return fail


def test_what_a_disk_does_not_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fcntl, "flock", failing(errno.ENOSYS))
    monkeypatch.setattr(os, "link", failing(errno.EPERM))
    found = by_name(disk.examine_disk(tmp_path))
    assert found["locks"].state == "note"
    assert "no flock (Function not implemented)" in found["locks"].text
    assert "HDF5_USE_FILE_LOCKING=FALSE" in found["locks"].text
    assert found["hard links"].state == "note"
    assert found["renaming"].state == "ok"
    monkeypatch.setattr(os, "fsync", failing(errno.EIO))
    flushing = by_name(disk.examine_disk(tmp_path))["flushing"]
    assert (flushing.state, flushing.blocks) == ("problem", True)
    assert "Input/output error; a run relies on that" in flushing.text


def test_a_rename_that_is_not_atomic(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def copy(self: Path, target: Path) -> Path:
        target.unlink()
        target.exists()  # gives the watching thread a turn
        disk.time.sleep(0.005)
        target.write_bytes(self.read_bytes())
        return target

    monkeypatch.setattr(Path, "replace", copy)
    finding = by_name(disk.examine_disk(tmp_path))["renaming"]
    assert finding.blocks
    assert "gone in between" in finding.text


def test_the_folder_of_videos(tmp_path: Path) -> None:
    (tmp_path / "videos").mkdir()

    def finding(videos: str, out: str = "out") -> Finding:
        (found,) = disk.examine_videos(tmp_path / videos, tmp_path / out, mountinfo(tmp_path, "nfs"))
        return found

    assert "cannot be read: No such file" in finding("none").text
    assert "is empty" in finding("videos").text
    (tmp_path / "videos" / "a.avi").write_bytes(b"x")
    assert finding("videos").state == "ok"
    assert "nfs on source" in finding("videos").text
    assert "inside of the folder of videos" in finding("videos", "videos/flow").text


# -- libraries ---------------------------------------------------------------------------------------------------------


def install(folder: Path, name: str, version: str, files: dict[str, bytes], *, write: bool = True) -> None:
    """A distribution in a folder: its metadata, and its files unless another one's lie there."""
    info = folder / f"{name.replace('-', '_')}-{version}.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
    lines = []
    for path, content in files.items():
        digest = base64.urlsafe_b64encode(hashlib.sha256(content).digest()).decode().rstrip("=")
        lines.append(f"{path},sha256={digest},{len(content)}\n")
        if write:
            (folder / path).parent.mkdir(exist_ok=True)
            (folder / path).write_bytes(content)
    (info / "RECORD").write_text("".join(lines))


def run_doctor(*paths: Path) -> tuple[int, dict[str, dict[str, Any]]]:
    """Exit code and findings by name of the command, with folders before all others on the module path."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, paths))}
    done = subprocess.run(
        [str(FLOWPREP), "doctor", "--json"], capture_output=True, text=True, env=environment, check=False, timeout=120
    )
    assert done.stderr == ""
    return done.returncode, {finding["name"]: finding for finding in json.loads(done.stdout)["findings"]}


def test_a_second_owner_of_cv2(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    init = b"__version__ = '4.12.0'\n"
    install(tmp_path, "opencv-python", "4.12.0.88", {"cv2/__init__.py": init, "cv2/version.py": b"a"}, write=False)
    install(tmp_path, "opencv-contrib-python", "4.12.0.88", {"cv2/__init__.py": init, "cv2/version.py": b"b"})
    monkeypatch.setattr(sys, "path", [str(tmp_path)])
    imported = packages.Imported(version="4.12.0", file=str(tmp_path / "cv2" / "__init__.py"))
    (finding,) = packages._opencv(imported)
    assert finding.state == "problem"
    assert not finding.blocks
    assert "opencv-contrib-python and opencv-python both own the folder cv2" in finding.text
    assert finding.text.endswith("the files on disk are those of opencv-contrib-python")
    assert finding.cure == ("pip uninstall opencv-contrib-python opencv-python, then pip install opencv-contrib-python")


def test_cv2_from_elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(tmp_path / "site", "opencv-contrib-python", "4.12.0", {"cv2/__init__.py": b"", "cv2/version.py": b""})
    monkeypatch.setattr(sys, "path", [str(tmp_path / "site")])
    own = tmp_path / "build" / "cv2" / "__init__.py"
    (finding,) = packages._opencv(packages.Imported(version="4.12.0", file=str(own)))
    assert finding.state == "note"
    assert f"loaded from {own.parent}" in finding.text
    assert list(packages._opencv(packages.Imported(file=str(tmp_path / "site" / "cv2" / "__init__.py")))) == []


def test_libraries_that_cannot_be_imported(tmp_path: Path) -> None:
    libgl = "libGL.so.1: cannot open shared object file: No such file or directory"
    (tmp_path / "cv2").mkdir()
    (tmp_path / "cv2" / "__init__.py").write_text(f"raise ImportError({libgl!r})\n")
    (tmp_path / "av.py").write_text("import nothing_of_that_name\n")
    (tmp_path / "numba.py").write_text("raise ImportError('Numba needs NumPy 1.99 or less')\n")
    code, found = run_doctor(tmp_path)
    assert code == 1
    assert found["import cv2"]["text"] == f"import cv2 fails: ImportError: {libgl}"
    assert found["import cv2"]["cure"].startswith("apt-get install libgl1")
    assert "opencv-contrib-python-headless" in found["import cv2"]["cure"]
    assert "No module named 'nothing_of_that_name'" in found["import av"]["text"]
    assert found["import numba"]["state"] == "problem"
    assert "Numba needs NumPy 1.99" in found["flow native"]["text"]
    assert "libGL.so.1" in found["flow dis"]["text"]
    assert found["flow native"]["blocks"]  # no other one runs either
    assert found["renaming"]["state"] == "ok"  # the rest is examined all the same


def test_a_library_that_crashes_python(tmp_path: Path) -> None:
    (tmp_path / "h5py.py").write_text("import os\nos.abort()\n")
    (tmp_path / "numba.py").write_text("import os\nos.abort()\n")
    code, found = run_doctor(tmp_path)
    assert code == 1
    assert found["import h5py"]["text"] == "import h5py fails: it crashes Python (SIGABRT)"
    assert found["flow"]["text"] == "not examined, since a library crashes Python"


def test_without_numba_another_backend_must_be_named(tmp_path: Path) -> None:
    (tmp_path / "numba.py").write_text("raise ImportError('no')\n")
    code, found = run_doctor(tmp_path)
    assert code == 0
    assert found["flow native"]["state"] == "problem"
    assert found["flow auto"]["text"].endswith("extract wants --backend opencv or dis or farneback")


def test_versions_against_requirements(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packages, "installed_version", {"av": "17.9.1", "numpy": "1.26", "joblib": "1.10rc1"}.get)

    def finding(name: str, minimum: str, **imported: packages.Imported) -> Finding:
        return packages._version(packages.Requirement(distribution=name, minimum=minimum), imported)

    assert (finding("av", "18").state, finding("av", "18").cure) == ("problem", "pip install --upgrade 'av>=18'")
    assert "17.9.1 is too old, 18 is needed" in finding("av", "18").text
    new = packages._version(packages.Requirement(distribution="av", minimum="16", limit="17"), {})
    assert (new.state, new.text) == ("problem", "17.9.1 is too new, flowprep does not know 17 yet")
    assert new.cure == "pip install 'av>=16,<17'"
    assert finding("numpy", "1.26").state == "ok"
    assert finding("joblib", "1.4").state == "ok"  # 10 is more than 4
    assert finding("h5py", "3.15").blocks
    own = finding("opencv-contrib-python", "4.10", cv2=packages.Imported(version="4.12.0-dev", file="x"))
    assert own.state == "ok"
    assert "a build of your own" in own.text
    old = finding("opencv-contrib-python", "4.10", cv2=packages.Imported(version="4.5.2", file="x"))
    assert old.state == "problem"


def test_requirements_are_those_of_the_project(monkeypatch: pytest.MonkeyPatch) -> None:
    found = {requirement.distribution: requirement.minimum for requirement in packages._requirements()}
    assert found["opencv-contrib-python"] == "4.10"
    assert not {"torch", "numba-cuda", "ruff"} & set(found)  # extras are no requirement
    lines = ["av<19,>=18", "numpy>=1.26", "h5py!=3.16", "numba<0.70; extra == 'dev'"]
    monkeypatch.setattr(packages.importlib.metadata, "requires", lambda _: lines)
    assert [str(requirement) for requirement in packages._requirements()] == ["av>=18,<19", "numpy>=1.26", "h5py"]


@pytest.mark.parametrize(
    ("library", "package"),
    [("libGL.so.1", "libgl1 libglib2.0-0"), ("libgthread-2.0.so.0", "libglib2.0-0"), ("libSM.so.6", "libsm6 libxext6")],
)
def test_cure_of_a_missing_library(library: str, package: str) -> None:
    obstacle = explain_opencv(f"{library}: cannot open shared object file: No such file or directory")
    assert obstacle.cure.startswith(f"apt-get install {package}, or without root")
    assert "apt-get" not in explain_opencv("numpy.core.multiarray failed to import").cure


# -- processor, memory, GPU --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("available", "limit", "num_cores", "state", "num_jobs"),
    [(64, None, 8, "ok", 35), (64, 8, 8, "note", 4), (2, None, 2, "note", 1), (1, None, 2, "note", 0)],
)
def test_jobs_that_fit(available: int, limit: int | None, num_cores: int, state: str, num_jobs: int) -> None:
    limit_bytes = None if limit is None else limit * GIB
    memory = machine.Memory(total_bytes=100 * GIB, available_bytes=available * GIB, limit_bytes=limit_bytes)
    finding = jobs_that_fit(memory, num_cores)
    assert (finding.state, finding.facts["num_jobs"]) == (state, num_jobs)
    assert f"a run starts {num_cores}" in finding.text
    assert finding.cure == (
        "" if state == "ok" else f"extract with --jobs {max(num_jobs, 1)} if videos end as `memory`"
    )


@pytest.mark.parametrize(
    ("files", "membership", "limits", "quotas"),
    [
        ({"a/memory.max": "1000", "a/b/memory.max": "max", "a/cpu.max": "150000 100000"}, "0::/a/b", [1000], [2]),
        (
            {"memory/a/memory.limit_in_bytes": "5", "cpu/a/cpu.cfs_quota_us": "300", "cpu/a/cpu.cfs_period_us": "100"},
            "4:memory:/a\n2:cpu,cpuacct:/a\n0::/",
            [5],
            [3],
        ),
        ({"cpu/cpu.cfs_quota_us": "-1", "cpu/cpu.cfs_period_us": "100"}, "2:cpu:/", [], []),
        ({}, "nonsense", [], []),
    ],
)
def test_limits_of_control_groups(
    tmp_path: Path, files: dict[str, str], membership: str, limits: list[int], quotas: list[int]
) -> None:
    for name, text in files.items():
        (tmp_path / "root" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "root" / name).write_text(f"{text}\n")
    (tmp_path / "self").write_text(f"{membership}\n")
    assert machine._memory_limits(tmp_path / "self", tmp_path / "root") == limits
    assert machine._quotas(tmp_path / "self", tmp_path / "root") == quotas


def tool(folder: Path, script: str) -> None:
    path = folder / "nvidia-smi"
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)


def test_gpus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(gpu, "installed_version", {"numba-cuda": "0.30"}.get)
    monkeypatch.setattr(gpu, "find_native_cuda_obstacle", lambda: None)
    (none,) = gpu.examine_gpu(tmp_path)
    assert (none.state, none.cure) == ("note", "")
    assert "nvidia-smi is not installed; flow runs on the CPU" in none.text
    (tmp_path / "dev").mkdir()
    (tmp_path / "dev" / "nvidia0").write_bytes(b"")
    tool(tmp_path, "echo Failed to initialize NVML: Driver/library version mismatch; exit 18")
    (mismatch,) = gpu.examine_gpu(tmp_path)
    assert "nvidia0 are there but no driver answers: nvidia-smi failed: Failed to initialize NVML" in mismatch.text
    tool(tmp_path, "echo NVIDIA H200, 143771 MiB, 570.124.06")
    for answer, states, text in (
        ((0, "libcuda.so.1 sees no device"), ["ok", "problem"], "sees no device"),
        ((11040, ""), ["ok", "note"], "up to 11.4"),
        ((12080, ""), ["ok", "ok", "ok"], "0.30, with all that it needs"),
        ((13010, ""), ["ok", "ok", "ok"], "0.30"),
    ):
        monkeypatch.setattr(gpu, "_cuda_version", lambda answer=answer: answer)
        found = list(gpu.examine_gpu(tmp_path))
        assert found[0].facts["gpus"] == ["NVIDIA H200, 143771 MiB, 570.124.06"]
        assert [finding.state for finding in found] == states
        assert text in found[-1].text
    obstacle = "numba-cuda does not find NVIDIA's compiler library (NVVM)", "set CUDA_HOME"
    monkeypatch.setattr(gpu, "find_native_cuda_obstacle", lambda: obstacle)
    last = list(gpu.examine_gpu(tmp_path))[-1]
    assert (last.state, last.text, last.cure) == ("note", f"0.30, but {obstacle[0]}", obstacle[1])
    monkeypatch.setattr(gpu, "installed_version", {}.get)
    assert "pip install 'flowprep[cuda13]'" in list(gpu.examine_gpu(tmp_path))[-1].cure


def test_each_device_has_a_line(monkeypatch: pytest.MonkeyPatch) -> None:
    cards = (("NVIDIA H200", 140 << 30, 132), ("Tesla K80", 11 << 30, 13))
    driver = CudaDriver((12, 9), ((9, 0), (3, 7)), cards)
    monkeypatch.setattr(CudaDriver, "load", lambda: driver)
    monkeypatch.setattr(probe_cuda, "_installed_toolkit", lambda: (12, "12.9.86"))
    first, second = gpu._devices()
    assert (first.name, first.state) == ("cuda:0", "ok")
    expected = "NVIDIA H200, compute capability 9.0, 140 GiB; native-cuda computes up to 272 pairs of 340x256 at a time"
    assert first.text == expected
    assert "flowprep bench VIDEOS measures which stage bounds a run" in first.cure
    assert (second.name, second.state) == ("cuda:1", "note")
    assert "does not run on it: the GPU has compute capability 3.7, and CUDA 12.9.86 needs 5.0" in second.text
    assert second.cure == "use the backend native"


def test_version_of_the_driver(tmp_path: Path) -> None:
    place = tmp_path / "proc/driver/nvidia/version"
    place.parent.mkdir(parents=True)
    place.write_text(
        "NVRM version: NVIDIA UNIX x86_64 Kernel Module  570.124.06  Wed Feb 26\nGCC version: gcc 12.2.0\n"
    )
    assert gpu._driver_version(tmp_path) == "570.124.06"
    assert gpu._driver_version(tmp_path / "none") == ""


# -- all of it ---------------------------------------------------------------------------------------------------------


def test_this_machine(tmp_path: Path) -> None:
    health = examine(tmp_path)
    assert health.works
    assert json.loads(json.dumps(health.to_json()))["works"] is True
    names = [finding.name for finding in health.findings]
    assert len(names) == len(set(names))
    for finding in health.findings:
        assert not finding.text.endswith(".")
        assert not finding.cure.endswith(".")

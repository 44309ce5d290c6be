"""Python and libraries: versions against what flowprep asks for, imports that fail, and who owns the folder cv2."""

from __future__ import annotations

import base64
import hashlib
import importlib.metadata
import json
import platform
import re
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from flowprep import __version__
from flowprep.doctor.finding import Finding
from flowprep.flow.probe import explain_opencv

LIBRARIES = {
    "numpy": "numpy",
    "cv2": "opencv-contrib-python",
    "av": "av",
    "h5py": "h5py",
    "numba": "numba",
    "joblib": "joblib",
}
"""Modules that are imported to see whether that works, and the distribution to install where it does not."""

_TRY = """
import json, sys, warnings
warnings.simplefilter("ignore")
sys.path[:] = json.loads(sys.argv[2])
try:
    exec("import " + sys.argv[1])
    module = sys.modules[sys.argv[1]]
    answer = {"version": str(getattr(module, "__version__", "")), "file": getattr(module, "__file__", None) or ""}
except BaseException as error:
    missing = isinstance(error, ModuleNotFoundError) and error.name == sys.argv[1]
    answer = {"error": f"{type(error).__name__}: {error}", "missing": missing}
print("\\n" + json.dumps(answer))
"""
_IMPORT_SECONDS = 120  # the first import from a busy network disk may take this long
_MIN_PYTHON = (3, 11)
_CONTRIB = "opencv-contrib-python"


@dataclass(frozen=True, slots=True, kw_only=True)
class Imported:
    """What importing a module gave: version and file, or the error; `missing` where there is no such module."""

    version: str = ""
    file: str = ""
    error: str = ""
    missing: bool = False
    crashed: bool = False


def try_imports(modules: Sequence[str] = tuple(LIBRARIES)) -> dict[str, Imported]:
    """Import each module in a process of its own, at the same time: a broken binary may crash its process."""
    path = json.dumps([entry or str(Path.cwd()) for entry in sys.path])
    running = {
        module: subprocess.Popen(
            [sys.executable, "-c", _TRY, module, path], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        for module in modules
    }
    return {module: _outcome(process) for module, process in running.items()}


def _outcome(process: subprocess.Popen[str]) -> Imported:
    with process:
        try:
            shown, _ = process.communicate(timeout=_IMPORT_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            return Imported(error=f"it has not ended after {_IMPORT_SECONDS} s", crashed=True)
    try:
        return Imported(**json.loads(shown.splitlines()[-1]))
    except (ValueError, IndexError, TypeError):
        code = process.returncode
        name = signal.Signals(-code).name if -code in set(signal.Signals) else f"exit code {code}"
        return Imported(error=f"it crashes Python ({name})", crashed=True)


def examine_packages(imported: Mapping[str, Imported]) -> Iterator[Finding]:
    """Findings on Python and on each library; `imported` is what `try_imports` gave."""
    yield _python()
    for requirement in _requirements():
        yield _version(requirement, imported)
    for module, outcome in imported.items():
        if outcome.error:
            yield _failed_import(module, outcome)
    yield from _opencv(imported.get("cv2"))


def _python() -> Finding:
    version = platform.python_version()
    facts = {"version": version, "executable": sys.executable, "flowprep": __version__, "system": platform.platform()}
    if sys.version_info[:2] < _MIN_PYTHON:
        cure = f"make a virtual environment with Python {'.'.join(map(str, _MIN_PYTHON))} or newer"
        return Finding(
            topic="packages",
            name="python",
            state="problem",
            text=f"{version} is too old",
            cure=cure,
            blocks=True,
            facts=facts,
        )
    text = f"{version}, flowprep {__version__}, {platform.platform()}"
    if sys.platform != "linux":
        text += ": only Linux is supported, elsewhere limits of memory and time do not hold"
        return Finding(topic="packages", name="python", state="note", text=text, facts=facts)
    return Finding(topic="packages", name="python", state="ok", text=text, facts=facts)


@dataclass(frozen=True, slots=True, kw_only=True)
class Requirement:
    """A line of our own requirements: `minimum` is "" where it has no `>=`, `limit`, which is too new, where no `<`."""

    distribution: str
    minimum: str
    limit: str = ""

    def __str__(self) -> str:
        bounds = [f">={self.minimum}" if self.minimum else "", f"<{self.limit}" if self.limit else ""]
        return self.distribution + ",".join(filter(None, bounds))


def _requirements() -> list[Requirement]:
    """What flowprep needs in any case, by its own metadata; nothing where it runs without being installed."""
    try:
        lines = importlib.metadata.requires("flowprep") or []
    except importlib.metadata.PackageNotFoundError:
        return []
    found = []
    for line in lines:
        name = re.match(r"[A-Za-z0-9._-]+", line)
        if name and ";" not in line:
            minimum, limit = re.search(r">=\s*([\w.]+)", line), re.search(r"<\s*(\w[\w.]*)", line)
            bounds = [match[1] if match else "" for match in (minimum, limit)]
            found.append(Requirement(distribution=name[0], minimum=bounds[0], limit=bounds[1]))
    return found


def _version(requirement: Requirement, imported: Mapping[str, Imported]) -> Finding:
    name, minimum, limit = requirement.distribution, requirement.minimum, requirement.limit
    version = installed_version(name)
    source = ""
    if version is None and name == _CONTRIB and imported.get("cv2", Imported(error="-")).version:
        version, source = imported["cv2"].version, ", by another distribution or a build of your own"
    facts = {"version": version, "minimum": minimum, "limit": limit}
    if version is None:
        text, cure = "is not installed", f"pip install '{requirement}'"
        blocks = name != "numba"
        return Finding(topic="packages", name=name, state="problem", text=text, cure=cure, blocks=blocks, facts=facts)
    if minimum and _release(version) < _release(minimum):
        text, cure = f"{version} is too old, {minimum} is needed{source}", f"pip install --upgrade '{requirement}'"
        return Finding(topic="packages", name=name, state="problem", text=text, cure=cure, facts=facts)
    if limit and _release(version) >= _release(limit):
        text, cure = f"{version} is too new, flowprep does not know {limit} yet{source}", f"pip install '{requirement}'"
        return Finding(topic="packages", name=name, state="problem", text=text, cure=cure, facts=facts)
    return Finding(topic="packages", name=name, state="ok", text=f"{version}{source}", facts=facts)


def installed_version(distribution: str) -> str | None:
    """The version of a distribution, None if there is no such."""
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return None


def _release(version: str) -> tuple[int, ...]:
    """The numbers of a version, up to what is no number."""
    numbers = []
    for part in version.split("."):
        digits = re.match(r"\d+", part)
        if digits is None:
            break
        numbers.append(int(digits[0]))
    return tuple(numbers)


def _failed_import(module: str, outcome: Imported) -> Finding:
    distribution = LIBRARIES.get(module, module)
    text, cure = f"import {module} fails: {outcome.error}", f"pip install --force-reinstall {distribution}"
    if outcome.missing:
        text, cure = f"the module {module} is not installed", f"pip install {distribution}"
    elif module == "cv2" and not outcome.crashed:
        cure = explain_opencv(outcome.error).cure
    # Without Numba the other backends still run.
    return Finding(
        topic="packages",
        name=f"import {module}",
        state="problem",
        text=text,
        cure=cure,
        blocks=module != "numba",
        facts={"error": outcome.error},
    )


def _opencv(imported: Imported | None) -> Iterator[Finding]:
    """Who owns cv2/: two distributions write the same files, and the last one wins, file by file."""
    owners = cv2_owners()
    names = sorted({owner.distribution for owner in owners})
    if len(names) > 1:
        on_disk = sorted({owner.distribution for owner in owners if owner.is_on_disk})
        whose = f"; the files on disk are those of {' and '.join(on_disk)}" if on_disk else ""
        yield Finding(
            topic="packages",
            name="cv2 owners",
            state="problem",
            text=f"{' and '.join(names)} both own the folder cv2, so that either may be broken{whose}",
            cure=f"pip uninstall {' '.join(names)}, then pip install {_CONTRIB}",
            facts={"owners": names, "on_disk": on_disk},
        )
    if imported is None or not imported.file:
        return
    place = Path(imported.file).resolve().parent
    inside = [owner for owner in owners if owner.folder.resolve() == place]
    if not inside:
        yield Finding(
            topic="packages",
            name="cv2 origin",
            state="note",
            text=f"cv2 is loaded from {place}, which no installed distribution owns: a build of your own, or "
            "PYTHONPATH is set",
            facts={"file": imported.file},
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Owner:
    """A distribution that owns `cv2/__init__.py`, the folder of that, and whether the file there is its own."""

    distribution: str
    folder: Path
    is_on_disk: bool


def cv2_owners() -> list[Owner]:
    """All distributions whose list of files has `cv2/__init__.py`, whatever they are called."""
    owners = []
    for distribution in importlib.metadata.distributions():
        record = distribution.read_text("RECORD") or ""
        match = re.search(r"^cv2/__init__\.py,(?:sha256=([\w-]+))?", record, re.MULTILINE)
        if match is not None:
            # This file differs between the flavours of one release, so it tells whose files are on the disk.
            version = re.search(r"^cv2/version\.py,(?:sha256=([\w-]+))?", record, re.MULTILINE)
            folder = Path(str(distribution.locate_file("cv2")))
            owners.append(
                Owner(
                    distribution=distribution.metadata["Name"],
                    folder=folder,
                    is_on_disk=version is not None and _has_hash(folder / "version.py", version[1]),
                )
            )
    return owners


def _has_hash(path: Path, expected: str | None) -> bool:
    try:
        digest = hashlib.sha256(path.read_bytes()).digest()
    except OSError:
        return False
    return base64.urlsafe_b64encode(digest).decode().rstrip("=") == expected

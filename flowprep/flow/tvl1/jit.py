"""How the CPU kernels are compiled: for which processor, when, and where the machine code is kept.

Compiled code lies in a folder of its own for each target (processor name and features), Numba and LLVM version, Python
and text of the kernels: `$FLOWPREP_CACHE_DIR`, else `$XDG_CACHE_HOME/flowprep`, else `~/.cache/flowprep`, else (home
folder not writable) a private folder in the temporary one. Numba's own cache keeps all targets of a function in one
index, where two processes on unlike machines can swap their entries; and it does not see a change in a function that a
kernel calls. With a folder a target, every process that writes a file there writes the same, under a temporary name
first, so that any number may start at once on a shared disk.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import logging
import os
import platform
import stat
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import llvmlite
import llvmlite.binding
import numba
from numba.core import config as numba_config
from numba.core.codegen import get_host_cpu_features
from numba.core.registry import cpu_target

from flowprep.errors import SettingsError

_FEATURES = {"x86-64-v3": ("avx2", "bmi2", "fma")}
"""What a processor must have for a baseline of `config.CPU_BASELINES` (the rest comes with it)."""

_INTERNAL = {"nogil": True, "error_model": "numpy", "no_cpython_wrapper": True, "no_cfunc_wrapper": True}
"""Options of functions that only kernels call."""

_logger = logging.getLogger(__name__)
_lock = threading.Lock()
_selected: str | None = None  # the baseline that this process compiles for


def device_function(function: Callable[..., Any]) -> Any:
    """A function that kernels call; it becomes part of their code."""
    return numba.njit(forceinline=True, **_INTERNAL)(function)


def compiled_function(function: Callable[..., Any]) -> Any:
    """A function that kernels call and that stays a function: large, or called from several places."""
    return numba.njit(**_INTERNAL)(function)


def kernel_part(function: Callable[..., Any]) -> Any:
    """A large function that one kernel calls once: put into it as source, so that its code is not made twice."""
    return numba.njit(inline="always", **_INTERNAL)(function)


def select_target(baseline: str | None) -> None:
    """Compile for this processor (None) or for a baseline, in this process for good.

    To be called before the modules of the kernels are imported: Numba takes its target when it sees the first function.

    Raises SettingsError where this processor lacks the baseline, or Numba has taken another target before.
    """
    global _selected
    if baseline == _selected and baseline is not None:
        return
    if baseline is not None:
        host = llvmlite.binding.get_host_cpu_features()
        missing = [name for name in _FEATURES[baseline] if not host.get(name)]
        if missing:
            raise SettingsError(f"this processor has no {', '.join(missing)}, which {baseline} needs; leave it out")
    with _lock:
        before = numba_config.CPU_NAME, numba_config.CPU_FEATURES
        if baseline is not None:
            numba_config.CPU_NAME, numba_config.CPU_FEATURES = baseline, ""
        # The name that Numba gives follows the configuration; the features are those that it really compiles for.
        wanted = numba_config.CPU_FEATURES
        if wanted is None:
            wanted = get_host_cpu_features()
        if _selected is None and target()[2] == wanted:
            _selected = baseline
            return
        numba_config.CPU_NAME, numba_config.CPU_FEATURES = before
    raise SettingsError(
        f"Numba compiles for {_selected or 'this processor'} in this process already and cannot for "
        f"{baseline or 'this processor'} as well; use one process for each"
    )


def target() -> tuple[str, str, str]:
    """Platform triple, processor name and feature list that kernels are compiled for; fixed when first asked."""
    triple, name, features = cpu_target.target_context.codegen().magic_tuple()
    return triple, name, features


def build() -> str:
    """What compiles, and for which processor: equal texts mean equal machine code."""
    _, name, features = target()
    digest = hashlib.sha256(features.encode()).hexdigest()[:8]
    return f"numba {numba.__version__} llvmlite {llvmlite.__version__} {name} {digest}"


class Kernel:
    """A compiled function that Python calls without the GIL; compiled, or taken from the cache, at its first call."""

    def __init__(self, function: Callable[..., Any]) -> None:
        self._function = function
        self._compiled: Callable[..., Any] | None = None
        functools.update_wrapper(self, function)

    def __call__(self, *arguments: Any) -> Any:
        """Call the compiled function."""
        if self._compiled is None:
            self.load(*arguments)
        assert self._compiled is not None
        return self._compiled(*arguments)

    def load(self, *arguments: Any) -> None:
        """Compile for arguments of these types, or take the code from the cache, without calling it."""
        with _lock:
            if self._compiled is None:
                self._compiled = self._compile(arguments)

    def _compile(self, arguments: tuple[Any, ...]) -> Callable[..., Any]:
        signature = tuple(numba.typeof(argument) for argument in arguments)
        folder = cache_folder()
        if folder is not None:
            try:
                return self._compile_for(signature, folder)
            except OSError as error:
                _logger.warning("compiled kernels cannot be kept in %s (%s); compiling without", folder, error)
                return self._compile_for(signature, None)
            except Exception as error:  # noqa: BLE001 - a damaged cache costs time, never a run
                _logger.warning("compiled kernels in %s cannot be used (%s); compiling anew", folder, error)
            with contextlib.suppress(Exception):
                self._remove_from(folder)
                return self._compile_for(signature, folder)
        return self._compile_for(signature, None)

    def _remove_from(self, folder: Path) -> None:
        """Remove this kernel's files, so that no later process meets them; one that writes them now only loses time."""
        for path in folder.glob(f"*/*.{self._function.__name__}-*"):
            path.unlink(missing_ok=True)

    def _compile_for(self, signature: tuple[Any, ...], folder: Path | None) -> Callable[..., Any]:
        name = self._function.__name__
        if folder is None or not any(folder.glob(f"*/*.{name}-*.nbi")):
            _tell()
        before = numba_config.CACHE_DIR
        try:
            numba_config.CACHE_DIR = str(folder or "")
            compiled = numba.njit(nogil=True, error_model="numpy", cache=folder is not None)(self._function)
        finally:
            numba_config.CACHE_DIR = before
        start = time.perf_counter()
        compiled.compile(signature)
        _logger.debug("kernel %s ready after %.1f s", name, time.perf_counter() - start)
        return compiled  # type: ignore[no-any-return]


@functools.cache  # once a process
def _tell() -> None:
    _logger.warning(
        "compiling the TV-L1 kernels for %s; this takes about 12 s, once for a kind of processor", target()[1]
    )


@functools.cache
def cache_folder() -> Path | None:
    """The folder for compiled code of this target and these kernels; None where no folder is safe to write."""
    digest = hashlib.sha256()
    for part in (*target(), numba.__version__, llvmlite.__version__, platform.python_version()):
        digest.update(part.encode() + b"\0")
    for path in sorted(Path(__file__).parent.glob("*.py")):
        digest.update(path.read_bytes())
    for base in _cache_bases():
        kernels = base / "kernels"
        folder = kernels / f"{target()[1]}-{digest.hexdigest()[:16]}"
        try:
            base.parent.mkdir(parents=True, exist_ok=True)
            for made in (base, kernels, folder):
                made.mkdir(mode=0o700, exist_ok=True)
            with tempfile.TemporaryFile(dir=folder):
                pass
        except OSError:
            continue
        if all(_is_private(made) for made in (base, kernels, folder)):
            return folder
        _logger.warning("compiled kernels are not kept in %s, which others may write: chmod -R go-w %s", base, base)
    _logger.warning(
        "no folder for compiled kernels is this user's alone and can be written; set FLOWPREP_CACHE_DIR to one, "
        "or each process compiles"
    )
    return None


def _cache_bases() -> list[Path]:
    """Folders that may hold compiled code, best first."""
    if wanted := os.environ.get("FLOWPREP_CACHE_DIR"):
        return [Path(wanted).expanduser().resolve()]
    temporary = Path(tempfile.gettempdir()) / f"flowprep-{os.getuid()}"
    try:
        home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    except RuntimeError:  # a container's user may have no home
        return [temporary]
    return [(home / "flowprep").resolve(), temporary]


def _is_private(folder: Path) -> bool:
    """Whether nobody else may have put files there: loading compiled code executes it."""
    facts = folder.lstat()  # in the temporary folder another user may have made it a link
    is_own = stat.S_ISDIR(facts.st_mode) and facts.st_uid == os.getuid()
    return is_own and not facts.st_mode & (stat.S_IWGRP | stat.S_IWOTH)

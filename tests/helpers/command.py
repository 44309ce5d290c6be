"""Commands as a user enters them: the installed entry point in a process of its own."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

FLOWPREP = Path(sys.executable).with_name("flowprep")
FUSION_TRAIN = FLOWPREP.with_name("fusion-train")


def flowprep(*arguments: str | Path, cwd: Path | None = None, expect: int = 0) -> subprocess.CompletedProcess[str]:
    """Run `flowprep` and check its exit code."""
    return _run(FLOWPREP, arguments, cwd, expect)


def fusion_train(*arguments: str | Path, cwd: Path | None = None, expect: int = 0) -> subprocess.CompletedProcess[str]:
    """Run `fusion-train` and check its exit code."""
    return _run(FUSION_TRAIN, arguments, cwd, expect)


def _run(
    program: Path, arguments: tuple[str | Path, ...], cwd: Path | None, expect: int
) -> subprocess.CompletedProcess[str]:
    command = [str(program), *map(str, arguments)]
    result = subprocess.run(command, capture_output=True, text=True, cwd=cwd, timeout=280, check=False)
    assert result.returncode == expect, f"exit code {result.returncode}, not {expect}\n{result.stdout}\n{result.stderr}"
    assert "Traceback" not in result.stderr, result.stderr
    return result


def manifest(store: Path) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Header and rows of a store's manifest, as plain JSON."""
    header, *rows = [json.loads(line) for line in (store / "manifest.jsonl").read_text().splitlines()]
    return header, rows


def store_bytes(store: Path) -> dict[str, bytes]:
    """All files of a store but those that may differ between runs: times, hosts, and its own book-keeping."""
    return {
        str(path.relative_to(store)): path.read_bytes()
        for path in sorted(store.rglob("*"))
        if path.is_file() and path.name != "run.json" and ".flowprep" not in path.relative_to(store).parts
    }

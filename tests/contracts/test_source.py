"""The source distribution has all that `make` needs, and the suite says what it skips."""

from __future__ import annotations

import os
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest
from hatchling.builders.sdist import SdistBuilder
from helpers.shared_data import NO_DATA

ROOT = Path(__file__).resolve().parents[2]


def test_the_source_distribution_is_the_repository(tmp_path: Path) -> None:
    """Built with the backend of pyproject.toml, without a network."""
    (archive,) = SdistBuilder(str(ROOT)).build(directory=str(tmp_path), versions=["standard"])
    with tarfile.open(archive) as source:
        names = {name.partition("/")[2] for name in source.getnames()}
    named = (ROOT / "Makefile", ROOT / ".ci" / "run", ROOT / "zensical.toml", ROOT / "README.md", ROOT / "LICENSE")
    assert {str(path.relative_to(ROOT)) for path in named} <= names
    if not (ROOT / ".git").exists():
        pytest.skip("the list of the repository's files is git's")
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    present = {name for name in listed.split("\0") if name and (ROOT / name).is_file()}
    assert present - names == set(), "see `include` of the sdist in pyproject.toml"


@pytest.mark.parametrize("is_required", [False, True])
def test_what_lacks_real_data_is_counted_or_fails(tmp_path: Path, is_required: bool) -> None:
    (tmp_path / "test_real.py").write_text(
        "from helpers.shared_data import needs_shared\n\n@needs_shared\ndef test_it() -> None:\n    pass\n"
    )
    variables = {"PYTHONPATH": str(ROOT / "tests"), "FLOWPREP_TEST_DATA": str(tmp_path / "none"),
                 "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}  # fmt: skip
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "conftest", "-p", "no:cacheprovider", "--rootdir", str(tmp_path), "-q"],
        cwd=tmp_path,
        env={**os.environ, **variables, "FLOWPREP_REQUIRE_DATA": "01"[is_required]},
        capture_output=True,
        text=True,
        check=False,
    )
    if is_required:
        assert f"{NO_DATA}, and FLOWPREP_REQUIRE_DATA=1 forbids to skip this" in done.stdout
        assert (done.returncode, "1 skipped" in done.stdout) == (1, False)
    else:
        assert "1 tests skipped because ../shared/data is absent; FLOWPREP_REQUIRE_DATA=1 makes them" in done.stdout
        assert (done.returncode, "1 skipped" in done.stdout) == (0, True)

"""Every code block of the documentation runs, in the order of its page, or says why it does not."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest
from helpers.code_blocks import RUNNABLE, CodeBlock, code_blocks, pages
from helpers.documented_data import make_documented_data

BLOCKS = [block for page in pages() for block in code_blocks(page)]
RUN = [block for block in BLOCKS if block.language in RUNNABLE and block.not_run is None]
DRAWING = ""  # a block without a language is a tree of files, a table or a diagram
DATA = ("json", "toml")
NEEDS_STORE = ("docs/fusion-data.md",)
TIMEOUT_S = 280
ARRAY = {
    "SLURM_JOB_ID": "1",
    "SLURM_CPUS_PER_TASK": "1",
    "SLURMD_NODENAME": "127.0.0.1",
    **{f"SLURM_ARRAY_TASK_{name}": "1" for name in ("ID", "MIN", "MAX", "COUNT")},
}
"""What SLURM tells the only element of an array, and the only node of a job."""
ELSEWHERE = ("docs/formats.md",)  # contracts/test_documents.py, which looks at the values too


def where(block: CodeBlock) -> str:
    return f"{block.page}:{block.line}"


@pytest.mark.parametrize("block", BLOCKS, ids=where)
def test_block_is_run_or_says_why_not(block: CodeBlock) -> None:
    assert block.language in (*RUNNABLE, *DATA, DRAWING)
    if block.language in RUNNABLE:
        assert block.not_run is None or len(block.not_run.split()) > 1


@pytest.mark.parametrize("page", sorted({block.page for block in RUN} - set(ELSEWHERE)))
def test_blocks_of_a_page_run(page: str, tmp_path: Path) -> None:
    """In one folder, one after the other, each in a process of its own; a shell stops at the first that fails."""
    folder = make_documented_data(tmp_path)
    environment = {
        **os.environ,
        "PATH": f"{folder / 'bin'}{os.pathsep}{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        **ARRAY,
        "OMP_NUM_THREADS": "1",  # networks as small as these are slower on two threads than on one
    }
    if page in NEEDS_STORE:
        _shell("flowprep extract --dataset ucf101 --backend dis", folder, environment, f"the store for {page}")
    for block in (block for block in RUN if block.page == page):
        if block.language == "python":
            (folder / "block.py").write_text(block.text)
        _shell("python block.py" if block.language == "python" else block.text, folder, environment, where(block))


def _shell(text: str, folder: Path, environment: Mapping[str, str], name: str) -> None:
    """Run it, and leave no process behind if it takes too long."""
    process = subprocess.Popen(
        ["bash", "-euxo", "pipefail", "-c", text],
        cwd=folder,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    try:
        said, _ = process.communicate(timeout=TIMEOUT_S)
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.communicate()
    assert process.returncode == 0, f"{name}: exit code {process.returncode}\n{said[-8000:]}"

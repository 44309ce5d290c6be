"""Two processes that meet as those of torchrun do."""

from __future__ import annotations

import os
import socket
import subprocess
from collections.abc import Sequence
from pathlib import Path

from helpers.processes import eventually

_PATIENCE_SECONDS = 600  # both import PyTorch, on a machine that may be busy
_NUM_TRIES = 5


def run_two_ranks(command: Sequence[str], folder: Path) -> list[tuple[int, str]]:
    """Exit code and stderr of both. As torchrun does it kills the other as soon as one has failed.

    A port that was free may be taken before the first rank listens on it: then both begin again with another.
    `folder` gets what they say.
    """
    for _ in range(_NUM_TRIES):
        ends = _run_once(command, folder)
        if not any("EADDRINUSE" in said or "address already in use" in said.lower() for _, said in ends):
            break
    return ends


def _run_once(command: Sequence[str], folder: Path) -> list[tuple[int, str]]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    common = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    common["PYTHONPATH"] = str(Path(__file__).parents[1])
    ranks: list[subprocess.Popen[bytes]] = []

    def are_over() -> bool:
        codes = [process.poll() for process in ranks]
        return any(codes) or None not in codes

    try:
        for rank in range(2):
            with (folder / f"rank{rank}.log").open("w") as log:
                environment = {**os.environ, **common, "RANK": str(rank), "LOCAL_RANK": str(rank)}
                ranks.append(subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=log))
        assert eventually(are_over, seconds=_PATIENCE_SECONDS)
    finally:
        for process in ranks:
            process.kill()
            process.wait()
    return [(process.returncode, (folder / f"rank{rank}.log").read_text()) for rank, process in enumerate(ranks)]

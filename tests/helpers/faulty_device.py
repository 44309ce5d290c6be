"""An owner of a device that computes with DIS, and does with certain frames what a GPU may do. Run as a script.

`FAULTS` says what, in words such as `crash=60`: it happens to pairs whose source is grey of about that level. `crash`
and `hang` end or stop the process, `memory` finds none, `nan` gives flow that is not finite, `crash-once` crashes as
long as no file `FAULT_MARK` exists. `dead` dies at once, `sick` when it is tried out, `dies` over every batch; for more
than `pairs=3` pairs at a time there is no memory. `stays` does not end when it is told to; `gone`
cannot be used once there is a file `FAULT_MARK`.
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from typing import Any, NoReturn

import numpy as np

from flowprep.device import server
from flowprep.errors import BackendUnavailableError, VideoError
from flowprep.flow.opencv import DISBackend

PROBE = server.PROBE_SIDE, server.PROBE_SIDE
FAULTS = dict(word.partition("=")[::2] for word in os.environ.get("FAULTS", "").split())


def misbehave(self: Any, sources: list[Any], targets: list[Any], *rest: Any) -> Any:
    levels = np.array([float(np.mean(source)) for source in sources])

    def hit(word: str) -> Any:
        return np.abs(levels - float(FAULTS.get(word, -100))) < 4

    mark = Path(os.environ["FAULT_MARK"])
    once = hit("crash-once").any() and not mark.exists()
    if once:
        mark.touch()
    if once or hit("crash").any() or "sick" in FAULTS or ("dies" in FAULTS and rest[:2] != PROBE):
        os.kill(os.getpid(), signal.SIGSEGV)
    if hit("hang").any():
        signal.pause()
    if hit("memory").any() or len(sources) > int(FAULTS.get("pairs", 1000)):
        raise VideoError("memory", "out of memory")
    flow = compute(self, sources, targets, *rest)
    flow[hit("nan")] = np.nan
    return flow


def gone(*_: Any) -> NoReturn:
    raise BackendUnavailableError("flow backend dis finds too little free memory")


compute = DISBackend._compute

if __name__ == "__main__":
    if "dead" in FAULTS:
        sys.exit("no driver of that kind")
    if "gone" in FAULTS and Path(os.environ["FAULT_MARK"]).exists():
        server.open_backend = gone
    DISBackend._compute = misbehave  # type: ignore[method-assign]
    server.main(sys.argv[1:])
    if "stays" in FAULTS:
        signal.pause()

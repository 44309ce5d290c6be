"""Preloaded by the workers of a test's cluster: they start the children of `CHILD_SCRIPT`, see `cluster_child`.

`DEVICE_SCRIPT` owns the device there, where the work is for one.

`FAKE_VERSION` is the version of flowprep that such a worker has, `CLOCK_DAYS` how far its clock is off. As long as
there is a file `STUCK_FILE`, nothing that it is given to do begins or ends, and it says nothing of it.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable

import flowprep
from flowprep import child
from flowprep.cluster import worker
from flowprep.device import server

sys.path.insert(0, os.environ["HELPERS"])  # this file is run as a copy of itself, and several times
from clock import set_clock

child.COMMAND = (sys.executable, os.environ["CHILD_SCRIPT"])
if script := os.environ.get("DEVICE_SCRIPT"):
    server.COMMAND = (sys.executable, script)
if version := os.environ.get("FAKE_VERSION"):
    flowprep.__version__ = worker.__version__ = version  # type: ignore[attr-defined]
set_clock()


def perform(text: str, real: Callable[[str], None] = worker.perform) -> None:
    while os.path.exists(os.environ.get("STUCK_FILE", "")):
        time.sleep(0.02)
    real(text)


worker.perform = perform

"""The child of `faulty_child`, for workers of a cluster: it is slow, and some videos end the worker itself.

Each video first waits `SLOW_SECONDS`, one whose name begins with `long` fifty times as long, and then for as long as it
is held, see `helpers.holding`. One whose name begins with `parent` kills the process that supervises it, as the system
may where a job has used up its memory. The number of times that a video has begun is kept in `COUNT_FOLDER`, a file a
start, whose suffix begins with the number of the process.
"""

from __future__ import annotations

import os
import signal
import time
import uuid
from pathlib import Path
from typing import Any

import faulty_child
from clock import set_clock
from held import wait_while_held

from flowprep import pipeline


def main() -> None:
    set_clock()
    real_frames = pipeline.extract_frames

    def extract_frames(video: Any, *arguments: Any, **named: Any) -> Any:
        stem = Path(video.path).stem
        Path(os.environ["COUNT_FOLDER"], f"{stem}.{os.getpid()}-{uuid.uuid4().hex}").touch()
        time.sleep(float(os.environ["SLOW_SECONDS"]) * (50 if stem.startswith("long") else 1))
        wait_while_held(stem)
        if stem.startswith("parent"):
            os.kill(os.getppid(), signal.SIGKILL)
            time.sleep(60)
        return real_frames(video, *arguments, **named)

    pipeline.extract_frames = extract_frames
    faulty_child.main()


if __name__ == "__main__":
    main()

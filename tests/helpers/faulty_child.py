"""A child of a run in which videos with certain names do what a broken decoder may do. Run as a script in its place.

The file name of a video says what happens: `crash`, `abort`, `exit`, `kill`, `sleep`, `hold` (the GIL), `grow` and
`burst` (memory) in place of the real work; `late` dies after its commit; `noise` writes to its standard output; `full`
finds the disk full; `io`, `changed`, `internal`, `opencv` (it has no memory) are exceptions inside the pipeline. What
follows a `-` is free, but a name that ends with `-once` does it only as long as no file `<video>.done` exists,
which lies beside it or in `DONE_FOLDER`.
"""

import ctypes
import errno
import os
import signal
import sys
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from flowprep import child, commit, pipeline
from flowprep.errors import VideoError
from flowprep.records import Row

healed = False


def misbehave(word: str) -> None:
    match word:
        case "crash":
            print("something went wrong in C", file=sys.stderr, flush=True)
            os.kill(os.getpid(), signal.SIGSEGV)
        case "abort":
            os.abort()
        case "exit":
            os._exit(7)
        case "kill" | "late":
            os.kill(os.getpid(), signal.SIGKILL)
        case "sleep":
            signal.pause()
        case "hold":
            ctypes.PyDLL(None).sleep(1000)  # PyDLL keeps the interpreter locked
        case "grow":
            hoard = []
            while True:
                hoard.append(bytearray(16 << 20))
        case "burst":
            np.ones(1 << 40, np.uint8)
        case "noise":
            os.write(1, b"a library that prints\n")
            print("another one")
        case "full":
            commit.write = disk_full
        case "io" | "changed":
            raise VideoError(word, "for once")
        case "internal":
            raise KeyError("nobody expects this")
        case "opencv":
            error = cv2.error("Insufficient memory")
            error.code = cv2.Error.StsNoMem  # type: ignore[misc]
            raise error


def disk_full(*_: Any) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def main() -> None:
    real_video, real_frames = pipeline.extract_video, pipeline.extract_frames

    def extract_video(video: Any, list_index: int, videos: Path, *arguments: Any, **named: Any) -> Row:
        global healed
        word, path = Path(video.path).stem, videos / video.path
        mark = Path(os.environ.get("DONE_FOLDER", path.parent), f"{word}.done")
        healed = word.endswith("-once") and mark.exists()
        mark.touch()
        row = real_video(video, list_index, videos, *arguments, **named)
        if word.startswith("late") and not healed:
            misbehave("late")
        return row

    def extract_frames(video: Any, *arguments: Any, **named: Any) -> Row:
        word = Path(video.path).stem.partition("-")[0]
        if not healed and word != "late":
            misbehave(word)
        return real_frames(video, *arguments, **named)

    pipeline.extract_video, pipeline.extract_frames = extract_video, extract_frames
    child.main(sys.argv[1:])


if __name__ == "__main__":
    main()

"""Append-only records of what happened: times, attempts, workers, hosts, versions.

The manifest holds what is deterministic; everything else goes here, one file a process, so that no two writers ever
share one (appending from several machines to one file on a network disk loses lines). Nothing depends on a journal: the
truth is the rows and commits on disk. Hence a journal that cannot be written falls silent instead of stopping the run.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import json
import os
import platform
import uuid
import zlib
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Self, TextIO

from flowprep.machine import boot_id
from flowprep.records import canonical_json


class Journal:
    """Writes one file `<folder>/<time>-<host>-<pid>-<random>.jsonl`; each line ends with its own CRC-32."""

    def __init__(self, folder: Path) -> None:
        now = dt.datetime.now(dt.UTC).strftime("%Y%m%dT%H%M%S.%f")
        host = platform.node().split(".")[0] or "host"
        self.path = folder / f"{now}-{host}-{os.getpid()}-{uuid.uuid4().hex[:8]}.jsonl"
        self._file: TextIO | None = None
        with contextlib.suppress(OSError):
            folder.mkdir(parents=True, exist_ok=True)
            self._file = self.path.open("a", encoding="ascii")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        if self._file is not None:
            with contextlib.suppress(OSError):
                self._file.close()

    def begin(self, **fields: Any) -> None:
        """Write the first line: who works, with which versions, on what."""
        self.append("start", host=platform.node(), boot=boot_id(), pid=os.getpid(), versions=versions(), **fields)

    def append(self, event: str, **fields: Any) -> None:
        """Write one line and hand it to the operating system."""
        body = canonical_json({"event": event, "time": dt.datetime.now(dt.UTC).isoformat(), **fields})
        if self._file is None:
            return
        try:
            self._file.write(f"{body}\t{zlib.crc32(body.encode()):08x}\n")
            self._file.flush()
        except OSError:
            with contextlib.suppress(OSError):
                self._file.close()
            self._file = None


def read_journal(path: Path) -> Iterator[dict[str, Any]]:
    """The events of one file in order. Torn and damaged lines are left out: a journal is no proof of anything."""
    with path.open("rb") as file:
        for line in file:
            body, tab, crc = line.rstrip(b"\n").rpartition(b"\t")
            if tab and b"%08x" % zlib.crc32(body) == crc:
                yield json.loads(body.decode("ascii"))


def journal_folder(out: Path) -> Path:
    """Where a store keeps its journals."""
    return out / ".flowprep" / "journal"


def journals(out: Path) -> list[Path]:
    """The journals of a store, by the time at which they were begun."""
    return sorted(journal_folder(out).glob("*.jsonl"))


def num_videos_by_build(out: Path) -> Counter[str]:
    """Videos by the build that computed their flow last, as the journals of a store say."""
    build_of: dict[str, str] = {}
    for path in journals(out):
        with contextlib.suppress(OSError):
            for event in read_journal(path):
                if event["event"] == "video":
                    build_of[event["id"]] = event.get("build", "")
    return Counter(build for build in build_of.values() if build)


def versions() -> dict[str, str]:
    """Versions of everything that may change a result."""
    import av
    import cv2
    import h5py
    import numpy as np

    from flowprep import __version__

    return {
        "flowprep": __version__,
        "python": platform.python_version(),
        "numpy": np.__version__,
        "opencv": cv2.__version__,
        "pyav": av.__version__,
        "ffmpeg_libavcodec": ".".join(map(str, av.library_versions["libavcodec"])),
        "h5py": h5py.__version__,
        "machine": platform.machine(),
        "system": f"{platform.system()} {platform.release()}",
    }

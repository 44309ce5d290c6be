"""Time and memory to plan a long list: `extract --dry-run` on small files, for a new store and for one that is done.

The files are hard links to a few, so that only names and statuses are read. The store that is done is made by hand: its
list, and packed rows beside shards that are empty but for their size. `status` reads as many lines of journals.

    python benchmarks/bench_plan.py [--scratch DIR] [--num-videos N]
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import av
import numpy as np
from common import print_result, print_table

from flowprep.journal import Journal, journal_folder
from flowprep.records import Row, State, Video
from flowprep.stores.packed import encode_packed
from flowprep.stores.places import packed_path, shard_location
from flowprep.stores.rowfile import Entry
from flowprep.stores.savedlist import read_list

FLOWPREP = str(Path(sys.executable).with_name("flowprep"))
MAX_SECONDS, MAX_MIB = 10.0, 500.0
MAX_LINKS = 20_000  # to one file; ext4 takes 65,000
SHARD_VIDEOS = 256
NUM_CLASSES = 400


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scratch", type=Path, help="folder on the disk to use; default: the system's")
    parser.add_argument("--num-videos", type=int, default=100_000)
    arguments = parser.parse_args()
    figures: dict[str, tuple[float, float]] = {}
    with tempfile.TemporaryDirectory(prefix="flowprep-bench-", dir=arguments.scratch) as scratch:
        videos, out, listed = Path(scratch, "videos"), Path(scratch, "out"), Path(scratch, "list.txt")
        make_videos(videos, listed, arguments.num_videos)
        common = ["extract", "--videos", str(videos), "--out", str(out), "--backend", "dis"]
        from_list, from_folder = ["--dataset", "list", "--splits", str(listed)], ["--dataset", "folder"]
        figures["new store, a list"] = measure(*common, *from_list, "--dry-run")
        figures["new store, a folder"] = measure(*common, *from_folder, "--dry-run")
        figures["the list recorded"] = measure(*common, *from_list, "--list-only")
        make_done(out, videos)
        figures["done store, a list"] = measure(*common, *from_list, "--dry-run")
        figures["done store, part 1 of 1000"] = measure(*common, *from_list, "--dry-run", "--part", "1/1000")
        figures["status"] = measure("status", str(out))
    print_table(
        f"{arguments.num_videos} videos",
        ("what", "seconds", "MiB"),
        [(name, f"{seconds:.2f}", f"{mib:.0f}") for name, (seconds, mib) in figures.items()],
    )
    passed = all(seconds <= MAX_SECONDS and mib <= MAX_MIB for seconds, mib in figures.values())
    print_result(
        "plan",
        figures={name: {"seconds": round(seconds, 2), "mib": round(mib)} for name, (seconds, mib) in figures.items()},
        target={"seconds": MAX_SECONDS, "mib": MAX_MIB},
        passed=passed,
    )


def make_videos(folder: Path, listed: Path, num_videos: int) -> None:
    """Small videos in class folders, and a list of them."""
    lines = []
    for index in range(num_videos):
        name = f"class{index % NUM_CLASSES:03d}/video{index:06d}.avi"
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if index % MAX_LINKS == 0:
            first = path
            write_video(path)
        else:
            os.link(first, path)
        lines.append(f"{name} {index % NUM_CLASSES}\n")
    listed.write_text("".join(lines))


def write_video(path: Path) -> None:
    """A video of four frames."""
    with av.open(str(path), "w") as output:
        stream = output.add_stream("mpeg4", rate=25)
        stream.width, stream.height, stream.pix_fmt = 48, 32, "yuv420p"
        for index in range(4):
            frame = av.VideoFrame.from_ndarray(np.full((32, 48, 3), 50 * index, np.uint8), format="rgb24")
            output.mux(stream.encode(frame))
        output.mux(stream.encode(None))


def make_done(out: Path, videos: Path) -> None:
    """Give a store with a list what a finished one has, as far as planning and `status` look."""
    listed = read_list(out).listing.videos
    with Journal(journal_folder(out)) as record:
        record.begin(part=None, num_todo=len(listed), num_bytes=0, num_videos=len(listed))
        for first in range(0, len(listed), SHARD_VIDEOS):
            shard = first // SHARD_VIDEOS
            entries = list(done_entries(listed[first : first + SHARD_VIDEOS], first, videos))
            for path, data in (
                (packed_path(out, shard), encode_packed(shard + 1, "0" * 64, entries)),
                (out / shard_location(shard), bytes(shard + 1)),
            ):
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(data)
            for entry in entries:
                record.append(
                    "video",
                    id=entry.row.id,
                    state="ok",
                    reasons=[],
                    seconds=12.5,
                    frames=180,
                    flows=179,
                    bytes=entry.row.source_bytes,
                    build="native 0.68.1 x86-64",
                    attempts=[{"worker": "node-1234", "seconds": 12.5, "outcome": "ok"}],
                )


def done_entries(listed: tuple[Video, ...], first: int, videos: Path) -> Iterator[Entry]:
    """Outcomes of videos that are stored."""
    for index, video in enumerate(listed, first):
        status = (videos / video.path).stat()
        row = Row(
            id=video.id,
            path=video.path,
            class_name=video.class_name,
            label=video.label,
            state=State.OK,
            frames=180,
            flows=179,
            width=340,
            height=256,
            location=shard_location(index // SHARD_VIDEOS),
            source_bytes=status.st_size,
            source_sha256="0" * 64,
            stream_sha256=dict.fromkeys(("flow_x", "flow_y", "rgb"), "0" * 64),
        )
        yield Entry(row, index, source_mtime_ns=status.st_mtime_ns)


def measure(*arguments: str) -> tuple[float, float]:
    """Seconds and largest memory in MiB of a command of flowprep."""
    start = time.perf_counter()
    with subprocess.Popen([FLOWPREP, *arguments], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"flowprep {' '.join(arguments)} ended with {process.returncode}")
    return time.perf_counter() - start, usage.ru_maxrss / 1024


if __name__ == "__main__":
    main()

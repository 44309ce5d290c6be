"""Peak memory of `flowprep extract --jobs 1` at 340x256 for a short and a long video, with and without flow.

The videos are made here: frames of a UCF101 clip in the stored size, played forward and backward, repeated to the
wanted length. Each extraction is a process of its own, whose peak is what the kernel counted for it (ru_maxrss).

Note [small parent]: a process inherits the peak of the one that started it until it has its own, so this one loads
neither NumPy nor PyAV; the videos are made by another process.

    python benchmarks/bench_memory.py [--clip FILE] [--scratch DIR] [--lengths 100 2000 20000]
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

from common import CLIPS, print_result, print_table

TARGET_MB = 500
TARGET_GROWTH_MB = 25
"""The longest counts as equal to the shortest within this: packing copies blocks of 4 MB that a short video does not
fill, and what the allocator keeps varies by some megabytes from run to run."""

WIDTH, HEIGHT = 340, 256
FLOWPREP = str(Path(sys.executable).with_name("flowprep"))
CASES = {
    "hdf5, no flow": ("--format", "hdf5", "--no-flow"),
    "jpeg tree, no flow": ("--format", "jpeg", "--no-flow"),
    "hdf5, dis": ("--format", "hdf5", "--backend", "dis"),
}


class Peak(NamedTuple):
    """Peak of resident memory in MB (10^6 bytes), and wall seconds."""

    megabytes: float
    seconds: float


def main() -> None:
    arguments = parse_arguments()
    if arguments.make:
        make_video(arguments.clip, *arguments.make)
        return
    peaks: dict[str, dict[int, Peak]] = {name: {} for name in CASES}
    with tempfile.TemporaryDirectory(prefix="flowprep-bench-", dir=arguments.scratch) as scratch:
        for num_frames in arguments.lengths:
            videos = Path(scratch, f"videos-{num_frames}")
            path = videos / "loop" / f"loop_{num_frames}.avi"
            path.parent.mkdir(parents=True)
            make = [sys.executable, __file__, "--clip", str(arguments.clip), "--make", str(path), str(num_frames)]
            subprocess.run(make, check=True)
            for name, options in CASES.items():
                out = Path(scratch, "out")
                command = [FLOWPREP, "extract", "--dataset", "folder", "--videos", str(videos), "--out", str(out)]
                peaks[name][num_frames] = peak_of([*command, "--jobs", "1", "--durability", "fast", *options])
                subprocess.run(["rm", "-r", str(out)], check=True)
                print(f"{name}, {num_frames} frames: {peaks[name][num_frames].megabytes:.0f} MB", flush=True)

    rows, figures, passed = [], {}, True
    for name, of_lengths in peaks.items():
        megabytes = [peak.megabytes for peak in of_lengths.values()]
        growth = megabytes[-1] - megabytes[0]
        passed = passed and max(megabytes) <= TARGET_MB and growth <= TARGET_GROWTH_MB
        rows.append(
            (
                name,
                *(f"{value:.0f}" for value in megabytes),
                f"{megabytes[-1] / megabytes[0]:.2f}",
                [*of_lengths.values()][-1].seconds,
            )
        )
        figures[name] = {"frames": list(of_lengths), "peak_mb": megabytes, "growth_mb": round(growth, 1)}
    header = ("store", *(f"{length} frames" for length in arguments.lengths), "last / first", "s for the last")
    print_table("Peak resident memory in MB", header, rows)
    print_result("memory", figures=figures, target={"peak_mb": TARGET_MB, "growth_mb": TARGET_GROWTH_MB}, passed=passed)


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    clip = CLIPS / "SoccerJuggling" / "v_SoccerJuggling_g23_c01.avi"
    parser.add_argument("--clip", type=Path, default=clip, help="the clip whose frames are repeated")
    parser.add_argument("--scratch", type=Path, help="folder on the disk to write to; default: the system's")
    parser.add_argument("--lengths", type=int, nargs="+", default=[100, 2000, 20_000], help="numbers of frames, rising")
    parser.add_argument("--make", nargs=2, metavar=("VIDEO", "FRAMES"), help="only make a video")
    return parser.parse_args()


def peak_of(command: list[str]) -> Peak:
    """Run a command, which must succeed, and give what the kernel counted for it."""
    start = time.perf_counter()
    with tempfile.TemporaryFile() as output:
        process = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT)
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode != 0:
            output.seek(0)
            raise SystemExit(f"{' '.join(command)} left with {process.returncode}:\n{output.read().decode()}")
    return Peak(round(usage.ru_maxrss * 1024 / 1e6, 1), time.perf_counter() - start)


def make_video(clip: Path, target: str, num_frames: str) -> None:
    """An MPEG-4 AVI of WIDTH x HEIGHT: 50 frames of a clip forward and backward, coded once and repeated."""
    import av

    with av.open(str(clip)) as source:
        frames = [frame.to_ndarray(format="rgb24", width=WIDTH, height=HEIGHT) for frame in source.decode(video=0)][:50]
    with av.open(target, "w", format="avi") as container:
        stream = container.add_stream("mpeg4", rate=25, options={"qscale": "3", "flags": "+qscale", "g": "12"})
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        loop = []
        for rgb in [*frames, *frames[::-1]]:
            loop += stream.encode(av.VideoFrame.from_ndarray(rgb, format="rgb24"))
        loop += stream.encode(None)
        assert len(loop) == 2 * len(frames), "MPEG-4 without B-frames has a packet a frame"
        for index in range(int(num_frames)):
            coded = loop[index % len(loop)]
            packet = av.Packet(bytes(coded))
            packet.stream, packet.time_base, packet.is_keyframe = (
                stream,
                stream.codec_context.time_base,
                coded.is_keyframe,
            )
            packet.pts = packet.dts = index
            packet.duration = 1
            container.mux(packet)


if __name__ == "__main__":
    main()

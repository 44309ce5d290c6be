"""Time a frame of everything but flow: decode, resize, quantise, encode and write, on one core.

Flow is computed beforehand by a real backend and replayed by a backend that only hands it out, so that the real
pipeline runs with a flow that costs nothing. Besides the total, each stage is timed alone on the same frames.

    python benchmarks/bench_stages.py [--videos DIR] [--scratch DIR] [--flow dis|opencv] [--repeats N] [--core K]
"""

from __future__ import annotations

import argparse
import hashlib
import os
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple, final

import cv2
import numpy as np
import numpy.typing as npt
from common import CLIPS, Spread, cores, print_result, print_table, spin_seconds

from flowprep import source
from flowprep.config import ExtractSettings, FlowSettings, StoreSettings
from flowprep.decode import VideoReader
from flowprep.encode import encode_plane, encode_rgb
from flowprep.flow import create_backend
from flowprep.flow.backend import FlowBackend
from flowprep.flowstage import LocalFlow
from flowprep.pipeline import extract_video
from flowprep.publisher import open_publisher
from flowprep.quantise import flow_facts, quantise
from flowprep.records import Row, State, Video
from flowprep.resize import grey, resize, target_size
from flowprep.stores.pack import pack_shard

TARGET_MS = 2.0


class Variant(NamedTuple):
    """Where the JPEGs go, and whether they are flushed to the disk."""

    store_format: str
    durability: str

    @property
    def name(self) -> str:
        """A name for files and JSON."""
        return f"{self.store_format}_{self.durability}"


VARIANTS = [Variant(store_format, durability) for store_format in ("hdf5", "jpeg") for durability in ("video", "fast")]


@final
class ReplayBackend(FlowBackend):
    """Hands out flow that was computed before. Tell it with `rewind` which video comes next."""

    name = "replay"
    build = "replay"
    variant = None

    def __init__(self, recorded: Sequence[npt.NDArray[np.float32]]) -> None:
        self.parameters = {}
        self._recorded = recorded
        self.rewind(0)

    def rewind(self, video: int) -> None:
        """The next frames are those of this video, from its first."""
        self._flow_px = self._recorded[video]  # (T - 1, H, W, 2)
        self._num_prepared = 0

    def _prepare(self, frames: npt.NDArray[np.uint8]) -> list[Any]:
        first, self._num_prepared = self._num_prepared, self._num_prepared + len(frames)
        return list(range(first, self._num_prepared))

    def _compute(
        self,
        sources: Sequence[Any],
        targets: Sequence[Any],
        height: int,
        width: int,
        initial_flow: npt.NDArray[np.float32] | None,
    ) -> npt.NDArray[np.float32]:
        return self._flow_px[sources[0] : targets[-1]]

    def close(self) -> None:
        """Nothing to free."""


class Clock:
    """Sums of wall time by stage, in seconds."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = defaultdict(float)

    @contextmanager
    def timing(self, stage: str) -> Iterator[None]:
        """Add the time of the block."""
        start = time.perf_counter()
        yield
        self.seconds[stage] += time.perf_counter() - start


def main() -> None:
    arguments = parse_arguments()
    settings = ExtractSettings(flow=FlowSettings(backend=arguments.flow))
    clips = videos_of(arguments.videos)
    os.sched_setaffinity(0, {arguments.core})
    cv2.setNumThreads(1)
    recorded = [recorded_flow(arguments.videos / clip.path, settings) for clip in clips]
    num_frames = sum(len(flow_px) + 1 for flow_px in recorded)
    print(f"{len(clips)} clips, {num_frames} frames, flow of `{arguments.flow}`, {arguments.repeats} repeats")

    spins = []
    walls, cpus, stage_ms = defaultdict(list), defaultdict(list), defaultdict(list)
    with tempfile.TemporaryDirectory(prefix="flowprep-bench-", dir=arguments.scratch) as scratch:
        for repeat in range(arguments.repeats):  # the variants in turn, so that a busy moment meets all of them
            for variant in VARIANTS:
                out = flushed(Path(scratch, f"{variant.name}-{repeat}"))
                spins.append(1000 * spin_seconds())
                wall, cpu = extract_all(arguments.videos, out, variant, settings, clips, recorded)
                walls[variant].append(1000 * wall / num_frames)
                cpus[variant].append(1000 * cpu / num_frames)
            out = flushed(Path(scratch, f"stages-{repeat}"))
            for stage, seconds in stage_times(arguments.videos, out, settings, clips, recorded).items():
                stage_ms[stage].append(1000 * seconds / num_frames)

    wall_ms = {variant: Spread.of(walls[variant]) for variant in VARIANTS}
    cpu_ms = {variant: Spread.of(cpus[variant]) for variant in VARIANTS}
    print_table(
        "The whole pipeline without flow, ms a frame",
        ("store", "durability", "wall median", "wall min", "wall max", "CPU median", "CPU min"),
        [(v.store_format, v.durability, *wall_ms[v], cpu_ms[v].median, cpu_ms[v].minimum) for v in VARIANTS],
    )
    spin_ms = Spread.of(spins)
    print(f"\nA fixed loop before each: {spin_ms.median:.0f} ms, {spin_ms.minimum:.0f} to {spin_ms.maximum:.0f}")
    stages = {stage: Spread.of(values) for stage, values in stage_ms.items()}
    print_table(
        "Stages alone, hdf5, durability video, ms a frame of wall time",
        ("stage", "median", "min", "max"),
        [(stage, *spread) for stage, spread in stages.items()],
    )
    figures = {v.name: {"wall_ms": wall_ms[v].to_json(), "cpu_ms": cpu_ms[v].to_json()} for v in VARIANTS}
    print_result(
        "stages",
        figures={
            **figures,
            "spin_ms": spin_ms.to_json(),
            "stages_ms": {stage: spread.to_json() for stage, spread in stages.items()},
        },
        target={"wall_ms": TARGET_MS},
        passed=all(spread.median <= TARGET_MS for spread in wall_ms.values()),
    )


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--videos", type=Path, default=CLIPS, help="folder of class folders of clips")
    parser.add_argument("--scratch", type=Path, help="folder on the disk to write to; default: the system's")
    parser.add_argument("--flow", choices=("dis", "opencv"), default="dis", help="backend of the recorded flow")
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--core", type=int, default=cores()[-1], help="the core to run on")
    return parser.parse_args()


def videos_of(folder: Path) -> list[Video]:
    """The clips below a folder of class folders."""
    paths = sorted(folder.glob("*/*.avi"))
    if not paths:
        raise SystemExit(f"{folder} has no */*.avi; give the folder of UCF101 clips with --videos")
    return [Video(id=path.stem, path=f"{path.parent.name}/{path.name}", class_name=path.parent.name) for path in paths]


def recorded_flow(path: Path, settings: ExtractSettings) -> npt.NDArray[np.float32]:
    """Flow between all frames of a clip in the stored size, float32 (T - 1, H, W, 2)."""
    with VideoReader(path, settings.decode) as reader, create_backend(settings.flow.backend) as backend:
        frames = np.stack([grey(resized(rgb, settings)) for rgb in reader.frames()])
        prepared = backend.prepare(frames)
        return backend.compute(prepared[:-1], prepared[1:])


def resized(rgb: npt.NDArray[np.uint8], settings: ExtractSettings) -> npt.NDArray[np.uint8]:
    return resize(rgb, target_size(rgb.shape[1], rgb.shape[0], settings.resize))


def flushed(out: Path) -> Path:
    """The place of a new store, after what earlier work left unwritten is flushed, so as not to be paid here.

    Stores are deleted together at the end: on ext4 a new file was several times as dear shortly after thousands of
    files had been deleted (measured; the cause is not known).
    """
    os.sync()
    return out


def extract_all(
    videos: Path,
    out: Path,
    variant: Variant,
    settings: ExtractSettings,
    clips: Sequence[Video],
    recorded: Sequence[npt.NDArray[np.float32]],
) -> tuple[float, float]:
    """Extract the clips with replayed flow into a new store, packed where it has shards; wall and CPU seconds."""
    settings = replace(settings, store=StoreSettings(format=variant.store_format))
    backend = ReplayBackend(recorded)
    publisher = open_publisher(out, settings, durability=variant.durability)
    wall, cpu = time.perf_counter(), time.process_time()
    for index, clip in enumerate(clips):
        backend.rewind(index)
        row = extract_video(
            clip, index, videos, settings, lambda: LocalFlow(backend, settings), publisher, attempt="bench"
        )
        assert row.state.stored, row
    if variant.store_format == "hdf5":
        pack_shard(out, settings, clips, 0, durability=variant.durability)
    return time.perf_counter() - wall, time.process_time() - cpu


def stage_times(
    videos: Path,
    out: Path,
    settings: ExtractSettings,
    clips: Sequence[Video],
    recorded: Sequence[npt.NDArray[np.float32]],
) -> dict[str, float]:
    """Seconds of each stage over all frames, one frame after another through the same functions as in the pipeline."""
    clock = Clock()
    publisher = open_publisher(out, settings)
    for index, (clip, flow) in enumerate(zip(clips, recorded, strict=True)):
        path = videos / clip.path
        with publisher.begin(clip, index, attempt="bench") as writer, VideoReader(path, settings.decode) as reader:
            frames = reader.frames()
            num_frames = 0
            while True:
                with clock.timing("decode to RGB"):
                    rgb = next(frames, None)
                if rgb is None:
                    break
                with clock.timing("resize"):
                    image = resized(rgb, settings)
                with clock.timing("encode rgb"):
                    jpegs = {"rgb": encode_rgb(image, settings.jpeg)}
                with clock.timing("grey"):
                    grey(image)
                if num_frames < len(flow):
                    flow_px = flow[num_frames]
                    with clock.timing("quantise"):
                        x, y = quantise(flow_px, settings.quantise)
                    with clock.timing("flow facts"):
                        flow_facts(flow_px, x, y, settings.quantise)
                    with clock.timing("encode flow x, y"):
                        jpegs |= {
                            "flow_x": encode_plane(x, settings.jpeg),
                            "flow_y": encode_plane(y, settings.jpeg),
                        }
                with clock.timing("write (with its SHA-256)"):
                    for stream, jpeg in jpegs.items():
                        writer.add(stream, jpeg)
                with clock.timing("of it: SHA-256"):
                    for jpeg in jpegs.values():
                        hashlib.sha256().update(jpeg)
                num_frames += 1
            with clock.timing("SHA-256 of the video"), source.opened(path) as file:
                hashlib.file_digest(file, "sha256")
            with clock.timing("commit (flush, rename)"):
                writer.commit(stored_row(clip, num_frames), reader.pts_seconds)
    with clock.timing("pack and read back"):
        pack_shard(out, settings, clips, 0)
    return clock.seconds


def stored_row(clip: Video, num_frames: int) -> Row:
    return Row(
        id=clip.id,
        path=clip.path,
        class_name=clip.class_name,
        label=clip.label,
        state=State.OK,
        frames=num_frames,
        flows=num_frames - 1,
    )


if __name__ == "__main__":
    main()

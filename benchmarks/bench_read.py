"""Reading random stacks of flow (10 fields, x and y) from shards, from a JPEG tree, and from bytes in memory.

The third is the bare JPEG decode, below which no store can get. The stores are made here by the project's own writer,
from DIS flow of the clips in --videos, or of a drifting texture where there are none, at 340x256. All three read the
same stacks in the same order, in turns, with files in the page cache and one OpenCV thread; the figure is the median.

    python benchmarks/bench_read.py [--videos ../shared/data/videos/ucf101] [--repeats 9]
"""

from __future__ import annotations

import argparse
import itertools
import json
import platform
import random
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import av
import cv2
import numpy as np
from numpy.typing import NDArray

from flowprep.config import ExtractSettings, StoreSettings
from flowprep.encode import encode_plane, encode_rgb
from flowprep.publisher import open_publisher
from flowprep.quantise import quantise
from flowprep.records import Listing, Row, State, Video
from flowprep.stores import Store, open_store
from flowprep.stores.finish import finish
from flowprep.stores.pack import pack_ready, pack_shard

WIDTH, HEIGHT, LENGTH = 340, 256, 10
MAX_FRAMES = 60  # of a clip
Frame = NDArray[np.uint8]
Flow = tuple[Frame, Frame]


def clip_frames(path: Path) -> Iterator[Frame]:
    with av.open(str(path), metadata_errors="replace") as container:
        for frame in itertools.islice(container.decode(video=0), MAX_FRAMES):
            image = cv2.resize(frame.to_ndarray(format="rgb24"), (WIDTH, HEIGHT), interpolation=cv2.INTER_CUBIC)
            yield np.asarray(image, np.uint8)


def texture_frames(seed: int) -> Iterator[Frame]:
    generator = np.random.default_rng(seed)
    texture = cv2.GaussianBlur(generator.integers(0, 256, (HEIGHT + 200, WIDTH + 200, 3), np.uint8), (0, 0), 3)
    texture = cv2.normalize(texture, np.empty_like(texture), 0, 255, cv2.NORM_MINMAX)
    for k in range(MAX_FRAMES):
        yield np.ascontiguousarray(texture[2 * k : 2 * k + HEIGHT, k : k + WIDTH])


def all_clips(folder: Path | None) -> list[list[Frame]]:
    paths = sorted(path for path in folder.rglob("*") if path.is_file())[:12] if folder and folder.is_dir() else []
    clips = [list(clip_frames(path)) for path in paths] or [list(texture_frames(seed)) for seed in range(8)]
    return [clip for clip in clips if len(clip) > LENGTH]


def flows_of(frames: Sequence[Frame], settings: ExtractSettings) -> list[Flow]:
    dis = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    greys = [cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY) for frame in frames]
    start = np.zeros((HEIGHT, WIDTH, 2), np.float32)  # DIS begins with the flow that it is given
    fields = (np.asarray(dis.calc(a, b, start.copy()), np.float32) for a, b in itertools.pairwise(greys))
    return [quantise(field, settings.quantise) for field in fields]


def write(out: Path, settings: ExtractSettings, clips: Sequence[tuple[Sequence[Frame], Sequence[Flow]]]) -> None:
    videos = tuple(Video(id=f"clip{k:03d}", path=f"clip{k:03d}.avi", class_name="c") for k in range(len(clips)))
    publisher = open_publisher(out, settings, durability="fast")
    rows = []
    for k, (video, (frames, flows)) in enumerate(zip(videos, clips, strict=True)):
        with publisher.begin(video, k, attempt="bench") as writer:
            for frame in frames:
                writer.add("rgb", encode_rgb(frame, settings.jpeg))
            for x, y in flows:
                writer.add("flow_x", encode_plane(x, settings.jpeg))
                writer.add("flow_y", encode_plane(y, settings.jpeg))
            row = Row(
                id=video.id,
                path=video.path,
                class_name="c",
                label=0,
                state=State.OK,
                frames=len(frames),
                flows=len(flows),
                width=WIDTH,
                height=HEIGHT,
                fps=25.0,
            )
            rows.append(writer.commit(row, [i / 25 for i in range(len(frames))]))
    if settings.store.format == "hdf5" and pack_ready(out, settings, videos, 0):
        pack_shard(out, settings, videos, 0, durability="fast")
    finish(out, settings, Listing(dataset="bench", videos=videos), rows)


def bare_decode(stack: Sequence[bytes]) -> NDArray[np.uint8]:
    planes = np.empty((2 * LENGTH, HEIGHT, WIDTH), np.uint8)
    for k, data in enumerate(stack):
        planes[k] = np.asarray(cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_GRAYSCALE))
    return planes


def milliseconds(read: Callable[[], None], num_stacks: int) -> float:
    start = time.perf_counter()
    read()
    return (time.perf_counter() - start) * 1e3 / num_stacks


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--videos", type=Path, help="folder of clips; a synthetic texture without it")
    parser.add_argument("--stacks", type=int, default=150)
    parser.add_argument("--repeats", type=int, default=9)
    arguments = parser.parse_args()
    cv2.setNumThreads(1)
    settings = {
        "shards": ExtractSettings(store=StoreSettings()),
        "tree": ExtractSettings(store=StoreSettings(format="jpeg")),
    }
    clips = [(frames, flows_of(frames, settings["tree"])) for frames in all_clips(arguments.videos)]
    with tempfile.TemporaryDirectory() as folder:
        for name, kind in settings.items():
            write(Path(folder, name), kind, clips)
        with open_store(Path(folder, "shards")) as shards, open_store(Path(folder, "tree")) as tree:
            generator = random.Random(0)
            wanted = [
                (video_id, generator.randrange(shards.clip(video_id).num_flows - LENGTH + 1))
                for video_id in generator.choices(list(shards.ids), k=arguments.stacks)
            ]
            in_memory = [
                [
                    bytes(shards.jpeg(video_id, stream, index))
                    for index in range(start, start + LENGTH)
                    for stream in ("flow_x", "flow_y")
                ]
                for video_id, start in wanted
            ]
            for (video_id, start), stack in zip(wanted, in_memory, strict=True):
                assert np.array_equal(shards.stack(video_id, start, LENGTH), bare_decode(stack))
                assert np.array_equal(tree.stack(video_id, start, LENGTH), bare_decode(stack))

            def read_store(store: Store) -> None:
                for video_id, start in wanted:
                    store.stack(video_id, start, LENGTH)

            def decode_all() -> None:
                for stack in in_memory:
                    bare_decode(stack)

            ways: dict[str, Callable[[], None]] = {
                "bare decode": decode_all,
                "shards": lambda: read_store(shards),
                "tree": lambda: read_store(tree),
            }
            times: dict[str, list[float]] = {name: [] for name in ways}
            for _ in range(arguments.repeats):
                for name, read in ways.items():
                    times[name].append(milliseconds(read, len(wanted)))
    medians = {name: statistics.median(values) for name, values in times.items()}
    ratios = {
        name: statistics.median(b / a for a, b in zip(times["bare decode"], values, strict=True))
        for name, values in times.items()
    }
    jpeg_bytes = statistics.mean(len(data) for stack in in_memory for data in stack)
    print(f"{len(clips)} clips at {WIDTH}x{HEIGHT}, {jpeg_bytes:.0f} bytes a flow JPEG, {len(wanted)} stacks\n")
    print(f"{'':12}  ms a stack  against bare decode")
    for name, median in medians.items():
        print(f"{name:12}  {median:10.3f}  {ratios[name]:19.3f}")
    result = {
        "benchmark": "read",
        "source": str(arguments.videos or "texture"),
        "num_clips": len(clips),
        "num_stacks": len(wanted),
        "repeats": arguments.repeats,
        "jpeg_bytes": round(jpeg_bytes),
        "ms_a_stack": {name.replace(" ", "_"): round(median, 4) for name, median in medians.items()},
        "against_bare_decode": {name.replace(" ", "_"): round(ratio, 4) for name, ratio in ratios.items()},
        "opencv": cv2.__version__,
        "machine": platform.machine(),
    }
    print(f"\n{json.dumps(result)}")


if __name__ == "__main__":
    main()

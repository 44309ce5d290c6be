"""The trainer's loader beside a plain one, and beside bare JPEG decoding.

Ours reads shards; the plain one is a `Dataset` over a JPEG tree with Pillow and torchvision's `resized_crop` (bilinear,
its default; ours is bicubic) in a DataLoader with two workers. Both read the same frames with the same crops, T = 5 and
L = 10, to float32 batches of 224 x 224 on the CPU. The UCF101 clips of --videos are extracted with DIS at short side
256, and each is stored under many ids, since few clips are at hand. All ways take turns; the figures are medians.

    python benchmarks/bench_loader.py [--videos ../shared/data/videos/ucf101] [--repeats 5] [--memory-clips 10000]
"""

from __future__ import annotations

import argparse
import ctypes
import json
import os
import re
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2
import numpy as np
import torch
from common import CLIPS, Spread, print_result, print_table
from PIL import Image
from torchvision.transforms import functional as transforms

import flowprep
from flowprep.config import ExtractSettings, FlowSettings, RunSettings, StoreSettings
from flowprep.publisher import open_publisher
from flowprep.records import Listing, Row, State, Video
from flowprep.stores import Store, open_store
from flowprep.stores.finish import finish
from flowprep.stores.layouts import layout_of
from flowprep.stores.pack import pack_ready, pack_shard
from fusion_train.config import DataSettings
from fusion_train.data import augment
from fusion_train.data.augment import network_inputs
from fusion_train.data.dataset import ClipDataset, Plan
from fusion_train.data.loader import ClipLoader

BATCH = 8
SPEED_TARGET, DECODE_TARGET = 2.5, 1.25
TAUS = {"tau 10-15": DataSettings(tau_min=10, tau_max=15), "tau 1-10": DataSettings()}


def copied(source: Store, out: Path, settings: ExtractSettings, num_ids: int) -> Store:
    """The videos of a store under `num_ids` ids, in another form, with the same JPEG bytes."""
    names = [f"v_{k:03d}_g01_c01" for k in range(num_ids)]
    videos = tuple(Video(id=name, path=f"{name}.avi", class_name="c", label=0) for name in names)
    publisher = open_publisher(out, settings, durability="fast")
    rows = []
    for k, video in enumerate(videos):
        row = source.rows[k % len(source.rows)]
        with publisher.begin(video, k, attempt="bench") as writer:
            for stream in settings.streams:
                for index in range(row.frames if stream == "rgb" else row.flows):
                    writer.add(stream, bytes(source.jpeg(row.id, stream, index)))
            new = Row(id=video.id, path=video.path, class_name="c", label=0, state=State.OK, frames=row.frames,
                      flows=row.flows, width=row.width, height=row.height, fps=row.fps)  # fmt: skip
            rows.append(writer.commit(new, source.pts_seconds(row.id).tolist()))
    if settings.store.format == "hdf5" and pack_ready(out, settings, videos, 0):
        pack_shard(out, settings, videos, 0, durability="fast")
    finish(out, settings, Listing(dataset="bench", videos=videos), rows)
    return open_store(out)


class PlainDataset(torch.utils.data.Dataset[tuple[torch.Tensor, torch.Tensor, int]]):
    """What one writes first: a file a frame, Pillow, torchvision; indices and crops are those of our plan."""

    def __init__(self, clips: ClipDataset, epoch: int) -> None:
        self.clips, self.epoch = clips, epoch
        self.layout = layout_of(clips.store.settings)

    def __len__(self) -> int:
        return len(self.clips)

    def __getitem__(self, k: int) -> tuple[torch.Tensor, torch.Tensor, int]:
        plan = self.clips.plan_training(k, seed=0, epoch=self.epoch)
        folder = self.clips.store.path / "c" / plan.id
        images = [self._load(folder, "rgb", plan.images[i], plan) for i in plan.image_index[0]]
        flow = [
            self._load(folder, stream, plan.flows[i], plan)
            for chunk in plan.flow_index[0]
            for i in chunk
            for stream in ("flow_x", "flow_y")
        ]
        planes = torch.cat(flow).unflatten(0, (len(images), -1))
        return torch.stack(images), planes, plan.label

    def _load(self, folder: Path, stream: str, index: int, plan: Plan) -> torch.Tensor:
        with Image.open(folder / self.layout.file(stream, index)[1]) as image:
            crop = plan.crop
            part = transforms.resized_crop(image, crop.top, crop.left, crop.height, crop.width, [224, 224])
            if plan.flips[0]:
                part = transforms.hflip(part)
            plane = transforms.pil_to_tensor(part)
        return 255 - plane if plan.flips[0] and stream == "flow_x" else plane


def run_plain(dataset: ClipDataset, epoch: int) -> None:
    loader = torch.utils.data.DataLoader(PlainDataset(dataset, epoch), batch_size=BATCH, num_workers=2)
    for rgb, flow, _ in loader:
        rgb.float()
        flow.float()


def run_ours(loader: ClipLoader, *, inputs: bool) -> None:
    for batch in loader:
        if inputs:
            network_inputs(batch)


def bare_bytes(loader: ClipLoader) -> list[list[tuple[bytes, int]]]:
    """The JPEGs of a pass in memory, each that a clip needs once, with how OpenCV is to decode them."""
    store = loader.dataset.store
    clips = []
    for plans in loader._plans():
        for plan in plans:
            clip = [(bytes(store.jpeg(plan.id, "rgb", k)), cv2.IMREAD_COLOR) for k in plan.images]
            for stream in ("flow_x", "flow_y"):
                clip += [(bytes(store.jpeg(plan.id, stream, k)), cv2.IMREAD_GRAYSCALE) for k in plan.flows]
            clips.append(clip)
    return clips


def decode_bare(clips: Sequence[Sequence[tuple[bytes, int]]], pool: ThreadPoolExecutor) -> None:
    def decode(clip: Sequence[tuple[bytes, int]]) -> None:
        for data, flags in clip:
            cv2.imdecode(np.frombuffer(data, np.uint8), flags)

    list(pool.map(decode, clips))


def measure(shards: ClipDataset, tree: ClipDataset, repeats: int) -> dict[str, dict[str, Spread]]:
    """Clips a second and ratios, pass by pass in turns."""
    loader = ClipLoader(shards, batch_size=BATCH, training=True)
    num_clips = BATCH * len(loader)
    seconds: dict[str, list[float]] = {}
    processor: dict[str, list[float]] = {}
    with ThreadPoolExecutor(loader.num_threads) as pool:
        for epoch in range(repeats + 1):
            state = {**loader.state_dict(), "epoch": epoch, "batch": 0}
            loader.load_state_dict(state)
            clips = bare_bytes(loader)

            def ours(inputs: bool, state: dict[str, object] = state) -> None:
                loader.load_state_dict(state)
                run_ours(loader, inputs=inputs)

            ways: dict[str, Callable[[], None]] = {
                "plain": lambda epoch=epoch: run_plain(tree, epoch),
                "ours": lambda: ours(True),
                "ours, canvas alone": lambda: ours(False),
                "bare decode": lambda clips=clips: decode_bare(clips, pool),
            }
            for name, way in ways.items():
                start, busy = time.perf_counter(), processor_seconds()
                way()
                if epoch:  # the first pass warms up
                    seconds.setdefault(name, []).append(time.perf_counter() - start)
                    processor.setdefault(name, []).append(processor_seconds() - busy)
    rates = {name: Spread.of([num_clips / value for value in values]) for name, values in seconds.items()}
    costs = {name: Spread.of([1e3 * value / num_clips for value in values]) for name, values in processor.items()}
    ratios = {}
    for kind, times in (("", seconds), (", processor time", processor)):
        for title, above, below in (
            ("plain to ours", "plain", "ours"),
            ("canvas to bare decode", "ours, canvas alone", "bare decode"),
        ):
            values = [a / b for a, b in zip(times[above], times[below], strict=True)]
            ratios[f"{title}{kind}"] = Spread.of(values)
    return {"clips_a_second": rates, "processor_ms_a_clip": costs, "ratio_of_times": ratios}


def processor_seconds() -> float:
    """Processor time of this process and of the workers that have ended: what others do on the machine counts less."""
    return sum(os.times()[:4])


def memory_mib() -> float:
    """Memory of this process that is not of files."""
    (kib,) = re.findall(r"^RssAnon:\s+(\d+) kB$", Path("/proc/self/status").read_text(), re.MULTILINE)
    return int(kib) / 1024


class MallInfo(ctypes.Structure):
    """`struct mallinfo2` of glibc."""

    _NAMES = ("arena", "ordblks", "smblks", "hblks", "hblkhd", "usmblks", "fsmblks", "uordblks", "fordblks", "keepcost")
    _fields_ = tuple((name, ctypes.c_size_t) for name in _NAMES)


def in_use_mib() -> float:
    """What malloc has given out, in its arenas and in maps of their own; it keeps more, which nobody uses."""
    libc = ctypes.CDLL(None)
    libc.mallinfo2.restype = MallInfo
    found = libc.mallinfo2()
    return float(found.uordblks + found.hblkhd) / 2**20


def measure_memory(dataset: ClipDataset, num_clips: int) -> dict[str, list[float]]:
    """MiB after each twentieth of `num_clips` clips: resident, in use, and of that what batches and inputs have.

    The last grows as larger batches come by, and can be no larger than the largest.
    """
    loader = ClipLoader(dataset, batch_size=BATCH, training=True)
    seen = 0
    readings: dict[str, list[float]] = {"resident": [], "in_use": [], "buffers": []}
    while seen < num_clips:
        for batch in loader:
            network_inputs(batch)
            before, seen = seen, seen + len(batch)
            if 20 * before // num_clips != 20 * seen // num_clips:
                readings["resident"].append(round(memory_mib(), 1))
                readings["in_use"].append(round(in_use_mib(), 1))
                buffers = loader._canvases.num_bytes + augment._CANVASES.num_bytes
                readings["buffers"].append(round(buffers / 2**20, 1))
    return readings


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--videos", type=Path, default=CLIPS, help="class folders of clips")
    parser.add_argument("--ids", type=int, default=48, help="videos in the stores")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--memory-clips", type=int, default=0, help="also see whether memory is flat over so many")
    arguments = parser.parse_args()
    torch.set_num_threads(1)  # both cores decode; a second thread for arithmetic would only be in the way
    figures: dict[str, object] = {}
    passed = True
    with tempfile.TemporaryDirectory() as folder:
        settings = ExtractSettings(flow=FlowSettings(backend="dis"))
        flowprep.extract(
            "folder", videos=arguments.videos, out=Path(folder, "once"), settings=settings, run=RunSettings(jobs=2)
        )
        with open_store(Path(folder, "once")) as once:
            shards = copied(once, Path(folder, "shards"), once.settings, arguments.ids)
            plain = ExtractSettings(store=StoreSettings(format="jpeg"))
            tree = copied(once, Path(folder, "tree"), plain, arguments.ids)
        for name, data in TAUS.items():
            found = measure(ClipDataset(shards, shards.ids, data), ClipDataset(tree, tree.ids, data), arguments.repeats)
            for title, spreads in found.items():
                header = ["", "median", "least", "most"]
                print_table(f"{name}: {title.replace('_', ' ')}", header, [[key, *s] for key, s in spreads.items()])
            ratio = found["ratio_of_times"]
            passed &= ratio["plain to ours"].median >= SPEED_TARGET
            passed &= ratio["canvas to bare decode"].median <= DECODE_TARGET
            figures[name] = {title: {k: s.to_json() for k, s in spreads.items()} for title, spreads in found.items()}
        if arguments.memory_clips:
            readings = measure_memory(ClipDataset(shards, shards.ids, TAUS["tau 10-15"]), arguments.memory_clips)
            print(f"\nMiB after each twentieth of {arguments.memory_clips} clips: {json.dumps(readings)}")
            figures["memory_mib"] = readings
            # The first passes find out how large batches become. What is resident moves with what malloc keeps.
            passed &= statistics.mean(readings["in_use"][-5:]) < 1.01 * statistics.mean(readings["in_use"][4:9])
        shards.close()
        tree.close()
    target = {"plain_to_ours_at_least": SPEED_TARGET, "canvas_to_bare_decode_at_most": DECODE_TARGET, "memory": "flat"}
    print_result("loader", figures=figures, target=target, passed=bool(passed))


if __name__ == "__main__":
    main()

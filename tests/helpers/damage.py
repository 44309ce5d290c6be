"""Small finished stores, and ways to damage files."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from helpers.dataset_files import write_lists
from helpers.media import cut, moving_frames, write_video

import flowprep
from flowprep.config import ExtractSettings, FlowSettings, ResizeSettings, RunSettings, StoreSettings
from flowprep.stores.places import clip_path, row_path
from flowprep.stores.shardfile import read_index

IDS = tuple(f"v_{name}_g01_c0{number}" for name in ("Archery", "Biking") for number in (1, 2, 3))
CUT = "v_Archery_g01_c02"
"""A cut file: fails unless damage is kept."""

Change = Callable[[Path], None]


def make_videos(folder: Path) -> Path:
    """`folder` with six tiny videos of UCF101's form, of which one is cut, and in `splits` the official lists."""
    for seed, video in enumerate(IDS):
        path = folder / "videos" / video.split("_")[1] / f"{video}.avi"
        path.parent.mkdir(parents=True, exist_ok=True)
        write_video(path, moving_frames(4 + seed % 2, 32, 24, seed=seed))
    bad = folder / "videos" / "Archery" / f"{CUT}.avi"
    whole = bad.rename(folder / "whole.avi")
    cut(whole, bad, 0.6)
    listed = [f"{video.split('_')[1]}/{video}.avi" for video in IDS]
    write_lists(
        folder / "splits",
        classInd__txt="1 Archery\n2 Biking\n",
        trainlist01__txt="".join(f"{path} {1 + ('Biking' in path)}\n" for path in listed[::2]),
        testlist01__txt="".join(f"{path}\n" for path in listed[1::2]),
    )
    return folder / "videos"


def cheap_settings(format: str = "jpeg", **sections: Any) -> ExtractSettings:
    """DIS at the size of the videos; two shards of three videos, or a tree."""
    sections = {"store": StoreSettings(format=format, shard_videos=3), "flow": FlowSettings(backend="dis"), **sections}
    return ExtractSettings(dataset="ucf101", resize=ResizeSettings(short_side=None), **sections)


def make_store(out: Path, videos: Path, settings: ExtractSettings, part: str | None = None) -> Path:
    """A store of the videos, or of a part of them: that one is not finished."""
    run = RunSettings(jobs=1, durability="fast", part=part)
    flowprep.extract("ucf101", videos=videos, splits=videos.parent / "splits", out=out, settings=settings, run=run)
    return out


# Ways to damage a file; each gives a function of the store.


def flip(place: str, share: float = 0.5) -> Change:
    """Invert the byte at a share of the file's length."""

    def change(store: Path) -> None:
        data = bytearray((store / place).read_bytes())
        data[int(share * (len(data) - 1))] ^= 0xFF
        (store / place).write_bytes(data)

    return change


def truncate(place: str, share: float = 0.5) -> Change:
    """Keep the first share of the file."""
    return lambda store: write(place, (store / place).read_bytes()[: int(share * (store / place).stat().st_size)])(
        store
    )


def write(place: str, data: bytes) -> Change:
    """Replace a file, or make one."""

    def change(store: Path) -> None:
        (store / place).parent.mkdir(parents=True, exist_ok=True)
        (store / place).write_bytes(data)

    return change


def edit(place: str, old: str, new: str) -> Change:
    """Replace a text that is in the file."""

    def change(store: Path) -> None:
        text = (store / place).read_text()
        assert old in text
        (store / place).write_text(text.replace(old, new, 1))

    return change


def edit_lines(place: str, change_lines: Callable[[list[str]], list[str]]) -> Change:
    """Change the lines of a file."""

    def change(store: Path) -> None:
        lines = (store / place).read_text().splitlines(keepends=True)
        (store / place).write_text("".join(change_lines(lines)))

    return change


def remove(place: str) -> Change:
    """Remove a file or folder."""

    def change(store: Path) -> None:
        path = store / place
        shutil.rmtree(path) if path.is_dir() else path.unlink()

    return change


def swap(first: str, second: str) -> Change:
    """Exchange two names."""

    def change(store: Path) -> None:
        (store / first).rename(store / "swapping")
        (store / second).rename(store / first)
        (store / "swapping").rename(store / second)

    return change


def make_link(place: str) -> Change:
    """Move a file or folder out of the store and leave a link to it."""

    def change(store: Path) -> None:
        outside = store.with_name("outside")
        (store / place).rename(outside)
        (store / place).symlink_to(outside)

    return change


def make_folder(place: str) -> Change:
    """Put a folder in the place of a file."""

    def change(store: Path) -> None:
        (store / place).unlink()
        (store / place).mkdir()

    return change


def both(*changes: Change) -> Change:
    """Several changes, one after another."""

    def change(store: Path) -> None:
        for each in changes:
            each(store)

    return change


def flip_at(path: Path, offset: int) -> None:
    """Invert a byte."""
    data = bytearray(path.read_bytes())
    data[offset] ^= 0xFF
    path.write_bytes(data)


def in_blob(place: str, stream: str, share: float) -> Change:
    """Invert the byte at a share of a stream's images in a shard."""

    def change(store: Path) -> None:
        blob = read_index(store / place).streams[stream].blob
        flip_at(store / place, blob.offset + int(blob.size * share))

    return change


def in_array(place: str, name: str, number: int) -> Change:
    """Invert a byte of an element of `pts_seconds` in a shard, or of the offsets of a stream."""

    def change(store: Path) -> None:
        index = read_index(store / place)
        array = index.pts_seconds if name == "pts_seconds" else index.streams[name].offsets
        flip_at(store / place, array.offset + 8 * number + 5)

    return change


def row_of(video: str) -> str:
    """Place of a row file."""
    return str(row_path(Path(), video))


def clip_of(video: str) -> str:
    """Place of a commit."""
    return str(clip_path(Path(), video))

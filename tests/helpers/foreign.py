"""Trees as other tools make them, by hand: their names, their numbers, their arithmetic, and OpenCV's default JPEG."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

HEIGHT, WIDTH = 24, 32
BOUND_PX = 20.0


def round_codes(flow_px: NDArray[np.float64]) -> NDArray[np.uint8]:
    """denseflow, dense_flow and gpu_flow: cvRound of the scaled value, which rounds half to even."""
    return np.rint(255 * (np.clip(flow_px, -BOUND_PX, BOUND_PX) + BOUND_PX) / (2 * BOUND_PX)).astype(np.uint8)


def truncate_codes(flow_px: NDArray[np.float64]) -> NDArray[np.uint8]:
    """mmaction2's flow_extraction.py: the cast cuts off."""
    return ((np.clip(flow_px, -BOUND_PX, BOUND_PX) + BOUND_PX) * 255 / (2 * BOUND_PX)).astype(np.uint8)


CODES = {"round": round_codes, "truncate": truncate_codes}


def image(name: str, index: int) -> NDArray[np.uint8]:
    """BGR image `index` of a video, smooth, so that JPEG keeps it well."""
    seed = np.random.default_rng([*name.encode(), index]).uniform(40, 215, (3, 4, 3))
    return cv2.resize(seed, (WIDTH, HEIGHT), interpolation=cv2.INTER_CUBIC).clip(0, 255).astype(np.uint8)


def flow(name: str, index: int) -> NDArray[np.float64]:
    """Flow `index` in pixels, (H, W, 2): a block that moves, and rest that hardly does, in all directions alike."""
    rng = np.random.default_rng([*name.encode(), index, 1])
    field = cv2.GaussianBlur(rng.normal(0, 0.3, (HEIGHT, WIDTH, 2)), (0, 0), 3)
    field[4:12, 8:16] = rng.uniform(-6, 6, 2)
    return field


def write_jpeg(path: Path, pixels: NDArray[np.uint8]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), pixels)


def write_planes(paths: Mapping[int, Path], flow_px: NDArray[np.float64], rule: str) -> None:
    """x and y of a flow field as two grey JPEGs; `paths` by component."""
    for component, path in paths.items():
        write_jpeg(path, CODES[rule](flow_px[..., component]))


def denseflow(root: Path, folder: str, num_frames: int, *, step: int = 1, rule: str = "round") -> None:
    """As `denseflow -s=STEP` and `denseflow -s=0` write one video: from 0, the step in the names where it is not 1."""
    for k in range(num_frames):
        write_jpeg(root / folder / f"img_{k:05d}.jpg", image(folder, k))
    infix = f"_p{step}" if step > 1 else f"_m{-step}" if step < 0 else ""
    first = max(0, -step)
    for k in range(num_frames - abs(step)):
        names = {c: root / folder / f"flow_{axis}{infix}_{k + first:05d}.jpg" for c, axis in enumerate("xy")}
        write_planes(names, flow(folder, k), rule)


def mmaction2(root: Path, folder: str, num_frames: int, *, rule: str = "truncate") -> None:
    """As mmaction2's tools/misc/flow_extraction.py: from 1, x_ and y_."""
    for k in range(num_frames):
        write_jpeg(root / folder / f"img_{k + 1:05d}.jpg", image(folder, k))
    for k in range(num_frames - 1):
        names = {c: root / folder / f"{axis}_{k + 1:05d}.jpg" for c, axis in enumerate("xy")}
        write_planes(names, flow(folder, k), rule)


def tsn(root: Path, folder: str, num_frames: int, *, rule: str = "round") -> None:
    """As dense_flow: from 1, and image k is the target of flow k, so that the first image is lost."""
    for k in range(num_frames - 1):
        write_jpeg(root / folder / f"img_{k + 1:05d}.jpg", image(folder, k + 1))
        names = {c: root / folder / f"flow_{axis}_{k + 1:05d}.jpg" for c, axis in enumerate("xy")}
        write_planes(names, flow(folder, k), rule)


def feichtenhofer(root: Path, video: str, num_frames: int, *, rule: str = "round") -> None:
    """As the released data: three trees, six digits from 1, no class folders."""
    for k in range(num_frames):
        write_jpeg(root / "jpegs_256" / video / f"frame{k + 1:06d}.jpg", image(video, k))
    for k in range(num_frames - 1):
        names = {c: root / "tvl1_flow" / axis / video / f"frame{k + 1:06d}.jpg" for c, axis in enumerate("uv")}
        write_planes(names, flow(video, k), rule)


def all_of(root: Path) -> dict[str, tuple[int, int, bytes]]:
    """Inode, modification time and bytes of every JPEG."""
    found = {}
    for path in root.rglob("*.jpg"):
        status = path.stat()
        found[str(path.relative_to(root))] = status.st_ino, status.st_mtime_ns, path.read_bytes()
    return found

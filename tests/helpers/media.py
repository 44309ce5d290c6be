"""Small encoded videos made by the tests, and ways to damage them."""

from __future__ import annotations

import contextlib
import io
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from numpy.typing import NDArray


def moving_frames(num_frames: int, width: int = 96, height: int = 64, seed: int = 0) -> NDArray[np.uint8]:
    """A smooth texture that drifts 2 pixels a frame to the right, RGB uint8 (T, H, W, 3)."""
    rng = np.random.default_rng(seed)
    coarse = rng.uniform(40, 215, (height // 8 + 2, (width + 2 * num_frames) // 8 + 2, 3))
    wide = np.kron(coarse, np.ones((8, 8, 1)))
    kernel = np.ones(7) / 7
    for axis in (0, 1):
        wide = np.apply_along_axis(lambda line: np.convolve(line, kernel, "same"), axis, wide)
    starts = [2 * (num_frames - index) for index in range(num_frames)]
    return np.stack([wide[:height, start : start + width] for start in starts]).astype(np.uint8)


class _Pipe(io.FileIO):
    def seekable(self) -> bool:
        return False


def write_video(
    path: Path,
    frames: NDArray[np.uint8],
    *,
    codec: str = "mpeg4",
    pixel_format: str = "yuv420p",
    fps: int = 25,
    container: str | None = None,
    options: dict[str, str] | None = None,
    container_options: dict[str, str] | None = None,
    pts: list[int] | None = None,
    gop_size: int = 12,
    max_b_frames: int = 0,
    to_pipe: bool = False,
) -> Path:
    """Encode RGB frames; `pts` in frame periods makes variable frame rates. A pipe cannot go back to the header."""
    with contextlib.ExitStack() as stack:
        file = stack.enter_context(_Pipe(path, "w")) if to_pipe else str(path)
        container = container or path.suffix[1:] if to_pipe else container
        output = stack.enter_context(av.open(file, "w", format=container, options=container_options or {}))
        stream = output.add_stream(codec, rate=fps, options=options or {})
        stream.width, stream.height = frames.shape[2], frames.shape[1]
        stream.pix_fmt = pixel_format
        stream.time_base = Fraction(1, fps)
        stream.codec_context.gop_size = gop_size
        stream.codec_context.max_b_frames = max_b_frames
        stream.codec_context.thread_count = 1
        for index, image in enumerate(frames):
            frame = av.VideoFrame.from_ndarray(image, format="rgb24")
            frame.pts = index if pts is None else pts[index]
            output.mux(stream.encode(frame))
        output.mux(stream.encode(None))
    return path


def cut(source: Path, target: Path, share: float) -> Path:
    """The first part of a file."""
    data = source.read_bytes()
    target.write_bytes(data[: int(len(data) * share)])
    return target


def flip_bits(source: Path, target: Path, *, first: int = 10, every: int = 6) -> Path:
    """The file with bytes inverted in the middle of some coded frames; the container stays sound."""
    data = bytearray(source.read_bytes())
    with av.open(str(source)) as container:
        packets = [packet for packet in container.demux(video=0) if packet.size]
    for packet in packets[first::every]:
        assert packet.pos is not None
        # An AVI packet's position is that of its 8-byte chunk header.
        middle = packet.pos + 8 + packet.size // 2
        for place in range(middle, middle + min(12, packet.size // 4)):
            data[place] ^= 0xFF
    target.write_bytes(data)
    return target


def first_packets(source: Path, target: Path, num_packets: int, *, skipped: int = 0) -> Path:
    """The first coded frames of a clip as they are, after some that are `skipped`, in a container of the same kind."""
    with av.open(str(source), metadata_errors="ignore") as container:
        stream = container.streams.video[0]
        with av.open(str(target), "w", format="webm" if target.suffix == ".webm" else None) as output:
            copy = output.add_stream_from_template(stream)
            packets = [packet for packet in container.demux(stream) if packet.size]
            for index, packet in enumerate(packets[skipped : skipped + num_packets]):
                if target.suffix == ".avi":
                    packet.pts, packet.dts = None, index
                packet.stream = copy
                output.mux(packet)
    return target

"""Sample files of the fault cases that PyAV does not write by itself; no test needs a binary in the repository."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from helpers.media import moving_frames, write_video

_VOP = b"\x00\x00\x01\xb6"
_NOT_CODED = _VOP + (0b01_0_1_00000_1_0_01111).to_bytes(2, "big")
_DIVX_PACKED = b"\x00\x00\x01\xb2DivX503b1393p"


def hole(source: Path, target: Path, *, share: float = 0.5, num_bytes: int = 0) -> Path:
    """Zeros in place of `num_bytes` (default: a fifth of the file) from a share of the file on."""
    data = bytearray(source.read_bytes())
    size, at = num_bytes or len(data) // 5, int(share * len(data))
    data[at : at + size] = bytes(len(data[at : at + size]))
    target.write_bytes(data)
    return target


def cut_in_first_frame(source: Path, target: Path) -> Path:
    """An MP4 whose index is at its beginning, cut in the middle of the first coded frame."""
    with av.open(str(source)) as container:
        first = next(packet for packet in container.demux(video=0) if packet.size)
        place = (first.pos or 0) + first.size // 2
    target.write_bytes(source.read_bytes()[:place])
    return target


def announce(source: Path, target: Path, num_frames: int) -> Path:
    """An AVI whose header announces another number of frames."""
    data = bytearray(source.read_bytes())
    for tag, offset in ((b"avih", 8 + 16), (b"strh", 8 + 32)):
        place = data.index(tag) + offset
        data[place : place + 4] = num_frames.to_bytes(4, "little")
    target.write_bytes(data)
    return target


def with_edit_list(source: Path, target: Path, num_skipped: int) -> Path:
    """A copy that begins, by its edit list, some frames after its first packet: what a trim without encoding makes."""
    with av.open(str(source)) as container, av.open(str(target), "w", options={"avoid_negative_ts": "disabled"}) as out:
        stream = container.streams.video[0]
        copy = out.add_stream_from_template(stream)
        for packet in container.demux(stream):
            if packet.dts is not None and packet.pts is not None:
                packet.pts -= num_skipped * (packet.duration or 0)
                packet.dts -= num_skipped * (packet.duration or 0)
                packet.stream = copy
                out.mux(packet)
    return target


def without_packets(target: Path) -> Path:
    """A container with a video stream of no frames."""
    with av.open(str(target), "w") as out:
        stream = out.add_stream("mpeg4", rate=25)
        stream.width, stream.height, stream.pix_fmt = 96, 64, "yuv420p"
        out.start_encoding()
    return target


def audio_only(target: Path) -> Path:
    """A container with a moment of silence."""
    with av.open(str(target), "w") as out:
        stream = out.add_stream("aac", rate=8000, layout="mono")
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
        frame.sample_rate, frame.pts = 8000, 0
        out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
    return target


def two_streams(target: Path) -> Path:
    """Two video streams of 4 frames, 96x64 and 48x32."""
    with av.open(str(target), "w") as out:
        streams = []
        for width, height in ((96, 64), (48, 32)):
            stream = out.add_stream("mpeg4", rate=25)
            stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
            streams.append(stream)
        for index in range(4):
            for stream in streams:
                image = np.full((stream.height, stream.width, 3), 40 * index, np.uint8)
                frame = av.VideoFrame.from_ndarray(image, format="rgb24")
                frame.pts = index
                out.mux(stream.encode(frame))
        for stream in streams:
            out.mux(stream.encode(None))
    return target


def with_cover(source: Path, target: Path) -> Path:
    """An MP4 whose first stream is an attached picture, larger than the video of `source` behind it."""
    with av.open(str(source)) as video, av.open(str(target), "w") as out:
        cover = out.add_stream("mjpeg", rate=25)
        cover.width = cover.height = 640
        cover.pix_fmt = "yuvj420p"
        cover.disposition = av.stream.Disposition.attached_pic
        stream = out.add_stream_from_template(video.streams.video[0])
        picture = av.VideoFrame.from_ndarray(np.zeros((640, 640, 3), np.uint8), format="rgb24")
        out.mux(cover.encode(picture))
        out.mux(cover.encode(None))
        for packet in video.demux(video=0):
            if packet.dts is not None:
                packet.stream = stream
                out.mux(packet)
    return target


def turned(source: Path, target: Path, degrees: int) -> Path:
    """A copy with a display rotation."""
    with av.open(str(source)) as container, av.open(str(target), "w") as out:
        stream = out.add_stream_from_template(container.streams.video[0])
        stream.set_display_rotation(degrees)
        for packet in container.demux(video=0):
            if packet.dts is not None:
                packet.stream = stream
                out.mux(packet)
    return target


def two_sizes(folder: Path, target: Path) -> Path:
    """Five frames of 96x64, then five of 128x64, in one transport stream."""
    parts = [write_video(folder / f"size{k}.ts", moving_frames(5, 96 + 32 * k), codec="libx264") for k in (0, 1)]
    target.write_bytes(b"".join(part.read_bytes() for part in parts))
    for part in parts:
        part.unlink()
    return target


def huge_frames(target: Path, side: int = 8192) -> Path:
    """Two frames of 8192x8192 pixels in a small file."""
    with av.open(str(target), "w") as out:
        stream = out.add_stream("mjpeg", rate=25)
        stream.width = stream.height = side
        stream.pix_fmt = "yuvj420p"
        stream.time_base = Fraction(1, 25)
        frame = av.VideoFrame(side, side, "yuvj420p")
        for plane in frame.planes:
            plane.update(bytes(plane.buffer_size))
        for index in range(2):
            frame.pts = index
            out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
    return target


def huge_header(target: Path, side: int = 65500) -> Path:
    """A Motion JPEG file whose header and images say that they are of 65500x65500 pixels."""
    write_video(target, moving_frames(2, 96, 64), codec="mjpeg", pixel_format="yuvj420p")
    data = bytearray(target.read_bytes())
    at = data.index(b"strf") + 12
    data[at : at + 8] = side.to_bytes(4, "little") * 2
    at = data.find(b"\xff\xc0")
    while at >= 0:
        data[at + 5 : at + 9] = side.to_bytes(2, "big") * 2
        at = data.find(b"\xff\xc0", at + 9)
    target.write_bytes(data)
    return target


def packed_b_frames(target: Path, num_frames: int = 9, *, damaged: bool = False) -> Path:
    """An AVI as DivX wrote them: a P- and its B-frame in one chunk, then a chunk that stands for the B-frame.

    The stand-in is a frame that is not coded (`vop_coded` 0). With `damaged` bytes of a chunk in the middle are others.
    """
    plain = write_video(target.with_suffix(".plain.avi"), moving_frames(num_frames), max_b_frames=1, gop_size=100)
    with av.open(str(plain)) as container:
        packets = [bytes(packet) for packet in container.demux(video=0) if packet.size]
        head = packets[0].index(_VOP)
        chunks, rest = [packets[0][:head] + _DIVX_PACKED + packets[0][head:]], packets[1:]
        while rest:
            if len(rest) > 1 and rest[1][rest[1].index(_VOP) + 4] >> 6 == 2:  # a B-frame follows
                chunks += [rest[0] + rest[1], _NOT_CODED]
                rest = rest[2:]
            else:
                chunks.append(rest.pop(0))
        if damaged:
            middle = max(range(2, len(chunks) - 2), key=lambda k: len(chunks[k]))
            chunk = bytearray(chunks[middle])
            for at in range(len(chunk) // 3, len(chunk) // 3 + 12):
                chunk[at] ^= 0xFF
            chunks[middle] = bytes(chunk)
        with av.open(str(target), "w") as out:
            stream = out.add_stream_from_template(container.streams.video[0])
            for index, chunk in enumerate(chunks):
                packet = av.Packet(chunk)
                packet.stream, packet.dts, packet.is_keyframe = stream, index, index == 0
                packet.time_base = Fraction(1, 25)
                out.mux(packet)
    plain.unlink()
    return target


def open_gop_start(target: Path) -> Path:
    """An MP4 that begins at the second group of pictures, whose first B-frames need the one that is gone."""
    whole = write_video(
        target.with_suffix(".whole.mp4"),
        moving_frames(48),
        codec="libx264",
        options={"x264-params": "open-gop=1:bframes=3:b-adapt=0:scenecut=0:no-psy=1"},
        gop_size=24,
        max_b_frames=3,
    )
    with av.open(str(whole)) as container, av.open(str(target), "w") as out:
        stream = container.streams.video[0]
        copy = out.add_stream_from_template(stream)
        packets = [packet for packet in container.demux(stream) if packet.size]
        second = [k for k, packet in enumerate(packets) if packet.is_keyframe][1]
        for packet in packets[second:]:
            packet.stream = copy
            out.mux(packet)
    whole.unlink()
    return target


def refers_to(source: Path, target: Path, other: Path) -> Path:
    """A QuickTime file whose index is its last part and says that its frames lie in the file `other` (an alias)."""
    data = source.read_bytes()
    dref = data.index(b"dref")
    path = str(other).encode()
    path += b"\0" * (len(path) % 2)
    record = bytes(6) + (0).to_bytes(2, "big") + bytes(2) + b"\x03abc" + bytes(24) + bytes(12) + b"\x03abc" + bytes(60)
    record += bytes(16) + (1).to_bytes(2, "big") * 2 + bytes(16)
    record += (2).to_bytes(2, "big") + len(path).to_bytes(2, "big") + path + b"\xff\xff\0\0"
    entry = b"alis" + bytes(4) + record
    entry = (len(entry) + 4).to_bytes(4, "big") + entry
    old = int.from_bytes(data[dref + 12 : dref + 16], "big")
    grown = bytearray(data[: dref + 12] + entry + data[dref + 12 + old :])
    more = len(entry) - old
    for box in (b"moov", b"trak", b"mdia", b"minf", b"dinf", b"dref"):
        at = grown.rindex(box, 0, dref + 4) - 4
        grown[at : at + 4] = (int.from_bytes(grown[at : at + 4], "big") + more).to_bytes(4, "big")
    target.write_bytes(grown)
    return target

"""Pictures as a film that ordinary players show: H.264 in an MP4, or MPEG-4 where FFmpeg has no encoder of that."""

from __future__ import annotations

from collections.abc import Iterable
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from av.video.reformatter import ColorRange, Colorspace
from numpy.typing import NDArray

from flowprep.outfile import whole_file

CODECS = ("libx264", "mpeg4")
"""What is taken, the first that is there."""

_BT709 = 1  # the number of the standard, of its primaries and of its transfer function alike
_OPTIONS = {"libx264": {"crf": "16", "preset": "veryfast"}, "mpeg4": {"qscale": "2", "flags": "+qscale"}}
_MAX_DENOMINATOR = 1001  # MPEG-4 wants small numbers; 30000/1001 is the longest that is in use


def find_codec() -> str:
    """The name of the encoder that `write_film` takes."""
    return next(name for name in CODECS if name in av.codecs_available)


def write_film(path: Path, pictures: Iterable[NDArray[np.uint8]], fps: float) -> int:
    """Write RGB pictures, uint8 (H, W, 3) of one size with even sides, and count them. An existing file is replaced.

    The colours are those of BT.709 and say so, since players guess by the size where nothing is said.

    Raises:
        MissingDataError: The file cannot be written.
    """
    codec = find_codec()
    num_pictures = 0
    rate = Fraction(fps).limit_denominator(_MAX_DENOMINATOR)
    with (
        whole_file(path) as temporary,
        av.open(f"file:{temporary}", "w", format="mp4", options={"movflags": "+faststart"}) as output,
    ):
        stream = output.add_stream(codec, rate=rate, options=_OPTIONS[codec])
        assert isinstance(stream, av.VideoStream), "both are codecs of pictures"
        stream.pix_fmt = "yuv420p"
        context = stream.codec_context
        context.color_primaries = context.color_trc = context.colorspace = _BT709
        context.color_range = int(ColorRange.MPEG)
        for picture in pictures:
            if num_pictures == 0:
                stream.height, stream.width = picture.shape[:2]
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), format="rgb24")
            converted = frame.reformat(format="yuv420p", dst_colorspace=Colorspace.ITU709)
            converted.pts = num_pictures
            converted.time_base = 1 / rate
            output.mux(stream.encode(converted))
            num_pictures += 1
        output.mux(stream.encode(None))
    return num_pictures

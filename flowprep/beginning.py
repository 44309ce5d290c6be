"""Whether a video begins with a key frame. Where it does not, decoders lose frames or show wrong ones without an error.

Note [what begins without a key frame]: H.264, HEVC and MPEG-1/2 leave out all that comes before the first key frame;
MPEG-4 part 2, H.263 and their kin show the differences to a frame that was never there. The first is as it should be in
a recording of a broadcast, which begins anywhere, and which is flagged anyway as one whose length is not known; a file
that was written from a beginning has lost that. Containers may have forgotten to mark a key frame, so that what comes
out of the decoder counts: an intra picture of the first packet proves that there was one.
"""

from __future__ import annotations

from typing import Any, final

import av
from av.video.frame import PictureType

_BEGIN_ANYWHERE = frozenset({"mpegts", "mpeg", "mpegvideo", "h264", "hevc", "m4v"})
"""FFmpeg's names of formats that have neither header nor index, so that a part of a file is one too."""


@final
class Beginning:
    """Takes the first packet and the first frame of a stream that is read from its beginning."""

    def __init__(self, container: av.container.InputContainer, codec: av.Codec) -> None:
        self._begins_anywhere = container.format.name in _BEGIN_ANYWHERE
        self._codec = codec
        self._has_begun = self._is_sound = False
        self._first_pts: int | None = None

    def take_packet(self, packet: av.Packet[Any]) -> None:
        """Take a packet before it is decoded. One that an edit list discards is there for the sake of others."""
        if packet.size and not self._has_begun:  # AVI has empty ones for frames that were dropped
            self._has_begun, self._first_pts = True, packet.pts
            self._is_sound = packet.is_keyframe or packet.is_discard or self._codec.intra_only

    def is_lost(self, frame: av.VideoFrame) -> bool:
        """True if this is the first frame, and for want of a key frame is wrong or not that of the first packet."""
        if self._is_sound:
            return False
        self._is_sound = True  # only the first one can tell
        if frame.pts != self._first_pts:
            return not self._begins_anywhere
        # MPEG-4 may give a frame of no type for a reference that it lacks; codecs without B-frames may know no types.
        is_of_no_type = frame.pict_type == PictureType.NONE and not self._codec.reorder
        return not (is_of_no_type or frame.pict_type == PictureType.I)

"""8-bit planes to JPEG bytes and back, through OpenCV's libjpeg-turbo."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from flowprep.config import JpegSettings
from flowprep.errors import StoreError

_SUBSAMPLING = {"4:2:0": cv2.IMWRITE_JPEG_SAMPLING_FACTOR_420}


def jpeg_parameters(settings: JpegSettings) -> list[int]:
    """Every parameter of `cv2.imencode` that decides bytes, none left to a default that may change."""
    return [
        cv2.IMWRITE_JPEG_QUALITY,
        settings.quality,
        cv2.IMWRITE_JPEG_PROGRESSIVE,
        int(settings.progressive),
        cv2.IMWRITE_JPEG_OPTIMIZE,
        int(settings.optimize),
        cv2.IMWRITE_JPEG_RST_INTERVAL,
        settings.restart_interval,
        cv2.IMWRITE_JPEG_SAMPLING_FACTOR,
        _SUBSAMPLING[settings.subsampling],
    ]


def encode_rgb(rgb: NDArray[np.uint8], settings: JpegSettings) -> bytes:
    """JPEG of an RGB image, uint8 (H, W, 3)."""
    return _encode(cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR), settings)


def encode_plane(plane: NDArray[np.uint8], settings: JpegSettings) -> bytes:
    """One-channel JPEG of a plane of 8-bit flow, uint8 (H, W)."""
    return _encode(plane, settings)


def _encode(image: NDArray[np.uint8] | cv2.typing.MatLike, settings: JpegSettings) -> bytes:
    success, data = cv2.imencode(".jpg", image, jpeg_parameters(settings))
    if not success:
        raise MemoryError("libjpeg encodes every 8-bit image that it has memory for")
    return data.tobytes()


def decode_rgb(jpeg: bytes | memoryview) -> NDArray[np.uint8]:
    """RGB image, uint8 (H, W, 3). Raises StoreError if the bytes are no JPEG."""
    return np.asarray(cv2.cvtColor(_decode(jpeg, cv2.IMREAD_COLOR), cv2.COLOR_BGR2RGB), dtype=np.uint8)


def decode_plane(jpeg: bytes | memoryview) -> NDArray[np.uint8]:
    """Plane of 8-bit flow, uint8 (H, W). Raises StoreError if the bytes are no JPEG."""
    return _decode(jpeg, cv2.IMREAD_GRAYSCALE)


def _decode(jpeg: bytes | memoryview, flags: int) -> NDArray[np.uint8]:
    image = cv2.imdecode(np.frombuffer(jpeg, np.uint8), flags) if len(jpeg) else None
    if image is None:
        raise StoreError(f"{len(jpeg)} bytes are not a JPEG image")
    return np.asarray(image, dtype=np.uint8)

"""The flow between two image files, for a look at one pair."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from flowprep.colour import MIN_LEGEND_SIDE, flow_to_rgb, longest_px, with_legend
from flowprep.config import FlowSettings
from flowprep.errors import MissingDataError, SettingsError, VideoError
from flowprep.flow import create_backend, resolve
from flowprep.flowfile import write_flow
from flowprep.machine import num_cores


@dataclass(frozen=True, slots=True, kw_only=True)
class PairFlow:
    """What was computed: size in pixels, mean and largest length of flow in pixels, and by what."""

    width: int
    height: int
    mean_px: float
    largest_px: float
    backend: str
    variant: str | None


def flow_of_files(source: Path, target: Path, out: Path, settings: FlowSettings) -> PairFlow:
    """Compute the flow from image `source` to image `target` and write it to `out`.

    `.flo` and `.npy` hold float32 (H, W, 2) in pixels, `.png` a colour picture, with its legend where that has room.

    Raises:
        SettingsError: A file is no image, the images differ in size, or `out` has another suffix.
        MissingDataError: An image cannot be read, or `out` cannot be written.
        VideoError: The backend failed, or the flow is not finite (`numeric`); nothing is written.
    """
    if out.suffix.lower() not in (".flo", ".npy", ".png"):
        raise SettingsError(f"{out}: the name must end in .flo, .npy or .png")
    images = [read_grey(source), read_grey(target)]
    if images[0].shape != images[1].shape:
        sizes = " and ".join(f"{image.shape[1]}x{image.shape[0]}" for image in images)
        raise SettingsError(f"{source} and {target} must have one size, got {sizes}; resize one of them")
    name, variant = resolve(settings.backend, settings.variant, settings.cpu_baseline)
    flow_px = _compute(np.stack(images), name, variant, settings)
    if not np.isfinite(flow_px).all():
        raise VideoError(
            "numeric", f"the flow from {source} to {target} has values that are not finite; give other parameters"
        )
    largest_px = longest_px(flow_px)
    if out.suffix.lower() == ".png":
        scale_px = largest_px or 1.0  # nothing has moved
        picture = flow_to_rgb(flow_px, max_px=scale_px)
        if min(picture.shape[:2]) >= MIN_LEGEND_SIDE:
            picture = with_legend(picture, max_px=scale_px)
        if not cv2.imwrite(str(out), cv2.cvtColor(picture, cv2.COLOR_RGB2BGR)):
            raise MissingDataError(f"{out} cannot be written; make its folder first")
    else:
        write_flow(out, flow_px)
    return PairFlow(
        width=flow_px.shape[1],
        height=flow_px.shape[0],
        mean_px=float(np.hypot(flow_px[..., 0], flow_px[..., 1]).mean(dtype=np.float64)),
        largest_px=largest_px,
        backend=name,
        variant=variant,
    )


def _compute(images: NDArray[np.uint8], name: str, variant: str | None, settings: FlowSettings) -> NDArray[np.float32]:
    running = create_backend(
        name,
        variant=variant,
        parameters=settings.parameters,
        num_threads=num_cores(),
        cpu_baseline=settings.cpu_baseline,
    )
    with running as backend:
        source, target = backend.prepare(images)
        flow_px: NDArray[np.float32] = backend.compute([source], [target])[0]
    return flow_px


def read_grey(path: Path) -> NDArray[np.uint8]:
    """An image file as grey uint8 (H, W), by the same weights as video frames."""
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        raise MissingDataError(f"{path}: there is no such file") from None
    except OSError as error:
        raise MissingDataError(f"{path} cannot be read: {error.strerror}; name an image file") from error
    image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR) if data else None
    if image is None:
        raise SettingsError(f"{path} is not an image that can be read; use PNG, JPEG or PPM")
    return np.asarray(cv2.cvtColor(image, cv2.COLOR_BGR2GRAY), dtype=np.uint8)

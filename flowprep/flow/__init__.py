"""Optical flow: what runs here (`backends`), one backend a worker (`create_backend`), or a whole array at once.

Importing this package loads neither NumPy nor OpenCV; both are loaded when flow is computed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from flowprep.config import FlowSettings
from flowprep.errors import SettingsError
from flowprep.flow.parameters import parameter_names
from flowprep.flow.selection import BackendStatus, backends, create_backend, resolve
from flowprep.machine import num_cores

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from flowprep.flow.backend import PreparedFrame

__all__ = ["BackendStatus", "backends", "compute_flow", "create_backend", "parameter_names", "resolve"]


def compute_flow(
    frames: npt.NDArray[np.uint8],
    *,
    backend: str = "auto",
    variant: str | None = None,
    step: int = 1,
    backward: bool = False,
    initial_flow: npt.NDArray[np.float32] | None = None,
    num_threads: int | None = None,
    **parameters: float | int | str | bool,
) -> npt.NDArray[np.float32]:
    """Optical flow between the images of a video.

    Args:
        frames: uint8 (T, H, W), grey, or (T, H, W, 3), RGB (made grey by OpenCV's RGB2GRAY).
        backend: `auto`, or one of `backends()`.
        variant: TV-L1 variant, `cuda` or `cpu`; None takes what the backend has.
        step: Flow goes from image i to image i + step.
        backward: Flow goes from image i + step to image i instead.
        initial_flow: float32 of the result's shape, finite: what the search for each flow starts from (`native` and
            `native-cuda`).
        num_threads: Threads that `native` takes; None is one a core that this process may use. It changes no result.
        parameters: Parameters of the algorithm, see `parameter_names`; `lambda` may be written `lambda_`.

    Returns:
        float32 (max(T - step, 0), H, W, 2), x then y, in pixels. Entry i belongs to images i and i + step in both
        directions: `flow[i, y, x]` is how far the pixel (x, y) of the image that flow starts from has moved.

    Raises:
        SettingsError: The array, a name or a parameter is wrong.
        BackendUnavailableError: The backend cannot run here; the message has the reason and the cure.
        VideoError: The backend failed on these frames.
    """
    FlowSettings(backend=backend, variant=variant, step=step, backward=backward, parameters=parameters)
    dtype = str(getattr(frames, "dtype", type(frames).__name__))
    shape: tuple[int, ...] = getattr(frames, "shape", ())
    if dtype != "uint8" or len(shape) not in (3, 4) or 0 in shape[1:] or (len(shape) == 4 and shape[3] != 3):
        raise SettingsError(f"`frames` must be uint8 (T, H, W) or (T, H, W, 3), not empty, got {dtype} {shape}")
    num_flows = max(shape[0] - step, 0)
    num_threads = num_cores() if num_threads is None else num_threads
    if num_threads < 1:
        raise SettingsError(f"`num_threads` must be at least 1, got {num_threads}")
    expected = (num_flows, *shape[1:3], 2)
    if initial_flow is not None and getattr(initial_flow, "shape", None) != expected:
        given = getattr(initial_flow, "dtype", type(initial_flow).__name__)
        raise SettingsError(
            f"`initial_flow` must be float32 {expected}, got {given} {getattr(initial_flow, 'shape', '')}".rstrip()
        )
    with create_backend(backend, variant=variant, parameters=parameters, num_threads=num_threads) as running:
        import numpy as np

        from flowprep.resize import grey

        flow = np.empty(expected, np.float32)
        window: dict[int, PreparedFrame] = {}  # image index to frame, for the images that pairs still need
        num_prepared = 0
        batch = max(running.pairs_at_a_time, num_threads)  # bounds memory, changes no result
        for first in range(0, num_flows, batch):
            last = min(first + batch, num_flows)
            for index in [index for index in window if index < first]:
                del window[index]
            images = frames[num_prepared : last + step]
            if images.ndim == 4:
                images = np.stack([grey(image) for image in images])
            window.update(enumerate(running.prepare(images), num_prepared))
            num_prepared = last + step
            earlier = [window[i] for i in range(first, last)]
            later = [window[i + step] for i in range(first, last)]
            start = None if initial_flow is None else initial_flow[first:last]
            sources, targets = (later, earlier) if backward else (earlier, later)
            flow[first:last] = running.compute(sources, targets, start)
    return flow

"""Flow fields as files: Middlebury `.flo`, and NumPy `.npy`.

`.flo` (S. Baker et al., "A Database and Evaluation Methodology for Optical Flow", IJCV 2011): the float32 202021.25,
int32 width and height, then float32 u, v by pixel in row order, all little endian. Values beyond 1e9 mean "unknown".
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt

from flowprep.errors import MissingDataError, SettingsError, StoreError

UNKNOWN_PX = 1e9
"""Components beyond this stand for pixels whose flow is not known."""

_FLO_MAGIC = np.float32(202021.25).astype("<f4").tobytes()  # "PIEH"
_FLO_HEADER_BYTES = 12
_FLO_MAX_SIDE = 99_999  # the limit of Middlebury's own code


def read_flow(path: str | Path) -> npt.NDArray[np.float32]:
    """Flow of a `.flo` or `.npy` file: float32 (H, W, 2), x then y, in pixels.

    Raises:
        SettingsError: The name ends in neither.
        MissingDataError: There is no such file.
        StoreError: The content is not one whole flow field. Pickled objects are never loaded.
    """
    path = Path(path)
    read = {".flo": _read_flo, ".npy": _read_npy}[_suffix(path)]
    try:
        return read(path)
    except FileNotFoundError:
        raise MissingDataError(f"{path}: there is no such file") from None


def write_flow(path: str | Path, flow_px: npt.NDArray[np.float32]) -> None:
    """Write a flow field, float32 (H, W, 2), as `.flo` or `.npy`; an existing file is replaced.

    Raises:
        SettingsError: The name ends in neither, or the array is of another type or shape.
        MissingDataError: The file cannot be written.
    """
    path = Path(path)
    suffix = _suffix(path)
    if flow_px.dtype != np.float32 or flow_px.ndim != 3 or flow_px.shape[2] != 2 or 0 in flow_px.shape:
        raise SettingsError(f"`flow_px` must be float32 (H, W, 2), got {flow_px.dtype} {flow_px.shape}")
    height, width, _ = flow_px.shape
    if suffix == ".flo" and max(height, width) > _FLO_MAX_SIDE:
        raise SettingsError(f"{path}: .flo holds sides up to {_FLO_MAX_SIDE}, got {width}x{height}; use .npy")
    try:
        if suffix == ".npy":
            with path.open("wb") as file:  # given a name, NumPy would add .npy to one that ends in .NPY
                np.save(file, flow_px, allow_pickle=False)
        else:
            size = np.array([width, height], "<i4").tobytes()
            path.write_bytes(_FLO_MAGIC + size + flow_px.astype("<f4").tobytes())
    except OSError as error:
        raise MissingDataError(f"{path} cannot be written: {error.strerror}; make its folder first") from error


def _read_flo(path: Path) -> npt.NDArray[np.float32]:
    data = path.read_bytes()
    if data[:4] != _FLO_MAGIC:
        raise StoreError(f"{path}: not a .flo file, its first bytes are {data[:4]!r} instead of {_FLO_MAGIC!r}")
    if len(data) < _FLO_HEADER_BYTES:
        raise StoreError(f"{path}: the .flo header ends after {len(data)} of {_FLO_HEADER_BYTES} bytes")
    width, height = (int(side) for side in np.frombuffer(data, "<i4", count=2, offset=4))
    if not (1 <= width <= _FLO_MAX_SIDE and 1 <= height <= _FLO_MAX_SIDE):
        raise StoreError(f"{path}: width and height must be 1 to {_FLO_MAX_SIDE}, got {width}x{height}")
    expected = _FLO_HEADER_BYTES + 8 * width * height
    if len(data) != expected:
        raise StoreError(f"{path}: {width}x{height} flow takes {expected} bytes, the file has {len(data)}")
    flow = np.frombuffer(data, "<f4", offset=_FLO_HEADER_BYTES).reshape(height, width, 2)
    return flow.astype(np.float32)


def _read_npy(path: Path) -> npt.NDArray[np.float32]:
    try:
        with path.open("rb") as file:
            array = np.lib.format.read_array(file, allow_pickle=False)
            rest = file.read(1)
    except (ValueError, EOFError) as error:
        raise StoreError(f"{path}: not a readable .npy file ({error})") from None
    if array.dtype != np.float32 or array.ndim != 3 or array.shape[2] != 2 or 0 in array.shape:
        raise StoreError(f"{path}: flow must be float32 (H, W, 2), got {array.dtype} {array.shape}")
    if rest:
        raise StoreError(f"{path}: there are bytes after the end of the array")
    return np.asarray(array, np.float32)


def _suffix(path: Path) -> str:
    suffix = path.suffix.lower()
    if suffix not in (".flo", ".npy"):
        raise SettingsError(f"{path}: flow files end in .flo or .npy, got {path.suffix!r}")
    return suffix

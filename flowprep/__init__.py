"""Video datasets to TV-L1 optical flow and RGB frames, as JPEG trees or HDF5 shards with a manifest.

`flowprep.extract(...)` runs a whole dataset, `flowprep.compute_flow(frames)` computes flow of an array,
`flowprep.open_store(path)` reads what was written. Names are loaded on first use, so that `import flowprep` is light.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from flowprep.flow import backends as backends
    from flowprep.flow import compute_flow as compute_flow
    from flowprep.run import extract as extract
    from flowprep.stores import open_store as open_store

__version__ = "0.1.0"
__all__ = ["__version__", "backends", "compute_flow", "extract", "open_store"]

_HOMES = {
    "backends": "flowprep.flow",
    "compute_flow": "flowprep.flow",
    "extract": "flowprep.run",
    "open_store": "flowprep.stores",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'flowprep' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)

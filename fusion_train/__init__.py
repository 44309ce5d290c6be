"""Two-stream fusion networks in space and time (Feichtenhofer, Pinz and Zisserman, CVPR 2016) on flowprep's stores.

`fusion_train.build_network(preset, num_classes=...)` builds a network with its initial weights. Names are loaded on
first use, so that `import fusion_train` does not load PyTorch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fusion_train.models.build import build_network as build_network

__all__ = ["build_network"]


def __getattr__(name: str) -> Any:
    if name == "build_network":
        from fusion_train.models.build import build_network

        return build_network
    raise AttributeError(f"module 'fusion_train' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)

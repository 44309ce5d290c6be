"""run.json: what a run is of and what it runs with, so that its folder can be read by itself."""

from __future__ import annotations

import json
import platform
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, final

import numpy as np
import torch

from flowprep import __version__
from flowprep.errors import SettingsError, StoreError
from fusion_train.outage import whole_file
from fusion_train.runtime import Runtime

RUN = "run.json"
FORMAT = 1


@final
@dataclass(frozen=True, kw_only=True)
class RunRecord:
    """Preset and splits of a run, where its store was, and the networks that `init_from` files have had, by path."""

    preset: str
    splits: tuple[str, ...]
    data: Path
    init_from: Mapping[Path, str] = field(default_factory=dict)

    @classmethod
    def read(cls, folder: Path) -> RunRecord | None:
        """The record in the folder of a run, None where there is none.

        Raises StoreError if it is damaged.
        """
        path = folder / RUN
        try:
            content = json.loads(path.read_text("utf-8"))
            if content["format"] != FORMAT:
                raise StoreError(f"{path} is of format {content['format']!r}; this version reads format {FORMAT}")
            return cls(
                preset=content["preset"],
                splits=tuple(content["splits"]),
                data=Path(content["data"]),
                init_from={Path(name): str(network) for name, network in content.get("init_from", {}).items()},
            )
        except FileNotFoundError:
            return None
        except (ValueError, KeyError, TypeError, AttributeError, OSError) as error:
            if isinstance(error, StoreError):
                raise
            raise StoreError(f"{path} is damaged; delete it and enter `fusion-train run` again") from error

    def write(self, folder: Path) -> None:
        """Write the record. Splits and files that a former run into the same folder was of stay in it.

        Raises SettingsError if the folder is a run of another preset.
        """
        there = RunRecord.read(folder)
        if there is not None and there.preset != self.preset:
            raise SettingsError(f"{folder} is a run of preset {there.preset}, not {self.preset}; give another --out")
        splits = list(dict.fromkeys((*(there.splits if there else ()), *self.splits)))
        content: dict[str, Any] = {
            "format": FORMAT,
            "preset": self.preset,
            "splits": splits,
            "data": str(self.data),
        }
        if init_from := {**(there.init_from if there else {}), **self.init_from}:
            content["init_from"] = {str(path): network for path, network in init_from.items()}
        with whole_file(folder / RUN) as file:
            file.write(json.dumps(content, indent=1).encode())


def versions(runtime: Runtime) -> dict[str, Any]:
    """What a network is trained with: versions of what computes, and the device."""
    is_cuda = runtime.device.type == "cuda"
    return {
        "flowprep": __version__,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "numpy": np.__version__,
        "device": torch.cuda.get_device_name(runtime.device) if is_cuda else runtime.device.type,
        "processes": runtime.world_size,
    }

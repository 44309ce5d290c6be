"""Checkpoints: all that a stopped training needs to go on as if it had not stopped, in one file without code in it.

The file appears whole, by rename, so a process that is killed while it writes leaves the one before. Random numbers are
not in it, see Note [random numbers by step].
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import time
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

import torch
from torch import Tensor

from flowprep.errors import FlowprepError, MissingDataError, StoreError
from flowprep.records import canonical_json
from flowprep.stores import Store, find_manifest
from fusion_train.config import FusionSettings
from fusion_train.outage import whole_file

FORMAT = 1
_KIND = "fusion-train-checkpoint"


@final
@dataclass(frozen=True, kw_only=True, eq=False)
class Checkpoint:
    """A network in training, or trained (`training` is None): `network` is its state dict.

    `training` has plain numbers, texts and tensors: optimiser, schedule, position of the loader, step. `classes` are
    the names of the logits. `content` are the settings that the frames and flow of the training were made with (JSON of
    `ExtractSettings`), `initial` the SHA-256 sums of the files of initial weights, see `initial_files.initial_sha256`;
    checkpoints written before there were such fields have None.
    """

    settings: FusionSettings
    manifest_sha256: str
    classes: tuple[str, ...]
    network: Mapping[str, Tensor]
    training: Mapping[str, Any] | None = None
    content: Mapping[str, Any] | None = None
    initial: Mapping[str, str] | None = None

    def save(self, path: Path) -> None:
        """Write the file. Raises as `whole_file`."""
        content = {
            "kind": _KIND,
            "format": FORMAT,
            "settings": self.settings.to_json(),
            "manifest_sha256": self.manifest_sha256,
            "classes": list(self.classes),
            "network": dict(self.network),
            "training": None if self.training is None else dict(self.training),
        }
        if self.content is not None:
            # As text, since canonical JSON is what the manifest has of them too.
            content["content"] = canonical_json(dict(self.content))
        if self.initial is not None:
            content["initial_sha256"] = dict(self.initial)
        with whole_file(path) as file:
            torch.save(content, file)

    @classmethod
    def load(cls, path: Path, *, mapped: bool = False) -> Checkpoint:
        """Read a file onto the CPU; nothing in it is executed. `mapped` tensors are read when they are used.

        Raises:
            MissingDataError: There is no such file.
            StoreError: It is damaged, or no checkpoint of this format.
        """
        if not path.is_file():
            raise MissingDataError(f"there is no checkpoint {path}; `fusion-train train` writes one")
        try:
            content = torch.load(path, map_location="cpu", weights_only=True, mmap=mapped)
            if (content["kind"], content["format"]) != (_KIND, FORMAT):
                raise StoreError(f"{path} is not a checkpoint of format {FORMAT}; train again")
            settings, classes = FusionSettings.from_json(content["settings"]), tuple(content["classes"])
            if not all(isinstance(name, str) for name in classes):
                raise TypeError("its classes are no texts")
            return cls(
                settings=settings,
                manifest_sha256=content["manifest_sha256"],
                classes=classes,
                network=content["network"],
                training=content["training"],
                content=json.loads(content["content"]) if "content" in content else None,
                initial=dict(content["initial_sha256"]) if "initial_sha256" in content else None,
            )
        except StoreError:
            raise
        except Exception as error:
            raise _damaged(path, error) from error


@contextlib.contextmanager
def taking_over(path: Path) -> Iterator[None]:
    """A block that goes on with what the checkpoint `path` has. Raises StoreError where that does not fit together."""
    try:
        yield
    except FlowprepError:
        raise
    except Exception as error:
        raise _damaged(path, error) from error


def _is_archive(path: Path) -> bool:
    with contextlib.suppress(OSError, zipfile.BadZipFile):  # of a last record that is damaged
        return zipfile.is_zipfile(path)
    return False


def _damaged(path: Path, error: Exception) -> StoreError:
    """What is wrong, and the cure: files by another name than a training's may be anybody's.

    Damage has no common class, see `weightfiles.read_tensors`.
    """
    if isinstance(error, OSError):
        reason = error.strerror or str(error)
    elif not _is_archive(path):
        reason = "it is no file that PyTorch has saved"
    elif isinstance(error, KeyError):
        reason = f"it has no {error.args[0]!r}"
    else:
        reason = str(error).partition("\n")[0] or type(error).__name__
    is_ours = path.name == "last.pt"
    cure = "delete it to train again" if is_ours else "give the network.pt of a training, or train again"
    return StoreError(f"{path} is damaged or no checkpoint ({reason}); {cure}")


_SUMS: dict[tuple[int, ...], str] = {}
_SETTLED_SECONDS = 2.0
"""A file may change again without another time of change, as file systems keep that to a second or two at worst."""


def file_sha256(path: Path) -> str:
    """64 hex digits. This process does not read a file again that has not changed: its number, size and time say so."""
    with path.open("rb") as file:
        there = os.fstat(file.fileno())
        known = there.st_dev, there.st_ino, there.st_size, there.st_mtime_ns
        if known in _SUMS:
            return _SUMS[known]
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if time.time() - there.st_mtime > _SETTLED_SECONDS:
        _SUMS[known] = found
    return found


def data_fingerprint(store: Store) -> str:
    """SHA-256 of the manifest, which holds that of every stored video."""
    return file_sha256(find_manifest(store.path))

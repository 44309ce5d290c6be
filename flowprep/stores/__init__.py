"""Stores: trees of JPEG files, and HDF5 shards. Reading them needs nothing but `open_store`.

What writes them is not loaded here: `flowprep.publisher` for videos, `stores.pack` for shards, `stores.finish` for the
manifest.
"""

from __future__ import annotations

from pathlib import Path

from flowprep.errors import MissingDataError, StoreError
from flowprep.stores.base import Store, StoredClip
from flowprep.stores.hdf5 import ShardStore
from flowprep.stores.jpeg_tree import TreeStore
from flowprep.stores.layouts import check_listing
from flowprep.stores.manifest import StoredRows
from flowprep.stores.places import MANIFEST

__all__ = ["ShardStore", "Store", "StoredClip", "TreeStore", "check_listing", "find_manifest", "open_store"]


def find_manifest(folder: Path) -> Path:
    """The manifest of a store. Raises MissingDataError without such a folder, StoreError where it has none."""
    if not folder.is_dir():
        raise MissingDataError(f"there is no store {folder}; `flowprep extract` makes one")
    if not (folder / MANIFEST).is_file():
        raise StoreError(
            f"{folder} has no {MANIFEST}: it is no store, or its run has not ended; "
            "run `flowprep extract` again to resume"
        )
    return folder / MANIFEST


def open_store(path: Path | str) -> Store:
    """Open a finished store for reading; its manifest says of which kind it is.

    Raises:
        MissingDataError: there is no such folder.
        StoreError: the folder has no manifest, or one that is damaged or of another version.
    """
    folder = find_manifest(Path(path)).parent
    rows = StoredRows(folder)
    return TreeStore(folder, rows) if rows.settings.store.format == "jpeg" else ShardStore(folder, rows)

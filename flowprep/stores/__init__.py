"""Stores: trees of JPEG files, and HDF5 shards. Reading them needs nothing but `open_store`.

What writes them is not loaded here: `flowprep.publisher` for videos, `stores.pack` for shards, `stores.finish` for the
manifest.
"""

from __future__ import annotations

from pathlib import Path

from flowprep.errors import MissingDataError, SettingsError, StoreError, looking
from flowprep.stores.base import Store, StoredClip
from flowprep.stores.foreign import Facts, open_foreign
from flowprep.stores.hdf5 import ShardStore
from flowprep.stores.jpeg_tree import TreeStore
from flowprep.stores.layouts import check_listing
from flowprep.stores.manifest import StoredRows
from flowprep.stores.places import MANIFEST

__all__ = ["ShardStore", "Store", "StoredClip", "TreeStore", "check_listing", "find_manifest", "open_store"]


@looking()
def find_manifest(folder: Path) -> Path:
    """The manifest of a store. Raises MissingDataError without such a folder, StoreError where it has none."""
    if not folder.is_dir():
        raise MissingDataError(f"there is no store {folder}; `flowprep extract` makes one")
    if not (folder / MANIFEST).is_file():
        raise StoreError(
            f"{folder} has no {MANIFEST}: it is no store, or its run has not ended; "
            "run `flowprep extract` again to resume (a tree of another tool needs `flowprep adopt`)"
        )
    return folder / MANIFEST


def open_store(
    path: Path | str,
    *,
    layout: str | None = None,
    bound_px: float | None = None,
    rounding: str | None = None,
    step: int | None = None,
) -> Store:
    """Open a finished store for reading; its manifest says of which kind it is.

    With `layout`, open a tree of JPEG files that another tool has made, without writing anything: `bound_px`,
    `rounding` and, where the layout leaves it open, `step` say how its flow is to be read, see `stores.foreign`.

    Raises:
        MissingDataError: there is no such folder.
        StoreError: the folder has no manifest, or one that is damaged or of another version.
        SettingsError: a fact about a tree of another tool is missing, or contradicts it; or one is given of a store,
            which has its own.
    """
    folder = Path(path)
    given = {"layout": layout, "bound_px": bound_px, "rounding": rounding, "step": step}
    if any(value is not None for value in given.values()):
        if (folder / MANIFEST).exists():
            names = ", ".join(f"`{name}`" for name, value in given.items() if value is not None)
            raise SettingsError(f"{folder} is a store, and its manifest says what {names} would; leave them out")
        if layout is None:
            raise SettingsError("a tree of another tool is opened with its `layout`; give that too")
        return open_foreign(folder, Facts(layout=layout, bound_px=bound_px, rounding=rounding, step=step))
    folder = find_manifest(folder).parent
    rows = StoredRows(folder)
    return TreeStore(folder, rows) if rows.settings.store.format == "jpeg" else ShardStore(folder, rows)

"""Stores: trees of JPEG files, and HDF5 shards. Reading them needs nothing but `open_store`.

What writes them is not loaded here: `flowprep.publisher` for videos, `stores.pack` for shards, `stores.finish` for the
manifest.
"""

from __future__ import annotations

from pathlib import Path

from flowprep.errors import MissingDataError, SettingsError, StoreError, UnfinishedStoreError, looking
from flowprep.stores.base import Store, StoredClip
from flowprep.stores.foreign import Facts, open_foreign
from flowprep.stores.hdf5 import ShardStore
from flowprep.stores.jpeg_tree import TreeStore
from flowprep.stores.layouts import check_listing
from flowprep.stores.manifest import StoredRows
from flowprep.stores.places import CHECKSUMS, MANIFEST

__all__ = ["ShardStore", "Store", "StoredClip", "TreeStore", "check_listing", "find_manifest", "open_store"]


@looking()
def find_manifest(folder: Path) -> Path:
    """The manifest of a store.

    Raises MissingDataError where `folder` is no store, UnfinishedStoreError where its run has not ended, StoreError
    where it had a manifest and has lost it.
    """
    if not folder.is_dir():
        raise MissingDataError(f"there is no store {folder}; `flowprep extract` makes one")
    if (folder / MANIFEST).is_file():
        return folder / MANIFEST
    if (folder / CHECKSUMS).exists():  # written after the manifest
        raise StoreError(f"{folder} has lost its {MANIFEST}; `flowprep verify` says whether --repair can make it again")
    if (folder / ".flowprep").is_dir():
        raise UnfinishedStoreError(
            f"{folder} has no {MANIFEST}: its run has not ended; run the same command again to resume", folder
        )
    raise MissingDataError(
        f"{folder} has no {MANIFEST}, so it is not a flowprep store; `flowprep extract` makes one, and "
        "`flowprep adopt` of a tree of another tool"
    )


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

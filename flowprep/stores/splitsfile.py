"""splits.json, read: the official splits by video id, and the classes by label."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from flowprep.errors import MissingDataError, StoreError
from flowprep.stores.manifest import FORMAT
from flowprep.stores.places import SPLITS


@dataclass(frozen=True, slots=True, kw_only=True)
class Splits:
    """`splits` is split name ("1", "official") to part ("train", "val", "test") to ids in list order."""

    dataset: str
    classes: tuple[str, ...]
    splits: Mapping[str, Mapping[str, tuple[str, ...]]]


def read_splits(folder: Path) -> Splits:
    """The splits of a store. Ids of videos that are not stored are in them too.

    Raises MissingDataError where the file is not there, StoreError where it is not what a run writes.
    """
    path = folder / SPLITS
    try:
        data = json.loads(path.read_bytes())
        if data["format"] != FORMAT:
            raise StoreError(f"{path} is of format {data['format']!r}; this version reads format {FORMAT}")
        splits = {
            _text(name): {_text(part): tuple(map(_text, ids)) for part, ids in parts.items()}
            for name, parts in data["splits"].items()
        }
        return Splits(dataset=_text(data["dataset"]), classes=tuple(map(_text, data["classes"])), splits=splits)
    except FileNotFoundError:
        raise MissingDataError(f"there is no {path}; run `flowprep extract` again to write it") from None
    except StoreError:
        raise
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise StoreError(
            f"{path} does not hold splits ({error!r}); run `flowprep extract` again to write it"
        ) from error


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{value!r} is not a text")
    return value

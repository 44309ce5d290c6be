"""Score tables: what a network says of each video, by video id.

A table is a `.npz` file without pickle: arrays, and one JSON text with where the scores come from. Tables are joined by
id, never by position, and only where everything that must agree agrees.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

import numpy as np
from numpy.typing import NDArray

from flowprep.errors import MissingDataError, StoreError
from flowprep.records import canonical_json
from fusion_train.outage import whole_file

FORMAT = 1
_KIND = "fusion-train-scores"
_MAX_NAMED = 3


class ScoreMismatchError(StoreError):
    """Two score tables are not of the same videos, labels, classes or data, so they must not be joined."""


@final
@dataclass(frozen=True, eq=False, kw_only=True)
class ScoreTable:
    """Scores before the softmax: float32 (N, C), a row a video, averaged over space, time and flips.

    `labels` (N,) int64 are 0-based, `classes` has C names. `name` says which output of which network this is, `part`
    which videos (`test 1`: the test list of split 1), `manifest_sha256` of which store. `origin` is plain JSON: the
    settings and the checkpoint.

    Raises ScoreMismatchError on construction where the fields do not fit together.
    """

    name: str
    part: str
    manifest_sha256: str
    ids: Sequence[str]
    labels: NDArray[np.int64]
    scores: NDArray[np.float32]
    classes: Sequence[str]
    origin: Mapping[str, Any]

    def __post_init__(self) -> None:
        object.__setattr__(self, "ids", tuple(self.ids))
        object.__setattr__(self, "classes", tuple(self.classes))
        shape = len(self.ids), len(self.classes)
        if self.scores.shape != shape or self.labels.shape != shape[:1]:
            raise ScoreMismatchError(
                f"{self.name}: scores {self.scores.shape} and labels {self.labels.shape} do not fit {shape[0]} ids "
                f"and {shape[1]} classes"
            )
        if len(set(self.ids)) != len(self.ids):
            raise ScoreMismatchError(f"{self.name}: {_first(_repeated(self.ids))} has more than one row")
        if len(self.labels) and not 0 <= self.labels.min() <= self.labels.max() < len(self.classes):
            raise ScoreMismatchError(f"{self.name}: labels must be 0 to {len(self.classes) - 1}")
        if not np.isfinite(self.scores).all():
            bad = self.ids[int(np.flatnonzero(~np.isfinite(self.scores).all(1))[0])]
            raise ScoreMismatchError(f"{self.name}: the scores of {bad} are not finite")

    def aligned(self, ids: Sequence[str]) -> ScoreTable:
        """The same rows in the order of `ids`, which must be this table's own."""
        position = {video: index for index, video in enumerate(self.ids)}
        order = np.array([position[video] for video in ids], np.int64)
        return ScoreTable(
            name=self.name,
            part=self.part,
            manifest_sha256=self.manifest_sha256,
            ids=ids,
            labels=self.labels[order],
            scores=self.scores[order],
            classes=self.classes,
            origin=self.origin,
        )

    def save(self, path: Path) -> None:
        """Write the table; the file appears whole. Raises RunStoppedError or MissingDataError where it cannot be."""
        head = {
            "kind": _KIND,
            "format": FORMAT,
            "name": self.name,
            "part": self.part,
            "manifest_sha256": self.manifest_sha256,
            "origin": dict(self.origin),
        }
        with whole_file(path) as file:
            np.savez(
                file,
                head=np.array(canonical_json(head)),
                ids=np.array(self.ids, np.str_),
                classes=np.array(self.classes, np.str_),
                labels=self.labels,
                scores=self.scores,
            )

    @classmethod
    def load(cls, path: Path) -> ScoreTable:
        """Read a table.

        Raises:
            MissingDataError: there is no such file.
            StoreError: it is damaged, or no score table of this format.
        """
        try:
            # Opened here: NumPy leaves a file that is no archive open.
            with path.open("rb") as file, np.load(file, allow_pickle=False) as data:
                head = json.loads(str(data["head"]))
                if (head["kind"], head["format"]) != (_KIND, FORMAT):
                    raise StoreError(f"{path} is not a score table of format {FORMAT}; evaluate again")
                return cls(
                    name=head["name"],
                    part=head["part"],
                    manifest_sha256=head["manifest_sha256"],
                    ids=data["ids"].tolist(),
                    labels=data["labels"].astype(np.int64),
                    scores=data["scores"].astype(np.float32),
                    classes=data["classes"].tolist(),
                    origin=head["origin"],
                )
        except FileNotFoundError as error:
            raise MissingDataError(f"there is no score table {path}; `fusion-train evaluate` writes it") from error
        except StoreError:
            raise
        except Exception as error:  # damage has no common class, see `weightfiles.read_tensors`
            raise StoreError(f"{path} is damaged or no score table: {error}; evaluate again") from error


def joined(tables: Sequence[ScoreTable]) -> list[ScoreTable]:
    """The tables in the order of the first one's ids.

    Raises ScoreMismatchError that names what differs: part, manifest, classes, ids or labels.
    """
    first, *others = tables
    found = [first]
    for other in others:
        for what in ("part", "manifest_sha256", "classes"):
            mine, theirs = getattr(first, what), getattr(other, what)
            if mine != theirs:
                raise _mismatch(first, other, f"{what.replace('_', ' ')} {_short(mine)} and {_short(theirs)}")
        only_first, only_other = set(first.ids) - set(other.ids), set(other.ids) - set(first.ids)
        if only_first or only_other:
            texts = [
                f"{len(missing)} videos are only in {table.name}: {_first(missing)}"
                for table, missing in ((first, only_first), (other, only_other))
                if missing
            ]
            raise _mismatch(first, other, "; ".join(texts))
        other = other.aligned(first.ids)
        unequal = np.flatnonzero(first.labels != other.labels)
        if len(unequal):
            raise _mismatch(first, other, f"labels of {_first(first.ids[index] for index in unequal.tolist())}")
        found.append(other)
    return found


def _mismatch(first: ScoreTable, other: ScoreTable, what: str) -> ScoreMismatchError:
    return ScoreMismatchError(
        f"the scores of {first.name} and {other.name} do not belong together: {what}; evaluate both on the same data"
    )


def _repeated(ids: Sequence[str]) -> set[str]:
    seen: set[str] = set()
    return {video for video in ids if video in seen or seen.add(video)}  # type: ignore[func-returns-value]


def _first(names: Any) -> str:
    ordered = sorted(names)
    more = f" and {len(ordered) - _MAX_NAMED} more" if len(ordered) > _MAX_NAMED else ""
    return ", ".join(ordered[:_MAX_NAMED]) + more


def _short(value: Any) -> str:
    return f"of {len(value)} names" if isinstance(value, tuple) else repr(value)

"""What lies in the folder of a run, finished or not."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

from flowprep.errors import MissingDataError, StoreError
from fusion_train.ablation_table import FILE as ABLATION
from fusion_train.late_fusion import fuse
from fusion_train.overrides import STAGES
from fusion_train.run import ROWS
from fusion_train.runrecord import RunRecord
from fusion_train.scores import ScoreMismatchError, ScoreTable
from fusion_train.stages import DONE
from fusion_train.trainlog import read_log

_PREFIX = "split_"
_TOWERS = ("spatiotemporal", "temporal")


@final
@dataclass(frozen=True, kw_only=True, eq=False)
class StageContents:
    """One network of a split: the lines of its log, and `done.json`, None while it is not trained."""

    name: str
    log: tuple[Mapping[str, Any], ...]
    done: Mapping[str, Any] | None

    @property
    def settings(self) -> Mapping[str, Any]:
        """As JSON, by section; empty while it is not trained."""
        return self.done["settings"] if self.done else {}

    def status(self) -> str:
        """How far its training is."""
        if self.done:
            return "trained"
        if not self.log:
            return "not begun"
        last = self.log[-1]
        return f"in training: epoch {last['epoch']}, step {last['step']}"


@final
@dataclass(frozen=True, kw_only=True, eq=False)
class SplitContents:
    """One split: its networks, and the scores of the test list by row of `run.ROWS`, as far as they are there.

    `held_out` are the scores of held-out videos by tower of the fused network, for the sweep of its weights.
    """

    name: str
    stages: Mapping[str, StageContents]
    tables: Mapping[str, ScoreTable]
    held_out: Mapping[str, ScoreTable]

    @property
    def is_finished(self) -> bool:
        """Whether the last thing that a run makes is there."""
        return "fused" in self.tables


@final
@dataclass(frozen=True, kw_only=True, eq=False)
class RunContents:
    """A run: preset and path of the store are None where an older version has not written them."""

    folder: Path
    preset: str | None
    data: Path | None
    splits: tuple[SplitContents, ...]
    not_begun: tuple[str, ...]

    @property
    def rows(self) -> tuple[str, ...]:
        """Those of `run.ROWS` that at least one split has."""
        return tuple(row for row in ROWS if any(row in split.tables for split in self.splits))

    @property
    def classes(self) -> tuple[str, ...]:
        """Names by label; none while nothing is evaluated."""
        for split in self.splits:
            for table in split.tables.values():
                return tuple(table.classes)
        return ()

    @property
    def validation(self) -> str | None:
        """`train.val`, None while nothing is trained."""
        for split in self.splits:
            for stage in split.stages.values():
                if stage.done:
                    return str(stage.settings["train"]["val"])
        return None

    def left_to_do(self) -> tuple[str, ...]:
        """A sentence for each split that is not finished."""
        found = []
        for split in self.splits:
            if split.is_finished:
                continue
            states = [f"{name} network {stage.status()}" for name, stage in split.stages.items()]
            evaluated = ", ".join(split.tables) or "nothing"
            found.append(f"Split {split.name}: {', '.join(states)}; evaluated: {evaluated}.")
        found += [f"Split {name}: not begun." for name in self.not_begun]
        return tuple(found)

    def warnings(self) -> tuple[str, ...]:
        """What does not belong together, although it lies together."""
        return tuple(warning for split in self.splits for warning in _mismatches(split))


def read_run(folder: Path) -> RunContents:
    """Read the folder of a run; one that has ablations alone is a run without splits.

    Raises:
        MissingDataError: It is neither.
        StoreError: A file in it is damaged, or splits have other classes.
    """
    record = RunRecord.read(folder)
    found = {path.name.removeprefix(_PREFIX): path for path in sorted(folder.glob(f"{_PREFIX}*")) if path.is_dir()}
    if record is None and not found and not (folder / ABLATION).exists():
        raise MissingDataError(f"{folder} is not the folder of a run; give what `fusion-train run` has as --out")
    asked = record.splits if record else ()
    names = [*(name for name in asked if name in found), *(name for name in found if name not in asked)]
    run = RunContents(
        folder=folder,
        preset=record.preset if record else _preset_of_table(folder),
        data=record.data if record else None,
        splits=tuple(_read_split(name, found[name]) for name in names),
        not_begun=tuple(name for name in asked if name not in found),
    )
    for split in run.splits:
        for table in split.tables.values():
            if tuple(table.classes) != run.classes:
                raise ScoreMismatchError(f"{folder}: split {split.name} has other classes than {run.splits[0].name}")
    return run


def _preset_of_table(folder: Path) -> str | None:
    path = folder / "table.json"
    try:
        return str(json.loads(path.read_text("utf-8"))["preset"])
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, TypeError) as error:
        raise StoreError(f"{path} is damaged; enter `fusion-train run` again to write it") from error


def _read_split(name: str, folder: Path) -> SplitContents:
    stages = {stage: _read_stage(stage, folder / stage) for stage in STAGES}
    return SplitContents(
        name=name,
        stages=stages,
        tables=dict(_read_tables(folder)),
        held_out=_existing({tower: folder / "fused" / f"validation_{tower}.npz" for tower in _TOWERS}),
    )


def _read_stage(name: str, folder: Path) -> StageContents:
    path, done = folder / DONE, None
    try:
        done = json.loads(path.read_text("utf-8"))
        for section in ("model", "data", "train"):
            dict(done["settings"][section])
        str(done["settings"]["train"]["val"]), str(done["network_sha256"]), str(done["manifest_sha256"])
    except FileNotFoundError:
        pass
    except (ValueError, KeyError, TypeError) as error:
        raise StoreError(f"{path} is damaged; delete its folder to train that stage anew") from error
    return StageContents(name=name, log=tuple(read_log(folder)), done=done)


def _read_tables(folder: Path) -> Iterator[tuple[str, ScoreTable]]:
    """Rows with their scores, in the order of `run.ROWS`."""
    streams = _existing({stream: folder / stream / f"test_{stream}.npz" for stream in STAGES[:2]})
    yield from streams.items()
    late = _existing({"late fusion": folder / "late_fusion.npz"})
    if len(streams) == 2:
        yield "late fusion", late.get("late fusion") or fuse(list(streams.values()))
    towers = _existing({tower: folder / "fused" / f"test_{tower}.npz" for tower in _TOWERS})
    if len(towers) == 2:
        yield from ((f"fused {tower}", table) for tower, table in towers.items())
    yield from _existing({"fused": folder / "fused.npz"}).items()


def _existing(paths: Mapping[str, Path]) -> dict[str, ScoreTable]:
    return {name: ScoreTable.load(path) for name, path in paths.items() if path.exists()}


def _parts_of(row: str, table: ScoreTable) -> list[tuple[str, str, Mapping[str, Any]]]:
    """Network, row and origin of what a table was made of: itself, or the two whose weighted mean it is."""
    stage = row.partition(" ")[0]
    if stage in STAGES and "of" not in table.origin:
        return [(stage, row, table.origin)]
    places = [(name, name) for name in STAGES[:2]] if row == "late fusion" else [
        ("fused", f"fused {tower}") for tower in _TOWERS]  # fmt: skip
    return [(*place, part.get("origin", {})) for place, part in zip(places, table.origin.get("of", ()), strict=False)]


def _is_of_another(stage: StageContents, origin: Mapping[str, Any]) -> bool:
    made_by = origin.get("checkpoint_sha256")
    return stage.done is not None and made_by is not None and made_by != stage.done["network_sha256"]


def _mismatches(split: SplitContents) -> Iterator[str]:
    for row, table in split.tables.items():
        if any(_is_of_another(split.stages[stage], origin) for stage, _, origin in _parts_of(row, table)):
            yield f"Split {split.name}: the scores of {row} are not of the network that lies beside them."
        elif any(part in split.tables and split.tables[part].origin != origin
                 for _, part, origin in _parts_of(row, table)):  # fmt: skip
            yield (
                f"Split {split.name}: {row} is not of the scores that lie beside it; enter `fusion-train run` again."
            )
    streams, fused = [split.stages[stage].done for stage in STAGES[:2]], split.stages["fused"].done
    sums = [str(done["network_sha256"]) for done in streams if done]
    if fused and len(sums) == len(streams) and fused.get("starts_from", sums) not in ([], sums):
        yield f"Split {split.name}: the fused network was not trained from the streams that lie beside it."
    data: Sequence[str] = [str(stage.done["manifest_sha256"]) for stage in split.stages.values() if stage.done]
    if len(set(data)) > 1:
        yield f"Split {split.name}: its networks were trained on different states of the store."

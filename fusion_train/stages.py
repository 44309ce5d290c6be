"""All that leads to one network's table: two streams, their late fusion, the fused network, late fusion of its towers.

Everything is trained first, and only then is anything evaluated on the test list. A stage that has ended has left
`done.json`, written last, and is not done again; one that was stopped goes on at its last checkpoint.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

from flowprep.errors import MissingDataError, SettingsError, StoreError
from flowprep.settings import differences
from flowprep.stores import Store
from flowprep.stores.splitsfile import read_splits
from fusion_train.checkpoint import data_fingerprint, file_sha256
from fusion_train.config import FusionSettings, ModelSettings
from fusion_train.data.splits import parts_of_training
from fusion_train.evaluate import evaluate, evaluated_ids
from fusion_train.initial import started_from
from fusion_train.initial_files import comparable, initial_sha256
from fusion_train.late_fusion import fuse, sweep
from fusion_train.models.build import build_network
from fusion_train.outage import whole_file
from fusion_train.overrides import STAGES, overridden
from fusion_train.protocols import full_settings
from fusion_train.runrecord import versions
from fusion_train.runtime import Runtime
from fusion_train.scores import ScoreTable
from fusion_train.train import LAST, NETWORK, check_trains, lasting, train

DONE = "done.json"
_ADDED = ("training_list_sha256", "initial_sha256")
Say = Callable[[str, Mapping[str, Any] | None], None]
"""Called with the name of a stage, and with a line of its log, or None where it begins."""


@final
@dataclass(frozen=True, kw_only=True)
class SplitRun:
    """One split of a run: its folder, and the settings of the three networks."""

    folder: Path
    split: str
    settings: Mapping[str, FusionSettings]


def split_run(
    preset: str, split: str, folder: Path, sets: Sequence[str], init_from: Mapping[str, Path] | None = None
) -> SplitRun:
    """The settings of a split's networks; the fused one starts from the others.

    `init_from` are trained networks by what they are, `initial.networks_in`: a stream starts from its own, and of a
    fused one the fusion takes the filters.

    Raises:
        SettingsError: There is no such preset or setting.
    """
    settings = {}
    for stage in STAGES:
        found = overridden(full_settings(preset, stage), sets, stage=stage)
        found = dataclasses.replace(found, train=dataclasses.replace(found.train, split=split))
        found = started_from(found, stage, init_from or {})
        if stage == "fused":
            weights = {f"{stream}_weights": str(folder / stream / NETWORK) for stream in ("spatial", "temporal")}
            # What it starts from has the last layers too, whatever the streams were initialised with.
            model = dataclasses.replace(found.model, random_fc=False, **weights)  # type: ignore[arg-type]
            found = dataclasses.replace(found, model=model)
        settings[stage] = found
    return SplitRun(folder=folder, split=split, settings=settings)


def run_split(store: Store, run: SplitRun, *, runtime: Runtime, say: Say) -> dict[str, ScoreTable]:
    """Do what is left to be done of a split. Returns the test scores by row of the table.

    Raises:
        SettingsError: The folder has something else than this run.
    """
    for stage in STAGES:
        _train_stage(store, run, stage, runtime, say)

    spatial = _scores(store, run, "spatial", runtime, say)["spatial"]
    temporal = _scores(store, run, "temporal", runtime, say)["temporal"]
    tables = {"spatial": spatial, "temporal": temporal, "late fusion": fuse([spatial, temporal])}
    towers = _scores(store, run, "fused", runtime, say)
    if len(towers) == 1:
        tables["fused"] = next(iter(towers.values()))
    else:
        tables |= {f"fused {tower}": table for tower, table in towers.items()}
        tables["fused"] = fuse(list(towers.values()), _tower_weights(store, run, runtime, say))
    if runtime.is_main:
        for row in ("late fusion", "fused"):
            tables[row].save(run.folder / f"{row.replace(' ', '_')}.npz")
    return tables


def check_initial_weights(store: Store, runs: Sequence[SplitRun]) -> None:
    """Load the initial weights of all streams that are still to be begun, so that what is missing is said first.

    Raises:
        SettingsError, StoreError: Weights do not fit, their file is damaged, a network has nothing to train, or no
            group can be held out.
        MissingDataError: Weights are missing; nothing has been trained then.
    """
    looked_at: set[ModelSettings] = set()  # all splits begin with the same
    for run in runs:
        for settings in run.settings.values():
            check_trains(settings)
            if not is_begun(run.folder / settings.model.network):
                parts_of_training(store, settings.train)
        for stage in STAGES[:2]:
            model = run.settings[stage].model
            if model not in looked_at and not is_begun(run.folder / stage):
                check_weights(store, model)
                looked_at.add(model)


def is_begun(folder: Path) -> bool:
    """Whether a training in this folder needs no initial weights any more."""
    return any((folder / name).exists() for name in (LAST, DONE))


def check_weights(store: Store, model: ModelSettings) -> None:
    """Load the initial weights of a stream for nothing.

    Raises:
        MissingDataError: They are not there.
    """
    if getattr(model, f"{model.network}_weights") != "none":
        build_network(model, num_classes=len(read_splits(store.path).classes))


def _train_stage(store: Store, run: SplitRun, stage: str, runtime: Runtime, say: Say) -> None:
    starts_from = [run.folder / stream / NETWORK for stream in STAGES[:2]] if stage == "fused" else []
    train_once(
        store, run.settings[stage], run.folder / stage, starts_from=starts_from, runtime=runtime, say=say, name=stage
    )


def train_once(
    store: Store,
    settings: FusionSettings,
    folder: Path,
    *,
    starts_from: Sequence[Path] = (),
    runtime: Runtime,
    say: Say,
    name: str,
) -> Path:
    """Train a network, unless `folder` has it already. Returns its path; `starts_from` are the networks below it.

    Raises:
        SettingsError: The folder has another network than that of these settings.
        StoreError: Its mark is damaged.
        MissingDataError: It has been trained, and its network is gone.
    """
    record = {
        "settings": lasting_of_stage(settings),
        "manifest_sha256": data_fingerprint(store),
        "starts_from": [file_sha256(path) for path in starts_from],
        "training_list_sha256": parts_of_training(store, settings.train).training_sha256(),
        "initial_sha256": initial_sha256(settings.model),
    }
    done = folder / DONE
    if done.exists():
        _check_done(done, record)
        return _there(folder)
    say(f"train {name}", None)
    path = train(store, settings, folder, runtime=runtime, report=lambda row: say(f"train {name}", row))
    if runtime.is_main:
        with whole_file(done) as file:
            made = {"network_sha256": file_sha256(path), "versions": versions(runtime)}
            file.write(json.dumps({**record, **made}, indent=1).encode())
        (folder / LAST).unlink(missing_ok=True)  # as large as the network and its momentum, and not needed any more
    runtime.wait_for_all()
    return path


def _there(folder: Path) -> Path:
    """The path of a finished network. Raises MissingDataError where it has been deleted."""
    network = folder / NETWORK
    if not network.is_file():
        raise MissingDataError(f"{network} is missing; restore it, or delete {folder} to train anew")
    return network


def lasting_of_stage(settings: FusionSettings) -> dict[str, Any]:
    """What decides on the trained network, but for where the streams lie that a fused one starts from."""
    content = lasting(settings)
    if settings.model.network == "fused":
        del content["model"]["spatial_weights"], content["model"]["temporal_weights"]
    return content


def initial_of(folder: Path) -> dict[str, str]:
    """The SHA-256 sums of the files that a finished network has started from, as far as its mark has them."""
    return dict(json.loads((folder / DONE).read_text("utf-8")).get("initial_sha256", {}))


def _check_done(path: Path, record: Mapping[str, Any]) -> None:
    try:
        there = json.loads(path.read_text("utf-8"))
        # Marks of older versions have less.
        asked = {name: value for name, value in record.items() if name in there or name not in _ADDED}
        there = {name: there[name] for name in asked}
        sums = there.pop("initial_sha256", None), asked.pop("initial_sha256", {})
        there["settings"], asked["settings"] = comparable(there["settings"], asked["settings"], *sums)
        changed = differences(there, asked)
    except (ValueError, KeyError, TypeError, AttributeError, OSError) as error:
        raise StoreError(f"{path} is damaged; delete its folder to train that stage anew") from error
    if changed:
        raise SettingsError(
            f"{path.parent} was trained otherwise ({'; '.join(changed)}); give another --out, or delete that folder"
        )


def _scores(
    store: Store, run: SplitRun, stage: str, runtime: Runtime, say: Say, part: str = "test"
) -> dict[str, ScoreTable]:
    return scores_once(store, run.settings[stage], run.folder / stage, part=part, runtime=runtime, say=say, name=stage)


def scores_once(
    store: Store,
    settings: FusionSettings,
    folder: Path,
    *,
    part: str = "test",
    saved_as: str = "",
    runtime: Runtime,
    say: Say,
    name: str,
) -> dict[str, ScoreTable]:
    """Scores by tower of the network in `folder`: what is saved beside it and is of it, or evaluated now.

    Files are called `PART_TOWER.npz`, or begin with `saved_as` where a network is evaluated in several ways.

    Raises MissingDataError where the network is gone.
    """
    network, stage = _there(folder), settings.model.network
    sha256 = file_sha256(network)
    expected = [stage] if stage != "fused" else ["spatiotemporal", "temporal"][: 1 + settings.model.keep_temporal]
    paths = {tower: folder / f"{saved_as or part}_{tower}.npz" for tower in expected}
    if all(path.exists() for path in paths.values()):
        tables = {tower: ScoreTable.load(path) for tower, path in paths.items()}
        asked = {"checkpoint_sha256": sha256, "data": settings.data.to_json()}
        ids = evaluated_ids(store, settings.train, part)
        if all(
            {key: table.origin.get(key) for key in asked} == asked and _is_of(table, ids) for table in tables.values()
        ):
            return tables
    say(f"evaluate {name}", None)
    tables = evaluate(
        network,
        store,
        part=part,
        runtime=runtime,
        data=settings.data,
        settings=settings.evaluate,
        split=settings.train.split,
    )
    if runtime.is_main:
        for tower, table in tables.items():
            table.save(paths[tower])
    runtime.wait_for_all()
    return tables


def _is_of(table: ScoreTable, ids: Sequence[str]) -> bool:
    """Whether it is of these videos: lists may have been mended since."""
    skipped = set(table.origin.get("skipped", ()))
    return set(table.ids) | skipped == set(ids)


def _tower_weights(store: Store, run: SplitRun, runtime: Runtime, say: Say) -> Sequence[float] | None:
    """Swept on held-out groups, equal where there are none."""
    if run.settings["fused"].train.val != "groups":
        return None
    held_out = _scores(store, run, "fused", runtime, say, part="validation")
    return sweep(held_out["spatiotemporal"], held_out["temporal"]).weights
